"""What a reader that watches is sent: frames, and the cursor to come back with. Pure: views in, frames out.

Frames are sent to many and held for long, so what they carry is kept as JSON, which nobody can change, and read from it
for each who asks. A reader applies a patch if ``prev`` is the version it has, passes over one that is not newer, and else
asks for a snapshot: it comes back without a cursor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

from pydantic_core import from_json, to_json

from evrt.errors import InvalidInput
from evrt.events import JsonValue
from evrt.projection import Place
from evrt.projector.patch import Operations, Plain

CURSOR = re.compile(r"(0|[1-9][0-9]{0,18})(?:\.([1-9][0-9]{0,18}))?", re.ASCII)


class Cursor(NamedTuple):
    """How far a reader has come: the version of its document, and the generation of the view that it is from.

    Without a generation, as a bare position, it is believed to be from the present one.
    """

    version: int
    generation: int | None = None

    def __str__(self) -> str:
        return str(self.version) if self.generation is None else f"{self.version}.{self.generation}"

    @classmethod
    def parse(cls, given: str | int) -> Cursor:
        """The inverse of ``str``. Raises InvalidInput."""
        match = CURSOR.fullmatch(str(given))
        if match is None:
            raise InvalidInput(
                f"{given!r} is no cursor: give the one of the last frame that arrived, '40.7' say, or a position."
            )
        return cls(int(match[1]), None if match[2] is None else int(match[2]))


@dataclass(frozen=True)
class Frame:
    """What all frames have: the name of their event, what it carries, and what to come back with."""

    event: ClassVar[str]

    @property
    def cursor(self) -> str | None:
        """What to come back with after this frame; None leaves it at that of the frame before."""
        return None

    @property
    def body(self) -> bytes:
        """What the event carries, as JSON in one line."""
        raise NotImplementedError

    @cached_property
    def sse(self) -> bytes:
        """The frame as a server-sent event. Written once, to however many readers the same frame is sent."""
        cursor = self.cursor
        return b"%sevent: %s\ndata: %s\n\n" % (
            b"" if cursor is None else f"id: {cursor}\n".encode(),
            self.event.encode(),
            self.body,
        )


@dataclass(frozen=True)
class Snapshot(Frame):
    """A whole document, as of the event at ``version``. ``schema`` is the version of the projection."""

    event: ClassVar[str] = "snapshot"
    version: int
    generation: int
    projection: str
    schema: int
    key: str
    part: str
    encoded: bytes
    """The document as JSON: null where there is none."""

    @property
    def cursor(self) -> str:
        return str(Cursor(self.version, self.generation))

    @property
    def document(self) -> Plain:
        """The document, made anew at each call; None where there is none."""
        return from_json(self.encoded)

    @property
    def body(self) -> bytes:
        return _object(
            {
                "projection": self.projection,
                "schema": self.schema,
                "key": self.key,
                "part": self.part,
                "version": self.version,
            },
            state=self.encoded,
        )


@dataclass(frozen=True)
class Patch(Frame):
    """What turns the document as of ``prev`` into that as of ``version``."""

    event: ClassVar[str] = "patch"
    version: int
    generation: int
    prev: int
    encoded: bytes
    """The operations as JSON."""

    @property
    def cursor(self) -> str:
        return str(Cursor(self.version, self.generation))

    @property
    def operations(self) -> Operations:
        """What ``evrt.projector.patch.apply`` takes, made anew at each call."""
        operations: Operations = from_json(self.encoded)
        return operations

    @property
    def body(self) -> bytes:
        return _object({"version": self.version, "prev": self.prev}, ops=self.encoded)


@dataclass(frozen=True)
class Parked(Frame):
    """The view stands still, as its projection raised at the event at ``position``. Both are None when it goes on."""

    event: ClassVar[str] = "parked"
    position: int | None
    error: str | None

    @property
    def body(self) -> bytes:
        return _object({"position": self.position, "error": self.error})


class Row(NamedTuple):
    """A document of a list in its place; ``version`` is the position of its last event."""

    key: str
    part: str
    version: int
    encoded: bytes

    @property
    def place(self) -> Place:
        return self.key, self.part

    @property
    def document(self) -> Plain:
        """The document, made anew at each call."""
        return from_json(self.encoded)

    def body(self, **more: JsonValue) -> bytes:
        """The row as JSON."""
        return _object(
            {**more, "key": self.key, "part": self.part, "version": self.version}, state=self.encoded
        )


@dataclass(frozen=True)
class Rows(Frame):
    """A whole list in its order, as of the event at ``version``."""

    event: ClassVar[str] = "rows"
    projection: str
    schema: int
    version: int
    rows: tuple[Row, ...]

    @property
    def body(self) -> bytes:
        return _object(
            {"projection": self.projection, "schema": self.schema, "version": self.version},
            rows=_array(row.body() for row in self.rows),
        )


@dataclass(frozen=True)
class Changes(Frame):
    """What turns the list as of ``prev`` into that as of ``version``.

    First take out ``removed``; put those of ``changed`` in the places of the rows with their key and part; then put each of
    ``added``, from first to last, where its index says. Rows that stay keep their order.
    """

    event: ClassVar[str] = "changes"
    version: int
    prev: int
    removed: tuple[Place, ...]
    changed: tuple[Row, ...]
    added: tuple[tuple[int, Row], ...]

    def applied(self, rows: Iterable[Row]) -> list[Row]:
        """The list after these changes."""
        gone, changed = set(self.removed), {row.place: row for row in self.changed}
        after = [changed.get(row.place, row) for row in rows if row.place not in gone]
        for index, row in self.added:
            after.insert(index, row)
        return after

    @property
    def body(self) -> bytes:
        return _object(
            {
                "version": self.version,
                "prev": self.prev,
                "removed": [{"key": key, "part": part} for key, part in self.removed],
            },
            changed=_array(row.body() for row in self.changed),
            added=_array(row.body(index=index) for index, row in self.added),
        )


def _object(members: dict[str, JsonValue], **encoded: bytes) -> bytes:
    """An object of JSON of these members, and of more that are JSON already."""
    more = (b"%s:%s" % (to_json(name), value) for name, value in encoded.items())
    return b"{%s}" % b",".join((to_json(members)[1:-1], *more))


def _array(encoded: Iterable[bytes]) -> bytes:
    return b"[%s]" % b",".join(encoded)
