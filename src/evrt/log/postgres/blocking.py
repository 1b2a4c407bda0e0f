"""The log on PostgreSQL for callers without an event loop."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from evrt.log.blocking import BlockingLog
from evrt.log.coordinating import Statement
from evrt.log.postgres.address import Address
from evrt.log.postgres.connect import connect_looking, is_lost, translate
from evrt.log.postgres.listening import ThreadListener
from evrt.log.postgres.queueing import to_postgres
from evrt.log.postgres.schema import named
from evrt.log.postgres.writer import Writer
from evrt.log.subscribe import WAIT_SECONDS
from evrt.log.writing import Answer, closed_error

Connection = psycopg.Connection[TupleRow]


class PostgresBlockingLog(BlockingLog[Connection]):
    """Opens the log, and makes its schema where there is none yet.

    So many connections at once read; a thread that finds none free waits for its turn.

    Raises UsageError, NotFound, Denied, UnusableLog, Unavailable.
    """

    look_seconds = WAIT_SECONDS

    def __init__(self, address: Address, *, lock_timeout_seconds: float, connections_max: int) -> None:
        super().__init__(address.shown)
        self._address = address
        self._turns = threading.Semaphore(connections_max)
        self._listener: ThreadListener | None = None

        def start_writer(opened: Answer) -> Writer:
            writer = Writer(address, self._bells, opened, lock_timeout_seconds=lock_timeout_seconds)
            # Of what this process commits its writer tells by itself.
            self._listener = ThreadListener(address, self._bells, own=writer.name)
            return writer

        self._begin(start_writer)

    def bell(self) -> threading.Event:
        bell = super().bell()
        if self._listener is not None:
            self._listener.watch()
        return bell

    def _fetch(self, statement: Statement) -> list[Any]:
        with self._turns:
            try:
                try:
                    return self._rows(statement)
                except psycopg.OperationalError as error:
                    if self.closed or not is_lost(error):
                        raise
                    # It may have been cut while it lay idle, and others with it.
                    self._close_spare()
                    return self._rows(statement)
            except psycopg.Error as error:
                if self.closed:
                    raise closed_error() from None
                raise translate(error, self._address, "The log cannot be read") from error

    def _rows(self, statement: Statement) -> list[Any]:
        sql, parameters = to_postgres(statement)
        text: Any = named(sql, self._address.quoted_schema)
        connection = self._take()
        try:
            rows = connection.execute(text, parameters, binary=True).fetchall()
        except BaseException:
            connection.close()
            raise
        self._put_back(connection)
        return rows

    def _connect(self) -> Connection:
        return connect_looking(self._address)

    def _let_go(self) -> None:
        if self._listener is not None:
            self._listener.close()
        super()._let_go()
