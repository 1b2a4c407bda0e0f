"""What a projection is: a named pure fold from events to documents.

A projection sees events in order and nothing else: no I/O, no clock, no randomness. Whatever keeps
it current, rebuilds it or reads it as of a moment is machinery its author never sees.

Events find their document in two steps. ``key`` looks at clear columns only, so an event whose payload is sealed
or erased still finds its way; ``source`` is its inverse and says where all events of a key are. Where one key has
several documents (the steps of a run, the keys of a memory), ``part`` says from the event itself which of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from evrt.errors import InvalidInput, UsageError
from evrt.events import Envelope, JsonObject

D = TypeVar("D", bound=BaseModel)

DOCUMENT_BYTES_MAX = 64 * 1024
"""Most bytes of JSON one document may have. What can grow without end is many documents, not a large one."""

NESTING_READ = 200
"""Levels of JSON that pydantic reads, and so the most that a document may have."""

WHOLE = ""
"""The part of a document that is all there is of its key."""


class Columns(Protocol):
    """What is known of an event without looking into it. ``time`` is microseconds since 1970, UTC."""

    @property
    def position(self) -> int: ...
    @property
    def time(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def correlation(self) -> str: ...
    @property
    def meta(self) -> JsonObject: ...


@dataclass(frozen=True, slots=True)
class Stream:
    """All events of a key are in this stream."""

    name: str


@dataclass(frozen=True, slots=True)
class Correlation:
    """All events of a key have this correlation, a conversation or a root run, in whichever streams."""

    name: str


@dataclass(frozen=True, slots=True)
class Everything:
    """The events of a key can be anywhere in the log, so that reading it as of a moment reads along the log."""


Source: TypeAlias = Stream | Correlation | Everything
Place: TypeAlias = tuple[str, str]
"""A document's key and part."""


def _whole(envelope: Envelope) -> str | None:
    return WHOLE


# Without slots: on Python 3.11 `Projection[D](...)` fails for a class that is frozen, slotted and generic.
@dataclass(frozen=True)
class Projection(Generic[D]):
    """A named fold.

    name, version
        letters, digits, ``_`` and ``-``; a new version means that stored documents no longer fit and are rebuilt.
    document
        the class of its documents, a frozen pydantic model. A document has at most DOCUMENT_BYTES_MAX bytes.
    handles
        types of events it wants: ``run.claimed``, a family ``tool_call.*``, or ``*``.
    key
        the key an event belongs to, from clear columns only, or None to pass over it.
    source
        the inverse of ``key``: where every event of a key is.
    initial, evolve
        the document of a key and part before its first event, and after one more; None deletes it.
    part
        which document of its key an event belongs to, or None to pass over it. Without it a key has one document,
        whose part is the empty text.
    variant
        what its documents depend on besides its code, such as a table of prices: another variant, like another version,
        is built anew, but none is newer.
    indexes
        fields, or tuples of fields, by which documents are listed; their values are texts, numbers or None.

    Raises UsageError when it cannot be a projection.
    """

    name: str
    version: int
    document: type[D]
    handles: frozenset[str]
    key: Callable[[Columns], str | None]
    source: Callable[[str], Source]
    initial: Callable[[str, str], D]
    evolve: Callable[[D, Envelope], D | None]
    part: Callable[[Envelope], str | None] = _whole
    variant: str = ""
    indexes: tuple[str | tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if (
            not self.name
            or not self.name.replace("_", "").replace("-", "").isalnum()
            or not self.name.isascii()
        ):
            raise UsageError(
                f"A projection cannot be named {self.name!r}: a name has letters, digits, '_' and '-' only."
            )
        if not isinstance(self.version, int) or self.version < 1:
            raise UsageError(
                f"The projection {self.name} has version {self.version!r}: versions are 1, 2, 3 …, and begin at 1."
            )
        if not self.handles:
            raise UsageError(f"The projection {self.name} handles no type of event, so it would stay empty.")
        self._check_kinds()
        for index in self.index_fields:
            for field in index:
                if field not in self.document.model_fields:
                    raise UsageError(
                        f"The projection {self.name} has an index on {field!r}, which {self.document.__name__} does not "
                        f"have. Its fields: {', '.join(self.document.model_fields)}."
                    )
        for function in (self.key, self.source, self.initial, self.evolve, self.part):
            if inspect.iscoroutinefunction(function):
                raise UsageError(
                    f"{getattr(function, '__name__', function)} of the projection {self.name} is async: a projection is "
                    "a pure fold, with nothing to wait for. Make it a plain function."
                )

    def _check_kinds(self) -> None:
        """Raises UsageError for what a type checker would have found."""
        several: dict[str, object] = {"handles": self.handles, "indexes": self.indexes}
        for field, texts in several.items():
            if isinstance(texts, str):  # Each letter of it would be taken for one.
                raise UsageError(
                    f"{field} of the projection {self.name} is the text {texts!r}, and has to be several of them: write "
                    f"{'frozenset({…})' if field == 'handles' else '(…,)'} around it."
                )
        if not (isinstance(self.document, type) and issubclass(self.document, BaseModel)):
            raise UsageError(
                f"The documents of the projection {self.name} are to be of {self.document!r}, which is no pydantic model: "
                "derive it from pydantic.BaseModel."
            )
        for function in (self.key, self.source, self.initial, self.evolve, self.part):
            if not callable(function):
                raise UsageError(
                    f"The projection {self.name} has {function!r} where a function belongs: key, source, initial, evolve and "
                    "part are functions."
                )

    @cached_property
    def index_fields(self) -> tuple[tuple[str, ...], ...]:
        """Its indexes, each as a tuple of fields."""
        return tuple((index,) if isinstance(index, str) else tuple(index) for index in self.indexes)

    @cached_property
    def indexed(self) -> tuple[str, ...]:
        """Every field that is in an index."""
        return tuple(dict.fromkeys(field for index in self.index_fields for field in index))

    def wants(self, type: str) -> bool:
        """Whether it handles events of this type."""
        return type in self.handles or "*" in self.handles or f"{type.partition('.')[0]}.*" in self.handles


AnyProjection: TypeAlias = Projection[Any]


class Document(NamedTuple, Generic[D]):
    """A document in its place. ``first`` and ``position`` are those of the events that began it and changed it last."""

    key: str
    part: str
    first: int
    position: int
    value: D

    @property
    def place(self) -> Place:
        return self.key, self.part


Documents: TypeAlias = dict[Place, Document[D]]


def place_of(projection: Projection[D], envelope: Envelope) -> Place | None:
    """Where an event belongs, or None where it is passed over."""
    if not projection.wants(envelope.type):
        return None
    key = projection.key(envelope)
    part = None if key is None else projection.part(envelope)
    return None if key is None or part is None else (key, part)


def evolved(
    projection: Projection[D], before: Document[D] | None, place: Place, envelope: Envelope
) -> Document[D] | None:
    """The document after one more event, or None where there is none then."""
    value = projection.evolve(projection.initial(*place) if before is None else before.value, envelope)
    if value is None:
        return None
    first = envelope.position if before is None else before.first
    return Document(*place, first, envelope.position, value)


def fold(
    projection: Projection[D], envelopes: Iterable[Envelope], documents: Documents[D] | None = None
) -> Documents[D]:
    """The documents after these events: what every view has to be equal to. ``documents`` are those before them."""
    found: Documents[D] = {} if documents is None else dict(documents)
    for envelope in envelopes:
        place = place_of(projection, envelope)
        if place is None:
            continue
        after = evolved(projection, found.get(place), place, envelope)
        if after is None:
            found.pop(place, None)
        else:
            found[place] = after
    return found


def encode_document(projection: Projection[D], document: Document[D]) -> bytes:
    """A document's value as JSON, without what is as the class has it by default. Raises InvalidInput if it is too large."""
    return encode_value(projection, document.place, document.value)


def encode_value(projection: Projection[D], place: Place, value: D) -> bytes:
    """The same of a value that is to be the document of this place."""
    encoded: bytes = value.__pydantic_serializer__.to_json(value, exclude_defaults=True)
    if len(encoded) > DOCUMENT_BYTES_MAX:
        raise InvalidInput(
            f"The document {' '.join(filter(None, place))} of the projection {projection.name} would have "
            f"{len(encoded):,} bytes; at most {DOCUMENT_BYTES_MAX:,} are kept. Cut what is long, or make many documents "
            "of it with `part`."
        )
    if b"null" in encoded or encoded.count(b"[") + encoded.count(b"{") > NESTING_READ:
        # What JSON has no word for, as NaN, is null in it; and pydantic writes deeper JSON than it reads.
        try:
            decode_document(projection, encoded)
        except ValidationError as error:
            raise InvalidInput(
                f"The document {' '.join(filter(None, place))} of the projection {projection.name} could not be read back: "
                f"{error.errors()[0]['msg']}. JSON has no NaN and no infinity, and is read {NESTING_READ} levels deep."
            ) from None
    return encoded


def decode_document(projection: Projection[D], encoded: bytes | str) -> D:
    """The inverse of ``encode_document``."""
    value: D = projection.document.__pydantic_validator__.validate_json(encoded)
    return value


def digest(projection: Projection[D], documents: Mapping[Place, Document[D]]) -> str:
    """Hex SHA-256 over all documents in the order of their places: equal for equal views."""
    return digest_encoded(
        (
            *place,
            documents[place].first,
            documents[place].position,
            encode_document(projection, documents[place]),
        )
        for place in sorted(documents)
    )


def digest_encoded(rows: Iterable[tuple[str, str, int, int, bytes]]) -> str:
    """The same of (key, part, first, position, encoded document), which are in the order of key and part."""
    digest = Digest()
    for row in rows:
        digest.add(*row)
    return digest.hex()


class Digest:
    """The same, document by document, for those who do not hold all of them at once."""

    def __init__(self) -> None:
        self._hashed = sha256()

    def add(self, key: str, part: str, first: int, position: int, encoded: bytes) -> None:
        """The next document in the order of key and part."""
        self._hashed.update(orjson.dumps([key, part, first, position]))
        self._hashed.update(encoded)
        self._hashed.update(b"\n")

    def hex(self) -> str:
        """Of those added so far."""
        return self._hashed.hexdigest()
