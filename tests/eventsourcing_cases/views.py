"""The shipped cases' view of counted events, written as for the library's own modules."""

from __future__ import annotations

from typing import Any

from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.sqlite import SQLiteCursor, SQLiteDatastore, SQLiteTrackingRecorder
from eventsourcing.tests.projection import EventCountersView
from psycopg.sql import SQL, Identifier

COUNT = "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET counted = counted + 1"


class CountersInTables(SQLiteTrackingRecorder, EventCountersView):
    """Counts in a table of its own, in the same transaction as the tracking."""

    def __init__(self, datastore: SQLiteDatastore, **settings: Any) -> None:
        super().__init__(datastore, **settings)
        self.create_table_statements.append(
            "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, counted INTEGER)"
        )

    def get_created_event_counter(self) -> int:
        return self._counted("created")

    def get_subsequent_event_counter(self) -> int:
        return self._counted("subsequent")

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._count("created", tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._count("subsequent", tracking)

    def _count(self, name: str, tracking: Tracking) -> None:
        cursor: SQLiteCursor
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(COUNT, (name,))
            self._insert_tracking(cursor, tracking)

    def _counted(self, name: str) -> int:
        cursor: SQLiteCursor
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT counted FROM counters WHERE name = ?", (name,))
            row = cursor.fetchone()
        return 0 if row is None else int(row[0])


class CountersOnPostgres(PostgresTrackingRecorder, EventCountersView):
    """The same on PostgreSQL."""

    def __init__(self, datastore: PostgresDatastore, **settings: Any) -> None:
        super().__init__(datastore, **settings)
        table = SQL("{}.{}").format(Identifier(datastore.schema), Identifier("counters"))
        self.sql_create_statements.append(
            SQL("CREATE TABLE IF NOT EXISTS {} (name TEXT PRIMARY KEY, counted INTEGER)").format(table)
        )
        self._add = SQL(
            "INSERT INTO {} AS c VALUES (%s, 1) ON CONFLICT (name) DO UPDATE SET counted = c.counted + 1"
        ).format(table)
        self._read = SQL("SELECT counted FROM {} WHERE name = %s").format(table)

    def get_created_event_counter(self) -> int:
        return self._counted("created")

    def get_subsequent_event_counter(self) -> int:
        return self._counted("subsequent")

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._count("created", tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._count("subsequent", tracking)

    def _count(self, name: str, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(self._add, (name,))
            self._insert_tracking(cursor, tracking)

    def _counted(self, name: str) -> int:
        with self.datastore.transaction(commit=False) as cursor:
            row = cursor.execute(self._read, (name,)).fetchone()
        return 0 if row is None else int(row["counted"])
