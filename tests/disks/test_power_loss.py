"""The power goes at any point of what real processes did to a log: whatever the disk has then is a whole log.

Nothing that was acknowledged is lost or changed, no request is torn, positions are dense, every leaf is
the hash of its entry, nothing is there that was not written, and the log can be opened and used.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from crash.harness import LANES, soak_seconds
from disks.campaign import Tally, Trial
from disks.conftest import Record
from disks.disk import Names

STORIES = ("alone", "together", "lives")
MODELS: tuple[Names, ...] = ("journal", "posix")

STATES = 1_200
"""To be tried of each story with each model of names, which comes to 6,000 and more that differ; a soak tries a
million."""

DIFFERENT_MIN = 1_010
"""The fewest that have to differ: six times this is more than 6,000."""

STATES_SOAK = 1_000_000
STATES_SOAK_ROUND = 6_000
SOAK_SECONDS = soak_seconds(14_000.0)


@pytest.mark.parametrize("names", MODELS)
@pytest.mark.parametrize("story", STORIES)
def test_whatever_a_loss_of_power_leaves_is_a_whole_log_with_everything_that_was_acknowledged(
    record_story: Record, story: str, names: Names, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(10**9)
    tally = Trial(record_story(story, seed), names, STATES, seed).run()
    print(story, names, tally)
    record_property("states", str(tally))
    assert tally.examples == []
    assert tally.different >= DIFFERENT_MIN
    assert tally.used >= DIFFERENT_MIN // 200


@pytest.mark.parametrize("plant", ["normal", "off", "ack_before_commit"])
def test_a_log_that_acknowledges_what_is_not_durable_is_caught(record_story: Record, plant: str) -> None:
    tally = Trial(record_story("alone", 1, plant=plant), "journal", 300, 1).run()
    print(plant, tally)
    assert tally.bad["Lost"] + tally.bad["Unreadable"] + tally.bad["Damaged"] > tally.different / 10
    assert tally.bad["Lost"] > 0


def test_a_log_whose_folder_is_never_synced_is_caught_where_names_need_it(record_story: Record) -> None:
    recording = record_story("alone", 1)
    deaf = Trial(recording, "posix", 300, 1, folder_syncs=False).run()
    print(deaf)
    assert deaf.bad["Lost"] > deaf.different / 10
    # A journaling file system orders names by itself.
    assert Trial(recording, "journal", 100, 1, folder_syncs=False).run().examples == []


@pytest.mark.soak
def test_a_million_states_that_a_loss_of_power_may_leave(
    record_story: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    until = time.monotonic() + SOAK_SECONDS
    seed = random.randrange(10**9)
    total = Tally()
    rounds = 0
    with ProcessPoolExecutor(LANES, get_context("spawn")) as pool:
        while total.different < STATES_SOAK and time.monotonic() < until:
            story, names = STORIES[rounds % 3], MODELS[rounds // 3 % 2]
            trial = Trial(record_story(story, seed + rounds), names, STATES_SOAK_ROUND, seed + rounds)
            lanes = [replace(trial, lane=lane, lanes=LANES, until=until) for lane in range(LANES)]
            for tally in pool.map(Trial.run, lanes):
                total.add(tally)
            rounds += 1
            assert total.examples == []
    with capsys.disabled():
        print(f"\n{rounds} recordings from seed {seed}: {total}")
