"""The digest of a history: equal where the same happened, different where it did not."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given

from evrt.events import EVENT_TYPES, Event
from evrt.events import calls as c
from evrt.events import memory as m
from evrt.events import run as r
from evrt.folds.digest import history_digest
from evrt.folds.journal import fold_chapters
from pure.streams import RUN, envelope_id, enveloped, streams

REQUESTED = c.ToolCallRequested(operation="pay#1", digest="d", tool="pay", effect="write", arguments={})
FAILURE = r.Failure(error_type="ValueError", message="no")
DOUBT = c.ToolCallInDoubt(operation="pay#1", cause="crash")


def digest(*events: Event) -> str:
    return history_digest(fold_chapters(RUN, enveloped(events)))


def observed(event: Event) -> tuple[Event, ...]:
    """A write that came to this from outside."""
    return REQUESTED, DOUBT, event, r.InputReceived(operation="pay#1", event_id=envelope_id(3))


@given(events=streams)
def test_claims_starts_waits_and_emptied_doubts_do_not_count(events: Sequence[Event]) -> None:
    noise = [
        r.RunClaimed(epoch=9, worker="w", reason="resume"),
        r.RunStarted(),
        r.RunWaiting(reason="question"),
        r.RunDiverged(operation="a#1", message="m"),
    ]
    assert digest(*events, *noise) == digest(*events)


PAID = c.ToolCallCompleted(operation="pay#1", result="paid")
SAME: list[tuple[tuple[Event, ...], tuple[Event, ...]]] = [
    (
        (REQUESTED, PAID),
        observed(c.ToolCallSettled(operation="pay#1", outcome="completed", result="paid", by="a")),
    ),
    ((REQUESTED, PAID), observed(c.ToolCallReported(operation="pay#1", epoch=3, attempt=2, result="paid"))),
    (
        (REQUESTED, c.ToolCallFailed(operation="pay#1", failure=FAILURE)),
        observed(c.ToolCallSettled(operation="pay#1", outcome="failed", failure=FAILURE)),
    ),
    (
        (REQUESTED, PAID),
        (
            REQUESTED.model_copy(update={"key": "k"}),
            c.ToolCallFailed(operation="pay#1", failure=FAILURE, final=False, delay_ms=3.0),
            PAID.model_copy(update={"attempt": 2, "latency_ms": 9.0}),
        ),
    ),
    (
        (c.ValueRecorded(operation="now#1", kind="now", value=1),),
        (c.ValueRecorded(operation="now#1", kind="now", value=2),),
    ),
    (
        (
            m.MemoryRecalled(
                operation="g#1", digest="d", scope="user", key="k", found=True, value=1, version=1
            ),
        ),
        (
            m.MemoryRecalled(
                operation="g#1", digest="d", scope="user", key="k", found=True, value=1, version=7
            ),
        ),
    ),
    (
        (c.ModelCallCompleted(operation="m#1", message={"content": "a"}, response_id="1"),),
        (
            c.ModelCallCompleted(
                operation="m#1", message={"content": "a"}, response_id="2", usage=c.Usage(input_tokens=3)
            ),
        ),
    ),
]


@pytest.mark.parametrize(
    "one, other", SAME, ids=["settled", "reported", "failed", "tried", "clock", "memory", "usage"]
)
def test_what_differs_each_time_does_not_count(one: Sequence[Event], other: Sequence[Event]) -> None:
    assert digest(*one) == digest(*other)


DIFFERENT: list[tuple[tuple[Event, ...], tuple[Event, ...]]] = [
    ((REQUESTED, PAID), (REQUESTED, PAID.model_copy(update={"result": "unpaid"}))),
    ((REQUESTED, PAID), (REQUESTED,)),
    ((REQUESTED, PAID), (REQUESTED, c.ToolCallFailed(operation="pay#1", failure=FAILURE))),
    ((REQUESTED, PAID), (REQUESTED, c.ToolCallCompleted(operation="pay#2", result="paid"))),
    ((r.RunSucceeded(output=1),), (r.RunSucceeded(output=2),)),
    ((r.RunSucceeded(),), ()),
    ((r.RunSucceeded(),), (r.RunFailed(failure=FAILURE),)),
    (
        (r.CheckpointSaved(operation="c#1", state=1),),
        (r.CheckpointSaved(operation="c#1", state=2),),
    ),
    (observed(c.ToolCallSettled(operation="pay#1", outcome="completed", result=1)), observed(PAID)),
]


@pytest.mark.parametrize("one, other", DIFFERENT)
def test_another_outcome_gives_another_digest(one: Sequence[Event], other: Sequence[Event]) -> None:
    assert digest(*one) != digest(*other)


def test_the_order_in_which_branches_came_about_does_not_count() -> None:
    one = c.ToolCallCompleted(operation="gather#1:0/a#1", result=1)
    other = c.ToolCallCompleted(operation="gather#1:1/a#1", result=2)
    assert digest(one, other) == digest(other, one)


def test_a_type_declares_only_fields_that_it_has_as_volatile() -> None:
    for name, cls in EVENT_TYPES.items():
        unknown = cls.volatile - cls.model_fields.keys() - c.VOLATILE_OUTCOME
        assert not unknown, f"{name}: {unknown}"


def test_the_digest_is_pinned() -> None:
    """It is printed, kept and compared by people: it must be the same in every version."""
    events: list[Any] = [
        r.RunRequested(target="t", kind="workflow", input={"q": "72 °F"}),
        REQUESTED,
        PAID,
        r.RunSucceeded(output=["ü", 1.5, None]),
    ]
    lines = (
        '["pay#1","tool_call.completed",{"result":"paid"}]',
        '["","run.succeeded",{"output":["ü",1.5,null]}]',
    )
    assert digest(*events) == sha256("\n".join(lines).encode()).hexdigest()
    assert digest(*events) == "a21b17260589ff166b86b6684951dc2a2affc3faf07869931097405f5f13ddb5"
