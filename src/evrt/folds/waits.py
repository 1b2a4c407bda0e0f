"""What a run waits for: each of its open waits, why, and until when. Also how a wait for a signal is named."""

from __future__ import annotations

import re
from typing import NamedTuple

from evrt.errors import InvalidInput
from evrt.events import Event
from evrt.events.run import WaitReason
from evrt.folds.journal import REASONS, Journal

SIGNAL = "signal."
"""Beginning of the name of an operation that waits for a signal; the signal's own name follows."""

NAME_CHARACTERS_MAX = 200
ESCAPED = re.compile("%([0-9A-F]{2})")


def checked_signal(name: object) -> str:
    """A signal's name. Raises InvalidInput."""
    is_name = (
        isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= NAME_CHARACTERS_MAX
    )
    if not isinstance(name, str) or not is_name:
        raise InvalidInput(
            f"A signal's name is text of 1 to {NAME_CHARACTERS_MAX} characters on one line, not {name!r:.80}."
        )
    return name


def signal_of(identity: str) -> str:
    """The name of the signal that an operation waits for."""
    name = identity.rpartition("/")[2].rpartition("#")[0]
    return ESCAPED.sub(lambda found: chr(int(found[1], 16)), name.removeprefix(SIGNAL))


class OpenWait(NamedTuple):
    """An operation that waits. Times are microseconds since 1970, UTC."""

    operation: str
    reason: WaitReason
    due: int | None = None
    """When its time is over."""
    signal: str | None = None
    intent: Event | None = None
    since: int | None = None


def open_waits(journal: Journal) -> list[OpenWait]:
    """What a run waits for, by the operations of its journal; nothing where it has ended."""
    if journal.terminal is not None:
        return []
    found: list[OpenWait] = []
    for known in journal.operations.values():
        reason = "in_doubt" if known.in_doubt else REASONS.get(known.kind)
        if reason is not None and known.open and not known.outside:
            intent = known.intent
            found.append(
                OpenWait(
                    known.identity,
                    reason,
                    known.due,
                    signal_of(known.identity) if reason == "signal" else None,
                    None if intent is None else intent.event,
                    None if intent is None else intent.time,
                )
            )
    found += [
        OpenWait(identity, "signal", signal=signal_of(identity))
        for identity in journal.waiting_for
        if identity not in journal.operations and SIGNAL in identity
    ]
    return found
