"""Blobs: as large as they are, in and out in a stream, kept once, found by what they hold, and checked."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.errors import Conflict, Denied, InvalidInput, NotFound, PayloadTooLarge, UnusableLog
from evrt.log import BLOB_BYTES_MAX, BLOB_PIECE_BYTES, Log, open_log
from evrt.log.blobs import Blob, Blobs, Source, in_pieces
from evrt.log.check import check
from evrt.log.sqlite.lock import FileLock
from evrt.log.sqlite.transaction import Transaction
from log.stores import Open, append, draft, url

LENGTHS = (0, 1, BLOB_PIECE_BYTES - 1, BLOB_PIECE_BYTES, BLOB_PIECE_BYTES + 1, 3 * BLOB_PIECE_BYTES + 7)


def blobs_of(log: Log) -> Blobs:
    async def opened() -> Log:
        return log

    return Blobs(opened)


async def slices(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("length", LENGTHS)
async def test_what_was_written_is_read(open_store: Open, length: int) -> None:
    content = os.urandom(length)
    async with open_store() as log:
        blobs = blobs_of(log)
        blob = await blobs.write(content, media_type="image/png")
        assert blob == Blob(sha256=sha256(content).hexdigest(), length=length, media_type="image/png")
        assert await blobs.read_all(blob) == content
        assert await blobs.length(blob) == length
        after = length // 2
        assert b"".join([piece async for piece in blobs.read(blob.sha256, after=after)]) == content[after:]
        assert [piece async for piece in blobs.read(blob, after=length)] == []


@pytest.mark.parametrize(
    "source",
    [
        lambda content: slices(content, 1_000),
        lambda content: [content[:5], content[5:]],
        BytesIO,
        bytearray,
        lambda content: memoryview(content).cast("H"),
    ],
    ids=["stream", "list", "file", "bytearray", "memoryview"],
)
async def test_bytes_come_in_many_ways(open_store: Open, source: Callable[[bytes], Source]) -> None:
    content = os.urandom(BLOB_PIECE_BYTES + 1_000)
    async with open_store() as log:
        blob = await blobs_of(log).write(source(content))
        assert await blobs_of(log).read_all(blob) == content


async def test_the_same_bytes_are_kept_once(path: Path) -> None:
    content = os.urandom(5 * BLOB_PIECE_BYTES)
    async with aclosing(await open_log(url(path))) as log:
        first = await blobs_of(log).write(content)
        assert await blobs_of(log).write(content) == first
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM blobs").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM blob_pieces").fetchone() == (5,)


@given(st.lists(st.binary(max_size=30_000), max_size=40))
def test_pieces_are_of_one_size_whatever_comes(parts: list[bytes]) -> None:
    async def cut() -> list[bytes]:
        return [piece async for piece in in_pieces([part * 20 for part in parts])]

    pieces = asyncio.run(cut())
    assert b"".join(pieces) == b"".join(part * 20 for part in parts)
    assert {len(piece) for piece in pieces[:-1]} <= {BLOB_PIECE_BYTES}
    assert all(0 < len(piece) <= BLOB_PIECE_BYTES for piece in pieces[-1:])


async def test_what_is_not_there_is_not_found(open_store: Open) -> None:
    async with open_store() as log:
        for name in ("0" * 64, "no digest", ""):
            with pytest.raises(NotFound, match="The log holds no blob"):
                await blobs_of(log).read_all(name)
            with pytest.raises(NotFound, match="The log holds no blob"):
                await blobs_of(log).erase(name)
            assert await log.blob_length(name) is None


async def test_erased_bytes_are_gone_from_every_file(path: Path) -> None:
    secret = b"nobody may read this " * 100
    async with aclosing(await open_log(url(path))) as log:
        blob = await blobs_of(log).write(secret)
        await log.append(append(draft()))
        await blobs_of(log).erase(blob)
        with pytest.raises(NotFound, match="it has been erased"):
            await blobs_of(log).read_all(blob)
        for file in path.parent.iterdir():
            assert secret[:40] not in file.read_bytes(), file.name
        assert await blobs_of(log).write(secret) == blob
        assert await blobs_of(log).read_all(blob) == secret


async def test_who_gives_up_takes_no_bytes_from_who_was_told_that_they_are_kept(path: Path) -> None:
    """Two write the same bytes; the one whose blob is kept hears of its cancellation when it has been finished."""
    async with aclosing(await open_log(url(path))) as log:
        begun = [asyncio.Event(), asyncio.Event()]
        go_on = [asyncio.Event(), asyncio.Event()]

        async def same(number: int) -> AsyncIterator[bytes]:
            yield b"x" * BLOB_PIECE_BYTES
            begun[number].set()
            await go_on[number].wait()

        writing = [asyncio.create_task(log.write_blob(same(number))) for number in range(2)]
        for each in begun:
            await each.wait()
        await log.append(append(draft()))  # So what came before it, their pieces, has been written too.
        lock = FileLock(f"{path}-lock")
        assert lock.acquire_within(10)
        for each in go_on:
            each.set()
            await asyncio.sleep(0.05)
        writing[0].cancel()
        lock.close()
        given_up, key = await asyncio.gather(*writing, return_exceptions=True)
        assert isinstance(given_up, asyncio.CancelledError)
        await log.append(append(draft()))
        assert not isinstance(key, BaseException)
        assert await log.blob_length(key.sha256) == BLOB_PIECE_BYTES


async def test_who_reads_a_blob_while_it_is_erased_never_gets_another(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:
        blobs = blobs_of(log)
        old = await blobs.write(b"a" * 3 * BLOB_PIECE_BYTES)
        reading = blobs.read(old, after=BLOB_PIECE_BYTES)
        assert await anext(reading) == b"a" * BLOB_PIECE_BYTES
        await blobs.erase(old)
        await blobs.write(b"b" * 3 * BLOB_PIECE_BYTES)
        with pytest.raises(NotFound, match="it has been erased"):
            await anext(reading)


async def test_what_was_erased_while_somebody_reads_an_older_state_leaves_with_the_next_batch_after_that(
    path: Path,
) -> None:
    secret = b"nobody may read this " * 100
    async with aclosing(await open_log(url(path))) as log:
        blob = await blobs_of(log).write(secret)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            await blobs_of(log).erase(blob)
            await log.append(append(draft()))
            assert any(secret[:40] in file.read_bytes() for file in path.parent.iterdir())
        await log.append(append(draft()))
        for file in path.parent.iterdir():
            assert secret[:40] not in file.read_bytes(), file.name


async def test_one_that_was_given_up_takes_nothing_more_and_is_not_another(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:

        async def slow() -> AsyncIterator[bytes]:
            yield b"a" * BLOB_PIECE_BYTES
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("UPDATE blobs SET time = time - 86401000000")
                connection.commit()
            other = await blobs_of(log).write(b"another")
            assert await blobs_of(log).read_all(other) == b"another"
            yield b"b" * BLOB_PIECE_BYTES

        with pytest.raises(Conflict, match="was under way for more than a day, so it was given up"):
            await blobs_of(log).write(slow())
        assert await blobs_of(log).read_all(sha256(b"another").hexdigest().upper()) == b"another"
        with pytest.raises(InvalidInput, match="not from -1"):
            await anext(blobs_of(log).read("0" * 64, after=-1))
    assert check(url(path)).ok


async def test_a_source_that_breaks_off_leaves_nothing_to_be_read(open_store: Open) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(BLOB_PIECE_BYTES)
        raise ConnectionResetError("The other side has gone.")

    async with open_store() as log:
        with pytest.raises(ConnectionResetError):
            await blobs_of(log).write(broken())
        assert await log.blob_length(sha256(bytes(9 * BLOB_PIECE_BYTES)).hexdigest()) is None
        await log.append(append(draft()))


@pytest.mark.parametrize("source", ["text", ["text"], [1]])
async def test_what_is_no_bytes_is_refused(open_store: Open, source: Source) -> None:
    async with open_store() as log:
        with pytest.raises(InvalidInput, match="A blob is made of bytes, not of"):
            await blobs_of(log).write(source)


async def test_a_blob_has_a_limit(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BLOB_BYTES_MAX == 1024**3
    monkeypatch.setattr("evrt.log.blobs.BLOB_BYTES_MAX", 1_000_000)
    async with open_store() as log:
        with pytest.raises(PayloadTooLarge, match="may have 1,000,000 bytes, and this one has more"):
            await blobs_of(log).write(bytes(1_000_001))
        blob = await blobs_of(log).write(bytes(1_000_000))
        with pytest.raises(PayloadTooLarge, match="give a larger bytes_max"):
            await blobs_of(log).read_all(blob, bytes_max=999_999)


async def test_a_log_that_may_only_be_read_takes_none_and_gives_what_it_has(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:
        blob = await blobs_of(log).write(b"here")
    async with aclosing(await open_log(url(path), read_only=True)) as log:
        assert await blobs_of(log).read_all(blob) == b"here"
        with pytest.raises(Denied):
            await blobs_of(log).write(b"there")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blob_pieces SET bytes = zeroblob(length(bytes)) WHERE place % 65536 = 1",
        "UPDATE blob_pieces SET bytes = x'00' WHERE place % 65536 = 2",
        "UPDATE blobs SET length = length - 1",
        "UPDATE blobs SET digest = randomblob(32)",
        "DELETE FROM blob_pieces WHERE place % 65536 = 2",
    ],
)
async def test_other_bytes_than_were_written_are_noticed(path: Path, damage: str) -> None:
    async with aclosing(await open_log(url(path))) as log:
        blob = await blobs_of(log).write(os.urandom(2 * BLOB_PIECE_BYTES + 100))
    assert check(url(path)).ok
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
        connection.commit()
        [(digest,)] = connection.execute("SELECT digest FROM blobs")
    report = check(url(path))
    assert [finding.text for finding in report.findings] == [
        f"Blob {digest.hex()} does not hold the bytes that were written."
    ]
    async with aclosing(await open_log(url(path))) as log:
        with pytest.raises((UnusableLog, NotFound)):
            await blobs_of(log).read_all(digest.hex())
    assert blob.length > 0


async def test_pieces_that_belong_to_no_blob_are_noticed(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:
        await blobs_of(log).write(b"kept")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO blob_pieces VALUES (7, x'00')")
        connection.commit()
    assert [finding.text for finding in check(url(path)).findings] == ["1 pieces belong to no blob."]


def test_a_process_killed_while_it_writes_leaves_nothing_to_be_read_and_a_sound_log(path: Path) -> None:
    script = f"""
        import asyncio, sys
        from evrt.log import BLOB_PIECE_BYTES, open_log

        async def pieces():
            number = 0
            while True:
                yield number.to_bytes(4, "big") * (BLOB_PIECE_BYTES // 4)
                number += 1
                if number == 20:
                    print("under way", flush=True)

        async def main():
            await (await open_log({url(path)!r})).write_blob(pieces())

        asyncio.run(main())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"under way\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert check(url(path)).ok
    asyncio.run(write_one(path, b"one that is older by then"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(digest), count(*) FROM blobs").fetchone() == (1, 2)
        # A day later it is swept away.
        connection.execute("UPDATE blobs SET time = time - 86401000000")
        connection.commit()
    asyncio.run(write_one(path, b"another"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(digest), count(*) FROM blobs").fetchone() == (2, 2)
        assert connection.execute("SELECT count(*) FROM blob_pieces").fetchone() == (2,)


async def write_one(path: Path, content: bytes = b"another") -> None:
    async with aclosing(await open_log(url(path))) as log:
        await blobs_of(log).write(content)


async def test_what_was_finished_is_never_swept_away(path: Path) -> None:
    await write_one(path, b"old")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE blobs SET time = time - 86401000000")
        connection.commit()
    await write_one(path)
    async with aclosing(await open_log(url(path))) as log:
        assert await blobs_of(log).read_all(sha256(b"old").hexdigest()) == b"old"


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("nth", [1, 2, 3], ids=["begun", "piece", "finished"])
async def test_a_blob_is_there_once_whichever_of_its_commits_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, committed: bool
) -> None:
    """Whether the commit that failed was one or not, the step is made once more, and has to come to the same."""
    commit = Transaction.commit
    left = nth

    def fail_at_the_nth(self: Transaction) -> int:
        nonlocal left
        left -= 1
        if left:
            return commit(self)
        if committed:
            commit(self)
        raise MemoryError

    async with aclosing(await open_log(url(path))) as log:
        monkeypatch.setattr(Transaction, "commit", fail_at_the_nth)
        blob = await blobs_of(log).write(b"a photograph")
        assert left <= 0
        assert await blobs_of(log).read_all(blob) == b"a photograph"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(digest) FROM blobs").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM blob_pieces").fetchone() == (1,)
    assert check(url(path)).findings == ()


def test_a_large_blob_takes_no_more_memory_than_a_small_one(path: Path) -> None:
    script = f"""
        import asyncio, resource
        from evrt.log import BLOB_PIECE_BYTES, open_log

        async def pieces(count):
            for number in range(count):
                yield number.to_bytes(4, "big") * (BLOB_PIECE_BYTES // 4)

        async def main():
            log = await open_log({url(path)!r})
            peaks = []
            for count in (40, 400):
                key = await log.write_blob(pieces(count))
                read = 0
                async for piece in log.read_blob(key.sha256):
                    read += len(piece)
                assert read == count * BLOB_PIECE_BYTES
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            await log.aclose()
            print(peaks[1] - peaks[0])

        asyncio.run(main())
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    # 90 MiB more went through; in KiB.
    assert int(told.stdout) < 30 * 1024
