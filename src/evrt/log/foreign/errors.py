"""What an error of evrt is called in the eventsourcing library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PersistenceError,
    ProgrammingError,
)

from evrt.errors import Conflict, EvrtError, InvalidInput, UnusableLog, UsageError

_NAMES: tuple[tuple[type[EvrtError], type[PersistenceError]], ...] = (
    (Conflict, IntegrityError),
    (InvalidInput, DataError),
    (UsageError, ProgrammingError),
    (UnusableLog, InternalError),
    (EvrtError, OperationalError),
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of evrt as the library's, with the same text."""
    try:
        yield
    except EvrtError as error:
        name = next(theirs for ours, theirs in _NAMES if isinstance(error, ours))
        raise name(str(error)) from error


@contextmanager
def translated_opening() -> Iterator[None]:
    """The same while a log is opened: the library knows one error for that."""
    try:
        yield
    except EvrtError as error:
        raise InterfaceError(str(error)) from error
