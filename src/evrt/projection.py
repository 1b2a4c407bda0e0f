"""What a projection is: a named pure fold from events to documents, one document per key.

A projection sees events in order and nothing else: no I/O, no clock, no randomness. Whatever keeps
it current, rebuilds it or reads it as of a moment is machinery its author never sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from evrt.events import Envelope

D = TypeVar("D")


# Without slots: on Python 3.11 `Projection[D](...)` fails for a class that is frozen, slotted and generic.
@dataclass(frozen=True)
class Projection(Generic[D]):
    """A named fold.

    name, version
        a new version means that stored documents no longer fit and are rebuilt.
    handles
        says from the type of an event whether this projection wants it.
    key
        the document an event belongs to, from clear columns only, or None to pass over it.
    source
        the inverse: the stream that holds every event of a key.
    initial, evolve
        the document of a key before its first event, and after one more; None deletes it.
    """

    name: str
    version: int
    handles: Callable[[str], bool]
    key: Callable[[Envelope], str | None]
    source: Callable[[str], str]
    initial: Callable[[str], D]
    evolve: Callable[[D, Envelope], D | None]
