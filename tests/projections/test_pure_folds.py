"""Every built-in projection is a pure fold, whatever happened, and agrees with the folds that the core has."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs_projections import BUILT_IN
from evrt.events import Envelope, Event, JsonValue
from evrt.events.agents import (
    AgentDefined,
    AgentRetired,
    AgentRevised,
    AgentSpecSet,
    SystemDefined,
    SystemKnowledgeSet,
    SystemMemberAdded,
)
from evrt.events.calls import QuestionExpired
from evrt.events.journey import JourneyEnded, JourneyRouted, JourneyStarted, JourneyStepChanged
from evrt.events.memory import MemorySet
from evrt.events.run import Failure, InputReceived, RunSignalled, TimerFired
from evrt.folds.chats import messages_of, to_be_read
from evrt.folds.clip import clip
from evrt.folds.definitions import AgentDefinition, SystemDefinition, evolve_agent, evolve_system
from evrt.folds.journal import fold_journal, was_cancelled
from evrt.folds.journeys import JourneyFold
from evrt.folds.memory import Memory
from evrt.folds.messages import fold_messages
from evrt.folds.run import fold_run
from evrt.folds.waiting import still_waiting
from evrt.projection import AnyProjection, encode_document, fold
from evrt.testing import check_projection
from evrt_projections import (
    agents,
    audit,
    conversations,
    journeys,
    memory,
    messages,
    questions,
    runs,
    steps,
    systems,
    usage,
)
from pure.histories import histories, in_system, placed, run_streams
from pure.streams import streams

RUN = "run-a"
EXAMPLES = (settings.default or settings()).max_examples
"""100, in a soak 2,000; the costly properties take a share of them for each projection."""
each_projection = pytest.mark.parametrize("projection", BUILT_IN, ids=lambda projection: projection.name)


def values(projection: AnyProjection, events: Sequence[Envelope]) -> dict[str, Any]:
    """The documents of one key, by their parts."""
    return {part: document.value for (_, part), document in fold(projection, events).items()}


def test_the_built_in_projections_are_found_by_their_entry_points() -> None:
    found = {point.name: point.load() for point in entry_points(group="evrt.projections")}
    ours = {projection.name: projection for projection in BUILT_IN}
    assert {name: found[name] for name in ours} == ours


@each_projection
@settings(max_examples=EXAMPLES // 8)
@given(history=histories())
def test_a_view_is_the_same_however_it_is_folded(
    projection: AnyProjection, history: Sequence[Envelope]
) -> None:
    if any(projection.wants(envelope.type) for envelope in history):
        check_projection(projection, [history])


@each_projection
@settings(max_examples=EXAMPLES // 4)
@given(events=streams)
def test_no_order_of_events_whatsoever_is_an_obstacle(
    projection: AnyProjection, events: Sequence[Event]
) -> None:
    for document in fold(projection, placed(events, RUN)).values():
        encode_document(projection, document)


@settings(max_examples=EXAMPLES // 2)
@given(events=streams | run_streams())
def test_a_run_s_document_is_the_fold_of_its_stream(events: Sequence[Event]) -> None:
    history = placed(events, RUN)
    assert values(runs.PROJECTION, history) == ({"": fold_run(RUN, history)} if history else {})


@given(events=streams)
def test_steps_know_what_the_journal_knows_whatever_the_order(events: Sequence[Event]) -> None:
    agree_with_the_journal(placed(events, RUN))


@given(events=run_streams())
def test_steps_know_what_the_journal_knows_of_a_run(events: Sequence[Event]) -> None:
    agree_with_the_journal(placed(events, RUN))


def agree_with_the_journal(history: Sequence[Envelope]) -> None:
    journal = fold_journal(RUN, history)
    known = values(steps.PROJECTION, history)
    assert known.keys() == journal.operations.keys()
    for identity, operation in journal.operations.items():
        step = known[identity]
        assert (step.kind, step.attempts, step.in_doubt) == (
            operation.kind,
            operation.attempts,
            operation.in_doubt,
        )
        assert step.intent == (operation.intent and operation.intent.type)
        assert [one.event_id for one in step.outside] == [one.event_id for one in operation.outside]
        if operation.outcome is None:
            assert step.outcome is None
            assert step.status == ("in_doubt" if operation.in_doubt else "open")
        else:
            event = operation.outcome.event
            if not isinstance(event, RunSignalled):  # Of which a step knows only that it was received.
                assert step.outcome.position == operation.outcome.position
            assert step.outcome.event_id == operation.outcome.event_id or isinstance(event, InputReceived)
            in_vain = isinstance(event, QuestionExpired) or (
                isinstance(event, TimerFired) and operation.kind == "signal"
            )
            failure = event.__dict__.get("failure")
            if not in_vain:
                assert step.outcome.failure == failure
            assert (step.status == "cancelled") == was_cancelled(event)
            assert (step.status == "completed") == (
                failure is None and not in_vain and not was_cancelled(event)
            )


@given(events=run_streams())
def test_what_waits_for_a_person_is_what_the_journal_says_waits(events: Sequence[Event]) -> None:
    history = placed(events, RUN)
    journal = fold_journal(RUN, history)
    waiting = {
        o.identity
        for o in [
            *journal.waiting_for_answer(),
            *journal.waiting_for_approval(),
            *journal.waiting_for_settlement(),
        ]
    }
    documents = fold(questions.PROJECTION, history)
    assert {part for (_, part), one in documents.items() if one.value.status == "open"} == waiting
    still = still_waiting((key, one.value) for (key, _), one in documents.items())
    assert len(still) == (0 if journal.terminal is not None else len(waiting))


@given(events=run_streams())
def test_the_messages_of_a_run_are_those_that_its_stream_folds_to(events: Sequence[Event]) -> None:
    history = placed(events, RUN)
    for upto in {len(history), len(history) // 2}:
        known = values(messages.PROJECTION, history[:upto])
        assert messages_of(known.values(), include_failed_runs=True) == fold_messages(RUN, history[:upto])
        journal = fold_journal(RUN, history[:upto])
        for part, document in known.items():
            if document.tool_call_id is not None:
                outcome = journal.operations[part.partition("/")[2]].outcome
                assert document.at == (outcome.position if outcome is not None else 0)


@given(events=run_streams())
def test_what_was_used_up_is_what_the_run_has_used_up(events: Sequence[Event]) -> None:
    history = placed(events, RUN)
    state = fold_run(RUN, history)
    calls = values(usage.PROJECTION, history).values()
    assert sum(call.input_tokens for call in calls) == state.input_tokens
    assert sum(call.output_tokens for call in calls) == state.output_tokens
    costs = [call.cost_usd for call in calls if call.cost_usd is not None]
    assert (sum(costs) if costs else None) == state.cost_usd
    for call in calls:
        assert sum(attempt.input_tokens for attempt in call.attempts) == call.input_tokens


@settings(max_examples=EXAMPLES // 2)
@given(history=histories())
def test_memory_holds_what_its_stream_holds(history: Sequence[Envelope]) -> None:
    found = fold(memory.PROJECTION, history)
    for stream in {e.stream for e in history if e.stream.startswith("memory-")}:
        folded = Memory()
        for envelope in history:
            if envelope.stream == stream:
                folded.apply(envelope)
        held = {part: one.value for (key, part), one in found.items() if key == stream}
        assert {part: (one.value, one.version, one.set_at) for part, one in held.items()} == {
            key: (item.value, item.version, item.time) for key, item in folded.items.items()
        }


@settings(max_examples=EXAMPLES // 2)
@given(history=histories())
def test_an_agent_s_document_says_what_its_events_fold_to(history: Sequence[Envelope]) -> None:
    own = [e for e in history if e.correlation == "agent-a"]
    told = AgentDefinition("agent-a")
    for envelope in own:
        told = evolve_agent(told, envelope)
    found = values(agents.PROJECTION, history)
    if not own:
        assert found == {}
        return
    document = found[""]
    newest = told.revision(told.latest)
    assert (document.latest, document.active, document.retired) == (told.latest, told.active, told.retired)
    assert (document.spec, document.systems) == (len(told.specs), told.systems)
    assert [one.number for one in document.revisions] == list(range(1, told.latest + 1))
    if newest is not None:
        assert (document.name, document.config, document.parent) == (
            newest.name,
            newest.config,
            newest.parent,
        )


@settings(max_examples=EXAMPLES // 2)
@given(history=histories())
def test_a_system_s_documents_say_what_its_events_fold_to(history: Sequence[Envelope]) -> None:
    for ref in ("system-a", "system-b"):
        own = [e for e in history if e.stream == ref]
        told = SystemDefinition(ref)
        for envelope in own:
            told = evolve_system(told, envelope)
        found = {part: one for (key, part), one in fold(systems.PROJECTION, history).items() if key == ref}
        members = [part for part in found if part.startswith(systems.MEMBER)]
        texts = {
            part: one.value.knowledge for part, one in found.items() if part.startswith(systems.KNOWLEDGE)
        }
        assert members == [f"{systems.MEMBER}{agent}" for agent, _ in told.members]
        assert texts == {f"{systems.KNOWLEDGE}{name}": entry for name, entry in told.knowledge}
        if "" in found:
            assert (found[""].value.name, found[""].value.prefix) == (told.name, told.prefix)


@settings(max_examples=EXAMPLES // 2)
@given(history=histories())
def test_a_journey_s_document_says_how_its_stream_says_it_stands(history: Sequence[Envelope]) -> None:
    stream = JourneyFold()
    for envelope in history:
        if envelope.stream == "journey-a":
            stream.apply(envelope)
    found = fold(journeys.PROJECTION, history)
    assert len(found) == (stream.version > 0)
    for document in found.values():
        said, standing = document.value, stream.standing
        assert (said.version, said.ended, said.route) == (standing.version, standing.ended, standing.route)
        assert said.untrusted == standing.untrusted
        assert said.state == {key: clip(value, 2_048, 0) for key, value in (standing.state or {}).items()}


@settings(max_examples=EXAMPLES // 2)
@given(history=histories())
def test_a_conversation_counts_its_runs_and_how_they_ended(history: Sequence[Envelope]) -> None:
    own = {e.stream for e in history if e.stream.startswith("run-")}
    states = [fold_run(run, [e for e in history if e.stream == run]) for run in own]
    for (key, _), document in fold(conversations.PROJECTION, history).items():
        mine = [state for state in states if state.conversation == key]
        assert document.value.runs == len(mine)
        ended = [state.status for state in mine if state.ended]
        assert document.value.ended == {status: ended.count(status) for status in set(ended)}


@settings(max_examples=EXAMPLES // 2)
@given(history=histories())
def test_an_auditor_finds_every_fact_once_and_where_it_stands(history: Sequence[Envelope]) -> None:
    told = [
        position
        for document in fold(audit.PROJECTION, history).values()
        for position in (document.value.at, *(one.at for one in document.value.followed))
    ]
    writes: set[tuple[str, str]] = set()
    facts: list[int] = []
    for e in history:
        operation = (e.stream, e.event.__dict__.get("operation", ""))
        if e.type == "tool_call.requested" and e.event.__dict__["effect"] == "write":
            writes.add(operation)
        if e.type in audit.DETAILS and (e.type not in audit.OF_A_WRITE or operation in writes):
            facts.append(e.position)
    assert sorted(told) == facts


# ------------------------------------------------------------------------------------ what is too large

HUGE: tuple[JsonValue, ...] = (
    "x" * 300_000,
    "\x00" * 60_000,
    "é🎉" * 50_000,
    ['"' * 10] * 20_000,
    {f"key {number}": "v" * 50 for number in range(5_000)},
    [{"role": "user", "content": "words " * 3_000}] * 30,
)
NOT_TO_BE_GROWN = frozenset(
    (
        "operation",
        "reopens",
        "event_id",
        "key",
        "kind",
        "reason",
        "effect",
        "outcome",
        "action",
        "scope",
        "trust",
    )
)


MEMORIES = (MemorySet(key="a", value=1, metadata={}), MemorySet(key="b", value=2, source="s", by="p"))
JOURNEYS = (
    JourneyStarted(journey="j", step="a", state={"step": "a"}),
    *(
        JourneyStepChanged(from_step=one, to_step=other, patch={"step": other}, tool="t")
        for one, other in ("ab", "ba") * 15
    ),
    JourneyRouted(router="r", journey="j", by="model"),
    JourneyEnded(reason="done", step="a"),
)


DEFINITIONS = (
    AgentDefined(key="k", name="n", config={"a": 1}, parent="p", forked_from="f", by="b"),
    *(AgentRevised(revision=number, name="n", config={"a": 1}, by="b") for number in range(2, 25)),
    AgentRetired(reason="r"),
    AgentSpecSet(revision=1, text="t"),
)
SYSTEM = (
    SystemDefined(key="k", name="n", prefix="p"),
    *(SystemMemberAdded(agent="agent-a", key="k") for _ in range(3)),
    SystemKnowledgeSet(name="n", knowledge={"text": "t"}),
)


def nested(depth: int) -> JsonValue:
    value: JsonValue = "deep"
    for _ in range(depth):
        value = [value]
    return value


def grown(event: Event, huge: JsonValue) -> Event:
    """An event whose every text and value is as large as events may have it."""
    text = huge if isinstance(huge, str) else "long " * 60_000
    change: dict[str, Any] = {}
    for name, value in event.__dict__.items():
        annotation = str(type(event).model_fields[name].annotation)
        if name in NOT_TO_BE_GROWN:
            continue
        if annotation == "typing.Any":
            change[name] = huge
        elif isinstance(value, Failure):
            change[name] = Failure(error_type=text, message=text)
        elif isinstance(value, str) or "str | None" in annotation:
            change[name] = text
        elif "tuple[str" in annotation:
            change[name] = (text[:50_000], *["option"] * 30_000)
        elif isinstance(value, dict):
            change[name] = {"role": "assistant", "content": huge, "tool_calls": huge, "extra": text}
    return event.model_copy(update=change)


@each_projection
@settings(max_examples=EXAMPLES // 16)
@given(events=run_streams(), data=st.data())
def test_no_document_is_too_large_whatever_the_events_hold(
    projection: AnyProjection, events: Sequence[Event], data: st.DataObject
) -> None:
    huge = data.draw(st.sampled_from([*HUGE, nested(120), nested(250)]))
    memories = placed([grown(event, huge) for event in MEMORIES], "memory-user-a")
    journey = placed([grown(event, huge) for event in JOURNEYS], "journey-a", "conversation-a")
    run = placed([grown(event, huge) for event in events], RUN, "conversation-a")
    agent = placed([grown(event, huge) for event in DEFINITIONS], "agent-a")
    system = in_system([grown(event, huge) for event in SYSTEM], "system-a")
    for history in (run, memories, journey, agent, system):
        for document in fold(projection, history).values():
            encoded = encode_document(projection, document)
            assert projection.document.model_validate_json(encoded) == document.value


@settings(max_examples=EXAMPLES // 10)
@given(events=run_streams(), data=st.data())
def test_messages_that_were_cut_can_be_read_whole(events: Sequence[Event], data: st.DataObject) -> None:
    huge = data.draw(st.sampled_from([*HUGE, nested(120)]))
    # An id that no provider ever gave would be cut for good.
    large = [grown(event, huge) for event in events]
    large = [
        after.model_copy(update={"tool_call_id": before.__dict__["tool_call_id"]})
        if before.type == "tool_call.requested"
        else after
        for before, after in zip(events, large, strict=True)
    ]
    history = placed(large, RUN)
    known = list(values(messages.PROJECTION, history).values())
    by_position = {envelope.position: envelope for envelope in history}
    read = {position: by_position[position] for position in to_be_read(known)}
    assert messages_of(known, include_failed_runs=True, events=read) == fold_messages(RUN, history)
