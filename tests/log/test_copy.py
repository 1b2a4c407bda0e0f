"""A copy of a log is the log: row by row and proof by proof, whatever its store and whoever was killed meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from evrt.audit.folder import TreeFolder
from evrt.audit.growth import grow
from evrt.audit.verifying import verify
from evrt.errors import Conflict, Denied, NotFound, TreeDisagrees, UnusableLog, UsageError
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.ends import open_source
from evrt.log.sqlite import connect
from evrt.log.sqlite.schema import SCHEMA
from evrt.moving import copy
from log.copies import EVERYTHING, Quiet, Step, contents, copied, die, dies, histories, make, released
from log.stores import append, draft, url
from postgres import fresh_url, shared

PAST = Path(__file__).parent.parent / "formats"

Places = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgres"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Where nothing is yet, as often as one asks, in each store."""
    numbers = itertools.count()
    if request.param == "postgres":
        return lambda: fresh_url(shared().owner)
    return lambda: url(tmp_path / f"{next(numbers)}.db")


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A log with a little of everything in it."""
    made = url(tmp_path / "source.db")
    make(made, EVERYTHING)
    return made


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evrt.moving.BATCH_EVENTS", 7)
    monkeypatch.setattr("evrt.moving.BATCH_ROWS", 2)
    monkeypatch.setattr("evrt.moving.LEVEL_EVENTS", 3)


async def append_one(to: str, stream: str = "run-1") -> int:
    async with aclosing(await open_log(to)) as log:
        return (await log.append(append(draft(stream)))).position


# ----------------------------------------------------------------------------------- what is copied


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_a_log_that_went_to_postgresql_and_back_is_the_one_that_left(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    folder = tmp_path_factory.mktemp("there-and-back")
    first, there, back = url(folder / "first.db"), fresh_url(shared().owner), url(folder / "back.db")
    make(first, steps)
    before = released(contents(first))
    up = copied(first, there)
    assert contents(there) == before
    down = copied(there, back)
    assert contents(back) == before
    assert up.root == down.root
    assert (check(there).findings, check(back).findings) == ((), ())


def test_everything_is_in_the_copy_but_leases(source: str, places: Places) -> None:
    target = places()
    found = copied(source, target)
    before = contents(source)
    assert [name for name in before if not before[name]] == [], "The log has a little of everything."
    assert contents(target) == released(before)
    assert tables_of(source) == {*before, "blob_pieces", "streams", *NOT_COPIED} - {"pieces", "heads"}
    assert any(step.event.payload is None for step in before["events"])
    assert (found.events, found.copied) == (len(before["events"]), len(before["events"]))
    assert found.erased == sum(step.event.payload is None for step in before["events"])
    report = check(target)
    assert report.findings == ()
    assert report.erased == found.erased


NOT_COPIED = {"leases", "moves"}


def tables_of(source: str) -> set[str]:
    """Every table that a log in a file has."""
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_what_a_worker_had_claimed_is_ready_for_others(source: str, places: Places) -> None:
    target = places()
    copied(source, target)

    async def look() -> None:
        async with aclosing(await open_log(source)) as before, aclosing(await open_log(target)) as after:
            held = await before.coordination.entries(state="claimed")
            assert held
            for each in held:
                entry = await after.coordination.entry(each.run)
                assert entry is not None
                assert (entry.state, entry.worker) == ("ready", None)
            assert await after.coordination.leases() == []

    asyncio.run(look())


def test_an_empty_log_is_copied_too(places: Places, tmp_path: Path) -> None:
    make(url(tmp_path / "empty.db"), [])
    target = places()
    assert copied(url(tmp_path / "empty.db"), target).events == 0
    assert asyncio.run(append_one(target)) == 1


def test_the_tree_of_a_log_is_the_tree_of_its_copy(source: str, places: Places, tmp_path: Path) -> None:
    folder = TreeFolder(tmp_path / "tree")
    head = grow(source, folder)
    target = places()
    assert copied(source, target).root == head.root
    verdict = verify(target, folder)
    assert (verdict.findings, verdict.root, verdict.tree) == ((), head.root, head)
    # It grows on from there.
    asyncio.run(append_one(target))
    assert grow(target, folder).size == head.size + 1
    assert verify(target, folder).ok


@pytest.mark.parametrize("version", [1, 2])
def test_a_log_of_an_older_schema_is_copied_as_it_is_into_one_of_todays(
    version: int, places: Places, tmp_path: Path
) -> None:
    old = Path(shutil.copy(PAST / f"v{version}.db", tmp_path / "old.db"))
    target = places()
    copied(url(old), target)
    assert contents(target) == contents(url(old))
    assert check(target).findings == ()
    with pytest.raises(UnusableLog, match="to write to it, run `evrt db migrate`"):
        copied(url(old), places(), switch=True)


# -------------------------------------------------------------------------------------- going on


def test_what_was_done_since_is_brought_over(source: str, places: Places) -> None:
    target = places()
    copied(source, target)

    async def live_on() -> None:
        async with aclosing(await open_log(source)) as log:
            await log.append(append(draft("run-1"), draft("run-77", correlation="conversation-9")))
            [erasable, *_] = [row.position for row in await log.read() if row.payload]
            await log.erase_payload(erasable)
            await log.ref("user", "somebody new")

    asyncio.run(live_on())
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("DELETE FROM refs WHERE external LIKE 'Zo%1%'")
        connection.execute("UPDATE tracking SET notification_id = 9")
        connection.execute("DELETE FROM blobs WHERE length = 10")
        connection.execute("DELETE FROM blob_pieces WHERE length(bytes) = 10")
        connection.execute("DELETE FROM snapshots")
    before = released(contents(source))
    found = copied(source, target)
    assert found.copied == 2
    assert contents(target) == before
    assert check(target).findings == ()


@pytest.mark.parametrize(
    "deaths", [6, pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(1_800)])]
)
def test_a_copy_that_was_killed_at_any_moment_goes_on(
    source: str, places: Places, small_batches: None, deaths: int
) -> None:
    before = released(contents(source))
    total = statements_of(source, places())
    for number in range(deaths):
        target = places()
        turn = total * (2 * number + 1) // (2 * deaths) + 1
        assert dies(partial(copy_until, turn, source, target))
        assert_refused(target, before)
        # Not even the second is given all the time it needs.
        dies(partial(copy_until, total // 2, source, target))
        copied(source, target)
        assert contents(target) == before
        assert check(target).findings == ()


def assert_refused(target: str, whole: dict[str, Any]) -> None:
    """A copy takes nothing before it is whole, so no part of it passes for a log; it may not be there at all yet."""
    try:
        found = contents(target)
    except NotFound:
        return
    with closing(open_source(target)) as copy_so_far:
        if copy_so_far.standing().copied_from is None:
            # It was killed when all was done, closing what it had open.
            assert found == whole
            return
    with pytest.raises(Denied, match=r"is a copy of .* that is not finished"):
        asyncio.run(append_one(target))


def statements_of(source: str, target: str) -> int:
    """How many statements a copy takes."""
    counted = itertools.count()
    with Counting(lambda: next(counted)):
        copied(source, target)
    return next(counted)


class Counting:
    """Has something called before every statement that is written to a log, as long as it lasts."""

    def __init__(self, called: Callable[[], object]) -> None:
        self._called = called
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        called = self._called
        connect_sqlite, execute = connect._connect, psycopg.Cursor.execute

        def tracing(path: str, mode: str, timeout_seconds: float) -> sqlite3.Connection:
            connection = connect_sqlite(path, mode, timeout_seconds)
            connection.set_trace_callback(lambda sql: called())
            return connection

        def executing(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
            if "SELECT" not in str(query)[:10]:
                called()
            return execute(cursor, query, *arguments, **options)

        self._patch.setattr(connect, "_connect", tracing)
        self._patch.setattr(psycopg.Cursor, "execute", executing)

    def __exit__(self, *reason: object) -> None:
        self._patch.undo()


def copy_until(turn: int, source: str, target: str) -> None:
    """Copy, and be killed before the statement of this number."""
    number = itertools.count(1)
    with Counting(lambda: die() if next(number) == turn else None):
        copied(source, target)


# ------------------------------------------------------------------------------ what is refused


def test_a_place_where_another_log_is_is_left_as_it_is(source: str, places: Places) -> None:
    target = places()
    make(target, [Step("append", 1)])
    before = contents(target)
    with pytest.raises(Conflict, match=r"There is another log at .* It has been left as it is"):
        copied(source, target)
    assert contents(target) == before
    assert asyncio.run(append_one(target)) == 3


def test_a_copy_that_has_been_written_itself_is_left_as_it_is(source: str, places: Places) -> None:
    target = places()
    end = copied(source, target).events
    asyncio.run(append_one(target))
    before = contents(target)
    with pytest.raises(Conflict, match=f"ends at position {end + 1} and .* at {end}: it has been written"):
        copied(source, target)
    # As many events, but others.
    asyncio.run(append_one(source))
    with pytest.raises(Conflict, match=f"from position {end + 1} on they differ"):
        copied(source, target)
    asyncio.run(append_one(source))
    with pytest.raises(Conflict, match=f"from position {end + 1} on they differ"):
        copied(source, target)
    assert contents(target) == before


def test_a_log_is_not_copied_onto_itself(places: Places) -> None:
    place = places()
    make(place, [Step("append", 1)])
    other = (
        place.replace("///", "////.//"[:3] + "/./", 1)
        if place.startswith("sqlite")
        else f"{place}&keepalives=1"
    )
    for same in (place, other):
        with pytest.raises(UsageError, match="is the log that is to be copied"):
            copied(place, same, switch=True)
    assert asyncio.run(append_one(place)) == 3


def test_what_is_not_there_cannot_be_copied_and_nothing_is_made_for_it(
    places: Places, tmp_path: Path
) -> None:
    with pytest.raises(NotFound):
        copied(places(), url(tmp_path / "copy.db"))
    assert not list(tmp_path.glob("copy*"))
    with pytest.raises(UsageError, match="in memory"):
        copied("memory://", places())
    make(url(tmp_path / "log.db"), [])
    with pytest.raises(UsageError, match="in memory"):
        copied(url(tmp_path / "log.db"), "memory://")


TAMPERED = {
    "another payload": "UPDATE events SET payload = x'00' WHERE position = 9",
    "another salt": "UPDATE events SET salt = zeroblob(32) WHERE position = 9",
    "no salt": "UPDATE events SET salt = NULL WHERE position = 9",
    "another meta": "UPDATE events SET meta = CAST('{\"a\":1}' AS BLOB) WHERE position = 9",
    "no meta": "UPDATE events SET meta = x'ff' WHERE position = 9",
    "another time": "UPDATE events SET time = time + 1 WHERE position = 9",
    "another type": "UPDATE events SET type = 'a.b' WHERE position = 9",
    "another correlation": "UPDATE events SET correlation = stream WHERE position = 9",
    "another length": "UPDATE events SET payload_length = 1 WHERE position = 9",
    "another leaf": "UPDATE events SET leaf = zeroblob(32) WHERE position = 9",
    "a name changed": "UPDATE streams SET name = 'x' WHERE id = (SELECT stream FROM events WHERE position = 9)",
    "gone": "DELETE FROM events WHERE position = 9",
}


@pytest.mark.parametrize("change", TAMPERED)
def test_an_event_that_is_not_what_was_recorded_is_named_and_not_copied(
    change: str, tmp_path: Path, small_batches: None
) -> None:
    path = tmp_path / "source.db"
    make(url(path), [Step("append", 2) for _ in range(8)])
    tamper(path, TAMPERED[change])
    with pytest.raises(TreeDisagrees, match=r"position \d+") as refusal:
        copied(url(path), url(tmp_path / "copy.db"))
    named = 1 if change == "a name changed" else 9
    assert f"position {named}" in str(refusal.value)
    assert len(contents(url(tmp_path / "copy.db"))["events"]) == (named - 1) // 7 * 7


def tamper(path: Path, statement: str) -> None:
    """What the triggers would refuse."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount == 1
        for sql in SCHEMA:
            if sql.startswith("CREATE TRIGGER"):
                connection.execute(sql)


@pytest.mark.parametrize(
    "change, error",
    [
        ("another payload", TreeDisagrees),
        ("another meta", TreeDisagrees),
        ("another leaf", Conflict),
        ("gone", Conflict),
    ],
)
def test_a_copy_that_somebody_has_changed_is_noticed(
    change: str, error: type[Exception], tmp_path: Path
) -> None:
    source, path = url(tmp_path / "source.db"), tmp_path / "copy.db"
    # Longer than what is looked at whenever a log is opened.
    make(source, [Step("append", 2)] * 40)
    copied(source, url(path))
    tamper(path, TAMPERED[change])
    with pytest.raises(error, match="position 9"):
        copied(source, url(path))


def test_a_blob_with_other_bytes_is_not_passed_on(source: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection, connection:
        assert (
            connection.execute("UPDATE blob_pieces SET bytes = x'00' WHERE length(bytes) = 10").rowcount == 1
        )
    with pytest.raises(UnusableLog, match="does not hold the bytes that were written"):
        copied(source, url(tmp_path / "copy.db"))


# ---------------------------------------------------------------------------------------- moving


def test_a_log_that_has_moved_is_read_where_it_was_and_written_where_it_is(
    source: str, places: Places
) -> None:
    target = places()
    before = contents(source)
    found = copied(source, target, switch=True)
    assert found.moved

    async def look() -> None:
        async with aclosing(await open_log(source)) as old, aclosing(await open_log(target)) as new:
            assert await old.read() == await new.read()
            for refused in (
                old.append(append(draft("run-1"))),
                old.erase_payload(1),
                old.ref("user", "new"),
                old.coordination.renew("w"),
            ):
                with pytest.raises(Denied, match=r"has moved to .* and can only be read here"):
                    await refused
            assert (await new.append(append(draft("run-1")))).position == found.events + 1
        async with aclosing(await open_log(source, read_only=True)) as old:
            assert await old.position() == found.events

    asyncio.run(look())
    assert contents(source) == before
    assert check(source).findings == ()
    with pytest.raises(Conflict, match=r"has moved to .* already"):
        copied(source, target)


def test_a_log_that_has_moved_can_move_back(source: str, places: Places) -> None:
    target = places()
    copied(source, target, switch=True)
    asyncio.run(append_one(target))
    found = copied(target, source, switch=True)
    assert found.copied == 1
    assert contents(source) == contents(target)
    assert asyncio.run(append_one(source)) == found.events + 1
    with pytest.raises(Denied, match="has moved to"):
        asyncio.run(append_one(target))


class DiesWhenSealed(Quiet):
    def sealed(self, position: int) -> None:
        die()


def test_a_move_that_was_killed_after_the_seal_is_finished_by_the_next(source: str, places: Places) -> None:
    target = places()
    assert dies(lambda: copy(source, target, teller=DiesWhenSealed(), switch=True))
    for place, words in ((source, "has moved to"), (target, "that is not finished")):
        with pytest.raises(Denied, match=words):
            asyncio.run(append_one(place))
    before = released(contents(source))
    assert copied(source, target).moved
    assert contents(target) == before
    assert asyncio.run(append_one(target)) == len(before["events"]) + 1


class Meddles(Quiet):
    """Somebody else writes to the copy while it is made."""

    def __init__(self, write: Callable[[], object]) -> None:
        super().__init__()
        self._write = write

    def copying(self, done: int, total: int) -> None:
        if done < total:
            self._write()


class BreaksOff(Quiet):
    """Comes no further than one transaction."""

    def copying(self, done: int, total: int) -> None:
        raise KeyboardInterrupt


def begun(source: str, target: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        copy(source, target, teller=BreaksOff())


@pytest.mark.parametrize("other", [copied, begun])
def test_two_copies_to_one_place_do_not_mix(
    source: str, places: Places, small_batches: None, other: Callable[[str, str], object]
) -> None:
    target = places()
    with pytest.raises(Conflict, match="somebody else"):
        copy(source, target, teller=Meddles(lambda: other(source, target)))
    copied(source, target)
    assert contents(target) == released(contents(source))


class Writes(Quiet):
    """Somebody writes to the log whenever the copy has come further."""

    def __init__(self, source: str, times: int) -> None:
        super().__init__()
        self._source = source
        self.left = times

    def copying(self, done: int, total: int) -> None:
        super().copying(done, total)
        if self.left:
            self.left -= 1
            asyncio.run(append_one(self._source))
            asyncio.run(erase(self._source, done))

    def waits(self) -> bool:
        return self.left > 0


async def erase(place: str, position: int) -> None:
    async with aclosing(await open_log(place)) as log:
        await log.erase_payload(position)


def test_what_is_written_and_erased_while_a_log_is_copied_comes_along(
    source: str, places: Places, small_batches: None
) -> None:
    target = places()
    teller = Writes(source, 9)
    copy(source, target, teller=teller, follow=True)
    assert teller.left == 0
    assert teller.level_at is not None
    assert contents(target) == released(contents(source))


WRITER = """
import asyncio, sys
from contextlib import aclosing
from evrt.errors import Denied
from evrt.log import Append, Draft, Exact, open_log
from evrt.log.ids import new_event_id

AFTER_MOVE = 20

async def write(stream, places):
    version = 0
    for number, place in enumerate(places):
        async with aclosing(await open_log(place)) as log:
            left = AFTER_MOVE if number else 1_000_000
            while left:
                draft = Draft(stream, "note.written", new_event_id(), stream, b"{}", b"%d" % version)
                try:
                    # What has been refused is not there: the first append at the new place finds it so.
                    appended = await log.append(Append([draft], {stream: Exact(version)}))
                except Denied:
                    assert not number
                    print("moved", flush=True)
                    sys.stdin.readline()
                    break
                version += 1
                left -= 1
                print(appended.position, draft.event_id, flush=True)
                await asyncio.sleep(0.002)

asyncio.run(write(sys.argv[1], sys.argv[2:]))
"""


class Writer:
    """Another process that appends to a stream of its own, and goes on where the log has moved."""

    def __init__(self, stream: str, source: str, target: str, said: Path) -> None:
        self._said = said
        with said.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", WRITER, stream, source, target], stdin=subprocess.PIPE, stdout=out
            )

    def acknowledged(self) -> list[tuple[int, str]]:
        """Position and id of every event that it was told is recorded."""
        lines = [line.split() for line in self._said.read_text().splitlines() if line != "moved"]
        return [(int(position), event_id) for position, event_id in lines]

    def has_written(self, events: int) -> None:
        while len(self.acknowledged()) < events:
            assert self._process.poll() is None
            time.sleep(0.05)

    def go_on(self) -> list[tuple[int, str]]:
        self._process.communicate(b"\n")
        assert self._process.returncode == 0
        assert "moved" in self._said.read_text()
        return self.acknowledged()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class FollowsWriters(Quiet):
    """Follows two writers until each has written so much more."""

    def __init__(self, writers: list[Writer]) -> None:
        super().__init__()
        self._writers = writers
        self._wanted = 0

    def level(self, position: int) -> None:
        super().level(position)
        self._wanted = 20 + max(len(writer.acknowledged()) for writer in self._writers)

    def waits(self) -> bool:
        time.sleep(0.02)
        return any(len(writer.acknowledged()) < self._wanted for writer in self._writers)


def test_a_log_moves_under_two_writers_and_nothing_is_lost_or_doubled(places: Places, tmp_path: Path) -> None:
    source, target = url(tmp_path / "source.db"), places()
    make(source, [Step("append", 2)] * 30)
    writers = [Writer(f"run-w{number}", source, target, tmp_path / f"said-{number}") for number in range(2)]
    try:
        for writer in writers:
            writer.has_written(10)
        following = FollowsWriters(writers)
        copy(source, target, teller=following, follow=True)
        assert following.level_at is not None
        moving = Quiet()
        found = copy(source, target, teller=moving, switch=True)
        assert moving.sealed_at == found.events
        told = [writer.go_on() for writer in writers]
    finally:
        for writer in writers:
            writer.end()
    events = [step.event for step in contents(target)["events"]]
    assert events[: found.events] == [step.event for step in contents(source)["events"]]
    for number, acknowledged in enumerate(told):
        written = [(event.position, event.event_id) for event in events if event.stream == f"run-w{number}"]
        assert written == acknowledged
        assert sum(position > found.events for position, _ in acknowledged) == 20
    assert check(target).findings == ()
