"""The world outside evrt: a ledger of decisions and a person's tray, each an SQLite file of its own.

Both take a key with every delivery. The first delivery of a key makes the entry; the same again
is answered with that entry and only counted, so that a caller who cannot know whether a delivery
arrived may simply repeat it; another content under a known key is refused. A delivery is one
transaction, durable when it returns, so a process may be killed at any moment, and several
processes and threads may deliver at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from evrt.errors import Conflict, InvalidInput, Unavailable

BUSY_TIMEOUT_SECONDS = 30.0
# FULL, and the folder too: without that, a power cut could bring back the journal of a finished transaction.
SYNCHRONOUS = "EXTRA"
CONTENT = "claim, decision, amount_eur, reason"


class Entry(NamedTuple):
    """What was delivered under a key, and how often: accepted (the first time and repeats) and refused."""

    key: str
    claim: str
    decision: str
    amount_eur: str | None
    reason: str
    deliveries: int = 1
    refusals: int = 0


class Ledger:
    """The decisions: what was approved or rejected."""

    def __init__(self, path: Path) -> None:
        self._file = _File(path, "ledger", application_id=0x45764C67)

    def record(self, key: str, claim: str, decision: str, amount_eur: str, reason: str) -> Entry:
        """Decide a claim. Raises Conflict where the key stands for another decision."""
        return self._file.deliver(Entry(key, claim, decision, amount_eur, reason))

    def entries(self) -> list[Entry]:
        """In the order of their first delivery."""
        return self._file.entries()


class Tray:
    """What a person has to look at."""

    def __init__(self, path: Path) -> None:
        self._file = _File(path, "tray", application_id=0x45765472)

    def put(self, key: str, claim: str, amount_eur: str | None, reason: str) -> Entry:
        """Leave a claim to a person. Raises Conflict where the key stands for something else."""
        return self._file.deliver(Entry(key, claim, "doubtful", amount_eur, reason))

    def entries(self) -> list[Entry]:
        """In the order of their first delivery."""
        return self._file.entries()


class _File:
    """Opened anew for each use: nothing is shared between threads, or carried into another process."""

    def __init__(self, path: Path, kind: str, *, application_id: int) -> None:
        self.path = path
        self.kind = kind
        with self._transaction() as connection:
            # Asked inside the transaction: another process may be creating the same file.
            found = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if found == 0 and tables == 0:
                connection.execute(f"PRAGMA application_id = {application_id}")
                connection.execute(
                    "CREATE TABLE entries (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, claim TEXT NOT NULL,"
                    " decision TEXT NOT NULL, amount_eur TEXT, reason TEXT NOT NULL,"
                    " deliveries INTEGER NOT NULL DEFAULT 1, refusals INTEGER NOT NULL DEFAULT 0)"
                )
            elif found != application_id:
                raise InvalidInput(f"{path} is a database of another kind, not a {kind}. Name another file.")

    def deliver(self, entry: Entry) -> Entry:
        with self._transaction() as connection:
            row = connection.execute(
                f"SELECT key, {CONTENT}, deliveries, refusals FROM entries WHERE key = ?", (entry.key,)
            ).fetchone()
            if row is None:
                connection.execute(f"INSERT INTO entries (key, {CONTENT}) VALUES (?, ?, ?, ?, ?)", entry[:5])
                return entry
            first = Entry(*row)
            counted = "deliveries" if first[:5] == entry[:5] else "refusals"
            connection.execute(f"UPDATE entries SET {counted} = {counted} + 1 WHERE key = ?", (entry.key,))
        # Outside the transaction, so that a refusal is counted as well.
        if counted == "refusals":
            raise Conflict(
                f"The {self.kind} already holds {_told(first)} under the key {entry.key}; {_told(entry)} is refused. "
                "What was decided stands."
            )
        # As the first delivery was answered: a caller must not be able to tell the two apart.
        return Entry(*first[:5])

    def entries(self) -> list[Entry]:
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT key, {CONTENT}, deliveries, refusals FROM entries ORDER BY number"
            )
            return [Entry(*row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
                # Takes the write lock at once. A reader that turns writer could not wait for it.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Unavailable(
                f"The {self.kind} {self.path} cannot be used now: {error}. Mend that, or try again later."
            ) from error
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{self.path} is not a {self.kind}: {error}. Name another file.") from error


def _told(entry: Entry) -> str:
    amount = "no amount" if entry.amount_eur is None else f"{entry.amount_eur} EUR"
    return f"{entry.claim}: {entry.decision}, {amount}, {entry.reason}"
