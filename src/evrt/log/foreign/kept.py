"""What is kept in a log for applications of other libraries beside their events: tracking and snapshots.

Both are tables of their own, outside of positions and tree, whose rows may be changed. Their statements are ones that
every database understands. A store's writer knows this module, so it does not load the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evrt.errors import Conflict, InvalidInput
from evrt.log.contract import NAME_BYTES_MAX
from evrt.log.coordinating import Statement
from evrt.log.plan import Checked
from evrt.log.queueing import Ask, Send

NUMBER_MAX = 2**63 - 1

FIND_PLACE = "SELECT notification_id FROM tracking WHERE application = :application"

SET_PLACE = """
INSERT INTO tracking VALUES (:application, :notification_id)
ON CONFLICT (application) DO UPDATE SET notification_id = excluded.notification_id
"""

FIND_SNAPSHOT = """
SELECT 1 FROM snapshots WHERE purpose = :purpose AND originator = :originator AND version = :version
"""

ADD_SNAPSHOT = "INSERT INTO snapshots VALUES (:purpose, :originator, :version, :topic, :state)"


def checked_place(application: object, notification_id: object) -> Place:
    """A place that can be written: checked before it comes among what others write. Raises InvalidInput."""
    return Place(
        _text(application, "The name of an application"), _number(notification_id, "A notification's id")
    )


def checked_snapshot(
    purpose: str, originator: str, version: object, topic: object, state: object
) -> Snapshot:
    """A snapshot that can be written. Raises InvalidInput."""
    if not isinstance(state, bytes):
        raise InvalidInput(f"The state of a snapshot is bytes, not {type(state).__name__}.")
    return Snapshot(
        _text(purpose, "A purpose"),
        _text(originator, "An originator's id"),
        _number(version, "The version of a snapshot"),
        _text(topic, "A topic"),
        state,
    )


def is_storable(text: str) -> bool:
    """Whether every database takes it as a text: valid Unicode without the zero character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _text(value: object, what: str) -> str:
    if isinstance(value, str) and is_storable(value) and 0 < len(value.encode()) <= NAME_BYTES_MAX:
        return value
    raise InvalidInput(
        f"{what} has to be a text of valid Unicode without a zero character, of 1 to {NAME_BYTES_MAX} bytes, "
        f"not {value!r:.80}."
    )


def _number(value: object, what: str) -> int:
    if type(value) is int and 0 <= value <= NUMBER_MAX:
        return value
    raise InvalidInput(f"{what} has to be a whole number from 0 to {NUMBER_MAX}, not {value!r:.80}.")


class Place(NamedTuple):
    """How far an application has come in the events of another: recorded when it has dealt with one of them."""

    application: str
    notification_id: int

    @property
    def bytes(self) -> int:
        return 0

    def check(self, ask: Ask) -> None:
        """Raises Conflict unless it is beyond what is recorded."""
        [rows] = ask([Statement(FIND_PLACE, {"application": self.application})])
        for (recorded,) in rows:
            if recorded >= self.notification_id:
                raise Conflict(
                    f"Event {self.notification_id} of {self.application} has been dealt with already: "
                    f"{recorded} is recorded."
                )

    def set(self, send: Send) -> None:
        """Record it, after it has been checked."""
        send(Statement(SET_PLACE, self._asdict()))

    def do(self, ask: Ask, send: Send) -> None:
        """Raises what ``check`` raises."""
        self.check(ask)
        self.set(send)


class Tracked(NamedTuple):
    """Events and the place of the event that they follow from: both are recorded, or neither."""

    append: Checked
    place: Place

    @property
    def events(self) -> int:
        return self.append.events

    @property
    def bytes(self) -> int:
        return self.append.bytes


class Snapshot(NamedTuple):
    """The state of something at one of its versions, and what somebody keeps it for."""

    purpose: str
    originator: str
    version: int
    topic: str
    state: bytes


class Snapshots(NamedTuple):
    """Snapshots that are kept together or not at all."""

    rows: Sequence[Snapshot]

    @property
    def bytes(self) -> int:
        return sum([len(row.state) for row in self.rows])

    def do(self, ask: Ask, send: Send) -> None:
        """Raises Conflict where one is there already; then none is kept."""
        self._check(ask)
        for row in self.rows:
            send(Statement(ADD_SNAPSHOT, row._asdict()))

    def _check(self, ask: Ask) -> None:
        keys: set[tuple[str, str, int]] = set()
        found = ask([Statement(FIND_SNAPSHOT, _key(row)) for row in self.rows])
        for row, there in zip(self.rows, found, strict=True):
            if there or row[:3] in keys:
                raise Conflict(
                    f"There is one of {row.originator} at version {row.version} among its {row.purpose} already."
                )
            keys.add(row[:3])


def _key(row: Snapshot) -> dict[str, object]:
    return {"purpose": row.purpose, "originator": row.originator, "version": row.version}


KEPT = (Place, Snapshots)
"""Kinds of work that write nothing else: each has ``do``."""

Kept = Place | Snapshots


def append_in(work: object) -> Checked | None:
    """The append that some work is, or has in it."""
    if isinstance(work, Tracked):
        return work.append
    return work if isinstance(work, Checked) else None
