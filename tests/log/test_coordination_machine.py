"""A queue under arbitrary use, against a model of a few lines.

No entry is claimed twice, no cap exceeded, no lane has two that go on; entries are given by priority and place but
for one in so many, which is the oldest; nothing is lost; what is refused changes nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
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
from evrt.log import Log, open_log
from evrt.log.check import check
from evrt.log.coordination import Change, Enqueue, Hold, Key, Park, Pause, Remove, Tick, Unpause, Wake, Yield
from log.queue_model import LATER, PAST, QueueModel
from log.stores import append, draft

T = TypeVar("T")

RUNS = [f"run-{letter}" for letter in "abcdefgh"]
TARGETS = ["t", "u", "v"]
WORKERS = ["w1", "w2", "w3"]

runs = st.sampled_from(RUNS)
targets = st.sampled_from(TARGETS)
workers = st.sampled_from(WORKERS)
lanes = st.sampled_from([None, "l", "m"])
times = st.sampled_from([None, None, PAST, LATER])
keys = st.none() | st.builds(Key, st.sampled_from(["", "ann"]), st.sampled_from(["j", "k"]))

changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(Enqueue, runs, targets, st.integers(-1, 1), lanes, times, st.none(), keys),
    st.builds(Enqueue, runs, targets, st.integers(-1, 1), lanes, st.none(), st.none(), st.none()),
    st.builds(Enqueue, runs, targets, st.just(0), st.none(), st.none(), st.none(), st.none()),
    st.builds(Hold, runs, workers),
    st.builds(Park, runs, targets, times, lanes, st.booleans(), st.integers(-1, 1)),
    st.builds(Yield, runs, targets, times, lanes, st.integers(-1, 1)),
    st.builds(Wake, runs),
    st.builds(Pause, runs),
    st.builds(Unpause, runs),
    st.builds(Remove, runs),
    st.builds(Tick, st.sampled_from(["s", "z"]), st.integers(0, 5)),
)
caps = st.dictionaries(targets, st.none() | st.integers(0, 3), min_size=1)


class Queue(RuleBasedStateMachine):
    """Uses a queue in every way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = QueueModel()
        self.logs: list[Log] = []
        self.number = 0
        self.by_place = 0
        self.given = 0
        self.resources = ExitStack()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def make_urls(self) -> list[str]:
        return ["memory://"]

    @initialize()
    def open(self) -> None:
        self.logs = [self.wait(open_log(url)) for url in self.make_urls()]
        # Something to begin with, so that claims find more than they may have.
        self.renew("w1")
        self.append([Enqueue(run, TARGETS[number % 2]) for number, run in enumerate(RUNS[:6])])

    def teardown(self) -> None:
        for log in self.logs:
            self.wait(log.aclose())
        self.loop.close()
        for url in self.closed():
            assert check(url).findings == ()
        self.resources.close()

    def closed(self) -> list[str]:
        return []

    @property
    def log(self) -> Log:
        """Another one each time, where there are several of one file."""
        self.number += 1
        return self.logs[self.number % len(self.logs)]

    # -------------------------------------------------------------------------------------- rules

    @rule(wanted=st.lists(changes, min_size=1, max_size=3))
    def append(self, wanted: list[Change]) -> None:
        log = self.log
        end = self.wait(log.position())
        drafts = [
            draft("run-cause"),
            *(draft(change.run) for change in wanted if not isinstance(change, Tick)),
        ]
        places: dict[str, int] = {}
        for number, one in enumerate(drafts, start=end + 1):
            places.setdefault(one.stream, number)
        expected = self.model.change(wanted, places)

        async def write() -> str | None:
            try:
                await log.append(append(*drafts, beside=wanted))
            except Conflict as error:
                return type(error).__name__
            return None

        assert self.wait(write()) == expected
        assert self.wait(log.position()) == (end if expected else end + len(drafts))

    @rule(worker=workers)
    def renew(self, worker: str) -> None:
        self.wait(self.log.coordination.renew(worker, seconds=1_000))
        self.model.lapsed.discard(worker)
        self.model.alive.add(worker)

    @rule(worker=workers)
    def lapse(self, worker: str) -> None:
        """Its lease runs out."""
        self.wait(self.log.coordination.renew(worker, seconds=0.000_001))
        self.wait(asyncio.sleep(0.000_1))
        self.model.alive.discard(worker)
        self.model.lapsed.add(worker)

    @rule(worker=workers)
    def leave(self, worker: str) -> None:
        self.wait(self.log.coordination.leave(worker))
        self.model.leave(worker)

    @rule(worker=workers, wanted=caps, limit=st.integers(1, 5), most=st.none() | st.integers(0, 4))
    def claim(self, worker: str, wanted: dict[str, int | None], limit: int, most: int | None) -> None:
        log, model = self.log, self.model
        given = self.wait(log.coordination.claim(worker, targets=wanted, limit=limit, claimed_max=most))
        if worker not in model.alive:
            assert given == []
            return
        model.make_due(wanted)
        for run, target, taken_from in given:
            possible = model.may_be_given(wanted, most)
            entry = model.entries[run]
            assert entry in possible
            assert (entry.target, entry.worker) == (target, taken_from)
            self.given += 1
            if entry != min(possible, key=lambda one: (-one.priority, one.place, one.run)):
                assert entry == min(possible, key=lambda one: (one.place, one.run))
                self.by_place += 1
            model.give(run, worker)
        assert len(given) == limit or not model.may_be_given(wanted, most)
        assert len(given) <= limit

    @precondition(lambda self: self.model.alive)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A worker ends what it has, as it does most of the time."""
        worker = data.draw(st.sampled_from(sorted(self.model.alive)))
        claimed = sorted(run for run, one in self.model.entries.items() if one.worker == worker)
        if claimed:
            run = data.draw(st.sampled_from(claimed))
            self.append([Hold(run, worker), data.draw(st.sampled_from([Remove(run), Park(run, "t")]))])

    @rule(worker=workers)
    def tell(self, worker: str) -> None:
        told = {run for run in self.model.news if self.model.entries[run].worker == worker}
        assert set(self.wait(self.log.coordination.news(worker))) == told
        self.model.news -= told

    # --------------------------------------------------------------------------------- invariants

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if not self.logs:
            return
        queue, model = self.log.coordination, self.model
        entries = self.wait(queue.entries())
        assert entries == sorted(model.entries.values(), key=lambda one: (one.place, one.run))
        assert self.wait(queue.ticks()) == model.ticks
        claims = [one.claimed for one in self.wait(queue.leases())]
        assert sum(claims) == sum(one.state == "claimed" for one in entries)
        for lane in ("l", "m"):
            states = [one.state for one in entries if one.lane == lane]
            assert states[:1] != ["behind"]
            assert set(states[1:]) <= {"behind", "paused"}
        # One in ten, spread evenly: never more than that in a row of any length, but for the beginning.
        assert self.by_place <= self.given / 10 + 2

    @invariant()
    def keys_are_as_the_model_says(self) -> None:
        if self.logs and self.number % 5 == 0:
            for key, run in self.model.keys.items():
                assert self.wait(self.log.coordination.run_of(key)) == run


class QueueOfTwo(Queue):
    """Two logs of one file, which know nothing of each other."""

    def make_urls(self) -> list[str]:
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{folder}/evrt.db"
        return [self.url, self.url]

    def closed(self) -> list[str]:
        return [self.url] if self.logs else []


def test_a_queue_in_memory_is_what_the_model_says() -> None:
    run_state_machine_as_test(
        Queue, settings=settings(max_examples=60, stateful_step_count=50, deadline=None)
    )


def test_a_queue_in_a_file_is_what_the_model_says() -> None:
    run_state_machine_as_test(
        QueueOfTwo, settings=settings(max_examples=6, stateful_step_count=40, deadline=None)
    )


@pytest.mark.soak
@pytest.mark.parametrize("machine", [Queue, QueueOfTwo])
def test_a_queue_is_what_the_model_says_for_long(machine: type[Queue]) -> None:
    examples = 3_000 if machine is Queue else 300
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=100, deadline=None)
    )
