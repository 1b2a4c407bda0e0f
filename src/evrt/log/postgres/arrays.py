"""Columns of rows on their way into the database: one binary array for each, to be taken apart by ``unnest``.

Made here byte by byte, for psycopg's own arrays cost twice the time of the whole insert on this side. With them one
statement inserts any number of rows, beside others in one pipeline, and is as quick as COPY.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack

from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

_NULL = b"\xff\xff\xff\xff"


class Column:
    """An array as it goes over the wire."""

    __slots__ = ("wire",)

    element = 0
    """OID of an element's type; ``array`` is that of the array's."""
    array = 0

    def __init__(self, number: int, elements: Iterable[bytes], *, nulls: bool = False) -> None:
        """``elements`` are each preceded by their lengths."""
        self.wire = pack("!iiIii", 1, nulls, self.element, number, 1) + b"".join(elements)


class Bigints(Column):
    element, array = 20, 1016

    def __init__(self, values: Iterable[int]) -> None:
        wires = [b"\x00\x00\x00\x08" + value.to_bytes(8, "big", signed=True) for value in values]
        super().__init__(len(wires), wires)


class Integers(Column):
    element, array = 23, 1007

    def __init__(self, values: Iterable[int]) -> None:
        wires = [b"\x00\x00\x00\x04" + value.to_bytes(4, "big", signed=True) for value in values]
        super().__init__(len(wires), wires)


class Byteas(Column):
    element, array = 17, 1001

    def __init__(self, values: Iterable[bytes | None]) -> None:
        wires = [_NULL if value is None else len(value).to_bytes(4, "big") + value for value in values]
        super().__init__(len(wires), wires, nulls=_NULL in wires)


class Texts(Column):
    element, array = 25, 1009

    def __init__(self, values: Iterable[str]) -> None:
        encoded = [value.encode() for value in values]
        super().__init__(len(encoded), [len(value).to_bytes(4, "big") + value for value in encoded])


class Uuids(Column):
    """Of UUIDs in canonical form."""

    element, array = 2950, 2951

    def __init__(self, values: Iterable[str]) -> None:
        wires = [b"\x00\x00\x00\x10" + bytes.fromhex(value.replace("-", "")) for value in values]
        super().__init__(len(wires), wires)


COLUMNS: tuple[type[Column], ...] = (Bigints, Integers, Byteas, Texts, Uuids)


class _ColumnDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Column) -> bytes:
        return obj.wire


def register_columns(context: AdaptContext) -> None:
    """Have a connection take columns as parameters."""
    for column in COLUMNS:
        dumper = type(f"{column.__name__}Dumper", (_ColumnDumper,), {"oid": column.array})
        context.adapters.register_dumper(column, dumper)
