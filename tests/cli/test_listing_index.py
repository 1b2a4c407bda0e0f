"""Listing runs looks only at those that an index leads to, however many others there are."""

from __future__ import annotations

import sqlite3
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.forker import Forker
from cli.many import AGENTS, USERS, make_runs
from cli.shell import Shell, new_shell
from evrt.projector.files import FileReader
from evrt_projections.runs import PROJECTION

RUNS = 2_000


class Many(NamedTuple):
    """A shell with a log of very many runs, and the file of its views."""

    shell: Shell
    file: Path


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Many:
    shell = new_shell(tmp_path_factory.mktemp("many"), forker)
    make_runs(shell.folder / "evrt.db", RUNS)
    shell.evrt("runs", "list", "--limit", "1")
    return Many(shell, shell.folder / "evrt.db-views")


class Telling(FileReader):
    """A reader that keeps the last statement it sent."""

    sent: tuple[str, tuple[object, ...]]

    async def _fetch(self, sql: str, *parameters: object) -> list[Any]:
        self.sent = sql, parameters
        return await super()._fetch(sql, *parameters)


async def plan_of(file: Path, **asked: Any) -> str:
    """How SQLite finds the runs that are so: what it says of the statement that is really sent."""
    nothing: dict[str, Any] = {"where": {}, "since": {}, "until": {}, "beyond": None, "limit": 51}
    async with aclosing(Telling(str(file))) as reader:
        assert await reader.listed(PROJECTION, **(nothing | {"oldest_first": False} | asked)) is not None
        sql, parameters = reader.sent
    with closing(sqlite3.connect(file)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    return " | ".join(line for line in plan if " d " in f"{line} ")


@pytest.mark.parametrize(
    "asked",
    [
        {"where": {"status": "failed"}},
        {"where": {"status": "failed"}, "oldest_first": True, "beyond": 12},
        {"where": {"target": "judge"}},
        {"where": {"conversation": "conversation-a"}},
        {"where": {"user": "user-a"}},
        {"where": {"status": "failed", "target": "judge", "user": "user-a"}},
        {"where": {"user": "user-a"}, "since": {"requested_at": 17}, "until": {"requested_at": 18}},
        {"since": {"requested_at": 17}, "until": {"requested_at": 18}},
    ],
)
async def test_every_filter_is_answered_by_an_index(many: Many, asked: dict[str, Any]) -> None:
    plan = await plan_of(many.file, **asked)
    assert "SEARCH d USING INDEX" in plan
    assert "SCAN" not in plan


async def test_without_a_filter_the_newest_are_read_and_no_more(many: Many) -> None:
    assert (
        await plan_of(many.file) == "SCAN d"
    )  # In the order of its key, up to the limit: nothing is sorted.


def test_of_many_runs_those_asked_for_are_found_page_by_page(many: Many) -> None:
    shell = many.shell
    failed = shell.evrt("runs", "list", "--status", "failed", "--limit", "5000", "--json").document
    assert len(failed) == RUNS // 40
    of_user = shell.evrt("runs", "list", "--user", "user 7", "--limit", "5000", "--json").document
    assert len(of_user) == RUNS // USERS
    both = shell.evrt(
        "runs", "list", "--user", "user 1", "--status", "failed", "--agent", AGENTS[1], "--json"
    ).document
    assert both == [run for run in failed if run["user"] == both[0]["user"] and run["target"] == AGENTS[1]]
    assert len(shell.evrt("runs", "list", "--limit", str(RUNS), "--json").document) == RUNS
