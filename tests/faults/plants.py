"""Bugs to plant into a worker, each of which the fault tests have to catch. They exist in those processes only.

``go_on``: after a failed write the transaction is taken back and the same connection goes on ·
``ack_before_commit``: a batch is answered before its COMMIT, which comes with the next batch ·
``keep_heads``: what was remembered of the log outlives the connection that failed · ``swallow_full``: that
there was no room is taken for success · ``read_back``: the WAL is believed as it is read back, not written
anew · ``no_proof``: no commit follows a recovery to lie over what the failed one left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from evrt.errors import Unavailable
from evrt.log.sqlite import committing, recovery
from evrt.log.sqlite.committing import Committer
from evrt.log.sqlite.jobs import UNKNOWN, Job, refuse
from evrt.log.sqlite.transaction import Transaction

PLANTS = ("go_on", "ack_before_commit", "keep_heads", "swallow_full", "read_back", "no_proof")


def plant(name: str | None) -> None:
    """Put the bug into this process."""
    match name:
        case None:
            pass
        case "go_on":
            put(Committer, "_commit_after", _go_on)
        case "ack_before_commit":
            put(Transaction, "commit", _commit_later)
            put(Transaction, "begin", _commit_now_and_begin)
        case "keep_heads":
            put(committing, "Transaction", _with_old_heads)
        case "swallow_full":
            put(Transaction, "commit", _commit_or_not)
        case "read_back":
            put(recovery, "write_wal_anew", lambda path: None)
        case "no_proof":
            put(recovery, "prove", lambda connection: None)
        case _:
            raise ValueError(f"There is no plant {name!r}.")


def put(where: object, name: str, what: object) -> None:
    """Replace, said so that type checkers let it pass."""
    if not hasattr(where, name):
        raise ValueError(f"{where} has no {name} any more: the plant has to move.")
    setattr(where, name, what)


def _go_on(
    self: Committer, error: BaseException, batch: Sequence[Job], planned: object, *, again: bool
) -> bool:
    with suppress(sqlite3.Error):
        self._transaction.roll_back()
    refuse(batch, Unavailable(f"{self._path} could not be written: {error}."), UNKNOWN)
    return False


_begin = Transaction.begin


def _commit_later(self: Transaction) -> int:
    return 1


def _commit_now_and_begin(self: Transaction, events: int) -> None:
    if self._connection.in_transaction:
        self._connection.execute("COMMIT")
    _begin(self, events)


_kept: list[Transaction] = []


def _with_old_heads(connection: sqlite3.Connection, path: str, log_id: str) -> Transaction:
    """The old one with the new connection, looked at again by nobody."""
    for transaction in _kept:
        transaction._connection = connection
        transaction._values.clear()
        transaction._changed.clear()
        transaction._new.clear()
        (transaction._data_version,) = connection.execute("PRAGMA data_version").fetchone()
        return transaction
    _kept.append(Transaction(connection, path, log_id))
    return _kept[0]


def _commit_or_not(self: Transaction) -> int:
    try:
        self._connection.execute("COMMIT")
    except sqlite3.Error as error:
        if error.sqlite_errorname != "SQLITE_FULL":
            raise
    return 1
