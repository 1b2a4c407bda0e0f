"""A sync fails, what it was to write is dropped for good, and later the power goes: nothing acknowledged is lost.

The failure is real to the process: strace makes the n-th ``fdatasync`` of its writer fail, for every n
there is. What the disk made of it is played through afterwards (``disks.disk``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from itertools import count
from math import inf

import pytest

from crash.harness import soak_seconds
from disks.campaign import Tally, Trial
from disks.conftest import Record
from disks.trace import Synced

STATES = 50
"""For each sync that fails."""

STATES_SOAK = 1_500
SYNCS_MIN = 20
"""The story has more than so many syncs, from the making of the log to its closing."""

FAILS = "error=EIO"
DIES = "signal=SIGKILL"
"""What becomes of the sync. Where the process dies with it, there is nobody to remember that it failed."""

SOAK_SECONDS = soak_seconds(1_800.0)


def fail_each(
    record_story: Record,
    seed: int,
    states: int,
    how: str,
    *,
    plant: str | None = None,
    nths: Iterable[int],
    until: float = inf,
) -> tuple[int, Tally]:
    """Let each sync of the story fail in turn; how many did, and what came of the losses of power after it."""
    total = Tally()
    failed = 0
    for nth in nths:
        inject = f"fdatasync:{how}:when={nth}"
        recording = record_story("shaken", seed, plant=plant, inject=(inject,))
        if all(op.ok for op in recording.ops if isinstance(op, Synced)) or time.monotonic() > until:
            break
        failed += 1
        tally = Trial(recording, "posix", states, seed).run()
        tally.examples = [f"{inject}, {example}" for example in tally.examples]
        total.add(tally)
    return failed, total


@pytest.mark.parametrize("how,step", [(FAILS, 1), (DIES, 3)], ids=["fails", "dies"])
def test_after_any_sync_that_failed_nothing_that_is_acknowledged_is_lost_with_the_power(
    record_story: Record, how: str, step: int, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(10**9)
    # A process that is to die has to be stopped at every call: of those some, by lot.
    failed, tally = fail_each(record_story, seed, STATES, how, nths=count(1 + seed % step, step))
    print(how, failed, tally)
    record_property("states", f"{failed} syncs: {tally}")
    assert tally.examples == []
    assert failed >= SYNCS_MIN // step


@pytest.mark.parametrize("how,plant", [(FAILS, "go_on"), (DIES, "trusting")])
def test_a_writer_that_takes_a_failed_sync_lightly_is_caught(
    record_story: Record, how: str, plant: str
) -> None:
    failed, tally = fail_each(record_story, 1, STATES, how, plant=plant, nths=range(13, 17))
    print(plant, failed, tally)
    assert tally.bad["Lost"] > 0


@pytest.mark.soak
def test_failed_syncs_for_as_long_as_there_is_time(
    record_story: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    until = time.monotonic() + SOAK_SECONDS
    seed = first = random.randrange(10**9)
    total = Tally()
    syncs = 0
    while time.monotonic() < until:
        failed, tally = fail_each(
            record_story, seed, STATES_SOAK, (FAILS, DIES)[seed % 2], nths=count(1), until=until
        )
        total.add(tally)
        syncs += failed
        seed += 1
        assert total.examples == []
    with capsys.disabled():
        print(f"\n{syncs} failed syncs from seed {first}: {total}")
