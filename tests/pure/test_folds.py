"""Folds: a run's journal, its status, its messages, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.events import EVENT_TYPES, Envelope, Erased, Event
from evrt.events import calls as c
from evrt.events import memory as m
from evrt.events import run as r
from evrt.folds.journal import (
    FAILURES,
    INTENTS,
    OUTCOMES,
    OUTSIDE,
    established,
    fold_chapters,
    fold_journal,
    was_cancelled,
)
from evrt.folds.memory import Memory
from evrt.folds.messages import fold_messages
from evrt.folds.run import ENDED, RunState, evolve_run, fold_run
from pure.streams import RUN, envelope_id, enveloped, memory_event, streams

FAILURE = r.Failure(error_type="ValueError", message="no")


@given(events=streams)
def test_a_journal_never_takes_back_what_it_knew_but_for_a_failure_that_a_retry_names(
    events: Sequence[Event],
) -> None:
    envelopes = enveloped(events)
    before = fold_journal(RUN, [])
    for length in range(1, len(envelopes) + 1):
        after = fold_journal(RUN, envelopes[:length])
        assert after.version == length
        last = envelopes[length - 1].event
        reopened = last.reopens if isinstance(last, r.RunRetryScheduled) else None
        if reopened in before.operations and after.operations[reopened].open:
            failure = before.operations[reopened].outcome
            assert failure is None or failure.type in FAILURES
        else:
            reopened = None
        kept = [identity for identity in before.order if identity != reopened]
        assert after.order[: len(kept)] == kept
        assert list(after.operations)[: len(before.operations)] == list(before.operations)
        for identity, known in before.operations.items():
            now = after.operations[identity]
            assert now.kind == known.kind
            assert now.intent is known.intent or known.intent is None
            assert now.outcome is known.outcome or known.outcome is None or identity == reopened
            assert now.attempts >= known.attempts
        before = after


@given(events=streams)
def test_a_journal_applied_event_by_event_is_the_journal_of_the_whole(events: Sequence[Event]) -> None:
    envelopes = enveloped(events)
    stepwise = fold_journal(RUN, envelopes[: len(envelopes) // 2])
    for envelope in envelopes[len(envelopes) // 2 :]:
        stepwise.apply(envelope)
    assert stepwise == fold_journal(RUN, envelopes)


@given(events=streams)
def test_what_is_ordered_is_exactly_what_code_waits_for_and_is_closed(events: Sequence[Event]) -> None:
    journal = fold_journal(RUN, enveloped(events))
    assert len(set(journal.order)) == len(journal.order)
    for identity in journal.order:
        assert not journal.operations[identity].open
    waiting = {o.identity for o in [*journal.waiting_for_answer(), *journal.waiting_for_settlement()]}
    assert waiting.isdisjoint(journal.order)


@given(events=streams)
def test_a_state_evolved_step_by_step_is_the_fold_of_all(events: Sequence[Event]) -> None:
    envelopes = enveloped(events)
    state = RunState(run=RUN)
    for envelope in envelopes:
        state = evolve_run(state, envelope)
    assert state == fold_run(RUN, envelopes)
    assert state.events == len(envelopes)


@given(events=streams)
def test_the_first_end_of_a_run_is_its_end(events: Sequence[Event]) -> None:
    """Late reports and claims that lost a race may stand behind it."""
    state = RunState(run=RUN)
    ended = None
    for envelope in enveloped(events):
        state = evolve_run(state, envelope)
        ended = ended or (state.status if envelope.type in r.TERMINAL else None)
        assert (state.status in ENDED) == (ended is not None)
        assert ended is None or state.status == ended


@given(events=streams)
def test_messages_only_grow(events: Sequence[Event]) -> None:
    envelopes = enveloped(
        [event for event in events if not isinstance(event, c.ToolCallSettled | c.ToolCallReported)]
    )
    whole = fold_messages(RUN, envelopes)
    for length in range(len(envelopes)):
        part = fold_messages(RUN, envelopes[:length])
        assert whole[: len(part)] == part


@given(events=st.lists(memory_event, max_size=20))
def test_memory_is_what_a_dictionary_would_be(events: Sequence[Any]) -> None:
    memory, model = Memory(), {}
    for envelope in enveloped(events, "memory-user-a"):
        memory.apply(envelope)
        if isinstance(envelope.event, m.MemorySet):
            model[envelope.event.key] = envelope.event.value
        else:
            model.pop(envelope.event.model_dump()["key"], None)
        assert {key: item.value for key, item in memory.items.items()} == model
        assert memory.version == envelope.version
        assert all(item.version <= memory.version for item in memory.items.values())


def test_every_operation_s_event_is_an_intent_an_outcome_or_from_outside() -> None:
    """A new type that nobody sorts in would be passed over when its run is resumed."""
    sorted_in = INTENTS | OUTCOMES | OUTSIDE | {"step.failed", "model_call.failed", "tool_call.failed"}
    neither = {"tool_call.in_doubt", "tool_call.unreconciled", "input.received", "run.diverged", "run.failed"}
    ours = {name: cls for name, cls in EVENT_TYPES.items() if cls.__module__.startswith("evrt.")}
    assert {name for name, cls in ours.items() if "operation" in cls.model_fields} == sorted_in | neither


# given / when / then: what single events mean


def journal_of(*events: Event) -> Any:
    return fold_journal(RUN, enveloped(events))


REQUESTED = c.ToolCallRequested(operation="pay#1", digest="d", tool="pay", effect="write", arguments={})


def test_an_intent_without_an_outcome_is_open() -> None:
    journal = journal_of(REQUESTED)
    known = journal.operations["pay#1"]
    assert (known.kind, known.open, known.attempts, known.digest) == ("tool_call", True, 1, "d")
    assert journal.order == []


def test_a_failed_attempt_is_the_intent_of_the_next_one() -> None:
    failed = c.ToolCallFailed(operation="pay#1", failure=FAILURE, attempt=1, final=False)
    known = journal_of(REQUESTED, failed).operations["pay#1"]
    assert (known.open, known.attempts) == (True, 2)
    last = c.ToolCallFailed(operation="pay#1", failure=FAILURE, attempt=2)
    assert not journal_of(REQUESTED, failed, last).operations["pay#1"].open


def test_what_came_from_outside_counts_where_the_run_saw_it() -> None:
    settled = c.ToolCallSettled(operation="pay#1", outcome="completed", result="paid")
    doubt = c.ToolCallInDoubt(operation="pay#1", cause="crash")
    journal = journal_of(REQUESTED, doubt, settled)
    assert journal.operations["pay#1"].open
    assert journal.waiting_for_settlement() == []
    assert journal_of(REQUESTED, doubt).waiting_for_settlement() == [
        journal_of(REQUESTED, doubt).operations["pay#1"]
    ]
    seen = r.InputReceived(operation="pay#1", event_id=envelope_id(3))
    closed = journal_of(REQUESTED, doubt, settled, seen)
    assert closed.order == ["pay#1"]
    assert not closed.operations["pay#1"].in_doubt
    assert established(closed.operations["pay#1"].outcome.event) == (True, "paid")


def test_a_settlement_to_make_it_again_closes_nothing() -> None:
    doubt = c.ToolCallInDoubt(operation="pay#1", cause="crash")
    again = c.ToolCallSettled(operation="pay#1", outcome="again")
    seen = r.InputReceived(operation="pay#1", event_id=envelope_id(3))
    known = journal_of(REQUESTED, doubt, again, seen).operations["pay#1"]
    assert (known.open, known.in_doubt, known.outside) == (True, False, [])


def test_what_the_run_passed_over_is_not_looked_at_again() -> None:
    doubt = c.ToolCallInDoubt(operation="pay#1", cause="crash")
    first = c.ToolCallReported(operation="pay#1", epoch=1, result="first")
    second = c.ToolCallSettled(operation="pay#1", outcome="completed", result="second")
    seen = r.InputReceived(operation="pay#1", event_id=envelope_id(4))
    known = journal_of(REQUESTED, doubt, first, second, seen).operations["pay#1"]
    assert known.outside == []
    assert known.outcome.event == second


def test_the_first_outcome_stays() -> None:
    first = c.ToolCallCompleted(operation="pay#1", result=1)
    journal = journal_of(REQUESTED, first, c.ToolCallCompleted(operation="pay#1", result=2))
    assert journal.operations["pay#1"].outcome.event == first
    assert journal.order == ["pay#1"]


@pytest.mark.parametrize(
    "event, expected",
    [
        (c.ToolCallCompleted(operation="a", result=3), (True, 3)),
        (c.StepCompleted(operation="a", digest="d"), (True, None)),
        (c.ToolCallFailed(operation="a", failure=FAILURE), (False, FAILURE)),
        (c.ToolCallReported(operation="a", epoch=1, result=4), (True, 4)),
        (c.ToolCallReported(operation="a", epoch=1, failure=FAILURE), (False, FAILURE)),
        (c.ToolCallSettled(operation="a", outcome="failed", failure=FAILURE), (False, FAILURE)),
        (c.QuestionAnswered(operation="a", answer=["yes"]), (True, ["yes"])),
    ],
    ids=lambda value: value.type if isinstance(value, Event) else "",
)
def test_what_an_outcome_establishes(event: Event, expected: Any) -> None:
    assert established(event) == expected


def test_only_a_failure_of_the_codes_own_making_was_cancelled() -> None:
    cancelled = r.Failure(error_type="cancelled", message="")
    assert was_cancelled(c.ToolCallFailed(operation="a", failure=cancelled))
    assert was_cancelled(c.QuestionExpired(operation="a", cause="cancelled"))
    assert not was_cancelled(c.ToolCallFailed(operation="a", failure=FAILURE))
    assert not was_cancelled(c.ToolCallCompleted(operation="a"))


@pytest.mark.parametrize(
    "type_, status",
    [
        ("run.succeeded", "succeeded"),
        ("run.failed", "failed"),
        ("run.timed_out", "timed_out"),
        ("run.step_limit_reached", "step_limit"),
        ("run.waiting", "waiting"),
        ("run.claimed", "running"),
        ("run.emitted", "queued"),
    ],
)
def test_an_erased_event_still_tells_what_happened_to_the_run(type_: str, status: str) -> None:
    erased = Erased(logical_type=type_)
    envelope = Envelope(1, envelope_id(1), 0, RUN, 1, type_, RUN, {}, erased)
    assert evolve_run(RunState(run=RUN), envelope).status == status
    assert (fold_journal(RUN, [envelope]).terminal is not None) == (type_ in r.TERMINAL)


def test_tool_results_stand_in_the_messages_as_the_model_reads_them() -> None:
    called = REQUESTED.model_copy(update={"tool_call_id": "c1"})
    failed = c.ToolCallFailed(operation="pay#1", failure=FAILURE, final=False)
    done = c.ToolCallCompleted(operation="pay#1", result={"b": 1, "a": "ü"})
    messages = fold_messages(RUN, enveloped([called, failed, done]))
    assert messages == [{"role": "tool", "tool_call_id": "c1", "content": '{"a":"ü","b":1}'}]


# Retries of a run


def failed(operation: str, attempt: int = 1) -> c.ToolCallFailed:
    return c.ToolCallFailed(operation=operation, failure=FAILURE, attempt=attempt)


def requested(operation: str, key: str | None = None, effect: Any = "read") -> c.ToolCallRequested:
    return c.ToolCallRequested(operation=operation, digest="d", tool="t", effect=effect, key=key)


def retry(operation: str, attempt: int = 1) -> r.RunRetryScheduled:
    return r.RunRetryScheduled(reopens=operation, attempt=attempt, delay_ms=1.0, failure=FAILURE)


def test_a_retry_reopens_the_operation_it_names_and_nothing_else() -> None:
    done = c.ToolCallCompleted(operation="a#1")
    journal = journal_of(requested("a#1"), done, requested("b#1"), failed("b#1", 2), retry("b#1"))
    known = journal.operations["b#1"]
    assert (known.open, known.attempts, known.attempts_before, journal.order) == (True, 3, 2, ["a#1"])
    assert (journal.failed_attempts, journal.waits_for_retry) == (1, True)


def test_attempts_count_from_the_last_operation_that_came_to_a_result() -> None:
    begun = [requested("a#1"), failed("a#1"), retry("a#1", 1), failed("a#1", 2), retry("a#1", 2)]
    assert journal_of(*begun).failed_attempts == 2
    assert journal_of(*begun, r.RunEmitted(operation="emit#1", name="n")).failed_attempts == 2
    assert journal_of(*begun, failed("b#1")).failed_attempts == 2
    assert journal_of(*begun, c.ToolCallCompleted(operation="a#1")).failed_attempts == 0


@pytest.mark.parametrize(
    "events,may",
    [
        ((requested("a#1"), failed("a#1")), True),
        ((requested("a#1", effect="write", key="k"), failed("a#1")), True),
        ((requested("a#1", effect="write"), failed("a#1")), False),
        ((requested("a#1"),), False),
        ((requested("a#1"), failed("a#1").model_copy(update={"retriable": False})), False),
        ((requested("a#1"), failed("a#1"), requested("b#1")), False),
        (
            (requested("a#1"), failed("a#1"), r.GuardApplied(operation="guard#1", guard="g", message="")),
            False,
        ),
    ],
    ids=["read", "write with key", "write without", "open", "hopeless", "acted on", "noted"],
)
def test_what_may_be_reopened(events: Sequence[Event], may: bool) -> None:
    assert journal_of(*events).may_reopen("a#1") is may


@pytest.mark.parametrize(
    "other", ["gather#1:1/b#1", "gather#1:0/inner#1:1/b#1", "gather#2:1/b#1", "b#1", "gather#1"]
)
def test_nothing_may_have_begun_after_a_failure_in_whichever_branch(other: str) -> None:
    failing = "gather#1:0/inner#1:0/a#1"
    assert not journal_of(requested(failing), failed(failing), requested(other)).may_reopen(failing)
    assert journal_of(requested(failing), requested(other), failed(failing)).may_reopen(failing)


# Chapters, and children around them

LOOK = c.StepCompleted(operation="look#1", digest="d", result=1)


def test_where_the_code_continued_the_journal_begins_again_and_keeps_who_it_is() -> None:
    requested = r.RunRequested(target="helper", kind="agent", input=1)
    failed = r.RunRetryScheduled(reopens="", attempt=2, delay_ms=1.0, failure=FAILURE)
    lost = r.RunClaimed(epoch=3, worker="w", reason="takeover")
    continued = r.RunContinued(state={"page": 2})
    journal = journal_of(requested, LOOK, failed, lost, continued)
    assert (journal.requested, journal.epoch, journal.state) == (requested, 3, {"page": 2})
    assert (journal.operations, journal.order, journal.continued) == ({}, [], 5)
    assert (journal.failed_attempts, journal.lost_claims, journal.waits_for_retry) == (0, 0, False)


def test_chapters_are_journals_of_their_own_that_end_where_the_next_begins() -> None:
    again = c.StepCompleted(operation="look#1", digest="d", result=2)
    signal = r.RunSignalled(name="go", payload=1)
    seen = r.InputReceived(operation="go#1", event_id=envelope_id(2), signal="go")
    ended = r.RunSucceeded(output=1)
    chapters = fold_chapters(RUN, enveloped([LOOK, signal, r.RunContinued(state=7), again, seen, ended]))
    assert [chapter.state for chapter in chapters] == [None, 7]
    assert [chapter.terminal.type for chapter in chapters if chapter.terminal] == [
        "run.continued",
        "run.succeeded",
    ]
    assert [chapter.operations["look#1"].outcome.event.result for chapter in chapters] == [1, 2]  # type: ignore[union-attr]
    # What the second received had come in the first, which did not.
    assert [len(chapter.signals.get("go", ())) for chapter in chapters] == [1, 0]
    assert [chapter.kept() for chapter in chapters] == [(2,), ()]
    assert chapters[1] == fold_journal(
        RUN, enveloped([LOOK, signal, r.RunContinued(state=7), again, seen, ended])
    )


def test_a_child_s_end_counts_for_the_operation_that_started_this_child_only() -> None:
    first = r.ChildStarted(operation="double#1", digest="d", child="run-1", target="double")
    second = r.ChildStarted(operation="double#1", digest="d", child="run-2", target="double")
    ended = [
        r.ChildEnded(operation="double#1", child=f"run-{n}", status="succeeded", output=n) for n in (1, 2)
    ]
    continued = r.RunContinued(children=("run-1",))
    journal = journal_of(first, continued, second, ended[0])
    assert journal.operations["double#1"].outside == []
    assert list(journal.children) == ["run-2"]
    journal = journal_of(first, continued, second, *ended)
    assert [came.event for came in journal.operations["double#1"].outside] == [ended[1]]
    assert not journal.children


def test_a_late_report_of_an_earlier_chapter_settles_nothing_in_a_later_one() -> None:
    claims = [r.RunClaimed(epoch=epoch, worker="w", reason="resume") for epoch in (1, 2)]
    doubt = c.ToolCallInDoubt(operation="pay#1", cause="crash")
    [old, new] = [c.ToolCallReported(operation="pay#1", epoch=epoch, result=epoch) for epoch in (1, 2)]
    journal = journal_of(*claims, r.RunContinued(), REQUESTED, doubt, old)
    assert len(journal.waiting_for_settlement()) == 1
    assert journal_of(*claims, r.RunContinued(), REQUESTED, doubt, old, new).waiting_for_settlement() == []


def test_that_somebody_cancelled_a_child_is_not_that_its_parent_was_cut_off() -> None:
    failure = r.Failure(error_type="cancelled", message="not needed")
    ended = r.ChildEnded(operation="double#1", child="run-1", status="cancelled", failure=failure)
    assert not was_cancelled(ended)
    assert established(ended) == (False, failure)
    assert established(r.ChildEnded(operation="a", child="b", status="succeeded", output=3)) == (True, 3)


def test_a_mark_of_changed_code_is_no_operation() -> None:
    mark = c.ValueRecorded(operation="patched%3Anew#1", kind="patched", value="new")
    journal = journal_of(mark)
    assert (journal.operations, journal.patches) == ({}, {"new"})
