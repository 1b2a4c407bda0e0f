"""Workers whose clocks are an hour off: nothing is taken from anybody for that, and nothing else is different."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from postgres import fresh_url, shared
from workers.crew import Person, site, until_all_ended
from workers.labour import DRAINED
from workers.test_chaos import fill, read_all
from workers.verdict import violations

RUNS = 60
HOURS = (1.0, -1.0, 0.0)


@pytest.fixture(params=["sqlite", "postgres"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else fresh_url(shared().owner)


async def test_workers_with_clocks_an_hour_off_take_nothing_from_one_another(
    log_url: str, tmp_path: Path
) -> None:
    with site(log_url, tmp_path, lease_seconds=10.0) as one:
        async with one.app() as app:
            wanted = await fill(app, RUNS, float("inf"))
            for hours in HOURS:
                one.hire(hours=hours, concurrency=3)
            await until_all_ended(Person(app, one.world, random.Random()), 60.0, one)
            codes = [one.dismiss(pid) for pid in list(one.alive)]
            rows = await read_all(await app.log())
    assert codes == [DRAINED] * len(HOURS), one.said()
    assert violations(rows, one.world.lines(), wanted) == []
    assert [row.time for row in rows] == sorted(row.time for row in rows)
    claims = [json.loads(row.payload or b"") for row in rows if row.type == "run.claimed"]
    assert {claim["reason"] for claim in claims} <= {"start", "resume"}
    assert len({claim["worker"] for claim in claims}) == len(HOURS), (
        "Not every one of them was given something."
    )
