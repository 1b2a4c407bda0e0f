"""What reaches a run from outside: answers, decisions, signals, settlements. And conversations coming into being."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import orjson

from evrt.codec import encode, meta_for
from evrt.errors import Conflict, Fenced, NotFound, UsageError, WrongVersion
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.calls import (
    ApprovalDecided,
    ApprovalRequested,
    QuestionAnswered,
    QuestionAsked,
    ToolCallRequested,
    ToolCallSettled,
)
from evrt.events.conversation import ConversationDeleted, ConversationStarted
from evrt.events.run import Failure, RunSignalled
from evrt.folds.journal import Journal, Operation
from evrt.folds.waits import checked_signal
from evrt.history import CONTINUED, Run, is_ref, load_run
from evrt.log import NEW, Append, Draft, Exact, Fence, Log
from evrt.log.coordination import Hold, Wake
from evrt.log.envelopes import envelope, envelopes
from evrt.log.ids import new_event_id

NOT_DELETED = Fence(0)
"""What an append expects of a conversation's stream, whose epoch rises when the conversation is deleted."""

TRIES_MAX = 100
"""How often to look again when a busy run moved on between reading it and writing to it."""


class Verdict(NamedTuple):
    """What a write in doubt came to."""

    outcome: Literal["completed", "failed", "again"]
    result: JsonValue = None
    failure: Failure | None = None


def verdict(*, completed: bool, result: JsonValue, error: str | None, again: bool) -> Verdict:
    """Exactly one of a result (which may be null), an error, or again. Raises UsageError."""
    if sum((completed, error is not None, again)) != 1:
        raise UsageError("Settle a write with its result, with its error, or again: exactly one of them.")
    if again:
        return Verdict("again")
    if error is not None:
        return Verdict("failed", failure=Failure(error_type="settled", message=error))
    return Verdict("completed", result)


async def held_by_worker(log: Log, run: str) -> tuple[Hold, ...]:
    """What refuses an append unless a worker executes the run still; empty where none does.

    Beside it nothing has to be expected of the version: a busy run writes faster than anybody can read it.
    """
    entry = await log.coordination.entry(run)
    if entry is None or entry.state != "claimed" or entry.worker is None:
        return ()
    return (Hold(run, entry.worker),)


async def answer_question(
    log: Log,
    run: str,
    answer: JsonValue,
    *,
    operation: str | None,
    by: str | None,
    check: Callable[[QuestionAsked, JsonValue], JsonValue],
) -> str:
    """Append an answer to an open question; returns its operation. The first answer wins.

    ``check`` is given the question and the answer, and returns the answer as it is recorded; it raises InvalidInput
    for one that the question does not take, and then nothing is written.
    """

    def decide(history: Run) -> tuple[str, Event]:
        waiting = history.journal.waiting_for_answer()
        chosen = _choose(history, operation, waiting, "question", "waits for no answer")
        asked = _intent_of(history, chosen)
        checked = check(asked, answer) if isinstance(asked, QuestionAsked) else answer
        return chosen, QuestionAnswered(operation=chosen, answer=checked, by=by)

    return await _append(log, run, decide)


async def give_tool_result(
    log: Log, run: str, tool_call_id: str, answer: JsonObject, *, by: str | None
) -> str:
    """Append what came of a call that the client executes; returns its operation. The first result counts.

    ``tool_call_id`` may also be the operation, for a model that gave the same id twice.
    """

    def decide(history: Run) -> tuple[str, Event]:
        waiting = history.journal.waiting_for_answer()
        chosen = _choose_call(history, tool_call_id, waiting)
        return chosen, QuestionAnswered(operation=chosen, answer=answer, by=by)

    return await _append(log, run, decide, actor="client")


async def decide_approval(
    log: Log,
    run: str,
    approved: bool,
    *,
    operation: str | None,
    by: str | None,
    reason: str | None,
    digest: str | None = None,
) -> str:
    """Append the decision on an open approval; returns its operation. The first decision counts.

    ``digest`` is that of what the person was shown. Raises Conflict where it is not that of what is asked for.
    """

    def decide(history: Run) -> tuple[str, Event]:
        waiting = history.journal.waiting_for_approval()
        chosen = _choose(history, operation, waiting, "approval", "waits for no approval")
        requested = _intent_of(history, chosen)
        shown = requested.shown_digest if isinstance(requested, ApprovalRequested) else None
        if digest is not None and digest != shown:
            raise Conflict(
                f"{chosen} of {run} asks leave for something else than you were shown (its digest is {shown}, not "
                f"{digest:.80}), so nothing has been decided. Look at it as it is now, and decide then."
            )
        event = ApprovalDecided(
            operation=chosen, approved=approved, reason=reason, by=by, shown_digest=digest
        )
        return chosen, event

    return await _append(log, run, decide)


async def signal_run(log: Log, run: str, name: str, payload: JsonValue, *, by: str | None) -> None:
    """Append a signal. Raises NotFound, InvalidInput (its name), Conflict where the run has ended."""
    checked_signal(name)

    def decide(history: Run) -> tuple[str, Event]:
        if history.journal.terminal is not None:
            raise Conflict(f"{run} has ended ({history.status}), so nobody would receive the signal {name}.")
        return "", RunSignalled(name=name, payload=payload, by=by)

    await _append(log, run, decide, actor="person" if by is not None else "outside", at_any_time=True)


async def settle_write(
    log: Log,
    run: str,
    operation: str | None,
    verdict: Verdict,
    *,
    by: str | None,
    check: Callable[[str, JsonValue], None] = lambda tool, result: None,
) -> str:
    """Append what a write in doubt came to; returns its operation.

    ``check`` is given the name of the tool and a result, and raises InvalidInput where that does not fit.
    """

    def decide(history: Run) -> tuple[str, Event]:
        waiting = history.journal.waiting_for_settlement()
        chosen = _choose(history, operation, waiting, "write", "has no write in doubt")
        called = _intent_of(history, chosen)
        if verdict.outcome == "completed" and isinstance(called, ToolCallRequested):
            check(called.tool, verdict.result)
        return chosen, ToolCallSettled(operation=chosen, by=by, **verdict._asdict())

    return await _append(log, run, decide)


async def conversation_ref(log: Log, name: str) -> str:
    """The ref of a conversation to run in, made where the id is new. The ref of one that is there stands for itself."""
    ref = await log.ref("conversation", name, create=False)
    if ref is not None:
        return ref
    if is_ref("conversation", name) and (await log.head(name)).leaf is not None:
        return name
    return str(await log.ref("conversation", name))


async def ensure_conversation(log: Log, conversation: str, *, target: str, owner: str | None) -> None:
    """Record that a conversation started, unless it has. Raises NotFound where it has been deleted."""
    head = await log.head(conversation)
    if head.epoch:
        raise await was_deleted(log, conversation)
    if head.leaf is not None:
        return
    event = ConversationStarted(target=target, owner=owner)
    meta: JsonObject = {} if owner is None else {"on_behalf_of": owner}
    with suppress(WrongVersion):  # Another run started it at the same moment.
        await log.append(Append([_draft(conversation, conversation, event, meta)], {conversation: NEW}))


async def refuse_deleted(log: Log, conversation: str) -> None:
    """Raises NotFound for a conversation that has been deleted: the first thing a deletion does is to claim its stream."""
    if (await log.head(conversation)).epoch:
        raise await was_deleted(log, conversation)


async def was_deleted(log: Log, conversation: str) -> NotFound:
    """What is said of a conversation that has been deleted: when that was, and by whom."""
    for row in await log.read_stream(conversation):
        if row.type == ConversationDeleted.type:
            event = envelope(row).event
            by = event.by if isinstance(event, ConversationDeleted) and event.by else None
            when = datetime.fromtimestamp(row.time / 1_000_000, UTC).isoformat(timespec="seconds")
            return NotFound(
                f"{conversation} was deleted at {when.replace('+00:00', 'Z')}{f' by {by}' if by else ''}, with everything in it."
            )
    return NotFound(f"{conversation} was deleted, with everything in it.")


async def _append(
    log: Log,
    run: str,
    decide: Callable[[Run], tuple[str, Event]],
    actor: str = "person",
    *,
    at_any_time: bool = False,
) -> str:
    """Append an event that follows from the run's history, and wake the run.

    To just that history; or, where it may come ``at_any_time`` until the run ends, to what its worker makes of it.
    """
    events = list((await load_run(log, run)).events)
    for _ in range(TRIES_MAX):
        history = Run(run, events)
        operation, event = decide(history)
        meta: JsonObject = {"actor": actor}
        if history.journal.continued:
            meta[CONTINUED] = history.journal.continued
        draft = _draft(run, events[0].correlation, event, meta)
        held = await held_by_worker(log, run) if at_any_time else ()
        expect = {} if held else {run: Exact(len(events))}
        try:
            await log.append(Append([draft], expect, beside=(*held, Wake(run))))
            return operation
        except (WrongVersion, Fenced):
            events += envelopes(await log.read_stream(run, after=len(events)))
    raise Conflict(f"{run} is being written too fast to add to it; try again.")


def _intent_of(history: Run, operation: str) -> Event | None:
    intent = history.journal.operations[operation].intent
    return None if intent is None else intent.event


def _draft(stream: str, correlation: str, event: Event, meta: JsonObject) -> Draft:
    written = meta_for(event, orjson.dumps(meta))
    return Draft(stream, event.type, new_event_id(), correlation, written, encode(event))


def _choose(
    history: Run, operation: str | None, waiting: Sequence[Operation], kind: str, otherwise: str
) -> str:
    names = [candidate.identity for candidate in waiting]
    if history.state.ended:
        raise Conflict(f"{history.id} has ended ({history.status}): it waits for nothing any more.")
    if operation is None:
        if len(names) == 1:
            return names[0]
        if not names:
            raise Conflict(_nothing_waits(history, kind, otherwise))
        raise UsageError(f"{history.id} waits for more than one {kind}: name one of {', '.join(names)}.")
    if operation in names:
        return operation
    if operation not in history.journal.operations:
        known = ", ".join(names) or "none"
        raise NotFound(f"{history.id} has no operation {operation}. Waiting: {known}.")
    decided = history.journal.operations[operation]
    said = _what_came(decided) or "answered or settled, or has its outcome"
    goes_on = f" {_goes_on(history)}" if decided.open else ""
    raise Conflict(f"{operation} of {history.id} does not wait: it has been {said}.{goes_on}")


def _choose_call(history: Run, tool_call_id: str, waiting: Sequence[Operation]) -> str:
    """The open question that a client's result is for."""
    asked = [one for one in history.journal.operations.values() if _asks_client(one)]
    calls = [one for one in asked if tool_call_id in (one.identity, _tool_call_id(one))]
    if history.state.ended:
        raise Conflict(f"{history.id} has ended ({history.status}): it waits for nothing any more.")
    still = [one.identity for one in calls if one in waiting]
    if len(still) == 1:
        return still[0]
    if still:
        raise UsageError(
            f"{history.id} waits for several calls with the id {tool_call_id}: name one of {', '.join(still)} instead."
        )
    if calls:
        raise Conflict(f"The call {tool_call_id} of {history.id} has its result already.")
    known = ", ".join(str(_tool_call_id(one) or one.identity) for one in asked if one in waiting) or "none"
    raise NotFound(
        f"{history.id} has no call {tool_call_id!r:.80} for its client to execute. It waits for: {known}."
    )


def _asks_client(operation: Operation) -> bool:
    asked = operation.intent.event if operation.intent is not None else None
    return isinstance(asked, QuestionAsked) and asked.tool is not None


def _tool_call_id(operation: Operation) -> str | None:
    assert operation.intent is not None
    assert isinstance(operation.intent.event, QuestionAsked)
    return operation.intent.event.tool_call_id


def _nothing_waits(history: Run, kind: str, otherwise: str) -> str:
    """Why nothing of a kind waits: somebody was quicker, and the run has not seen it yet; or it waits for something else."""
    operations = history.journal.operations.values()
    came = [
        f"{one.identity} has been {said}"
        for one in operations
        if one.open and one.outside and (one.kind == kind or (kind == "write" and one.kind == "tool_call"))
        if (said := _what_came(one))
    ]
    if not came:
        return f"{history.id} {otherwise} (it is {_described(history.journal, history)})."
    return f"{history.id} {otherwise} any more: {', '.join(came)}. {_goes_on(history)}"


def _what_came(operation: Operation) -> str | None:
    """What somebody outside made of an operation, and who that was; the first word counts."""
    first = operation.outside[0] if operation.outside else operation.outcome
    match None if first is None else first.event:
        case ApprovalDecided(approved=approved, by=by):
            said = "approved" if approved else "denied"
        case QuestionAnswered(by=by):
            said = "answered"
        case ToolCallSettled(by=by):
            said = "settled"
        case _:
            return None
    return said if by is None else f"{said} by {by}"


def _goes_on(history: Run) -> str:
    return f"The run goes on when a worker takes it, or with `evrt runs resume {history.id}`."


def _described(journal: Journal, history: Run) -> str:
    reason = history.state.reason
    return history.status if reason is None or journal.terminal is not None else f"{history.status}: {reason}"
