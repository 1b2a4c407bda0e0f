"""What the tables of views hold, row by row, and what one batch makes of one generation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pydantic import ValidationError

from evrt.errors import Conflict, UsageError
from evrt.projection import AnyProjection
from evrt.projector.schema import shape

Stage = Literal["live", "building"]


class Overtaken(Conflict):
    """Another projector has moved the cursor of a view since this one looked."""


class Generation(NamedTuple):
    """A row of the table of views. ``cursor`` is the position up to which its documents are folded."""

    id: int
    name: str
    version: int
    shape: str
    stage: Stage
    cursor: int
    leaf: bytes | None
    owner: str | None
    error: str | None
    error_position: int | None


class Family(NamedTuple):
    """The documents of one key, counted: events of it, how many of them up to its last mark, where that is, and the first."""

    events: int = 0
    marked: int = 0
    mark: int = 0
    first: int = 0


class Mark(NamedTuple):
    """A moment for which the documents of a key have been kept; ``version`` is that of its event in its stream."""

    position: int
    version: int


class Start(NamedTuple):
    """Where reading a key as of a moment begins: after a position, at the documents kept then if it is a mark.

    ``version`` is that of the mark's event. Up to the moment nothing of the key happened after ``upto``.
    """

    position: int
    version: int | None
    upto: int


class Kept(NamedTuple):
    """A document as of a mark, or a deletion where ``document`` is None; ``position`` is that of the mark or deletion."""

    key: str
    part: str
    position: int
    first: int | None
    changed: int | None
    document: str | None


class Misfit(NamedTuple):
    """A stored document that the class of its projection does not take any more."""

    text: str


@dataclass(slots=True)
class Change:
    """What one batch makes of one generation.

    ``inserts`` are rows of the table of documents, their indexed fields last; ``updates`` a position, a document, the
    indexed fields, and the ``first`` of the row; ``deletes`` the ``first`` of documents that are no more.
    """

    generation: Generation
    cursor: int
    leaf: bytes | None
    inserts: list[tuple[object, ...]] = field(default_factory=list)
    updates: list[tuple[object, ...]] = field(default_factory=list)
    deletes: list[int] = field(default_factory=list)
    families: dict[str, Family] = field(default_factory=dict)
    marks: list[tuple[str, Mark]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Keys of which everything that is there is thrown away first."""
    error: str | None = None
    error_position: int | None = None


def fits(generation: Generation, projection: AnyProjection) -> bool:
    """Whether the generation's documents are those of this projection, with these indexes."""
    return (generation.version, generation.shape) == (projection.version, shape(projection))


def newer(generation: Generation, projection: AnyProjection) -> UsageError:
    """What a program is told that has an older version of a projection than its view was built with."""
    return UsageError(
        f"The view {projection.name} was built with version {generation.version} of its projection, and this program "
        f"has version {projection.version}. Run the newer program, or raise the version to build the view anew."
    )


def misfit(projection: AnyProjection, error: ValidationError) -> str:
    """What is said of a stored document that its class does not take."""
    return (
        f"a stored document does not fit {projection.document.__name__} ({error.error_count()} faults, the first: "
        f"{error.errors()[0]['msg']}). Raise the projection's version, and the view is built anew"
    )
