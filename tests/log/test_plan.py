"""The decision about one append, as a pure function of the request and the end of the log."""

from __future__ import annotations

import pytest

from evrt.errors import Conflict
from evrt.log import EMPTY_HEAD, NEW, Claim, Exact, Fence, Head
from evrt.log.plan import SALT_BYTES, End, check_request, plan
from log.stores import append, claimed, draft

LEAF = b"\x07" * 32
SALTS = bytes(range(SALT_BYTES)) * 3


def end() -> End:
    return End(log="log", position=41, time=1_000, heads={"run-1": Head(4, LEAF, 2)})


def test_an_event_takes_the_next_position_and_version_and_the_leaf_before_it() -> None:
    log = end()
    first, second, other = plan(
        check_request(append(draft(), draft(), draft("run-2")), 100), log, 2_000, SALTS
    )
    assert [(row.position, row.version, row.time) for row in (first, second, other)] == [
        (42, 5, 2_000),
        (43, 6, 2_000),
        (44, 1, 2_000),
    ]
    assert log == End("log", 44, 2_000, {"run-1": Head(6, second.leaf, 2), "run-2": Head(1, other.leaf, 0)})


def test_a_clock_that_goes_back_does_not_take_time_with_it() -> None:
    log = end()
    assert [row.time for row in plan(check_request(append(draft()), 100), log, 999, SALTS)] == [1_000]
    assert [row.time for row in plan(check_request(append(draft()), 100), log, 1_001, SALTS)] == [1_001]


@pytest.mark.parametrize("expectation", [NEW, Exact(3), Exact(5), Fence(0), Fence(1), Fence(3)])
def test_a_refused_request_leaves_the_end_as_it_was(expectation: Exact | Fence) -> None:
    log = end()
    with pytest.raises(Conflict):
        plan(check_request(append(draft("run-2"), draft(), run_1=expectation), 100), log, 2_000, SALTS)
    assert log == end()


def test_a_claim_counts_for_the_events_that_come_with_it() -> None:
    log = end()
    request = append(claimed("run-1", 3), draft(meta=b'{"epoch":3}'), run_1=Claim(3))
    plan(check_request(request, 100), log, 2_000, SALTS)
    assert log.heads["run-1"].epoch == 3
    assert log.heads.get("run-2", EMPTY_HEAD) == EMPTY_HEAD


def test_a_refused_claim_raises_no_epoch() -> None:
    log = end()
    request = append(claimed("run-1", 3), draft("run-2"), run_1=Claim(3), run_2=Exact(1))
    with pytest.raises(Conflict):
        plan(check_request(request, 100), log, 2_000, SALTS)
    assert log == end()
