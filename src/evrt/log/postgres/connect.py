"""Connections to the server: opened with the settings a log relies on, and their errors put into words."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.abc import AdaptContext, PQGen
from psycopg.rows import TupleRow
from psycopg.types.string import ByteaBinaryLoader

from evrt.errors import Denied, EvrtError, NotFound, Unavailable, UnusableLog, UsageError
from evrt.log.postgres.address import Address
from evrt.log.postgres.arrays import register_columns
from evrt.log.postgres.schema import REFUSAL_STATE

OLDEST_SERVER = 140_000
"""The oldest version that is taken, as libpq counts them: PostgreSQL 14."""

CONNECT_SECONDS_MAX = 10
IDLE_SECONDS_MAX = 10
"""A transaction that this process leaves without a word, and the lock with it, is ended by the server after that."""

T = TypeVar("T")

# A dead network is noticed within half a minute instead of hours.
DEFAULTS = {
    "connect_timeout": str(CONNECT_SECONDS_MAX),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

# Everything that a log asks for is found by an index. A plan is kept for a session, though, and one that was made
# while a table was small would read all of it for as long as nobody has counted its rows again.
# What is thought to cost a lot then would be compiled as well, which takes a thousand times as long as to run it.
PLANS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit")


class Timed(psycopg.Connection[TupleRow]):
    """A connection that gives up at a time of the monotonic clock; after that it cannot be used any more."""

    deadline = math.inf

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        if timeout is not None or self.deadline == math.inf:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, max(self.deadline - time.monotonic(), 0.01))
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError("it has given no answer in time") from None


def connect_writing(address: Address, *, lock_timeout_seconds: float, purpose: str = "writer") -> Timed:
    """A connection for the writer, in autocommit. Raises psycopg.Error, UsageError."""
    connection = Timed.connect(
        **_keywords(address, purpose), autocommit=True, prepare_threshold=None if address.pooled else 5
    )
    try:
        register_columns(connection)
        _adapt(connection)
        check_server(connection.info.server_version, address)
        if not address.pooled:
            connection.execute(*settings(address, lock_timeout_seconds, local=False))
    except BaseException:
        connection.close()
        raise
    return connection


async def connect_reading(address: Address, purpose: str = "reader") -> psycopg.AsyncConnection[TupleRow]:
    """A connection for one event loop, in autocommit. Raises psycopg.Error, UsageError."""
    connection = await psycopg.AsyncConnection.connect(
        **_keywords(address, purpose), autocommit=True, prepare_threshold=None if address.pooled else 2
    )
    try:
        _adapt(connection)
        check_server(connection.info.server_version, address)
        if not address.pooled:
            await connection.execute(*_reading(address))
    except BaseException:
        await connection.close()
        raise
    return connection


def connect_looking(address: Address, purpose: str = "reader") -> psycopg.Connection[TupleRow]:
    """A connection for a thread that may block, in autocommit. Raises psycopg.Error, UsageError."""
    connection = psycopg.connect(
        **_keywords(address, purpose), autocommit=True, prepare_threshold=None if address.pooled else 2
    )
    try:
        _adapt(connection)
        check_server(connection.info.server_version, address)
        connection.read_only = True
        if not address.pooled:
            connection.execute(*_reading(address))
    except BaseException:
        connection.close()
        raise
    return connection


def connect_walking(address: Address) -> psycopg.Connection[TupleRow]:
    """The same for who reads all of a log."""
    connection = connect_looking(address, "walk")
    try:
        if not address.pooled:
            # What is read in one moment may be written elsewhere in between, which takes its time.
            connection.execute(
                "SELECT set_config('statement_timeout', '0', false), "
                "set_config('idle_in_transaction_session_timeout', '0', false)"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def settings(address: Address, lock_timeout_seconds: float, *, local: bool) -> tuple[str, Sequence[object]]:
    """A statement that sets what the writer relies on: for its session, or for one transaction.

    synchronous_commit may be anything but off: what is acknowledged is on a disk.
    """
    values = {
        **_session(address),
        "lock_timeout": f"{lock_timeout_seconds * 1_000:.0f}ms",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS_MAX}s",
    }
    text, parameters = _setting(values, local=local)
    synchronous = "current_setting('synchronous_commit')"
    synchronous = f"CASE {synchronous} WHEN 'off' THEN 'on' ELSE {synchronous} END"
    return f"{text}, set_config('synchronous_commit', {synchronous}, {local})", parameters


def _session(address: Address) -> dict[str, str]:
    return {"search_path": f"{address.quoted_schema}, pg_temp", **dict.fromkeys(PLANS, "off")}


def _reading(address: Address) -> tuple[str, Sequence[object]]:
    """A statement that sets up a session which only reads."""
    return _setting({**_session(address), "default_transaction_read_only": "on"}, local=False)


def _setting(values: dict[str, str], *, local: bool) -> tuple[str, Sequence[object]]:
    calls = [f"set_config('{name}', %s, {local})" for name in values]
    return f"SELECT {', '.join(calls)}", tuple(values.values())


def check_server(version: int, address: Address) -> None:
    """Raises UsageError for a server that is too old."""
    if version < OLDEST_SERVER:
        raise UsageError(
            f"The server of {address.shown} is PostgreSQL {_spelled(version)}; evrt needs "
            f"{_spelled(OLDEST_SERVER)} or newer. Upgrade it, or take another."
        )


def _spelled(version: int) -> str:
    return str(version // 10_000) if version >= 100_000 else f"{version // 10_000}.{version // 100 % 100}"


def session_name(purpose: str) -> str:
    """What the sessions of this process are called in pg_stat_activity."""
    return f"evrt {purpose} {socket.gethostname()}:{os.getpid()}"[:63]


def _keywords(address: Address, purpose: str) -> dict[str, Any]:
    given = {**DEFAULTS, **address.parameters, "application_name": session_name(purpose)}
    if address.ask_password is not None:
        given["password"] = address.ask_password()
    return {**given, "client_encoding": "UTF8"}


def _adapt(connection: AdaptContext) -> None:
    # An event id as its 16 bytes: making a UUID of each takes longer than all the rest of its row.
    connection.adapters.register_loader("uuid", ByteaBinaryLoader)


# ------------------------------------------------------------------------------------------ errors

LOST_STATES = ("57P01", "57P02", "57P03", "57P05", "25P03", "53300")
"""SQLSTATEs of a session that has ended, or could not begin; with class 08, connection exceptions."""

AGAIN_STATES = ("40001", "40P01", "25P02", "55006", "57014")
"""SQLSTATEs of a transaction that was taken back and may be tried again: it lost a race, or was cancelled."""

READ_ONLY_STATE = "25006"

_REFUSED_LOGIN = re.compile(
    r"password authentication failed|authentication failed|no pg_hba\.conf entry|no password supplied"
    r"|role .* does not exist|not permitted to log in",
    re.IGNORECASE,
)
_NO_TRANSACTIONS = "statement pooling mode"
_NO_DATABASE = re.compile(r'database ".*" does not exist')
_QUESTION = re.compile(r"\sIs the server running[^?]*\?")
_TOO_MANY = re.compile(r"too many clients|too many connections|remaining connection slots", re.IGNORECASE)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the session is gone, or could not be had."""
    state = error.sqlstate or ""
    return (
        state in LOST_STATES
        or state.startswith("08")
        or (not state and isinstance(error, psycopg.OperationalError))
    )


def translate(error: psycopg.Error, address: Address, what: str) -> EvrtError:
    """An error of the database as one paragraph. ``what`` begins it: 'The log cannot be read'."""
    said = address.without_secrets(_said(error))
    state = error.sqlstate or ""
    begin = f"{what} ({address.shown})"
    if state.startswith("28") or _REFUSED_LOGIN.search(said):
        return Denied(
            f"{begin}: the server does not let this user in: {said}. See to user and password in the URL."
        )
    if state == "3D000" or _NO_DATABASE.search(said):
        return NotFound(f"{begin}: {said}. Make it with createdb, or name another in the URL.")
    if state == "42501":
        return Denied(
            f"{begin}: {said}. Have the schema's owner give this user its rights: `evrt db roles` writes the statements."
        )
    if state == "3F000" or state == "42P01":
        return UnusableLog(f"{begin}: {said}. The log was there and is gone, or only part of it is there.")
    if state == "53300" or _TOO_MANY.search(said):
        return Unavailable(
            f"{begin}: the server has as many connections as it takes. Raise max_connections, or put a pooler before it."
        )
    if state in ("53100", "53200", "53000"):
        return Unavailable(f"{begin}: {said}. Make room on the server; nothing has to be restarted here.")
    if state == READ_ONLY_STATE:
        return Unavailable(
            f"{begin}: the server takes no writes: {said}. It is a standby or was set to be read only; name the primary "
            "in the URL, or several hosts with target_session_attrs=read-write. Or there is a pooler before it that gives "
            "each transaction another session: then say ?prepare_threshold=none."
        )
    if _NO_TRANSACTIONS in said:
        return UsageError(
            f"{begin}: the pooler before the server gives each statement another session, and a log needs transactions. "
            "Set its pool_mode to transaction and say ?prepare_threshold=none here, or set it to session."
        )
    if state == "55P03":
        return Unavailable(f"{begin}: another session holds the log's head for too long.")
    if state == REFUSAL_STATE or state.startswith("23"):
        return UnusableLog(
            f"{begin}: the database refuses it: {said}. Somebody has written to the log's tables by other means than evrt."
        )
    if isinstance(error, psycopg.ProgrammingError) and not state:
        return UsageError(f"{begin}: {said}. See to the URL.")
    return Unavailable(
        f"{begin}: {said}. See to the server, then try again; nothing has to be restarted here."
    )


def _said(error: psycopg.Error) -> str:
    """What the server or libpq said, in one line without a full stop and without libpq's questions."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(_QUESTION.sub("", text).split()).removesuffix(".")
