"""Blobs in the database: begun, written piece by piece, and named by their digest when all of them is there.

As in SQLite (see ``evrt.log.sqlite.blobs``): each step is work for the writer, in its turn among appends.
"""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple

from evrt.errors import Conflict
from evrt.log.blobs import unknown_blob
from evrt.log.contract import BlobKey
from evrt.log.postgres.transaction import Transaction

UNFINISHED_SECONDS_MAX = 86_400

ID_BITS = 46
"""Of a blob's id: with the number of a piece it makes a whole number of 62 bits."""

PIECES_MAX = 65_536
"""More than a blob can have: a piece's place is this times the blob's id, and its number."""

FIND = "SELECT id, length FROM @.blobs WHERE digest = %s"
UNFINISHED = "SELECT 1 FROM @.blobs WHERE id = %s AND digest IS NULL"
# By the digest too: whoever has been erased meanwhile gives no more bytes.
READ_PIECE = """
SELECT p.bytes FROM @.blob_pieces AS p
WHERE p.place = %s AND EXISTS (SELECT FROM @.blobs WHERE id = %s AND digest = %s)
"""


class BlobBegun(NamedTuple):
    """A new blob; its id comes back."""

    bytes: int = 0

    def make(self, transaction: Transaction) -> int:
        now = time.time_ns() // 1_000
        until = now - UNFINISHED_SECONDS_MAX * 1_000_000
        for (gone,) in transaction.execute(
            "SELECT id FROM @.blobs WHERE digest IS NULL AND time < %s", (until,)
        ):
            _remove(transaction, gone)
        # Drawn by lot, so that whoever still holds the id of one that is gone never meets another by it.
        blob = secrets.randbits(ID_BITS)
        transaction.send(
            "INSERT INTO @.blobs (id, digest, length, time) VALUES (%s, NULL, 0, %s)", (blob, now)
        )
        return blob


class BlobPiece(NamedTuple):
    """The next piece of a blob; pieces count from 0."""

    blob: int
    number: int
    content: bytes

    @property
    def bytes(self) -> int:
        return len(self.content)

    def make(self, transaction: Transaction) -> None:
        _require_under_way(transaction, self.blob)
        # After a commit of which nobody knew whether it was one, this is done once more.
        transaction.send(
            "INSERT INTO @.blob_pieces VALUES (%s, %s) ON CONFLICT (place) DO UPDATE SET bytes = excluded.bytes",
            (place_of(self.blob, self.number), self.content),
        )


class BlobFinished(NamedTuple):
    """All of it is there. If the log knows these bytes already, they are kept once."""

    blob: int
    key: BlobKey
    bytes: int = 0

    def make(self, transaction: Transaction) -> None:
        digest = bytes.fromhex(self.key.sha256)
        if not transaction.execute(FIND, (digest,)):
            _require_under_way(transaction, self.blob)
            transaction.send(
                "UPDATE @.blobs SET digest = %s, length = %s WHERE id = %s",
                (digest, self.key.length, self.blob),
            )
        else:
            # Unless this is said once more, and it is the one that is known.
            BlobGone(self.blob).make(transaction)


class BlobGone(NamedTuple):
    """One that was begun is given up. If it has been finished by then it stays: others may have been told of it."""

    blob: int
    bytes: int = 0

    def make(self, transaction: Transaction) -> None:
        if transaction.execute(UNFINISHED, (self.blob,)):
            _remove(transaction, self.blob)


class BlobErased(NamedTuple):
    """One that is known is removed."""

    sha256: str
    bytes: int = 0

    def make(self, transaction: Transaction) -> None:
        found = transaction.execute(FIND, (digest_of(self.sha256),))
        if not found:
            raise unknown_blob(self.sha256)
        _remove(transaction, found[0][0])


def _require_under_way(transaction: Transaction, blob: int) -> None:
    if not transaction.execute(UNFINISHED, (blob,)):
        raise Conflict("This blob was under way for more than a day, so it was given up. Write it again.")


def _remove(transaction: Transaction, blob: int) -> None:
    transaction.send(
        "DELETE FROM @.blob_pieces WHERE place BETWEEN %s AND %s",
        (place_of(blob, 0), place_of(blob, PIECES_MAX - 1)),
    )
    transaction.send("DELETE FROM @.blobs WHERE id = %s", (blob,))


def place_of(blob: int, number: int) -> int:
    """Where a piece stands."""
    return blob * PIECES_MAX + number


def digest_of(text: str) -> bytes | None:
    """The digest that a text spells, or None: then no blob has it."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
