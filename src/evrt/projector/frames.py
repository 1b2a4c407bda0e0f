"""What a reader that watches is sent: frames, and the cursor to come back with. Pure: views in, frames out.

A frame knows its text as a server-sent event. What an earlier frame must have brought about is in ``prev``: a reader
applies a patch if ``prev`` is the version it has, passes over what is not newer, and else begins again with a snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

from pydantic_core import to_json

from evrt.errors import InvalidInput
from evrt.events import JsonObject
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
    """What all frames have: the name of the event, its content, and its text."""

    event: ClassVar[str]

    @property
    def cursor(self) -> str | None:
        """What to come back with after this frame; None leaves it at that of the frame before."""
        return None

    def content(self) -> JsonObject:
        """What the event carries, as JSON."""
        raise NotImplementedError

    @cached_property
    def sse(self) -> bytes:
        """The frame as a server-sent event. Written once, however many readers are sent the same frame."""
        event_id = "" if self.cursor is None else f"id: {self.cursor}\n"
        return b"%sevent: %s\ndata: %s\n\n" % (
            event_id.encode(),
            self.event.encode(),
            to_json(self.content()),
        )


@dataclass(frozen=True)
class _OfDocument(Frame):
    version: int
    """Position of an event: the document is the one after it."""
    generation: int

    @property
    def cursor(self) -> str:
        return str(Cursor(self.version, self.generation))


@dataclass(frozen=True)
class Snapshot(_OfDocument):
    """A whole document, or None where there is none. ``schema`` is the version of the projection."""

    event: ClassVar[str] = "snapshot"
    projection: str
    schema: int
    key: str
    part: str
    document: Plain

    def content(self) -> JsonObject:
        return {
            "projection": self.projection,
            "schema": self.schema,
            "key": self.key,
            "part": self.part,
            "version": self.version,
            "state": self.document,
        }


@dataclass(frozen=True)
class Patch(_OfDocument):
    """What turns the document at version ``prev`` into that at ``version``, see ``evrt.projector.patch``."""

    event: ClassVar[str] = "patch"
    prev: int
    operations: Operations

    def content(self) -> JsonObject:
        return {"version": self.version, "prev": self.prev, "ops": self.operations}


@dataclass(frozen=True)
class Parked(Frame):
    """The view stands still, as its projection raised at the event at ``position``. Both are None when it goes on."""

    event: ClassVar[str] = "parked"
    position: int | None
    error: str | None

    def content(self) -> JsonObject:
        return {"position": self.position, "error": self.error}


class Row(NamedTuple):
    """A document of a list in its place; ``version`` is the position of its last event."""

    key: str
    part: str
    version: int
    document: Plain

    @property
    def place(self) -> Place:
        return self.key, self.part

    def content(self) -> JsonObject:
        """As JSON."""
        return {"key": self.key, "part": self.part, "version": self.version, "state": self.document}


@dataclass(frozen=True)
class Rows(Frame):
    """A whole list in its order, as of the event at ``version``."""

    event: ClassVar[str] = "rows"
    projection: str
    schema: int
    version: int
    rows: Sequence[Row]

    def content(self) -> JsonObject:
        return {
            "projection": self.projection,
            "schema": self.schema,
            "version": self.version,
            "rows": [row.content() for row in self.rows],
        }


@dataclass(frozen=True)
class Changes(Frame):
    """What turns the list as of ``prev`` into that as of ``version``.

    First take out ``removed``; then put each of ``added``, from first to last, where its index says; then put each of
    ``changed`` in the place of the row with its key and part. Rows that stay keep their order.
    """

    event: ClassVar[str] = "changes"
    version: int
    prev: int
    removed: Sequence[Place]
    added: Sequence[tuple[int, Row]]
    changed: Sequence[Row]

    def content(self) -> JsonObject:
        return {
            "version": self.version,
            "prev": self.prev,
            "removed": [{"key": key, "part": part} for key, part in self.removed],
            "added": [{"index": index, **row.content()} for index, row in self.added],
            "changed": [row.content() for row in self.changed],
        }

    def applied(self, rows: Sequence[Row]) -> list[Row]:
        """The list after these changes."""
        gone, changed = set(self.removed), {row.place: row for row in self.changed}
        after = [changed.get(row.place, row) for row in rows if row.place not in gone]
        for index, row in self.added:
            after.insert(index, row)
        return after
