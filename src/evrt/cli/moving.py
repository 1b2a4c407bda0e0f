"""A log copied or moved to another place: ``evrt db copy``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from evrt.cli.output import note, out, out_json, progress
from evrt.cli.text import counted
from evrt.config import as_url
from evrt.errors import EvrtError, UsageError
from evrt.moving import Copied, Teller, copy

FOLLOW_SECONDS = 0.1
"""How often a copy that follows looks for more."""


def copy_log(source: str, target: str, *, follow: bool, switch: bool, as_json: bool) -> None:
    """Copy, and tell of it: progress and news on stderr, what came of it on stdout."""
    for name, given in (("SOURCE", source), ("TARGET", target)):
        if not given.strip():
            raise UsageError(f"{name} names no log: what was given is empty.")
    with told(follow=follow) as teller:
        copied = copy(as_url(source), as_url(target), teller=teller, follow=follow, switch=switch)
    if as_json:
        out_json(copied._asdict() | {"root": copied.root.hex()})
    else:
        _out(copied)


@contextmanager
def told(*, follow: bool) -> Iterator[Teller]:
    """Who tells of a copy on stderr, and has one that follows end at Ctrl-C or SIGTERM."""
    with progress("Copying", "events") as advance, _stopping(follow) as stop:
        teller = _Teller(advance, stop)
        try:
            yield teller
        except (EvrtError, KeyboardInterrupt):
            teller.broke_off()
            raise


def _out(copied: Copied) -> None:
    erased = f", {copied.erased:,} of them erased" if copied.erased else ""
    blobs = f" and {counted(copied.blobs, 'blob')}" if copied.blobs else ""
    verb = "has moved to" if copied.moved else "is copied to"
    out(f"{copied.source} {verb} {copied.target}.")
    out(
        f"There it holds {counted(copied.events, 'event')}{erased}{blobs}, {copied.copied:,} events of them copied now; "
        "all have been read back."
    )
    out(f"Both trees have the root {copied.root.hex()}.")
    if copied.moved:
        note(f"{copied.source} can only be read from now on. Views are built anew at {copied.target}.")


class _Teller:
    """See ``evrt.moving.Teller``."""

    def __init__(self, advance: Callable[[int, int], None], stop: threading.Event) -> None:
        self._advance = advance
        self._stop = stop
        self._copied = 0
        self._begun = False
        self._sealed = False

    def copying(self, done: int, total: int) -> None:
        # What is written is read back as well, so there is twice as much to do.
        self._begun = True
        self._copied = done
        self._advance(done, 2 * total)

    def reading_back(self, done: int, total: int) -> None:
        self._advance(total + done, 2 * total)

    def level(self, position: int) -> None:
        note(
            f"Level with the log at position {position:,}, and following it; Ctrl-C brings the copy to its end."
        )

    def sealed(self, position: int) -> None:
        self._sealed = True
        note(f"The log is sealed at position {position:,}: it takes nothing more.")

    def waits(self) -> bool:
        return not self._stop.wait(FOLLOW_SECONDS)

    def broke_off(self) -> None:
        """Say what is to be done now."""
        if self._sealed:
            note(
                "The log is sealed and not all of it has moved yet: run the same command again to finish that."
            )
        elif self._begun:
            note(f"The copy has come to position {self._copied:,}. The same command goes on from there.")


@contextmanager
def _stopping(follow: bool) -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM where a copy follows; the second ends the process as ever."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM) if follow else ()
    before = {number: signal.getsignal(number) for number in numbers}

    def set_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        for other, handler in before.items():
            signal.signal(other, handler)

    for number in numbers:
        signal.signal(number, set_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
