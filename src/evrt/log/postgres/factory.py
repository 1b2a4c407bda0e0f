"""The persistence module for the eventsourcing library: ``PERSISTENCE_MODULE=evrt.log.postgres``.

It takes the library's own settings for PostgreSQL. The one class here that the library may find is ``Factory``.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Any

from eventsourcing import postgres as library
from eventsourcing.persistence import IntegrityError, TrackingRecorder
from eventsourcing.utils import Environment, EnvType, strtobool
from psycopg import sql
from psycopg.rows import dict_row

from evrt.errors import UsageError
from evrt.log.foreign import factory as shared
from evrt.log.foreign.errors import translated_opening
from evrt.log.postgres import settings
from evrt.log.postgres.address import NAME_BYTES_MAX
from evrt.log.postgres.blocking import PostgresBlockingLog

CREATE_TABLE = "CREATE_TABLE"

VIEWS_SUFFIX = "_eventsourcing"
"""Ends the name of the schema beside the log's in which views are."""


class Factory(shared.LogFactory):
    """Makes recorders over the log in ``POSTGRES_SCHEMA``, which is opened when the first is made.

    Raises OSError for a setting that cannot be used, InterfaceError for a log that cannot be opened.
    """

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._settings = settings.read_settings(self.env)

    def _open(self) -> PostgresBlockingLog:
        return PostgresBlockingLog(
            self._settings.address,
            lock_timeout_seconds=self._settings.lock_timeout_seconds,
            connections_max=self._settings.connections_max,
        )

    def _view(self, recorder_class: type[TrackingRecorder]) -> TrackingRecorder | None:
        if not issubclass(recorder_class, library.PostgresTrackingRecorder):
            return None
        prefix = self.env.name.lower() or "notification"
        view = recorder_class(self._views, tracking_table_name=f"{prefix}_tracking")
        if strtobool(self.env.get(CREATE_TABLE) or "yes"):
            view.create_table()
        return view

    @cached_property
    def _views(self) -> library.PostgresDatastore:
        """The library's own connections, with its settings for them, to the schema beside the log's."""
        address = self._settings.address
        schema = f"{address.schema}{VIEWS_SUFFIX}"
        with translated_opening():
            if len(schema.encode()) > NAME_BYTES_MAX:
                raise UsageError(
                    f"Views beside the log in the schema {address.schema} would be in {schema}, whose name is too long "
                    f"for PostgreSQL. Choose one of at most {NAME_BYTES_MAX - len(VIEWS_SUFFIX)} bytes for the log."
                )
        # As the log is reached, by whatever its URL says; the library asks for each of these, empty or not.
        taken = dict.fromkeys((settings.DBNAME, settings.HOST, settings.USER, settings.PASSWORD), "")
        taken[settings.SCHEMA] = schema
        first = {self.env.create_keys(name)[0]: value for name, value in taken.items()}
        views = library.PostgresFactory(Environment(self.env.name, {**self.env, **first})).datastore
        reached: dict[str, Any] = {"row_factory": dict_row, **address.parameters}
        views.pool.kwargs = reached
        _make_schema(views, schema)
        return views


def _make_schema(views: library.PostgresDatastore, schema: str) -> None:
    with views.transaction(commit=True) as cursor:
        cursor.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,))
        if cursor.fetchone() is not None:
            return
    # Whoever comes at the same time may find that it has been made meanwhile.
    with suppress(IntegrityError), views.get_connection() as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
