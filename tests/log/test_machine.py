"""Invariants I1 to I8 of a log under arbitrary use, against a model of a few lines.

I1 append-only, I2 contiguous, I3 whole requests, I4 acknowledged is kept, I5 expectations and
repetition, I6 what was seen stays, I7 subscribers miss and repeat nothing, I8 reads see what was
acknowledged before. The model shares no code with the log. On SQLite and PostgreSQL the same log is
used through two logs of this process and by two more processes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from evrt.errors import Conflict
from evrt.log import (
    Append,
    Appended,
    Claim,
    Draft,
    Exact,
    Expectation,
    Fence,
    Log,
    Next,
    Recorded,
    Subscription,
    open_log,
)
from evrt.log.check import check
from log.model import STREAMS, Model
from log.stores import draft, leaf_of
from log.worker import Process
from postgres import fresh_url, shared

T = TypeVar("T")

PAYLOADS = st.binary(max_size=20)


@dataclass
class Repeatable:
    """A request that was answered, with the versions its streams had before."""

    request: Append
    before: dict[str, int]
    answer: Appended


class Machine(RuleBasedStateMachine):
    """Uses a log in every way at once. Subclasses say which."""

    urls: tuple[str, ...]
    processes: tuple[Process, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = Model()
        self.logs: list[Log] = []
        self.requests: list[Repeatable] = []
        self.seen: list[Recorded] = []
        self.followers: list[tuple[Subscription, int, list[int]]] = []
        self.resources = ExitStack()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def open(self) -> None:
        self.url = self.make_url()
        self.logs = [self.wait(open_log(self.url)) for _ in range(self.openings())]
        for process in self.processes:
            process.tell("open", url=self.url)

    def make_url(self) -> str:
        raise NotImplementedError

    def openings(self) -> int:
        return 1

    def teardown(self) -> None:
        for subscription, after, received in list(self.followers):
            self.receive(subscription, received, len(self.model.events) - after - len(received))
            assert received == list(range(after + 1, after + len(received) + 1))
        for _, after, received in self.followers:
            assert after + len(received) == len(self.model.events)
        for log in self.logs:
            self.wait(log.aclose())
        for process in self.processes:
            process.tell("open", url="memory://")
        self.loop.close()
        if self.logs:
            self.look_closely()
        self.resources.close()

    def look_closely(self) -> None:
        """What can be said of the log once it is closed."""

    # ------------------------------------------------------------------------------------- writing

    def drafts(self, data: st.DataObject) -> list[Draft]:
        streams = data.draw(st.lists(st.sampled_from(STREAMS), min_size=1, max_size=4))
        return [
            draft(stream, data.draw(PAYLOADS), correlation=data.draw(st.sampled_from(STREAMS)))
            for stream in streams
        ]

    def expectations(self, data: st.DataObject, drafts: list[Draft]) -> dict[str, Expectation]:
        """Right ones and wrong ones. A claim brings the event that it needs."""
        expect: dict[str, Expectation] = {}
        for stream in data.draw(st.sets(st.sampled_from(STREAMS))):
            off = data.draw(st.sampled_from([0, 0, 0, -1, 1]))
            match data.draw(st.sampled_from(["exact", "next", "fence", "claim"])):
                case "exact":
                    expect[stream] = Exact(max(0, self.model.versions[stream] + off))
                case "next":
                    expect[stream] = Next(max(0, self.model.versions[stream] + 1 + off))
                    drafts.append(draft(stream))
                case "fence":
                    expect[stream] = Fence(max(0, self.model.epochs[stream] + off))
                case _:
                    epoch = max(1, self.model.epochs[stream] + 1 + off)
                    expect[stream] = Claim(epoch)
                    drafts.append(draft(stream, meta=b'{"epoch":%d}' % epoch))
        return expect

    def request(self, data: st.DataObject) -> Append:
        drafts = self.drafts(data)
        return Append(drafts, self.expectations(data, drafts))

    def judge(self, request: Append, answer: Appended | str) -> None:
        before = dict(self.model.versions)
        assert answer == self.model.append(request)
        if isinstance(answer, Appended):
            self.requests.append(Repeatable(request, before, answer))

    @rule(data=st.data())
    def append_here(self, data: st.DataObject) -> None:
        log = data.draw(st.sampled_from(self.logs))
        request = self.request(data)
        self.judge(request, self.wait(answered(log, request)))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def append_in_another_process(self, data: st.DataObject) -> None:
        request = self.request(data)
        self.judge(request, data.draw(st.sampled_from(self.processes)).append(request))

    @rule(data=st.data(), count=st.integers(2, 6))
    def append_at_once(self, data: st.DataObject, count: int) -> None:
        """All are queued before the first is written; they count in the order of the calls."""
        log = data.draw(st.sampled_from(self.logs))
        requests = [self.request(data) for _ in range(count)]

        async def all_of_them() -> list[Appended | str]:
            return await asyncio.gather(*(answered(log, request) for request in requests))

        for request, answer in zip(requests, self.wait(all_of_them()), strict=True):
            self.judge(request, answer)

    @rule(data=st.data())
    def append_and_be_cancelled(self, data: st.DataObject) -> None:
        log = data.draw(st.sampled_from(self.logs))
        request = Append(self.drafts(data), {})

        async def cancelled() -> None:
            task = asyncio.ensure_future(answered(log, request))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            # Queued behind it, hence written after it.
            await answered(log, Append([draft("run-a", b"after")], {}))

        before = len(self.model.events)
        self.wait(cancelled())
        self.model.append(request)
        [after] = self.wait(log.read(after=before + len(request.drafts)))
        self.model.append(Append([self.as_draft(after)], {}))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), other_content=st.booleans())
    def repeat(self, data: st.DataObject, other_content: bool) -> None:
        first = data.draw(st.sampled_from(self.requests))
        drafts = list(first.request.drafts)
        if other_content:
            number = data.draw(st.integers(0, len(drafts) - 1))
            drafts[number] = drafts[number]._replace(type="other.type")
        request = Append(drafts, first.request.expect, repeat_after=first.before)
        answer = self.anywhere(data, request)
        assert answer == ("RepeatMismatch" if other_content else first.answer)

    @rule(data=st.data())
    def repeat_what_never_happened(self, data: st.DataObject) -> None:
        request = self.request(data)
        repeated = Append(request.drafts, request.expect, repeat_after=dict(self.model.versions))
        self.judge(repeated, self.anywhere(data, repeated))

    def place(self, data: st.DataObject) -> Log | Process:
        places: list[Log | Process] = [*self.logs, *self.processes]
        return data.draw(st.sampled_from(places))

    def anywhere(self, data: st.DataObject, request: Append) -> Appended | str:
        place = self.place(data)
        return place.append(request) if isinstance(place, Process) else self.wait(answered(place, request))

    @precondition(lambda self: self.model.events)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(1, len(self.model.events)))
        self.wait(data.draw(st.sampled_from(self.logs)).erase_payload(position))
        self.model.erased.add(position)

    @rule(data=st.data(), external=st.sampled_from(["ann", "bob"]))
    def ask_for_a_ref(self, data: st.DataObject, external: str) -> None:
        place = self.place(data)
        ref = (
            place.tell("ref", kind="user", external=external)
            if isinstance(place, Process)
            else self.wait(place.ref("user", external))
        )
        assert isinstance(ref, str)
        assert self.model.refs.setdefault(external, ref) == ref

    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.logs) - 1))
        if self.url == "memory://":
            return
        self.wait(self.logs[number].aclose())
        self.logs[number] = self.wait(open_log(self.url))

    # ------------------------------------------------------------------------------------- reading

    @rule(data=st.data())
    def subscribe(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, len(self.model.events)))
        self.followers.append((self.logs[0].subscribe(after), after, []))

    @precondition(lambda self: self.followers)
    @rule(data=st.data())
    def follow(self, data: st.DataObject) -> None:
        subscription, after, received = data.draw(st.sampled_from(self.followers))
        there = len(self.model.events) - after - len(received)
        self.receive(subscription, received, data.draw(st.integers(0, there)))

    def receive(self, subscription: Subscription, received: list[int], count: int) -> None:
        async def take() -> None:
            # Not a judgement on speed: a guard, for an event that never comes would hang the test.
            async with asyncio.timeout(30):
                for _ in range(count):
                    row = await anext(subscription)
                    received.append(row.position)

        try:
            self.wait(take())
        except StopAsyncIteration:
            # Its log has been closed.
            self.followers = [other for other in self.followers if other[0] is not subscription]

    @rule(data=st.data(), stream=st.sampled_from(STREAMS))
    def read_a_part(self, data: st.DataObject, stream: str) -> None:
        log = data.draw(st.sampled_from(self.logs))
        after = data.draw(st.integers(0, len(self.model.events)))
        upto = data.draw(st.integers(0, len(self.model.events)))
        rows = self.wait(log.read(after=after, upto=upto))
        assert [row.event_id for row in rows] == [one.event_id for one in self.model.events[after:upto]]
        rows = self.wait(log.read(after=after, correlation=stream, limit=3))
        ids = [one.event_id for one in self.model.events[after:] if one.correlation == stream]
        assert [row.event_id for row in rows] == ids[:3]
        rows = self.wait(log.read_stream(stream))
        assert [row.event_id for row in rows] == [
            one.event_id for one in self.model.events if one.stream == stream
        ]

    @invariant()
    def the_log_is_what_the_model_says(self) -> None:
        for log in self.logs:
            rows = self.wait(log.read())
            self.compare(log, rows)
            # What has been seen stays byte for byte, but for payloads that were erased.
            for row, old in zip(rows, self.seen, strict=False):
                assert row == (old._replace(salt=None, payload=None) if row.payload is None else old)
            self.seen = rows

    def compare(self, log: Log, rows: list[Recorded]) -> None:
        assert [self.as_draft(row) for row in rows] == [
            one._replace(payload=b"") if position in self.model.erased else one
            for position, one in enumerate(self.model.events, start=1)
        ]
        last: dict[str, Recorded] = {}
        for position, row in enumerate(rows, start=1):
            before = last.get(row.stream)
            assert row.position == position
            assert row.version == before.version + 1 if before else row.version in (0, 1)
            assert row.time >= (rows[position - 2].time if position > 1 else 0)
            assert row.leaf == leaf_of(log.id, row, before.leaf if before else None)
            assert (row.payload is None) == (position in self.model.erased)
            if row.salt is not None:
                assert row.payload_digest == sha256(row.salt + (row.payload or b"")).digest()
            last[row.stream] = row
        for stream in STREAMS:
            head = self.wait(log.head(stream))
            assert head.version == max(0, self.model.versions[stream])
            assert head.epoch == self.model.epochs[stream]
            assert head.leaf == (last[stream].leaf if stream in last else None)

    def as_draft(self, row: Recorded) -> Draft:
        return Draft(row.stream, row.type, row.event_id, row.correlation, row.meta, row.payload or b"")


async def answered(log: Log, request: Append) -> Appended | str:
    try:
        return await log.append(request)
    except Conflict as error:
        return type(error).__name__


class MemoryMachine(Machine):
    def make_url(self) -> str:
        return "memory://"


class SqliteMachine(Machine):
    def make_url(self) -> str:
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        return f"sqlite:///{folder}/evrt.db"

    def openings(self) -> int:
        return 2

    def look_closely(self) -> None:
        report = check(self.url)
        assert report.findings == ()
        assert report.events == len(self.model.events)
        assert report.erased == len(self.model.erased)


class PostgresMachine(Machine):
    def make_url(self) -> str:
        return fresh_url(shared().owner)

    def openings(self) -> int:
        return 2


@pytest.fixture(scope="module")
def processes() -> Iterator[tuple[Process, ...]]:
    with Process() as one, Process() as other:
        yield one, other


# A quarter of what the profile says, for each: make soak has a larger one.
EXAMPLES = settings(max_examples=settings().max_examples // 4, stateful_step_count=30)


def test_the_log_in_memory_keeps_its_promises() -> None:
    run_state_machine_as_test(MemoryMachine, settings=EXAMPLES)


def test_the_log_on_sqlite_keeps_its_promises() -> None:
    run_state_machine_as_test(SqliteMachine, settings=EXAMPLES)


# A schema is dearer than a file, so it has fewer.
POSTGRES_EXAMPLES = settings(EXAMPLES, max_examples=max(EXAMPLES.max_examples // 5, 5))


def test_the_log_on_postgresql_keeps_its_promises() -> None:
    run_state_machine_as_test(PostgresMachine, settings=POSTGRES_EXAMPLES)


def test_the_log_on_postgresql_keeps_its_promises_to_several_processes(
    processes: tuple[Process, ...],
) -> None:
    class ProcessesMachine(PostgresMachine):
        pass

    ProcessesMachine.processes = processes
    run_state_machine_as_test(ProcessesMachine, settings=POSTGRES_EXAMPLES)


def test_the_log_on_sqlite_keeps_its_promises_to_several_processes(processes: tuple[Process, ...]) -> None:
    class ProcessesMachine(SqliteMachine):
        pass

    ProcessesMachine.processes = processes
    run_state_machine_as_test(ProcessesMachine, settings=EXAMPLES)
