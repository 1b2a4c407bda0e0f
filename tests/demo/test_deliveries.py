"""Ledger and tray are held against the log: what one of them knows and the other does not is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

import evrt
from demo.cases import deps_in
from evrt.demo.app import reviewer
from evrt.demo.claims import SAMPLE_PATH, read_claims
from evrt.demo.deliveries import Write, completed_writes, discrepancies, open_writes
from evrt.demo.instructions import claim_prompt
from evrt.demo.ledger import Entry
from evrt.demo.scripted import ReviewerModel
from evrt.history import Run

CLAIMS = read_claims(SAMPLE_PATH)[2:5]
LAST = Write("reviewer#3/put_in_tray#1", "put_in_tray", "C-005", {}, None)

NO_AMOUNT = (
    "C-005 is there as doubtful, no amount, slightly_over_limit; the log recorded doubtful, 60.01 EUR, "
    "slightly_over_limit."
)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Entry]]:
    """A run that decided three claims, and what it left in ledger and tray."""
    folder = tmp_path_factory.mktemp("reviewed")
    deps = deps_in(folder)
    app = evrt.App(f"sqlite:///{folder / 'log.db'}", deps=deps, models={"scripted/reviewer": ReviewerModel()})

    @app.workflow
    async def review(ctx: evrt.Context[object]) -> None:
        for claim in CLAIMS:
            await ctx.call(reviewer, claim_prompt(claim))

    async def run() -> Run:
        async with app:
            result = await app.run(review)
            assert result.status == "succeeded"
            return await app.get(result.run_id)

    return asyncio.run(run()), deps.ledger.entries() + deps.tray.entries()


def test_what_the_log_accounts_for_is_in_order(reviewed: tuple[Run, list[Entry]]) -> None:
    run, entries = reviewed
    assert discrepancies(run, entries, []) == []
    assert [(write.tool, write.key) for write in completed_writes(run)] == [
        ("record_decision", "C-003"),
        ("record_decision", "C-004"),
        ("put_in_tray", "C-005"),
    ]
    assert open_writes(run) == []


def test_a_write_is_open_from_its_intent_to_its_outcome(reviewed: tuple[Run, list[Entry]]) -> None:
    run, _ = reviewed
    [intent, outcome] = [e.version for e in run.events if getattr(e.event, "operation", "") == LAST.operation]
    assert open_writes(run.at(intent - 1)) == []
    for version in range(intent, outcome):
        assert [write.operation for write in open_writes(run.at(version))] == [LAST.operation]
        assert len(completed_writes(run.at(version))) == 2
    assert open_writes(run.at(outcome)) == []


def test_a_write_that_had_arrived_when_it_was_cut_off_comes_twice(
    reviewed: tuple[Run, list[Entry]],
) -> None:
    run, [first, second, last] = reviewed
    twice = last._replace(deliveries=2)
    assert discrepancies(run, [first, second, twice], [LAST]) == []
    assert discrepancies(run, [first, second, twice], []) == [
        "C-005 was delivered 2 times; the log accounts for 1."
    ]
    assert discrepancies(run, [first, second, last], [LAST]) == [
        "C-005 was delivered 1 times; the log accounts for 2."
    ]


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda a, b, c: [a, c], ["C-004 was decided, and is not there."]),
        (lambda a, b, c: [a, b, b, c], ["C-004 is there 2 times."]),
        (
            lambda a, b, c: [a, b, c, a._replace(key="C-3", claim="C-3")],
            ["C-3 is there under the key C-3, which the log does not know."],
        ),
        (
            lambda a, b, c: [a._replace(decision="reject", reason="over_limit"), b, c],
            [
                "C-003 is there as reject, 180.00 EUR, over_limit; the log recorded approve, 180.00 EUR, within_policy."
            ],
        ),
        (
            lambda a, b, c: [a, b, c._replace(amount_eur=None)],
            [
                NO_AMOUNT,
            ],
        ),
        (
            lambda a, b, c: [a, b._replace(decision="doubtful"), c],
            [
                "C-004 was decided, and is not there.",
                "C-004 is there under the key C-004, which the log does not know.",
            ],
        ),
    ],
)
def test_whatever_the_log_does_not_account_for_is_told(
    reviewed: tuple[Run, list[Entry]], change: object, told: Sequence[str]
) -> None:
    run, entries = reviewed
    assert callable(change)
    assert discrepancies(run, change(*entries), []) == told
