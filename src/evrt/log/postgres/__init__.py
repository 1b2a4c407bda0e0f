"""The log in a PostgreSQL schema: one writer connection per process, the head row as the lock between processes.

``address`` says where a log is · ``connect`` reaches the server and puts its errors into words · ``schema`` and
``roles`` are what stands in the database · ``making`` makes it there · ``writer``, ``committing`` and ``transaction``
write · ``reader`` and ``listening`` read · ``store`` puts them together. psycopg is imported when a log is opened.

It is a persistence module for the eventsourcing library as well, and holds that library's ``Factory``: ``factory``,
which reads that library's ``settings``, over the log in ``blocking``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evrt.log.foreign.module import offer_factory

if TYPE_CHECKING:
    from evrt.log.postgres.factory import Factory as Factory

offer_factory(__name__)
