"""Histories for tests of projections: several runs, conversations and memories, interleaved on one log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from evrt.events import Envelope, Event, JsonObject
from evrt.events import run as r
from evrt.events.conversation import ConversationStarted
from evrt.folds.journal import FAILURES, INTENTS, OUTCOMES, OUTSIDE, Journal, Operation
from pure.streams import (
    agent_event,
    around_tools,
    doubts,
    ends,
    enveloped,
    failed_calls,
    failures,
    intents,
    journey_event,
    json,
    memory_event,
    observations,
    operations,
    others,
    outside,
    retries,
    system_event,
    texts,
)

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
    names an operation or another event names one that is there.
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
    of_an_operation = "operation" in event.__dict__ or isinstance(event, r.RunRetryScheduled)
    if not of_an_operation or kind == "run.failed":
        return event
    named = [known for known in journal.operations.values() if _may_be_named(event, known)]
    chosen = named[number % len(named)] if named else None
    if isinstance(event, r.RunRetryScheduled):
        return _with(event, reopens=chosen.identity) if chosen else None
    if isinstance(event, r.InputReceived):
        return _seen(event, chosen, number) if chosen else None
    if chosen is not None:
        return _with(event, operation=chosen.identity)
    identity = f"{kind.partition('.')[0]}-{event.__dict__['operation']}"
    begins = kind in INTENTS or (kind in OUTCOMES and not kind.startswith(("tool_call.", "question.")))
    return _with(event, operation=identity) if begins and identity not in journal.operations else None


def _may_be_named(event: Event, known: Operation) -> bool:
    """Whether an event can be this operation's next."""
    kind = event.type
    if isinstance(event, r.RunRetryScheduled):
        return known.outcome is not None and known.outcome.type in FAILURES
    if isinstance(event, r.InputReceived):
        return known.open and bool(known.outside)
    if isinstance(event, r.WaitCancelled):
        return known.open and known.kind in ("approval", "timer", "signal")
    family = "timer" if known.kind == "signal" else known.kind
    if family != kind.partition(".")[0] or known.intent is None:
        return False
    if kind in OUTSIDE:
        return len(known.outside) < 3
    if kind in INTENTS:
        again = ("tool_call_id", "effect", "key")  # What does not change from one attempt to the next.
        first, this = known.intent.event.__dict__, event.__dict__
        return known.open and known.attempts > 1 and all(first.get(name) == this.get(name) for name in again)
    return known.open


def _seen(event: r.InputReceived, waiting: Operation, number: int) -> Event:
    seen = waiting.outside[number % len(waiting.outside)]
    return _with(event, operation=waiting.identity, event_id=seen.event_id)


def _with(event: Event, **fields: Any) -> Event:
    return event.model_copy(update=fields)


# Scenes of a run. What comes from outside has the most rules, and needs what came before it.
begun = st.tuples(intents, st.lists(around_tools, min_size=1, max_size=6)).map(
    lambda some: [some[0], *some[1]]
)
settled = st.tuples(
    intents,
    st.lists(doubts | outside, min_size=1, max_size=3),
    observations,
    st.lists(around_tools, max_size=3),
).map(lambda some: [some[0], *some[1], some[2], *some[3]])
retried = st.tuples(intents, failed_calls, retries, st.lists(around_tools, max_size=3)).map(
    lambda some: [*some[:3], *some[3]]
)
has_child = st.tuples(
    st.builds(r.ChildStarted, operation=operations, digest=texts, child=st.just("run-child"), target=texts),
    st.builds(
        r.ChildEnded,
        operation=operations,
        child=st.just("run-child"),
        status=st.just("failed"),
        output=json,
        failure=st.none() | failures,
    ),
    observations,
).map(list)
aside = st.lists(others, min_size=1, max_size=4)


@st.composite
def run_streams(draw: st.DrawFn, run: str = "run-a") -> list[Event]:
    """The events of a run, as they could really come about."""
    scenes = draw(st.lists(begun | settled | retried | has_child | aside, min_size=1, max_size=6))
    life = [event for scene in scenes for event in scene]
    end = draw(st.lists(ends, max_size=1))
    late = draw(st.lists(around_tools, max_size=2))
    return lifelike([draw(requests), *life, *end, *late], run)


@st.composite
def histories(draw: st.DrawFn) -> list[Envelope]:
    """Up to three runs, alone or in conversations, memories, a journey, an agent and two systems beside them, in one order."""
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
    journeys: Sequence[Event] = draw(st.lists(journey_event, max_size=6))
    lines.append(placed(journeys, "journey-a", "conversation-a", {"run": "run-a", "actor": "agent:helper"}))
    lines.append(placed(draw(st.lists(agent_event, max_size=6)), "agent-a"))
    systems: Sequence[Event] = draw(st.lists(system_event, max_size=6))
    lines += [in_system(systems, "system-a"), in_system(systems[1::2], "system-b")]
    return interleaved(draw, lines)


def in_system(events: Sequence[Event], system: str) -> list[Envelope]:
    """Events as a system's stream, where that an agent comes or goes has the agent's stream as its correlation."""
    return [
        e._replace(correlation="agent-a") if e.type.startswith("system.member_") else e
        for e in placed(events, system)
    ]


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
