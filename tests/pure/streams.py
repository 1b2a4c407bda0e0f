"""Streams for tests of folds: any sequence of events, and such as a run really writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from evrt.events import Envelope, Event, JsonObject
from evrt.events import agents as a
from evrt.events import calls as c
from evrt.events import journey as j
from evrt.events import memory as m
from evrt.events import run as r

RUN = "run-aaaaaaaaaaaaaaaa"

texts = st.text(max_size=8)
json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
operations = st.sampled_from(["a#1", "a#2", "b#1", "gather#1:0/a#1", "gather#1:1/a#1", "ask#1"])
failures = st.builds(
    r.Failure, error_type=st.sampled_from(["ValueError", "timeout", "cancelled"]), message=texts
)
attempts = st.integers(1, 3)


def envelope_id(version: int) -> str:
    """The id of the event of this version."""
    return f"00000000-0000-7000-8000-{version:012d}"


event_ids = st.integers(1, 30).map(envelope_id)


def enveloped(events: Iterable[Event], stream: str = RUN, meta: JsonObject | None = None) -> list[Envelope]:
    """Events as the stream that holds exactly these."""
    return [
        Envelope(
            10 + version,
            envelope_id(version),
            1_000 * version,
            stream,
            version,
            event.type,
            stream,
            meta or {},
            event,
        )
        for version, event in enumerate(events, 1)
    ]


intents: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        c.ToolCallRequested,
        operation=operations,
        digest=texts,
        tool=texts,
        effect=st.sampled_from(["pure", "read", "write"]),
        arguments=json,
        key=st.none() | texts,
        tool_call_id=st.none() | st.just("c1"),
        attempt=attempts,
    ),
    st.builds(c.QuestionAsked, operation=operations, digest=texts, question=texts),
    st.builds(c.ApprovalRequested, operation=operations, digest=texts, action=texts, details=json),
    st.builds(
        r.TimerSet, operation=operations, digest=texts, due=attempts, signal=st.none() | st.just("paid")
    ),
)
# Tool calls and questions, with what comes from outside, doubts and retries: the part with the most rules.
doubts: st.SearchStrategy[Event] = st.builds(c.ToolCallInDoubt, operation=operations, cause=texts)
outside: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        c.ToolCallReported, operation=operations, epoch=attempts, result=json, failure=st.none() | failures
    ),
    st.builds(
        c.ToolCallSettled,
        operation=operations,
        outcome=st.sampled_from(["completed", "failed", "again"]),
        result=json,
        failure=st.none() | failures,
    ),
    st.builds(c.QuestionAnswered, operation=operations, answer=json, by=st.none() | texts),
    st.builds(c.ApprovalDecided, operation=operations, approved=st.booleans(), by=st.none() | texts),
)
observations: st.SearchStrategy[Event] = st.builds(r.InputReceived, operation=operations, event_id=event_ids)
failed_calls: st.SearchStrategy[Event] = st.builds(
    c.ToolCallFailed, operation=operations, failure=failures, attempt=attempts, final=st.booleans()
)
retries: st.SearchStrategy[Event] = st.builds(
    r.RunRetryScheduled,
    reopens=operations,
    attempt=attempts,
    delay_ms=st.integers(0, 9).map(float),
    failure=failures,
)
around_tools: st.SearchStrategy[Event] = st.one_of(
    intents,
    doubts,
    outside,
    observations,
    st.builds(c.ToolCallCompleted, operation=operations, result=json, attempt=attempts),
    st.builds(c.ToolCallUnreconciled, operation=operations, failure=st.none() | failures),
    st.builds(c.QuestionExpired, operation=operations, cause=texts | st.just("cancelled")),
    st.builds(r.TimerFired, operation=operations),
    st.builds(r.WaitCancelled, operation=operations),
    st.builds(r.RunSignalled, name=st.sampled_from(["paid", "sent"]), payload=json),
    st.builds(r.InputReceived, operation=operations, event_id=event_ids, signal=st.just("paid")),
    failed_calls,
    retries,
)
ends: st.SearchStrategy[Event] = st.one_of(
    st.builds(r.RunSucceeded, output=json),
    st.builds(r.RunFailed, failure=failures, operation=st.none() | operations),
    st.builds(r.RunCancelled, by=st.none() | texts, reason=st.none() | texts),
    st.builds(r.RunTimedOut, timeout_seconds=st.integers(1, 9).map(float)),
    st.builds(r.RunStepLimitReached, model_turns_max=attempts, summary=st.none() | texts),
)
others: st.SearchStrategy[Event] = st.one_of(
    st.builds(c.StepStarted, operation=operations, digest=texts),
    st.builds(c.StepCompleted, operation=operations, digest=texts, result=json, attempt=attempts),
    st.builds(c.StepFailed, operation=operations, digest=texts, failure=failures, attempt=attempts),
    st.builds(c.RaceWon, operation=operations, winner=st.integers(0, 2), branches=st.just(3)),
    st.builds(
        c.ValueRecorded, operation=operations, kind=st.sampled_from(["now", "uuid", "random"]), value=json
    ),
    st.builds(
        c.ModelCallRequested,
        operation=operations,
        digest=texts,
        model=texts,
        parameters=st.just({}),
        messages_digest=texts,
        messages_count=attempts,
    ),
    st.builds(
        c.ModelCallCompleted,
        operation=operations,
        message=st.dictionaries(texts, json, max_size=2),
        usage=st.builds(
            c.Usage,
            input_tokens=attempts,
            output_tokens=attempts,
            cost_usd=st.none() | st.integers(0, 9).map(float),
        ),
    ),
    st.builds(
        c.ModelCallFailed,
        operation=operations,
        failure=failures,
        final=st.booleans(),
        usage=st.none() | st.builds(c.Usage, input_tokens=attempts, cost_usd=st.none() | st.just(2.0)),
    ),
    st.builds(r.RunRequested, target=texts, kind=st.just("workflow"), input=json),
    st.builds(r.RunClaimed, epoch=attempts, worker=texts, reason=st.sampled_from(["start", "resume"])),
    st.builds(r.RunStarted),
    st.builds(r.RunWaiting, reason=st.sampled_from(["question", "in_doubt", "diverged"])),
    st.builds(r.RunDiverged, operation=operations, message=texts),
    st.builds(r.MessageProduced, operation=operations, role=st.just("assistant"), content=json),
    st.builds(r.ErrorReported, operation=operations, message=texts, details=json),
    st.builds(r.RunEmitted, operation=operations, name=texts, payload=json),
    st.builds(r.CheckpointSaved, operation=operations, name=st.none() | texts, state=json),
    st.builds(r.GuardApplied, operation=operations, guard=texts, message=texts),
    st.builds(
        m.MemoryWritten,
        operation=operations,
        digest=texts,
        action=st.sampled_from(["set", "forget"]),
        scope=st.just("user"),
        key=texts,
    ),
    st.builds(
        m.MemoryRecalled,
        operation=operations,
        digest=texts,
        scope=st.just("user"),
        key=texts,
        found=st.booleans(),
    ),
    st.builds(
        j.JourneyWritten,
        operation=operations,
        digest=texts,
        journey=texts,
        action=st.sampled_from(["start", "change", "end", "route"]),
        conflict=st.none() | texts,
    ),
    st.builds(
        j.JourneyRecalled,
        operation=operations,
        digest=texts,
        journey=texts,
        state=st.none() | st.just({"step": "first"}),
    ),
)
any_event: st.SearchStrategy[Event] = others | around_tools | ends

streams: st.SearchStrategy[Sequence[Event]] = st.lists(any_event, max_size=25)

memory_event: st.SearchStrategy[Any] = st.one_of(
    st.builds(m.MemorySet, key=st.sampled_from("abc"), value=json),
    st.builds(m.MemoryForgotten, key=st.sampled_from("abc")),
)

fields = st.dictionaries(st.sampled_from(["step", "a", "b"]), json, max_size=3)
journey_event: st.SearchStrategy[Any] = st.one_of(
    st.builds(j.JourneyStarted, journey=texts, step=texts, state=fields),
    st.builds(
        j.JourneyStepChanged,
        from_step=texts,
        to_step=texts,
        patch=fields,
        untrusted=st.booleans(),
        reopened=st.booleans(),
    ),
    st.builds(j.JourneyRouted, router=texts, journey=st.none() | texts, by=texts),
    st.builds(j.JourneyEnded, reason=texts, step=st.none() | texts),
)

keys = st.sampled_from(["support", "base"])
agent_event: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        a.AgentDefined, key=keys, name=texts, config=fields, parent=st.none() | keys, draft=st.booleans()
    ),
    st.builds(
        a.AgentRevised,
        revision=st.integers(1, 9),
        name=texts,
        config=fields,
        restored_from=st.none() | st.integers(1, 9),
        draft=st.booleans(),
        by=st.none() | texts,
    ),
    st.builds(a.AgentActivated, revision=st.integers(1, 9)),
    st.builds(a.AgentRetired, reason=st.none() | texts),
    st.builds(a.AgentSpecSet, revision=st.integers(1, 9), text=texts),
)
system_event: st.SearchStrategy[Any] = st.one_of(
    st.builds(a.SystemDefined, key=texts, name=texts, prefix=texts),
    st.builds(a.SystemRevised, name=texts, prefix=texts),
    st.builds(a.SystemMemberAdded, agent=st.just("agent-a"), key=keys),
    st.builds(a.SystemMemberRemoved, agent=st.just("agent-a"), key=keys),
    st.builds(a.SystemKnowledgeSet, name=st.sampled_from("xy"), knowledge=st.none() | fields),
)
