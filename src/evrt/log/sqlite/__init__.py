"""The log in one SQLite file: one writer thread per process, a file lock between processes, readers apart.

It is a persistence module for the eventsourcing library as well, and holds that library's ``Factory``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evrt.log.foreign.module import offer_factory

if TYPE_CHECKING:
    from evrt.log.sqlite.factory import Factory as Factory

offer_factory(__name__)
