"""Blobs in the file: begun, written piece by piece, and named by their digest when all of them is there.

Each step is work for the writer, in its turn among appends. What was begun and never finished has no digest,
so nobody finds it; it is swept away when another is begun a day later.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from typing import NamedTuple, Protocol

from evrt.errors import Conflict
from evrt.log.blobs import unknown_blob
from evrt.log.contract import BlobKey

UNFINISHED_SECONDS_MAX = 86_400


class Change(Protocol):
    """A change of what stands beside the events, made in the transaction of a batch."""

    @property
    def bytes(self) -> int:
        """How many it writes, roughly."""
        ...

    def make(self, connection: sqlite3.Connection) -> object:
        """Raises NotFound, Conflict; then nothing has been changed."""
        ...


class BlobBegun(NamedTuple):
    """A new blob; its id comes back."""

    bytes: int = 0

    def make(self, connection: sqlite3.Connection) -> int:
        now = time.time_ns() // 1_000
        until = now - UNFINISHED_SECONDS_MAX * 1_000_000
        swept = connection.execute(
            "SELECT id FROM blobs WHERE digest IS NULL AND time < ?", (until,)
        ).fetchall()
        for (blob,) in swept:
            BlobGone(blob).make(connection)
        # Drawn by lot, so that whoever still holds the id of one that is gone never meets another by it.
        blob = secrets.randbits(ID_BITS)
        connection.execute("INSERT INTO blobs (id, digest, length, time) VALUES (?, NULL, 0, ?)", (blob, now))
        return blob


class BlobPiece(NamedTuple):
    """The next piece of a blob; pieces count from 0."""

    blob: int
    number: int
    content: bytes

    @property
    def bytes(self) -> int:
        return len(self.content)

    def make(self, connection: sqlite3.Connection) -> None:
        _require_under_way(connection, self.blob)
        # After a commit of which nobody knew whether it was one, this is done once more.
        place = place_of(self.blob, self.number)
        connection.execute("INSERT OR REPLACE INTO blob_pieces VALUES (?, ?)", (place, self.content))


class BlobFinished(NamedTuple):
    """All of it is there. If the log knows these bytes already, they are kept once."""

    blob: int
    key: BlobKey
    bytes: int = 0

    def make(self, connection: sqlite3.Connection) -> None:
        digest = bytes.fromhex(self.key.sha256)
        known = connection.execute(FIND, (digest,)).fetchone()
        if known is None:
            _require_under_way(connection, self.blob)
            connection.execute(
                "UPDATE blobs SET digest = ?, length = ? WHERE id = ?", (digest, self.key.length, self.blob)
            )
        else:
            # Unless this is said once more, and it is the one that is known.
            BlobGone(self.blob).make(connection)


class BlobGone(NamedTuple):
    """One that was begun is given up. If it has been finished by then it stays: others may have been told of it."""

    blob: int
    bytes: int = 0

    def make(self, connection: sqlite3.Connection) -> None:
        if connection.execute(UNFINISHED, (self.blob,)).fetchone() is not None:
            _remove(connection, self.blob)


class BlobErased(NamedTuple):
    """One that is known is removed."""

    sha256: str
    bytes: int = 0

    def make(self, connection: sqlite3.Connection) -> None:
        found = connection.execute(FIND, (digest_of(self.sha256),)).fetchone()
        if found is None:
            raise unknown_blob(self.sha256)
        _remove(connection, found[0])


def _require_under_way(connection: sqlite3.Connection, blob: int) -> None:
    if connection.execute(UNFINISHED, (blob,)).fetchone() is None:
        raise Conflict("This blob was under way for more than a day, so it was given up. Write it again.")


def _remove(connection: sqlite3.Connection, blob: int) -> None:
    connection.execute(f"DELETE FROM blob_pieces WHERE {OF_BLOB}", places_of(blob))
    connection.execute("DELETE FROM blobs WHERE id = ?", (blob,))


FIND = "SELECT id, length FROM blobs WHERE digest = ?"
UNFINISHED = "SELECT 1 FROM blobs WHERE id = ? AND digest IS NULL"
# By the digest too: whoever has been erased meanwhile gives no more bytes.
READ_PIECE = """
SELECT p.bytes FROM blob_pieces AS p
WHERE p.place = ? AND EXISTS (SELECT 1 FROM blobs WHERE id = ? AND digest = ?)
"""
OF_BLOB = "place BETWEEN ? AND ?"

ID_BITS = 46
"""Of a blob's id: with the number of a piece it makes a whole number of 62 bits."""

PIECES_MAX = 65_536
"""More than a blob can have: a piece's place is this times the blob's id, and its number."""


def place_of(blob: int, number: int) -> int:
    """Where a piece stands."""
    return blob * PIECES_MAX + number


def places_of(blob: int) -> tuple[int, int]:
    """Where the pieces of a blob may stand: first and last."""
    return place_of(blob, 0), place_of(blob, PIECES_MAX - 1)


def digest_of(text: str) -> bytes | None:
    """The digest that a text spells, or None: then no blob has it."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
