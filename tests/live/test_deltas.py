"""Deltas across processes: on SQLite and on PostgreSQL, with writers that are killed, cut off or out of room."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import evrt
from evrt.effects.contract import ModelError, ModelReply, ModelRequest, OnDelta
from evrt.live import sqlite as live_sqlite
from evrt.live import writer as writing
from evrt.live.frames import GAP, Delta, Frame, Shown, show
from evrt.live.opening import make_reader, make_store
from evrt.live.store import Batch, Call, LiveReader, Piece
from evrt.log import open_log
from evrt.retry import Retry
from evrt.testing import ScriptedModel
from evrt.worker.worker import Worker

TESTS = Path(__file__).parent.parent
PATIENCE_SECONDS = 60


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    found: str = request.getfixturevalue("postgres")
    return found


class Speaker:
    """A process whose model says what it is told to."""

    def __init__(self, process: asyncio.subprocess.Process, run: str) -> None:
        self.process = process
        self.run = run

    async def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(text).encode() + b"\n")
        await self.process.stdin.drain()

    async def end(self) -> Any:
        """Have its message end; returns what the run came to."""
        out, _ = await asyncio.wait_for(self.process.communicate(b"\n"), PATIENCE_SECONDS)
        assert self.process.returncode == 0
        return json.loads(out)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def speaker(url: str, run: str | None = None, **environment: str) -> AsyncIterator[Speaker]:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "live.speaker", url, *([run] if run else [])],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=TESTS,
        env=os.environ | environment,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS)
        yield Speaker(process, line.decode().strip())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Reading:
    """Follows a run, and knows what has been told of its only model call."""

    def __init__(self, app: evrt.App, run: str) -> None:
        self._deltas = app.deltas(run)
        self.told: list[Delta] = []
        self.shown: Shown | None = None

    async def next(self) -> Delta:
        delta = await asyncio.wait_for(anext(self._deltas), PATIENCE_SECONDS)
        self.told.append(delta)
        self.shown = show(self.shown, delta)
        return delta

    async def until(self, text: str) -> None:
        while self.shown is None or text not in self.shown.text:
            await self.next()

    async def to_the_end(self) -> list[str]:
        while True:
            try:
                await self.next()
            except StopAsyncIteration:
                return [delta.kind for delta in self.told]


@asynccontextmanager
async def reading(app: evrt.App, run: str) -> AsyncIterator[Reading]:
    found = Reading(app, run)
    async with aclosing(found._deltas):
        yield found


async def read_until(reader: LiveReader, hear: Callable[[str], None] | None, end: str) -> list[Frame]:
    """The frames of the only run, once the last of them ends so; ``hear`` is told it again until then."""
    while True:
        frames = await reader.read("run-1", {})
        if frames and frames[-1].text.endswith(end):
            return frames
        if hear is not None:
            hear(end)
        await asyncio.sleep(0.01)


def left(url: str) -> int:
    """How many frames and calls are kept beside a log."""
    if url.startswith("postgresql"):
        address, schema = url.split("schema=")
        name = sql.Identifier(f"{schema}_live")
        with psycopg.connect(address.rstrip("?&"), autocommit=True) as connection:
            counts = sql.SQL("SELECT (SELECT count(*) FROM {0}.calls) + (SELECT count(*) FROM {0}.frames)")
            row = connection.execute(counts.format(name)).fetchone()
            assert row is not None
            return int(row[0])
    with sqlite3.connect(f"{url.removeprefix('sqlite:///')}-live") as database:
        [calls] = database.execute("SELECT count(*) FROM calls").fetchone()
        [frames] = database.execute("SELECT count(*) FROM frames").fetchone()
    database.close()
    return int(calls + frames)


async def nothing_left(url: str) -> None:
    """Return once nothing is kept beside a log that is in use."""
    kept = left(url)
    while kept:
        await asyncio.sleep(0.01)
        kept = left(url)


# ------------------------------------------------------------------------------------ several processes


async def test_another_process_reads_what_a_model_says_until_its_message_is_in_the_log(url: str) -> None:
    async with speaker(url) as speaking_process, evrt.App(url) as app:
        async with reading(app, speaking_process.run) as found:
            await speaking_process.say("Good ")
            await found.until("Good ")
            await speaking_process.say("morning, ")
            await found.until("Good morning, ")
            async with reading(app, speaking_process.run) as late:
                await late.until("Good morning, ")
            assert left(url) == 1 + len(found.told)
            assert await speaking_process.end() == "said"
            kinds = await found.to_the_end()
        assert kinds == ["text", "text", "end"]
        assert [delta.kind async for delta in app.deltas(speaking_process.run)] == []
        known = {delta.operation: delta.end for delta in found.told[:1]}
        assert [delta.kind async for delta in app.deltas(speaking_process.run, after=known)] == ["end"]
    assert left(url) == 0


async def test_a_reader_is_reset_when_the_writer_was_killed_and_another_claim_speaks(url: str) -> None:
    async with evrt.App(url) as app:
        async with speaker(url) as first, reading(app, first.run) as found:
            await first.say("I was going to say ")
            await found.until("say ")
            await first.kill()
            async with speaker(url, first.run) as second:
                await second.say("Something else ")
                await found.until("else ")
                assert found.shown is not None
                assert found.shown.text == "Something else "
                assert await second.end() == "said"
            assert await found.to_the_end() == ["text", "reset", "text", "end"]
        assert [delta.epoch for delta in found.told] == [1, 2, 2, 2]
    assert left(url) == 0


async def test_a_run_goes_on_without_room_for_frames_and_readers_see_that_something_is_missing(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    # The log stays below this. So many words do not.
    limited = speaker(url, EVRT_TEST_FILE_BYTES="600000")
    async with limited as small, evrt.App(url) as app, reading(app, small.run) as found:
        await small.say("First ")
        await found.until("First ")
        await small.say("word " * 190_000)
        assert await small.end() == "said"
        assert "end" in await found.to_the_end()
    assert found.shown is not None
    assert len(found.shown.text) < 600_000


async def test_a_connection_that_was_cut_is_opened_again_and_what_cannot_be_written_is_left_out(
    postgres: str,
) -> None:
    address, schema = postgres.split("schema=")
    theirs, aside = sql.Identifier(f"{schema}_live"), sql.Identifier(f"{schema}_aside")
    rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
    async with speaker(postgres) as cut, evrt.App(postgres) as app, reading(app, cut.run) as found:
        await cut.say("Before ")
        await found.until("Before ")
        _terminate_live_writers(postgres, cut.process.pid)
        await cut.say("after ")
        await found.until("Before after ")
        with psycopg.connect(address.rstrip("?&"), autocommit=True) as connection:
            connection.execute(rename.format(theirs, aside))
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(theirs))
            for number in range(20):
                await cut.say(f"lost{number} ")
                await asyncio.sleep(0.01)
            connection.execute(sql.SQL("DROP SCHEMA {}").format(theirs))
            connection.execute(rename.format(aside, theirs))
        await cut.say("at last ")
        await found.until("at last ")
        assert found.shown is not None
        assert found.shown.text.startswith(f"Before after {GAP}")
        assert await cut.end() == "said"
        assert (await found.to_the_end())[-1] == "end"


def _terminate_live_writers(url: str, process: int) -> None:
    with psycopg.connect(url.partition("schema=")[0].rstrip("?&"), autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s",
            (f"evrt live writer %:{process}",),
        ).fetchall()
    assert ended == [(True,)]


# ------------------------------------------------------------------------------------------ one process


class Stammering:
    """A model that breaks off once, and then says it."""

    def __init__(self) -> None:
        self.listened: list[bool] = []
        self.heard: asyncio.Semaphore | None = None
        """Where somebody listens who says so, it waits for him."""

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        self.listened.append(on_delta is not None)
        if on_delta is not None:
            on_delta(f"try {len(self.listened)} ")
            if self.heard is not None:
                await self.heard.acquire()
            await asyncio.sleep(2 * writing.GATHER_SECONDS)
        if len(self.listened) == 1:
            raise ModelError("rate_limit", "Too many.", retriable=True)
        return ModelReply(message={"role": "assistant", "content": "said"})


def stammering(url: str, live: bool | None) -> tuple[evrt.App, Stammering]:
    model = Stammering()
    app = evrt.App(url, models={"stammering": model}, live=live)

    @app.workflow
    async def speak(ctx: evrt.Context[None], wish: str) -> str:
        retry = Retry(attempts_max=2, base_seconds=0.001)
        return (await ctx.model(wish, model="stammering", retry=retry)).text

    return app, model


async def test_a_second_attempt_resets_a_reader_of_a_log_in_memory() -> None:
    app, model = stammering("memory://", True)
    model.heard = asyncio.Semaphore(0)
    async with app:
        running = await app.start("speak", "")
        async with reading(app, running.run_id) as found:
            for number in (1, 2):
                await found.until(f"try {number} ")
                model.heard.release()
            assert await found.to_the_end() == ["text", "reset", "text", "end"]
        assert [(delta.attempt, delta.text) for delta in found.told if delta.text] == [
            (1, "try 1 "),
            (2, "try 2 "),
        ]
        assert (await running).output == "said"


async def test_models_stream_in_workers_unless_the_app_says_no_and_elsewhere_only_if_asked(
    tmp_path: Path,
) -> None:
    for live, in_worker in ((None, True), (False, False)):
        app, model = stammering(f"sqlite:///{tmp_path}/{live}.db", live)
        async with app:
            await app.run("speak", "")
            assert model.listened == [False, False]
            model.listened.clear()
            queued = await app.enqueue("speak", "")
            worker = Worker(app)
            working = asyncio.create_task(worker.run())
            await asyncio.wait_for(queued.result(), PATIENCE_SECONDS)
            worker.drain()
            await working
            assert model.listened == [in_worker] * 2
        assert (f"{live}.db-live" in os.listdir(tmp_path)) == in_worker


async def test_what_is_in_the_way_costs_no_run_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PAUSE_SECONDS", 0.001)
    (tmp_path / "log.db-live").write_bytes(b"somebody's letters, not a database" * 100)
    app, _ = stammering(f"sqlite:///{tmp_path}/log.db", True)
    with caplog.at_level(logging.INFO, "evrt.live"):
        async with app:
            for _ in range(3):
                assert (await app.run("speak", "")).output == "said"
    [told] = [record.getMessage() for record in caplog.records]
    assert "log.db-live is in the way" in told
    assert (tmp_path / "log.db-live").read_bytes().startswith(b"somebody's letters")


async def test_what_waits_is_bounded_while_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "WAITING_CHARACTERS_MAX", 1_000)
    monkeypatch.setattr(writing, "PAUSE_SECONDS_MAX", 0.01)
    monkeypatch.setattr(live_sqlite, "BUSY_SECONDS", 0.05)
    async with aclosing(await open_log(f"sqlite:///{tmp_path}/log.db")) as log:
        live = writing.LiveWriter(log, make_store(log))
        async with aclosing(make_reader(log)) as reader, aclosing(live):
            hear = live.begin("run-1", "model#1", 1, 1)
            hear("begin ")
            await read_until(reader, None, "begin ")
            other = sqlite3.connect(tmp_path / "log.db-live", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            for _ in range(30):
                hear("x" * 99 + " ")
                assert live._waiting <= 1_000
            await asyncio.sleep(0.2)
            other.execute("ROLLBACK")
            other.close()
            frames = await read_until(reader, hear, "end ")
    assert frames[0].text == "begin "
    assert frames[-1].offset > sum(len(frame.text) for frame in frames[:-1])


async def test_leftovers_are_swept_when_they_are_old_or_their_run_has_ended(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "QUIET_SECONDS", -1.0)
    app, _ = stammering(url, True)
    async with app:
        ended = (await app.run("speak", "")).run_id
        await nothing_left(url)
        log = await app.log()
        store = make_store(log)
        calls = [Call(1, ended, "model#1", 1, 1, True), Call(2, "run-open", "model#1", 1, 1, True)]
        store.write(Batch(calls, [Piece(1, 0, "of one that ended"), Piece(2, 0, "of one not known")]))
        store.write(Batch([], [Piece(3, 0, "of no call")], []))
        assert left(url) == 5
        assert app._live_writer is not None
        app._live_writer._sweep_next = 0.0
        await app.run("speak", "")
    assert left(url) == 0
    store.write(Batch([Call(4, "run-4", "model#1", 1, 1, True)], [Piece(4, 0, "old")], []))
    assert store.sweep(60.0, 60.0, 10) == []
    assert left(url) == 2
    store.sweep(-1.0, 60.0, 10)
    store.close()
    assert left(url) == 0


async def test_frames_of_another_log_are_thrown_away(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    for number in range(2):
        async with aclosing(await open_log(url)) as log:
            store = make_store(log)
            store.write(Batch([Call(number, "run-1", "model#1", 1, 1, True)], [Piece(number, 0, "x")], []))
            store.close()
            assert left(url) == 2
        for name in os.listdir(tmp_path):
            if "-live" not in name:
                os.unlink(tmp_path / name)


async def test_a_token_costs_few_bytes_on_the_disk(tmp_path: Path) -> None:
    tokens = 20_000
    url = f"sqlite:///{tmp_path}/log.db"
    async with aclosing(await open_log(url)) as log:
        live = writing.LiveWriter(log, make_store(log))
        async with aclosing(make_reader(log)) as reader, aclosing(live):
            hear = live.begin("run-1", "model#1", 1, 1)
            for _ in range(tokens // 100):
                hear("word ")
            frames = await read_until(reader, None, "word ")
            # What comes in within one moment is one frame.
            assert [len(frame.text) for frame in frames] == [tokens // 100 * 5]
        store = make_store(log)
        # A fast model says five words in a moment.
        store.write(
            Batch(
                [Call(7, "run-7", "m", 1, 1, True)],
                [Piece(7, 25 * n, "word " * 5) for n in range(tokens // 5)],
            )
        )
        store.close()
    size = (tmp_path / "log.db-live").stat().st_size
    assert size < tokens * 12 + 50_000


def test_an_app_that_lives_through_several_event_loops_streams_in_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    app = evrt.App(
        f"sqlite:///{tmp_path}/log.db",
        models={"script": ScriptedModel(["one two three", "four five six"])},
        live=True,
        on_delta=lambda run, operation, text: heard.append(text),
    )
    talker = app.agent("talker", model="script")

    async def talk() -> str:
        output = str((await app.run(talker, "Say something.")).output)
        await asyncio.sleep(3 * writing.GATHER_SECONDS)
        return output

    try:
        assert [asyncio.run(talk()) for _ in range(2)] == ["one two three", "four five six"]
    finally:
        asyncio.run(app.aclose())
    assert "".join(heard) == "one two threefour five six"
    assert [record.getMessage() for record in caplog.records if record.name in ("asyncio", "evrt.live")] == []
