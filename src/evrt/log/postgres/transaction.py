"""One writing transaction in two round trips: lock the head and look; then write everything and commit.

Between the two, requests are checked in order and their rows gathered, as in SQLite: a request that is refused leaves
nothing to undo. Who holds the head row locked is the only one that writes, so what is remembered of the streams
between transactions is right as long as the head says that nobody else has written since.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from evrt.errors import NotFound, UnusableLog, UsageError
from evrt.log.claiming import Now
from evrt.log.contract import EMPTY_HEAD, Appended, Head, Recorded
from evrt.log.coordinating import Rows, Statement
from evrt.log.coordination import Change
from evrt.log.foreign.kept import Kept, Tracked
from evrt.log.ids import new_ref
from evrt.log.plan import SALT_BYTES, Checked, End, places_of, plan, settle_repeat
from evrt.log.postgres.address import Address
from evrt.log.postgres.arrays import Bigints, Byteas, Integers, Texts, Uuids
from evrt.log.postgres.connect import Timed, settings
from evrt.log.postgres.making import check_version
from evrt.log.postgres.queueing import to_postgres
from evrt.log.postgres.schema import SELECT_RECORDED, named
from evrt.log.queueing import Queue, QueueWork
from evrt.log.standing import Standing

HEADS_CACHED_MAX = 50_000
"""Names and heads kept between transactions; beyond it they are read again."""

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# The clock is read after the lock is there, for it may be waited for.
LOCK = """
SELECT
    h.position, h.time, h.streams, h.schema_version, h.log,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    pg_current_xact_id()::text,
    current_setting('synchronous_commit'),
    h.moved_to, h.copied_from
FROM (SELECT * FROM @.head FOR UPDATE) AS h
"""

LOAD = "SELECT name, id, version, leaf, epoch FROM @.streams WHERE name = ANY(%s)"

WRITE_HEAD = "UPDATE @.head SET position = %s, time = %s, streams = %s"

# By conflict, not by UPDATE with a join: so there is one plan, whatever the table's size.
WRITE_STREAMS = """
INSERT INTO @.streams AS s (id, name, version, leaf, epoch)
SELECT * FROM unnest(%s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, leaf = excluded.leaf, epoch = excluded.epoch
"""

WRITE_EVENTS = """
INSERT INTO @.events (
    position, event_id, time, stream, version, type, correlation, meta,
    payload_length, payload_digest, salt, payload, leaf
) SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

FIND = f"{SELECT_RECORDED} WHERE s.name = %s AND e.version > %s AND e.event_id = ANY(%s)"


class Planned(NamedTuple):
    """The events of one transaction: position of the first, the leaf of each; and the transaction's own number."""

    first: int
    leaves: Sequence[bytes]
    number: str


class Transaction:
    """The writing connection with what it remembers of the log between transactions. Its connection is a pipeline."""

    def __init__(
        self, connection: Timed, address: Address, log_id: str, *, lock_timeout_seconds: float
    ) -> None:
        self.connection = connection
        self.process = connection.info.backend_pid
        """The server's process behind the connection."""
        self._address = address
        self._lock_timeout_seconds = lock_timeout_seconds
        self._end = End(log=log_id, position=-1, time=0, heads={})
        self._ids: dict[str, int] = {}
        self._last_id = 0
        self._alone = False
        """Whether nobody else had written when the last transaction began."""
        self._now = Now(0, 0, restarts=False)
        self._queue = Queue(self._ask, self._send_statement)
        self._number = ""
        self._leaves: list[bytes] = []
        self._salts = b""
        self._salts_used = 0
        self._rows: list[Recorded] = []
        self._changed: set[str] = set()
        self._piping = connection.pipeline()
        self._pipeline = self._piping.__enter__()

    def execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[TupleRow]:
        """Run a statement inside the transaction and await its rows. ``@`` stands for the schema."""
        cursor = self._send(sql, parameters)
        self._pipeline.sync()
        return cursor.fetchall() if cursor.description is not None else []

    def send(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> None:
        """Run a statement of which nobody needs to hear; should it fail, the transaction does."""
        self._send(sql, parameters)

    def _send(self, sql: str, parameters: Sequence[object] | Mapping[str, object]) -> Any:
        text: Any = named(sql, self._address.quoted_schema)
        return self.connection.execute(text, parameters or None, binary=True)

    # ------------------------------------------------------------------------------------- begin

    def begin(
        self, names: Iterable[str], events: int, *, changes: Iterable[Change] = (), lock_seconds: float
    ) -> None:
        """Lock the head, and learn the ends of these streams and what these changes of the queue ask for.

        For a batch that may write up to so many events.

        Raises psycopg.Error, UnusableLog, UsageError, Denied (it has moved).
        """
        if len(self._end.heads) > HEADS_CACHED_MAX:
            self._forget()
        every = list(set(names))
        wanted = [name for name in every if name not in self._end.heads] if self._alone else every
        self.connection.execute(BEGIN)
        if self._address.pooled or lock_seconds < self._lock_timeout_seconds / 2:
            self.connection.execute(*settings(self._address, lock_seconds, local=True))
        locked = self._send(LOCK, ())
        loaded = self._send(LOAD, (wanted,)) if wanted else None
        self._queue.begin()
        questions = self._queue.questions(changes)
        asked = {question: self._send(*to_postgres(questions[question])) for question in questions}
        # So that the server knows it is our turn, and ends a session that is frozen while it holds the lock: without
        # this it takes us to be still sending.
        self._pipeline.sync()
        head = locked.fetchone()
        if head is None:
            raise UnusableLog(f"The log {self._address.shown} has no head: its row has been removed.")
        position, time, streams, version, log, now, number, synchronous, *standing = head
        check_version(version, self._address)
        Standing(*standing).check(self._address.shown)
        if log != self._end.log:
            raise UnusableLog(
                f"{self._address.shown} holds another log than when it was opened: {log} instead of {self._end.log}. "
                "Open it again."
            )
        if synchronous == "off":
            raise UsageError(
                f"The server of {self._address.shown} acknowledges before it has written (synchronous_commit = off), "
                "and a log may not. Set it to on for this user."
            )
        alone, self._alone = self._alone, position == self._end.position
        if not self._alone:
            self._forget()
            if alone:
                # What was known may be out of date; from now on everything is asked for at once.
                loaded = self._send(LOAD, (every,))
        self._end.position, self._end.time, self._last_id = position, time, streams
        if loaded is not None:
            for name, id_, *rest in loaded.fetchall():
                self._ids[name] = id_
                self._end.heads[name] = Head(*rest)
        for question, cursor in asked.items():
            self._queue.learn(question, cursor.fetchall())
        # Leases go by the server's clock as well, which does not begin anew.
        self._now = Now(now, now, restarts=False)
        self._number = number
        self._leaves = []
        # One call to the system for the whole batch.
        self._salts = os.urandom(SALT_BYTES * events)
        self._salts_used = 0

    def _forget(self) -> None:
        self._end.heads.clear()
        self._ids.clear()

    # -------------------------------------------------------------------------------------- work

    def append(self, request: Checked) -> Appended:
        """Raises WrongVersion, Fenced, Conflict, RepeatMismatch; then nothing of the request is taken."""
        if request.repeat_after is not None:
            before = settle_repeat(request, self._find(request))
            if before is not None:
                return before
        # Before anything is planned, for that cannot be taken back.
        decided = self._queue.decide(request.beside, self._now) if request.beside else None
        begin = self._salts_used
        self._salts_used = begin + SALT_BYTES * len(request.drafts)
        rows = plan(request, self._end, self._now.wall, self._salts[begin : self._salts_used])
        self._rows += rows
        self._leaves += [row.leaf for row in rows]
        self._changed.update([row.stream for row in rows])
        for row in rows:
            if row.correlation not in self._ids:
                self._changed.add(row.correlation)
        if decided is not None:
            self._queue.make(decided, places_of(rows), self._now)
        return Appended(range(rows[0].position, rows[-1].position + 1), tuple([row.version for row in rows]))

    def append_tracked(self, request: Tracked) -> Appended:
        """Raises Conflict where the place has been recorded already, and what ``append`` raises."""
        # Before the append, for what that has planned cannot be taken back.
        request.place.check(self._ask)
        appended = self.append(request.append)
        request.place.set(self._send_statement)
        return appended

    def keep(self, work: Kept) -> None:
        """Keep what has no event. Raises Conflict."""
        work.do(self._ask, self._send_statement)

    def _find(self, request: Checked) -> list[Recorded]:
        """The events that a repeated request may have recorded at its first try."""
        # The first try may be in this very batch.
        self.flush()
        ids = Uuids([draft.event_id for draft in request.drafts])
        found: list[Recorded] = []
        for stream, version in (request.repeat_after or {}).items():
            found += map(recorded, self.execute(FIND, (stream, Int8(version), ids)))
        return found

    def coordinate(self, work: QueueWork) -> object:
        """Work on the queue without an event. Raises Conflict, Fenced."""
        return work.do(self._queue, self._now, self._end.position)

    def _ask(self, statements: Sequence[Statement]) -> list[Rows]:
        """In one round trip, whatever their number."""
        cursors = [self._send(*to_postgres(statement)) for statement in statements]
        self._pipeline.sync()
        return [cursor.fetchall() if cursor.description is not None else [] for cursor in cursors]

    def _send_statement(self, statement: Statement) -> None:
        self.send(*to_postgres(statement))

    def ref(self, kind: str, external: str) -> str:
        key = (kind, external.encode())
        found = self.execute("SELECT ref FROM @.refs WHERE kind = %s AND external = %s", key)
        if found:
            return str(found[0][0])
        ref = new_ref(kind)
        self.send("INSERT INTO @.refs (ref, kind, external) VALUES (%s, %s, %s)", (ref, *key))
        return ref

    def erase(self, position: int) -> None:
        """Raises NotFound."""
        self.flush()
        # A number beyond the type is no event's.
        if not 0 < position <= self._end.position:
            raise NotFound(f"There is no event at position {position}.")
        self.send(
            "UPDATE @.events SET salt = NULL, payload = NULL WHERE position = %s AND payload IS NOT NULL",
            (Int8(position),),
        )

    def forget(self, ref: str) -> None:
        """Forget the external id behind a ref, if there is one."""
        self.send("DELETE FROM @.refs WHERE ref = %s", (ref,))

    # --------------------------------------------------------------------------------------- end

    def planned(self) -> Planned:
        """The events of this transaction."""
        return Planned(self._end.position + 1 - len(self._leaves), self._leaves, self._number)

    def flush(self) -> None:
        """Send what has been planned so far."""
        if not self._rows:
            return
        ids, heads = self._ids, self._end.heads
        names = sorted(self._changed)
        for name in names:
            if name not in ids:
                self._last_id += 1
                ids[name] = self._last_id
        ends = [heads.setdefault(name, EMPTY_HEAD) for name in names]
        versions, leaves, epochs = zip(*ends, strict=True)
        self._send(
            WRITE_STREAMS,
            (
                Bigints(map(ids.__getitem__, names)),
                Texts(names),
                Bigints(versions),
                Byteas(leaves),
                Bigints(epochs),
            ),
        )
        (
            position,
            event_id,
            time,
            stream,
            version,
            type_,
            correlation,
            meta,
            length,
            digest,
            salt,
            payload,
            leaf,
        ) = zip(*self._rows, strict=True)
        self._send(
            WRITE_EVENTS,
            (
                Bigints(position),
                Uuids(event_id),
                Bigints(time),
                Bigints(map(ids.__getitem__, stream)),
                Bigints(version),
                Texts(type_),
                Bigints(map(ids.__getitem__, correlation)),
                Byteas(meta),
                Integers(length),
                Byteas(digest),
                Byteas(salt),
                Byteas(payload),
                Byteas(leaf),
            ),
        )
        self._send(WRITE_HEAD, (Int8(self._end.position), Int8(self._end.time), Int8(self._last_id)))
        self._rows.clear()
        self._changed.clear()

    def commit(self) -> None:
        """Write what was planned, and commit: the second round trip. Raises psycopg.Error."""
        self.flush()
        self.connection.execute("COMMIT")
        self._pipeline.sync()

    def roll_back(self) -> None:
        """Take everything of this transaction back, and forget what it has changed. Raises psycopg.Error."""
        if self._leaves:
            self._rows.clear()
            self._changed.clear()
            self._forget()
            self._end.position = -1
            self._alone = False
        # What an error has left in the pipeline is passed over first.
        with suppress(psycopg.Error):
            self._pipeline.sync()
        self.connection.execute("ROLLBACK")
        self._pipeline.sync()

    # ---------------------------------------------------------------------------------- settling

    def is_recorded(self, planned: Planned, *, lock_seconds: float) -> bool:
        """Whether a transaction that nobody has confirmed was committed. Raises psycopg.Error, EvrtError.

        It waits for the lock, so a session that was cut off is done with it, and commits a change of nothing: what
        was found is then where every later commit would be (on a standby too, where the server waits for one).
        """
        self.begin((), 0, lock_seconds=lock_seconds)
        if planned.leaves:
            last = planned.first + len(planned.leaves) - 1
            found = self.execute(
                "SELECT leaf FROM @.events WHERE position BETWEEN %s AND %s ORDER BY position",
                (Int8(planned.first), Int8(last)),
            )
            recorded = [row[0] for row in found] == list(planned.leaves)
        else:
            [(status,)] = self.execute("SELECT pg_xact_status(%s::text::xid8)", (planned.number,))
            recorded = status == "committed"
        self.send("UPDATE @.head SET position = position")
        self.connection.execute("COMMIT")
        self._pipeline.sync()
        return recorded

    # -------------------------------------------------------------------------------- announcing

    def announce(self, writer: str) -> None:
        """Notify whoever listens, saying who writes. Nobody has to be able to read it after a crash."""
        self.connection.execute(
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)",
            (self._address.channel, writer),
        )
        self._pipeline.sync()

    def close(self) -> None:
        """Close the connection, however it is."""
        with suppress(psycopg.Error):
            self._piping.__exit__(None, None, None)
        with suppress(psycopg.Error):
            self.connection.close()


def recorded(row: Sequence[Any]) -> Recorded:
    """A row of ``SELECT_RECORDED`` as the contract has it."""
    text = row[1].hex()
    event_id = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Recorded._make((row[0], event_id, *row[2:]))
