"""Which store and which reader a log's frames have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evrt.live.store import LiveReader, LiveStore
from evrt.log import Log
from evrt.log.address import parse_url

if TYPE_CHECKING:
    from evrt.log.postgres.address import Address


def make_store(log: Log) -> LiveStore:
    """What writes the frames of a log; nothing is opened yet."""
    if (address := _address_of(log)) is not None:
        from evrt.live.postgres import SchemaStore

        return SchemaStore(address, log.id)
    if (path := parse_url(log.url)) is not None:
        from evrt.live.sqlite import FileStore

        return FileStore(live_path(path), log.id)
    from evrt.live.memory import MemoryStore, tables_of

    return MemoryStore(tables_of(log))


def make_reader(log: Log) -> LiveReader:
    """What reads the frames of a log on the running loop; nothing is opened yet."""
    if (address := _address_of(log)) is not None:
        from evrt.live.postgres import SchemaReader

        return SchemaReader(address)
    if (path := parse_url(log.url)) is not None:
        from evrt.live.sqlite import FileReader

        return FileReader(live_path(path))
    from evrt.live.memory import MemoryReader, tables_of

    return MemoryReader(tables_of(log))


def live_path(path: str) -> str:
    """The file that the frames of a log in this file are kept in."""
    return f"{os.path.abspath(path)}-live"


def _address_of(log: Log) -> Address | None:
    """Where a log on PostgreSQL is, with what its URL does not show; None for others."""
    found: Address | None = getattr(log, "address", None)
    return found
