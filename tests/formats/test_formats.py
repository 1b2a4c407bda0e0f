"""A log of every past format opens: it is read as it is, and after a migration written and resumed.

The files beside this one were written by the evrt of their time (``make.py``). They are added to, never changed.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path

import pytest

from evrt.errors import UnusableLog
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.migrate import migrate
from evrt.log.sqlite.schema import SCHEMA_VERSION
from formats.travel import travel_app

FOLDER = Path(__file__).parent
WRITTEN = {
    "v3": "760c2d249922b5e70dee5feb4a6572177ea92c4eb029751b52b027bd88e570f2",
    "v2": "9432c301e67dc5e9c903e03be7ad6a697c371150d761f3c200449bf376d146b7",
    "v1": "1e2d57271cc1408c5c72901572ef43108411f38e1eae9688dd3789c913ea5fb4",
}
"""SHA-256 of each file: none may change."""

STATUSES = {"helper": {"succeeded"}, "trip": {"succeeded", "waiting", "failed"}}


@pytest.fixture(params=WRITTEN)
def past(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A log as a past version left it."""
    return Path(shutil.copy(FOLDER / f"{request.param}.db", tmp_path / "evrt.db"))


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_every_format_of_the_past_is_here_as_it_was_written() -> None:
    found = {path.stem: sha256(path.read_bytes()).hexdigest() for path in sorted(FOLDER.glob("v*.db"))}
    assert found == WRITTEN
    assert len(found) == SCHEMA_VERSION


def test_it_passes_the_check_as_it_is(past: Path) -> None:
    report = check(url(past))
    assert report.findings == ()
    assert (report.events, report.streams, report.erased) == (55, 7, 1)


async def test_it_is_read_as_it_is(past: Path) -> None:
    async with aclosing(await open_log(url(past), read_only=True)) as log:
        rows = await log.read()
        runs = await log.streams("run-")
    assert [row.position for row in rows] == list(range(1, 56))
    assert len(runs) == 4
    app = travel_app(url(past))
    await app.log(read_only=True)
    found: dict[str, set[str]] = {}
    for run in runs:
        state = (await app.get(run)).state
        found.setdefault(state.target, set()).add(state.status)
    replayed = [await app.replay(run) for run in runs if (await app.get(run)).state.target == "helper"]
    await app.aclose()
    assert found == STATUSES
    assert [report.ok for report in replayed] == [True]


async def test_its_runs_go_on_after_a_migration(past: Path) -> None:
    async with aclosing(await open_log(url(past), read_only=True)) as log:
        before = await log.read()
    migrate(url(past))
    async with travel_app(url(past)) as app:
        log = await app.log()
        assert await log.read() == before
        [waiting] = [run for run in await log.streams("run-") if (await app.get(run)).status == "waiting"]
        await app.answer(waiting, "no")
        result = await app.resume(waiting)
        assert (result.status, result.output) == ("succeeded", "a seat to Oslo: no")
        assert (await app.replay(waiting)).ok
    assert check(url(past)).findings == ()


def test_it_is_not_written_before_that(past: Path) -> None:
    before = past.read_bytes()
    if before[63] == SCHEMA_VERSION:
        asyncio.run(open_and_close(past))
        return
    with pytest.raises(UnusableLog, match=r"an older evrt: .* run `evrt db migrate` \(it keeps a copy\)"):
        asyncio.run(open_and_close(past))
    assert past.read_bytes() == before


async def open_and_close(path: Path) -> None:
    await (await open_log(url(path))).aclose()
