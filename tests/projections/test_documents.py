"""What the built-in projections say, told in events: given these, the document is this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evrt.events import Erased, Event, JsonObject
from evrt.events import calls as c
from evrt.events import run as r
from evrt.events.conversation import ConversationStarted
from evrt.events.memory import MemoryForgotten, MemorySet
from evrt.folds.chats import last_assistant_message, messages_of
from evrt.folds.clip import is_clipped
from evrt.folds.run import ERASED
from evrt.folds.said import Said
from evrt.folds.waiting import still_waiting
from evrt.projection import AnyProjection, encode_document, fold
from evrt_projections import audit, conversations, memory, messages, questions, runs, steps, usage
from evrt_projections.usage import Price
from pure.histories import HOUR, placed
from pure.streams import envelope_id

RUN = "run-a"
META: JsonObject = {"actor": "agent:helper", "on_behalf_of": "user-a"}
BROKEN = r.Failure(error_type="ValueError", message="no")

REQUESTED = r.RunRequested(target="helper", kind="agent", input="Umbrella?")
PAY = c.ToolCallRequested(
    operation="pay#1", digest="d", tool="pay", effect="write", arguments={"eur": 5}, tool_call_id="c1"
)
IN_DOUBT = c.ToolCallInDoubt(operation="pay#1", cause="crash")
SETTLED = c.ToolCallSettled(operation="pay#1", outcome="completed", result="paid", by="ann")


def documents(projection: AnyProjection, *events: Event, stream: str = RUN, upto: int | None = None) -> Any:
    """The documents of a stream of these events, by part."""
    history = placed(events, stream, "conversation-a", META)
    return {part: one.value for (_, part), one in fold(projection, history[:upto]).items()}


def seen(version: int, operation: str = "pay#1") -> r.InputReceived:
    return r.InputReceived(operation=operation, event_id=envelope_id(version))


def asks(content: str | None, operation: str = "model#1", **fields: Any) -> c.ModelCallCompleted:
    message: JsonObject = {"role": "assistant", "content": content}
    return c.ModelCallCompleted(operation=operation, message=message, **fields)


# ------------------------------------------------------------------------------------------- runs


def test_a_long_input_is_cut_in_the_run_s_document_and_says_where_it_is_whole() -> None:
    long = r.RunRequested(target="helper", kind="agent", input=["word"] * 50_000)
    run = documents(runs.PROJECTION, long)[""]
    assert is_clipped(run.input)
    assert run.input["$clipped"]["bytes"] == 350_001
    assert run.input["$clipped"]["begins"].startswith('["word","word"')
    assert run.input["$clipped"]["position"] == run.position


def test_a_short_input_stands_as_it_is_whatever_follows() -> None:
    run = documents(runs.PROJECTION, REQUESTED, r.RunStarted(), r.RunSucceeded(output={"no": True}))[""]
    assert (run.status, run.input, run.output, run.events) == ("succeeded", "Umbrella?", {"no": True}, 3)


def test_a_run_knows_whose_child_it_is() -> None:
    asked = r.RunRequested(target="helper", kind="agent", parent="run-p", operation_of_parent="helper#1")
    assert documents(runs.PROJECTION, asked)[""].parent == "run-p"


# ------------------------------------------------------------------------------------------ steps


def test_a_step_has_what_was_asked_and_what_it_came_to() -> None:
    step = documents(
        steps.PROJECTION, PAY, c.ToolCallCompleted(operation="pay#1", result="paid", latency_ms=7)
    )["pay#1"]
    assert (step.kind, step.name, step.effect, step.status) == ("tool_call", "pay", "write", "completed")
    assert (step.arguments, step.attempts, step.outcome.value) == ({"eur": 5}, 1, "paid")
    assert (step.began_at, step.outcome.time, step.outcome.latency_ms) == (1_000, 2_000, 7)


def test_a_failed_attempt_leaves_a_step_open_and_the_last_one_closes_it() -> None:
    again = c.ToolCallFailed(operation="pay#1", failure=BROKEN, attempt=1, final=False)
    last = c.ToolCallFailed(operation="pay#1", failure=BROKEN, attempt=2)
    first = documents(steps.PROJECTION, PAY, again)["pay#1"]
    assert (first.status, first.attempts) == ("open", 2)
    closed = documents(steps.PROJECTION, PAY, again, last)["pay#1"]
    assert (closed.status, closed.attempts, closed.outcome.failure) == ("failed", 2, BROKEN)


def test_a_retry_of_the_run_opens_the_step_again() -> None:
    retry = r.RunRetryScheduled(reopens="pay#1", attempt=1, delay_ms=1, failure=BROKEN)
    events = (PAY, c.ToolCallFailed(operation="pay#1", failure=BROKEN), retry)
    step = documents(steps.PROJECTION, *events)["pay#1"]
    assert (step.status, step.outcome, step.attempts) == ("open", None, 2)


def test_a_settlement_closes_a_step_when_the_run_has_seen_it() -> None:
    events = (PAY, IN_DOUBT, SETTLED, seen(3))
    assert [documents(steps.PROJECTION, *events, upto=n)["pay#1"].status for n in (2, 3, 4)] == [
        "in_doubt",
        "in_doubt",
        "completed",
    ]
    assert documents(steps.PROJECTION, *events)["pay#1"].outcome.value == "paid"


def test_a_retry_leaves_alone_what_had_succeeded() -> None:
    retry = r.RunRetryScheduled(reopens="pay#1", attempt=1, delay_ms=1, failure=BROKEN)
    step = documents(steps.PROJECTION, PAY, c.ToolCallCompleted(operation="pay#1", result=1), retry)["pay#1"]
    assert (step.status, step.attempts) == ("completed", 1)


def test_a_write_that_is_to_be_made_again_is_open_and_in_doubt_no_more() -> None:
    again = c.ToolCallSettled(operation="pay#1", outcome="again")
    step = documents(steps.PROJECTION, PAY, IN_DOUBT, again, seen(3))["pay#1"]
    assert (step.status, step.in_doubt, step.outcome) == ("open", False, None)


def test_what_the_code_cut_off_itself_was_cancelled() -> None:
    cut = r.Failure(error_type="cancelled", message="")
    events = (PAY, c.ToolCallFailed(operation="pay#1", failure=cut))
    assert documents(steps.PROJECTION, *events)["pay#1"].status == "cancelled"
    asked = c.QuestionAsked(operation="ask#1", digest="d", question="?")
    expired = c.QuestionExpired(operation="ask#1", cause="cancelled")
    assert documents(steps.PROJECTION, asked, expired)["ask#1"].status == "cancelled"
    slept = r.TimerSet(operation="sleep#1", digest="d", due=5)
    cut_short = r.WaitCancelled(operation="sleep#1")
    assert documents(steps.PROJECTION, slept, cut_short)["sleep#1"].status == "cancelled"


def test_what_nothing_came_for_in_time_has_failed() -> None:
    asked = c.QuestionAsked(operation="ask#1", digest="d", question="?", due=5)
    expired = c.QuestionExpired(operation="ask#1", cause="timeout")
    step = documents(steps.PROJECTION, asked, expired)["ask#1"]
    assert (step.status, step.outcome and step.outcome.failure) == (
        "failed",
        r.Failure(error_type="timeout", message="Nobody answered in time."),
    )
    waited = r.TimerSet(operation="signal.paid#1", digest="d", due=5, signal="paid")
    fired = r.TimerFired(operation="signal.paid#1")
    assert documents(steps.PROJECTION, waited, fired)["signal.paid#1"].status == "failed"
    slept = r.TimerSet(operation="sleep#1", digest="d", due=5)
    fired = r.TimerFired(operation="sleep#1")
    assert documents(steps.PROJECTION, slept, fired)["sleep#1"].status == "completed"


def test_a_signal_that_was_received_is_an_outcome_that_names_it() -> None:
    sent = r.RunSignalled(name="paid", payload=5)
    received = r.InputReceived(operation="signal.paid#1", event_id=envelope_id(2), signal="paid")
    step = documents(steps.PROJECTION, sent, received)["signal.paid#1"]
    assert (step.kind, step.name, step.status) == ("signal", "signal.paid", "completed")
    assert step.outcome is not None
    assert step.outcome.event_id == envelope_id(2)


def test_an_approval_waits_until_somebody_has_decided() -> None:
    asked = c.ApprovalRequested(operation="approve#1", digest="d", action="Send it", details={"to": 5}, due=7)
    waiting = documents(questions.PROJECTION, asked)["approve#1"]
    assert (waiting.kind, waiting.status, waiting.question, waiting.details, waiting.due) == (
        "approval",
        "open",
        "Send it",
        {"to": 5},
        7,
    )
    for approved, status in ((True, "approved"), (False, "denied")):
        decided = c.ApprovalDecided(operation="approve#1", approved=approved, by="ann")
        for events in ((asked, decided), (asked, decided, seen(3))):
            document = documents(questions.PROJECTION, *events)["approve#1"]
            assert (document.status, document.by) == (status, "ann")
    assert documents(questions.PROJECTION, asked, r.WaitCancelled(operation="approve#1"))[
        "approve#1"
    ].status == ("cancelled")


def test_what_a_question_takes_and_what_exactly_is_to_be_approved_stand_in_the_view() -> None:
    """S2.20"""
    asked = c.QuestionAsked(
        operation="ask#1",
        digest="d",
        question="?",
        options=("a", "b"),
        descriptions=("first", "x" * 50_000),
        allow_free_form=False,
        answer_schema={"type": "string"},
    )
    waiting = documents(questions.PROJECTION, asked)["ask#1"]
    assert (waiting.options, waiting.allow_free_form) == (("a", "b"), False)
    assert waiting.answer_schema == {"type": "string"}
    assert waiting.descriptions is not None
    assert waiting.descriptions[0] == "first"
    assert "[clipped: 2 in all" in waiting.descriptions[1]
    requested = c.ApprovalRequested(operation="approve#1", digest="d", action="Send", shown_digest="abc")
    assert documents(questions.PROJECTION, requested)["approve#1"].shown_digest == "abc"


STARTED = r.ChildStarted(operation="double#1", digest="d", child="run-child", target="double")
DOUBLED = r.ChildEnded(operation="double#1", child="run-child", status="succeeded", output=4)


def test_a_child_is_a_step_from_its_start_to_when_the_run_has_seen_its_end() -> None:
    child = [
        documents(steps.PROJECTION, STARTED, DOUBLED, seen(2, "double#1"), upto=n)["double#1"]
        for n in (1, 2, 3)
    ]
    assert [(one.kind, one.name, one.status) for one in child] == [
        ("child", "double", "open"),
        ("child", "double", "open"),
        ("child", "double", "completed"),
    ]
    assert child[2].outcome.value == 4


def test_to_its_parent_a_child_that_somebody_cancelled_has_failed() -> None:
    gone = r.Failure(error_type="cancelled", message="not needed")
    ended = r.ChildEnded(operation="double#1", child="run-child", status="cancelled", failure=gone)
    step = documents(steps.PROJECTION, STARTED, ended, seen(2, "double#1"))["double#1"]
    assert (step.status, step.outcome.failure) == ("failed", gone)


def test_an_identity_that_a_later_chapter_uses_again_is_another_step() -> None:
    first = placed([PAY, c.ToolCallCompleted(operation="pay#1", result=1), r.RunContinued(state=1)], RUN)
    again = placed([*(event.event for event in first), PAY, IN_DOUBT], RUN)[3:]
    later = [event._replace(meta={"continued": 3}) for event in again]
    projections: tuple[AnyProjection, ...] = (steps.PROJECTION, audit.PROJECTION, questions.PROJECTION)
    for projection in projections:
        found = {part: one.value for (_, part), one in fold(projection, [*first, *later]).items()}
        assert "3:pay#1" in found
    found = {part: one.value for (_, part), one in fold(steps.PROJECTION, [*first, *later]).items()}
    assert {part: step.status for part, step in found.items()} == {
        "pay#1": "completed",
        "3:pay#1": "in_doubt",
    }


# ---------------------------------------------------------------------------------- conversations


def test_what_a_run_has_its_children_do_is_not_said_in_its_conversation() -> None:
    asked = [REQUESTED, asks("Let me see."), r.RunSucceeded(output="No.")]
    parent = placed(asked, "run-a", "conversation-a", META)
    kin: JsonObject = {"root": "run-a", "parent": "run-a"}
    child = placed(asked, "run-b", "conversation-a", META | kin)
    own = placed(asked, "run-c", "conversation-c", META | kin | {"parent_correlation": "conversation-a"})
    headers = {
        found.key: found.value for found in fold(conversations.PROJECTION, parent + child + own).values()
    }
    assert {key: header.runs for key, header in headers.items()} == {"conversation-a": 1, "conversation-c": 1}
    said = fold(messages.PROJECTION, parent + child + own)
    assert {found.value.run for found in said.values()} == {"run-a", "run-c"}


def test_a_conversation_s_header_counts_its_runs_and_previews_what_was_said() -> None:
    started = placed([ConversationStarted(target="helper", owner="user-a")], "conversation-a", None, META)
    first = placed([REQUESTED, r.RunSucceeded(output="No. " + "Sun. " * 99)], "run-a", "conversation-a", META)
    second = placed([REQUESTED, r.RunFailed(failure=BROKEN)], "run-b", "conversation-a", META)
    [found] = fold(conversations.PROJECTION, [*started, *first, *second]).values()
    header = found.value
    assert (found.key, header.owner, header.target, header.runs) == ("conversation-a", "user-a", "helper", 2)
    assert header.ended == {"succeeded": 1, "failed": 1}
    assert (header.last_run, header.last_asked) == ("run-b", "Umbrella?")
    assert header.last_answer == ("No. " + "Sun. " * 99)[:200] + "…"


def test_a_run_on_its_own_is_no_conversation() -> None:
    assert fold(conversations.PROJECTION, placed([REQUESTED], RUN)) == {}


# --------------------------------------------------------------------------------------- messages


def chat(*lines: tuple[str, Sequence[Event]], **options: Any) -> list[Any]:
    """The messages of a conversation of these runs."""
    return messages_of(said(*lines), **options)


def said(*lines: tuple[str, Sequence[Event]]) -> list[Said]:
    events = [e for run, line in lines for e in placed(line, run, "conversation-a")]
    numbered = [e._replace(position=position, time=position * HOUR) for position, e in enumerate(events, 1)]
    return [one.value for one in fold(messages.PROJECTION, numbered).values()]


CALLING = c.ModelCallCompleted(
    operation="model#1",
    message={"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
)
PAID = (REQUESTED, CALLING, PAY, c.ToolCallCompleted(operation="pay#1", result={"ok": True}))


def test_a_conversation_reads_as_chat_messages_with_tool_calls_and_their_results() -> None:
    assert chat((RUN, [*PAID, asks("Paid.", "model#2"), r.RunSucceeded(output="Paid.")])) == [
        {"role": "user", "content": "Umbrella?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"ok":true}'},
        {"role": "assistant", "content": "Paid."},
    ]


def test_a_failed_run_is_left_out_unless_it_is_asked_for() -> None:
    failed = ("run-a", [REQUESTED, asks("Hm."), r.RunFailed(failure=BROKEN)])
    cut_off = ("run-b", [REQUESTED, r.RunTimedOut(timeout_seconds=1)])
    fine = ("run-c", [REQUESTED, asks("Sunny."), r.RunSucceeded(output="Sunny.")])
    assert [message["content"] for message in chat(failed, cut_off, fine)] == ["Umbrella?", "Sunny."]
    every = chat(failed, cut_off, fine, include_failed_runs=True)
    assert [message["content"] for message in every] == [
        "Umbrella?",
        "Hm.",
        "Umbrella?",
        "Umbrella?",
        "Sunny.",
    ]


def test_a_run_that_is_still_going_is_part_of_the_conversation() -> None:
    assert len(chat((RUN, PAID))) == 3


def test_what_was_said_twice_stands_twice() -> None:
    again = ("run-b", [REQUESTED, asks("Sunny."), r.RunSucceeded(output="Sunny.")])
    assert len(chat((RUN, again[1]), again)) == 4


def test_runs_at_the_same_time_do_not_stand_in_each_other_s_messages() -> None:
    one, other = placed(PAID, "run-a", "conversation-a"), placed(PAID, "run-b", "conversation-a")
    mixed = [e for pair in zip(one, other, strict=True) for e in pair]
    events = [e._replace(position=position) for position, e in enumerate(mixed, 1)]
    found = messages_of(one.value for one in fold(messages.PROJECTION, events).values())
    roles = [message["role"] for message in found if isinstance(message, dict)]
    assert roles == ["user", "assistant", "tool"] * 2


def test_the_last_assistant_message_is_the_last_with_words_in_it() -> None:
    found = chat((RUN, [REQUESTED, asks("Let me see."), asks(None, "model#2"), asks("", "model#3")]))
    assert last_assistant_message(found) == {"role": "assistant", "content": "Let me see."}
    assert last_assistant_message([{"role": "user", "content": "Hi."}]) is None


def test_a_settled_write_speaks_where_it_was_settled() -> None:
    found = chat((RUN, [REQUESTED, PAY, IN_DOUBT, SETTLED, asks("Meanwhile."), seen(4)]))
    assert [message["content"] for message in found] == ["Umbrella?", "paid", "Meanwhile."]


def test_a_failure_that_the_run_s_retry_takes_back_was_never_said() -> None:
    retry = r.RunRetryScheduled(reopens="pay#1", attempt=1, delay_ms=1, failure=BROKEN)
    failed = [REQUESTED, PAY, c.ToolCallFailed(operation="pay#1", failure=BROKEN)]
    assert [m["role"] for m in chat((RUN, failed))] == ["user", "tool"]
    assert [m["role"] for m in chat((RUN, [*failed, retry]))] == ["user"]
    done = c.ToolCallCompleted(operation="pay#1", result="paid", attempt=2)
    assert [m["content"] for m in chat((RUN, [*failed, retry, done]))] == ["Umbrella?", "paid"]


def test_a_message_that_is_too_long_keeps_its_shape_and_says_where_it_is_whole() -> None:
    [run, reply] = said((RUN, [REQUESTED, asks("word " * 50_000)]))
    assert (run.whole_at, reply.whole_at) == (None, 2)
    [message] = reply.messages
    assert isinstance(message, dict)
    assert message["role"] == "assistant"
    assert str(message["content"]).startswith("word word ")
    assert str(message["content"]).endswith("whole in the event at position 2]")


# ----------------------------------------------------------------------------------------- memory


def test_memory_has_the_last_value_of_a_key_and_nothing_of_one_that_was_forgotten() -> None:
    events = (
        MemorySet(key="theme", value="light", source="run:run-a"),
        MemorySet(key="theme", value={"name": "dark"}, source="run:run-b"),
        MemorySet(key="city", value="Turin"),
        MemoryForgotten(key="city"),
    )
    history = placed(events, "memory-user-a", RUN, {"run": "run-b"})
    [(place, found)] = fold(memory.PROJECTION, history).items()
    assert place == ("memory-user-a", "theme")
    kept = found.value
    assert (kept.value, kept.version, kept.source, kept.run) == ({"name": "dark"}, 2, "run:run-b", "run-b")


# ------------------------------------------------------------------------------------------ usage

TOKENS = c.Usage(input_tokens=1_000, output_tokens=100, cost_usd=0.5)
CALL = c.ModelCallRequested(
    operation="model#1", digest="d", model="fast", parameters={}, messages_digest="", messages_count=1
)
TWO_ATTEMPTS = (
    CALL,
    c.ModelCallFailed(operation="model#1", failure=BROKEN, final=False, usage=TOKENS, latency_ms=10),
    asks("Hi.", usage=TOKENS, attempt=2, latency_ms=20, model_returned="fast-2", provider="them"),
)


def test_a_failed_attempt_is_paid_for_too() -> None:
    used = documents(usage.PROJECTION, *TWO_ATTEMPTS)["model#1"]
    assert (used.input_tokens, used.output_tokens, used.cost_usd, used.latency_ms) == (2_000, 200, 1.0, 30)
    assert [(one.number, one.error_type) for one in used.attempts] == [(1, "ValueError"), (2, None)]
    assert (used.model, used.model_returned, used.provider) == ("fast", "fast-2", "them")
    assert (used.user, used.actor, used.conversation) == ("user-a", "agent:helper", "conversation-a")
    assert used.day == "1970-01-01"


def test_totals_are_of_all_attempts_even_where_the_list_is_not() -> None:
    attempts = [
        c.ModelCallFailed(operation="model#1", failure=BROKEN, final=False, usage=TOKENS, attempt=number)
        for number in range(1, 101)
    ]
    used = documents(usage.PROJECTION, CALL, *attempts)["model#1"]
    assert (used.attempts_count, used.input_tokens, used.cost_usd) == (100, 100_000, 50.0)
    assert len(used.attempts) == usage.ATTEMPTS_MAX


def test_another_table_of_prices_is_another_variant_of_the_view() -> None:
    cheap, dear = ({"fast-2": Price(input=1, output=10)}, {"fast-2": Price(input=2, output=20)})
    assert usage.usage(cheap, name="usage_at_list_price").name == "usage_at_list_price"
    used = documents(usage.usage(cheap), *TWO_ATTEMPTS)["model#1"]
    # The first attempt had been asked of a name that is not in the table.
    assert [one.cost_usd for one in used.attempts] == [0.5, 0.002]
    both = cheap | {"fast": Price(input=1, output=10)}
    assert documents(usage.usage(both), *TWO_ATTEMPTS)["model#1"].cost_usd == 0.004
    variants = [usage.usage(table).variant for table in ({}, cheap, dear, cheap)]
    assert variants[1] == variants[3]
    assert len(set(variants)) == 3


def test_a_price_is_by_tokens_and_a_day_by_utc() -> None:
    events = [e._replace(time=e.time + 364 * 24 * HOUR) for e in placed(TWO_ATTEMPTS, RUN)]
    [used] = fold(usage.PROJECTION, events).values()
    assert used.value.day == "1970-12-31"


# -------------------------------------------------------------------------------------- questions

ASKED = c.QuestionAsked(operation="ask#1", digest="d", question="Publish?", options=("yes", "no"))


def test_a_question_is_open_until_somebody_answers() -> None:
    answered = c.QuestionAnswered(operation="ask#1", answer="yes", by="ann")
    open_one = documents(questions.PROJECTION, ASKED)["ask#1"]
    assert (open_one.kind, open_one.status, open_one.question) == ("question", "open", "Publish?")
    done = documents(questions.PROJECTION, ASKED, answered, seen(2, "ask#1"))["ask#1"]
    assert (done.status, done.by, done.outcome.value) == ("answered", "ann", "yes")
    expired = documents(questions.PROJECTION, ASKED, c.QuestionExpired(operation="ask#1", cause="timeout"))
    assert expired["ask#1"].status == "expired"


def test_a_write_in_doubt_waits_for_a_person_and_others_do_not() -> None:
    done = c.ToolCallCompleted(operation="pay#1", result="paid")
    assert documents(questions.PROJECTION, PAY, done) == {}
    doubted = documents(questions.PROJECTION, PAY, IN_DOUBT)["pay#1"]
    assert (doubted.kind, doubted.status, doubted.question) == ("write", "open", "crash")
    settled = documents(questions.PROJECTION, PAY, IN_DOUBT, SETTLED)["pay#1"]
    assert (settled.status, settled.by) == ("settled", "ann")


def test_a_settlement_that_did_not_fit_leaves_the_write_in_doubt() -> None:
    refused = c.ToolCallInDoubt(operation="pay#1", cause="unfitting", refused=envelope_id(3))
    assert documents(questions.PROJECTION, PAY, IN_DOUBT, SETTLED, refused)["pay#1"].status == "open"


def test_a_run_that_has_ended_waits_for_nothing() -> None:
    ended = fold(questions.PROJECTION, placed([ASKED, r.RunTimedOut(timeout_seconds=1)], RUN))
    other = fold(questions.PROJECTION, placed([ASKED], "run-b"))
    known = [(key, one.value) for (key, _), one in {**ended, **other}.items()]
    assert [run for run, _ in still_waiting(known)] == ["run-b"]


# ------------------------------------------------------------------------------------------ audit


def test_an_auditor_reads_who_did_what_for_whom() -> None:
    claimed = r.RunClaimed(epoch=1, worker="host:12", reason="start")
    trail = documents(audit.PROJECTION, REQUESTED, claimed, PAY, IN_DOUBT, SETTLED)
    assert [trail[part].what for part in sorted(trail)] == [
        "run.requested",
        "run.claimed",
        "tool_call.in_doubt",
        "tool_call.settled",
        "tool_call.requested",
    ]
    asked = trail[f"{1:012d}"]
    assert (asked.who, asked.on_behalf_of, asked.run, asked.at) == ("agent:helper", "user-a", RUN, 11)
    assert asked.event_id == envelope_id(1)
    assert trail[f"{2:012d}"].worker == "host:12"
    assert trail[f"{5:012d}"].who == "ann"


def test_a_write_is_told_with_its_attempts_and_its_outcome() -> None:
    failed = c.ToolCallFailed(operation="pay#1", failure=BROKEN, final=False)
    done = c.ToolCallCompleted(operation="pay#1", result="paid")
    write = documents(audit.PROJECTION, PAY, failed, done)["pay#1"]
    assert write.details["arguments"] == {"eur": 5}
    assert [one.what for one in write.followed] == ["tool_call.failed", "tool_call.completed"]
    assert write.followed[1].details == {"result": "paid"}


def test_reads_are_no_facts_for_an_auditor() -> None:
    look = PAY.model_copy(update={"effect": "read"})
    assert documents(audit.PROJECTION, look, c.ToolCallCompleted(operation="pay#1", result="seen")) == {}


def test_the_trail_does_not_repeat_what_memory_holds() -> None:
    history = placed([MemorySet(key="diagnosis", value="flu")], "memory-user-a", RUN, {"run": RUN})
    [fact] = fold(audit.PROJECTION, history).values()
    assert (fact.value.what, fact.value.run, fact.value.details) == ("memory.set", RUN, {"key": "diagnosis"})
    assert b"flu" not in encode_document(audit.PROJECTION, fact)


# ----------------------------------------------------------------------------------------- erased


def test_what_happened_is_known_of_erased_events_as_far_as_their_type_says() -> None:
    history = placed([REQUESTED, PAY, r.RunFailed(failure=BROKEN)], RUN, "conversation-a", META)
    erased = [e._replace(event=Erased(logical_type=e.type)) for e in history]
    [header] = fold(conversations.PROJECTION, erased).values()
    assert (header.value.runs, header.value.ended, header.value.owner) == (1, {"failed": 1}, "user-a")
    assert [one.value.status for one in fold(messages.PROJECTION, erased).values()] == ["failed"]
    assert [one.value.what for one in fold(audit.PROJECTION, erased).values()] == [
        "run.requested",
        "tool_call.requested",
        "run.failed",
    ]


def test_every_end_of_a_run_has_a_status_that_projections_know_without_its_payload() -> None:
    """A type of end that is added later has to be in both, or the views of conversations and messages park."""
    assert ERASED.keys() >= r.TERMINAL
    assert audit.DETAILS.keys() >= r.TERMINAL
