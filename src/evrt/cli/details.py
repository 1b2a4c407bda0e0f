"""What an event says, in a few words: the end of its line in ``evrt log``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from evrt.cli.text import counted, duration, json_or_text, one_line, rfc3339, short, words
from evrt.events import Erased, Event, JsonObject, JsonValue, Unknown
from evrt.events import agents as a
from evrt.events import calls as c
from evrt.events import conversation as v
from evrt.events import journey as j
from evrt.events import loop as o
from evrt.events import memory as m
from evrt.events import run as r


def detail(event: Event) -> str:
    """The gist of an event, in one line."""
    return one_line(_detail(event))


def _detail(event: Event) -> str:
    match event:
        case Erased():
            return "(erased)"
        case Unknown():
            return f"(of a type or shape that this version does not know) {short(event.state)}"
        case m.MemorySet():
            until = "" if event.expires_at is None else f", until {rfc3339(event.expires_at)}"
            return f"{event.key} = {short(event.value)}{until}{_by(event.by)}"
        case m.MemoryForgotten():
            return f"{event.key}{_by(event.by)}"
        case m.MemoryWritten() | m.MemoryRecalled():
            return _memory(event)
        case (
            j.JourneyStarted()
            | j.JourneyStepChanged()
            | j.JourneyRouted()
            | j.JourneyEnded()
            | j.JourneyWritten()
            | j.JourneyRecalled()
        ):
            return _journey(event)
        case c.ModelCallRequested() | c.ModelCallCompleted() | c.ModelCallFailed():
            return _model_call(event)
        case _ if event.type.startswith(("agent.", "system.")):
            return _definition(event)
        case c.QuestionAsked():
            return words(event.question) + options_text(event.options, None)
        case c.QuestionAnswered():
            return f"{short(event.answer)}{_by(event.by)}"
        case c.ApprovalRequested():
            return words(event.action) + _unless_none(event.details)
        case c.ApprovalDecided():
            why = f": {words(event.reason)}" if event.reason else ""
            return f"{'approved' if event.approved else 'denied'}{_by(event.by)}{why}"
        case c.ValueRecorded():
            return short(event.value)
        case c.RaceWon():
            return f"by branch {event.winner}, of {event.branches}"
        case c.StepStarted():
            return ""
        case c.StepCompleted():
            return f"{short(event.result)}{_took(event.latency_ms)}"
        case c.StepFailed():
            return failed(event.failure) + _again(event)
        case _ if event.type.startswith("tool_call."):
            return _tool_call(event)
        case _:
            return _conversation(event) if event.type.startswith("conversation.") else _of_run(event)


def _of_run(event: Event) -> str:
    match event:
        case r.RunRequested():
            return event.target + _unless_none(event.input)
        case r.RunClaimed():
            return f"{event.reason} by {event.worker}, epoch {event.epoch}"
        case r.RunWaiting():
            until = "" if event.due is None else f", until {rfc3339(event.due)} at most"
            named = f": {', '.join(event.operations)}" if event.operations else ""
            return f"{reason_text(event.reason)}{named}{until}"
        case r.TimerSet():
            waits = "" if event.signal is None else f"for the signal {words(event.signal)}, at most "
            return f"{waits}until {rfc3339(event.due)}"
        case r.RunSignalled():
            return f"{words(event.name)}{_unless_none(event.payload)}{_by(event.by)}"
        case r.RunCancelRequested() | r.RunCancelled():
            why = f": {words(event.reason)}" if event.reason else ""
            return f"asked for{_by(event.by)}{why}"
        case r.RunPaused() | r.RunUnpaused():
            return _by(event.by).strip()
        case r.RunRetryScheduled():
            again = f"{event.reopens} again in {duration(event.delay_ms / 1_000)}"
            return f"attempt {event.attempt} failed: {failed(event.failure)} ({again})"
        case r.RunDiverged():
            return words(event.message)
        case r.RunSucceeded():
            return short(event.output)
        case r.RunFailed():
            return failed(event.failure)
        case r.RunContinued():
            return f"anew{_unless_none(event.state)}"
        case r.ChildStarted():
            return f"{event.target} as {event.child}"
        case r.ChildEnded():
            came = short(event.output) if event.failure is None else failed(event.failure)
            return f"{event.child} {event.status}: {'(large)' if event.elsewhere else came}"
        case r.RunTimedOut():
            return f"after {event.timeout_seconds:g} s"
        case r.RunStepLimitReached():
            summary = f": {words(event.summary)}" if event.summary else ""
            return f"{_limit(event)}{summary}"
        case r.RunSuperseded():
            return f"by {event.run}"
        case r.InputReceived():
            return "" if event.signal is None else f"the signal {words(event.signal)}"
        case r.RunStarted() | r.TimerFired() | r.WaitCancelled():
            return ""
        case r.MessageProduced():
            return short(event.content)
        case o.TierSelected():
            return f"{event.tier} ({words(event.model)}): {words(event.rationale)}"
        case o.ShieldEvaluated():
            said = f": {words(event.message)}" if event.message else ""
            return f"{words(event.shield)} {event.direction} {event.verdict}{said}"
        case o.ContextCompacted():
            return f"messages {event.first} to {event.last}, {event.tokens_before} to {event.tokens_after} tokens"
        case r.ErrorReported():
            return words(event.message) + _unless_none(event.details)
        case r.RunEmitted():
            return event.name + _unless_none(event.payload)
        case r.CheckpointSaved():
            return (event.name or "(no name)") + _unless_none(event.state)
        case r.GuardApplied():
            return f"{event.guard}: {words(event.message)}"
        case _:
            return short(event.model_dump(mode="json", exclude={"operation"}))


def _tool_call(event: Event) -> str:
    match event:
        case c.ToolCallRequested():
            return f"{called(event.tool, event.arguments)}, {effect_text(event)}"
        case c.ToolCallCompleted():
            return f"{short(event.result)}{_took(event.latency_ms)}"
        case c.ToolCallFailed():
            return failed(event.failure) + _again(event)
        case c.ToolCallInDoubt():
            return f"did it happen? ({event.cause})"
        case c.ToolCallReported():
            return f"late, by epoch {event.epoch}: {_outcome(event.failure, event.result)}"
        case c.ToolCallSettled():
            settled = "make it again" if event.outcome == "again" else _outcome(event.failure, event.result)
            return f"{settled}{_by(event.by)}"
        case c.ToolCallUnreconciled():
            told = "it cannot be told" if event.failure is None else failed(event.failure)
            return told + _again(event)
        case _:
            return short(event.model_dump(mode="json", exclude={"operation"}))


def _model_call(event: c.ModelCallRequested | c.ModelCallCompleted | c.ModelCallFailed) -> str:
    match event:
        case c.ModelCallRequested():
            return f"{event.model}, {counted(event.messages_count, 'message')}"
        case c.ModelCallCompleted():
            return f"{message_text(event.message)}{_took(event.latency_ms)}{_tokens(event.usage)}"
        case c.ModelCallFailed():
            return failed(event.failure) + _again(event) + _tokens(event.usage)


def _definition(event: Event) -> str:
    match event:
        case a.AgentDefined():
            came = f", a copy of {event.forked_from}@{event.forked_revision}" if event.forked_from else ""
            return f"{event.key}, revision 1{came}{_kind_of(event)}"
        case a.AgentRevised():
            again = f" as revision {event.restored_from} was" if event.restored_from is not None else ""
            return f"revision {event.revision}{again}{_kind_of(event)}"
        case a.AgentActivated():
            return f"revision {event.revision}{_by(event.by)}"
        case a.AgentRetired():
            return f"{words(event.reason or '')}{_by(event.by)}".strip()
        case a.AgentSpecSet():
            return f"revision {event.revision}: {words(event.text)}{_by(event.by)}"
        case a.SystemDefined() | a.SystemRevised():
            key = event.key if isinstance(event, a.SystemDefined) else event.name
            return f"{key}{f': {words(event.prefix)}' if event.prefix else ''}{_by(event.by)}"
        case a.SystemMemberAdded() | a.SystemMemberRemoved():
            return f"{event.key}{_by(event.by)}"
        case a.SystemKnowledgeSet():
            known = "known no more" if event.knowledge is None else words(str(event.knowledge.get("text")))
            return f"{event.name}: {known}{_by(event.by)}"
        case _:
            return short(event.model_dump(mode="json"))


def _kind_of(event: a.AgentDefined | a.AgentRevised) -> str:
    inherits = f", inherits from {event.parent}" if event.parent else ""
    return f"{inherits}{', a draft' if event.draft else ''}{_by(event.by)}"


def _tokens(usage: c.Usage | None) -> str:
    if usage is None or not (usage.input_tokens or usage.output_tokens):
        return ""
    return f", {usage.input_tokens} + {usage.output_tokens} tokens"


def _memory(event: m.MemoryWritten | m.MemoryRecalled) -> str:
    name = f"{event.scope}:{event.key}"
    if event.failure is not None:
        return f"{name} {failed(event.failure)}"
    if isinstance(event, m.MemoryRecalled):
        return _recalled(event, name)
    if event.conflict is not None:
        return f"{event.action} {name}, refused: {words(event.conflict)}"
    several = f" {counted(event.count, 'key')}" if event.action in ("set_many", "clear") else ""
    return f"{event.action}{several} {name}"


def _recalled(event: m.MemoryRecalled, name: str) -> str:
    if event.same_as is not None:
        return f"{name} the same as {event.same_as}"
    if not event.found:
        return f"{name} is not there"
    # Items were asked for where streams are named; the list has each with its scope and key.
    several = event.streams is not None
    return f"{name}: {counted(len(event.places), 'item')}" if several else f"{name} = {short(event.value)}"


def _conversation(event: Event) -> str:
    match event:
        case v.ConversationStarted():
            return event.target + (f" {words(event.title)}" if event.title else "")
        case v.ConversationTitled():
            return f"{words(event.title or '(none)')}{_by(event.by)}"
        case v.ConversationDescribed():
            return f"{short(event.metadata)}{_by(event.by)}"
        case v.ConversationResourceAttached():
            size = "" if event.size is None else f", {counted(event.size, 'byte')}"
            return f"{words(event.name)} ({event.kind}{size}){_by(event.by)}"
        case v.ConversationResourceDetached():
            return f"{words(event.name)}{_by(event.by)}"
        case v.ConversationForked():
            return f"{counted(event.upto, 'message')} of {event.source}{_by(event.by)}"
        case v.ConversationRewound():
            return f"to before message {event.at}, where {event.run} goes on{_by(event.by)}"
        case v.ConversationDeleted():
            why = f": {words(event.reason)}" if event.reason else ""
            return f"asked for{_by(event.by)}{why}"
        case v.ConversationErased():
            return f"{counted(event.events, 'event')}, {counted(event.blobs, 'blob')}"
        case v.ConversationRecalled():
            left_out = f", {event.omitted:,} older ones left out" if event.omitted else ""
            return f"{counted(len(event.messages), 'message')}{left_out}"
        case _:
            return short(event.model_dump(mode="json", exclude={"operation"}))


def _journey(
    event: j.JourneyStarted
    | j.JourneyStepChanged
    | j.JourneyRouted
    | j.JourneyEnded
    | j.JourneyWritten
    | j.JourneyRecalled,
) -> str:
    match event:
        case j.JourneyStarted():
            return f"{event.journey} at {event.step}"
        case j.JourneyStepChanged():
            moved = "" if event.from_step == event.to_step else f" → {event.to_step}"
            return f"{event.from_step}{moved} {short(event.patch)}"
        case j.JourneyRouted():
            certain = "" if event.confidence is None else f", {event.confidence:.0%} certain"
            return f"to {event.journey or 'nothing yet'} by {event.by}{certain}"
        case j.JourneyEnded():
            return words(event.reason)
        case j.JourneyWritten():
            refused = f", refused: {words(event.conflict)}" if event.conflict else ""
            return f"{event.action} {event.journey}{refused}"
        case j.JourneyRecalled():
            step = (event.state or {}).get("step")
            return f"{event.journey} " + ("has not begun" if event.state is None else f"at {short(step)}")


def message_text(message: JsonObject) -> str:
    """What a model said: its text, or the tools it calls."""
    calls = cast(Sequence[JsonObject], message.get("tool_calls") or ())
    said = [short(message["content"])] if message.get("content") is not None else []
    return ", ".join([*said, *(_wanted(call) for call in calls)])


def options_text(options: Sequence[str] | None, descriptions: Sequence[str] | None) -> str:
    """The answers to choose from, to be put behind a question."""
    if not options:
        return ""
    told = descriptions or [""] * len(options)
    both = (
        f"{option} ({words(said)})" if said else option for option, said in zip(options, told, strict=False)
    )
    return f" [{' / '.join(both)}]"


def _wanted(call: JsonObject) -> str:
    function = cast(JsonObject, call.get("function") or {})
    return f"→ {called(str(function.get('name')), function.get('arguments'))}"


def called(tool: str, arguments: object) -> str:
    """A call as Python would write it: ``weather(city="Turin")``."""
    if isinstance(arguments, str):
        arguments = json_or_text(arguments)  # Of a call that was refused: as the model wrote it.
    if isinstance(arguments, dict):
        return f"{tool}({', '.join(f'{name}={short(value)}' for name, value in arguments.items())})"
    return f"{tool}({short(arguments)})"


def effect_text(event: c.ToolCallRequested) -> str:
    """The declared effect; for a write, whether it can be repeated safely."""
    return "write with key" if event.effect == "write" and event.key is not None else event.effect


def failed(failure: r.Failure) -> str:
    return f"{failure.error_type}: {words(failure.message)}"


def reason_text(reason: str) -> str:
    """Why a run waits."""
    return {
        "question": "for an answer",
        "approval": "for an approval",
        "signal": "for a signal",
        "timer": "until its time has come",
        "in_doubt": "a write is in doubt",
        "child": "for a child",
        "retry": "for its next attempt",
        "paused": "paused",
        "diverged": "the code diverged",
        "handover": "for another worker",
    }.get(reason, reason)


def _limit(event: r.RunStepLimitReached) -> str:
    if event.limit is None:
        return f"after {counted(event.model_turns_max, 'model turn')}"
    return f"by its limit of {event.limit.replace('_', ' ')}"


def _outcome(failure: r.Failure | None, result: JsonValue) -> str:
    return short(result) if failure is None else failed(failure)


def _again(event: c.StepFailed | c.ModelCallFailed | c.ToolCallFailed | c.ToolCallUnreconciled) -> str:
    if event.final:
        return ""
    return f" (attempt {event.attempt}, again in {duration((event.delay_ms or 0.0) / 1_000)})"


def _took(latency_ms: float) -> str:
    return f" ({duration(latency_ms / 1_000)})" if latency_ms >= 1 else ""


def _by(name: str | None) -> str:
    return f" by {name}" if name else ""


def _unless_none(value: JsonValue) -> str:
    return "" if value is None else f" {short(value)}"
