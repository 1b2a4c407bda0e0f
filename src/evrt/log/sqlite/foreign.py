"""What is kept in the file for applications of other libraries beside their events: tracking and snapshots.

Both are tables of their own, outside of positions and tree, whose rows may be changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from evrt.errors import Conflict, InvalidInput
from evrt.log.plan import Checked

NUMBER_MAX = 2**63 - 1


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
    number = _number(version, "The version of a snapshot")
    return Snapshot(purpose, _text(originator, "An originator's id"), number, _text(topic, "A topic"), state)


def _text(value: object, what: str) -> str:
    try:
        if isinstance(value, str) and value.encode():
            return value
    except UnicodeEncodeError:
        pass
    raise InvalidInput(f"{what} has to be a text of valid Unicode that is not empty, not {value!r:.80}.")


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

    def check(self, connection: sqlite3.Connection) -> None:
        """Raises Conflict unless it is beyond what is recorded."""
        found = connection.execute(
            "SELECT notification_id FROM tracking WHERE application = ?", (self.application,)
        ).fetchone()
        if found is not None and found[0] >= self.notification_id:
            raise Conflict(
                f"Event {self.notification_id} of {self.application} has been dealt with already: "
                f"{found[0]} is recorded."
            )

    def make(self, connection: sqlite3.Connection) -> None:
        """Raises what ``check`` raises."""
        self.check(connection)
        connection.execute("INSERT OR REPLACE INTO tracking VALUES (?, ?)", self)


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

    def make(self, connection: sqlite3.Connection) -> None:
        """Raises Conflict where one is there already; then none is kept."""
        keys: set[tuple[str, str, int]] = set()
        for row in self.rows:
            key = row[:3]
            if key in keys or connection.execute(_FIND, key).fetchone() is not None:
                raise Conflict(
                    f"There is one of {row.originator} at version {row.version} among its {row.purpose} already."
                )
            keys.add(key)
        connection.executemany("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?)", self.rows)


_FIND = "SELECT 1 FROM snapshots WHERE purpose = ? AND originator = ? AND version = ?"
