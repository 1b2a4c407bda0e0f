"""Histories for tests of projections: several runs, conversations and memories, interleaved on one log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from evrt.events import Envelope, Event, JsonObject
from evrt.events import calls as c
from evrt.events import run as r
from evrt.events.conversation import ConversationStarted
from evrt.folds.journal import FAILURES, INTENTS, OUTCOMES, OUTSIDE, Journal, Operation
from pure.streams import enveloped, memory_event, streams, texts

HOUR = 3_600_000_000
CONVERSATIONS = ("conversation-a", "conversation-b")
requests = st.builds(
    r.RunRequested,
    target=st.just("helper"),
    kind=st.just("agent"),
    input=texts | st.just([{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?"}]),
    conversation=st.none() | st.sampled_from(CONVERSATIONS),
)


def lifelike(events: Iterable[Event], run: str) -> list[Event]:
    """Of these events those that a runner, or somebody outside, could write into a run's stream after one another.

    Identities belong to one kind of operation, outcomes come to what is open, a run that has ended stays so, and what
    names another event, ``input.received`` and ``run.retry_scheduled``, names one that is there.
    """
    journal = Journal(run)
    kept: list[Event] = []
    for number, event in enumerate(events):
        fitting = _fitting(event, journal, number) if kept or isinstance(event, r.RunRequested) else None
        if fitting is not None:
            kept.append(fitting)
            journal.apply(enveloped(kept, run)[-1])
    return kept


def _fitting(event: Event, journal: Journal, number: int) -> Event | None:
    kind = event.type
    if journal.terminal is not None and kind not in OUTSIDE:
        return None
    if isinstance(event, r.RunRequested):
        return event if journal.requested is None else None
    if isinstance(event, r.RunRetryScheduled):
        failed = [o for o in journal.operations.values() if o.outcome and o.outcome.type in FAILURES]
        return _with(event, reopens=failed[number % len(failed)].identity) if failed else None
    if isinstance(event, r.InputReceived):
        waiting = [o for o in journal.operations.values() if o.outside and o.open]
        return _seen(event, waiting[number % len(waiting)], number) if waiting else None
    operation = event.__dict__.get("operation")
    if operation is None or kind == "run.failed":
        return event
    event = _with(event, operation=f"{kind.partition('.')[0]}-{operation}")
    return event if _may_be_written(event, journal.operations.get(event.__dict__["operation"])) else None


def _may_be_written(event: Event, known: Operation | None) -> bool:
    kind = event.type
    if kind in OUTSIDE:
        return known is not None and known.intent is not None and len(known.outside) < 3
    if kind in INTENTS and known is not None and isinstance(event, c.ToolCallRequested):
        first = known.intent.event if known.intent is not None else None
        again = ("tool_call_id", "effect", "key")  # What does not change from one attempt to the next.
        return known.open and first is not None and all(getattr(first, n) == getattr(event, n) for n in again)
    if kind == "tool_call.in_doubt":
        return known is not None and known.open and known.intent is not None
    if kind in FAILURES or kind in OUTCOMES or kind in INTENTS:
        return known is None or known.open
    return True


def _seen(event: r.InputReceived, waiting: Operation, number: int) -> Event:
    seen = waiting.outside[number % len(waiting.outside)]
    return _with(event, operation=waiting.identity, event_id=seen.event_id)


def _with(event: Event, **fields: Any) -> Event:
    return event.model_copy(update=fields)


@st.composite
def run_streams(draw: st.DrawFn, run: str = "run-a") -> list[Event]:
    """The events of a run, as they could really come about."""
    return lifelike([draw(requests), *draw(streams)], run)


@st.composite
def histories(draw: st.DrawFn) -> list[Envelope]:
    """Up to three runs, alone or in conversations, and memories beside them, in one order."""
    lines: list[list[Envelope]] = []
    begun: list[str] = []
    for name in ("run-a", "run-b", "run-c")[: draw(st.integers(1, 3))]:
        events = draw(run_streams(name))
        requested = events[0]
        assert isinstance(requested, r.RunRequested)
        conversation = requested.conversation
        if conversation is not None and conversation not in begun:
            begun.append(conversation)
            lines.append(placed([ConversationStarted(target="helper", owner="user-a")], conversation))
        meta: JsonObject = {"actor": "agent:helper", "on_behalf_of": "user-a", "epoch": 1}
        lines.append(placed(events, name, conversation or name, meta))
    memories: Sequence[Event] = draw(st.lists(memory_event, max_size=8))
    for name in ("memory-user-a", "memory-conversation-a"):
        lines.append(placed(memories, name, "run-a", {"run": "run-a"}))
        memories = memories[::2]
    return interleaved(draw, lines)


def placed(
    events: Sequence[Event], stream: str, correlation: str | None = None, meta: JsonObject | None = None
) -> list[Envelope]:
    """Events as a stream."""
    return [e._replace(correlation=correlation or stream) for e in enveloped(events, stream, meta)]


def interleaved(draw: st.DrawFn, lines: Sequence[Sequence[Envelope]]) -> list[Envelope]:
    """Streams in one order of the log, each in its own."""
    order = [number for number, line in enumerate(lines) for _ in line]
    draw(st.randoms(use_true_random=False)).shuffle(order)
    rest = [iter(line) for line in lines]
    return [
        next(rest[number])._replace(position=position, time=position * HOUR)
        for position, number in enumerate(order, start=1)
    ]
