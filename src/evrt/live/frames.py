"""Frames of streaming text, and how a reader puts them together: pure.

A frame lies at an offset in the text of one attempt under one claim of its run. A reader that meets a higher claim or
attempt throws away what it has: that text was another's, and no message came of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

GAP = "…"
"""Stands in a reader's text where frames are missing."""


class Frame(NamedTuple):
    """A piece of a model's text. ``offset`` counts characters from where the attempt began."""

    run: str
    operation: str
    attempt: int
    epoch: int
    offset: int
    text: str


class Place(NamedTuple):
    """How far an operation's text has been read. Places are ordered: by claim, by attempt, by offset."""

    epoch: int
    attempt: int
    offset: int


DeltaKind: TypeAlias = Literal["text", "reset", "end"]


class Delta(NamedTuple):
    """What a reader of a run is told.

    kind
        ``text``: more of it, at ``offset``; where that is beyond the end of what was told before, something is missing.
        ``reset``: what was told of this operation is void, it begins anew at offset 0.
        ``end``: its message, or its failure, is in the log, and no more comes of this attempt.
    """

    kind: DeltaKind
    operation: str
    attempt: int
    epoch: int
    offset: int
    text: str

    @property
    def end(self) -> Place:
        """Where the reader is after it."""
        return Place(self.epoch, self.attempt, self.offset + len(self.text))


def advance(place: Place | None, frame: Frame) -> list[Delta]:
    """What a frame says to somebody who has read up to a place: nothing, more text, or that it begins anew."""
    begins = Place(frame.epoch, frame.attempt, 0)
    told: list[Delta] = []
    if place is None or place[:2] < begins[:2]:
        if place is not None:
            told.append(Delta("reset", frame.operation, frame.attempt, frame.epoch, 0, ""))
        place = begins
    if place[:2] > begins[:2]:
        return []
    known = max(0, place.offset - frame.offset)
    if text := frame.text[known:]:
        offset = frame.offset + known
        told.append(Delta("text", frame.operation, frame.attempt, frame.epoch, offset, text))
    return told


class Shown(NamedTuple):
    """An operation's text so far, and how far that goes."""

    end: Place
    text: str


def show(shown: Shown | None, delta: Delta) -> Shown:
    """The text so far, after one more delta of its operation."""
    if shown is None or delta.kind == "reset":
        shown = Shown(Place(delta.epoch, delta.attempt, 0), "")
    gap = GAP if delta.offset > shown.end.offset else ""
    return Shown(delta.end, shown.text + gap + delta.text)


def fold_frames(frames: Iterable[Frame]) -> dict[str, Shown]:
    """The text so far of each operation, from frames in any order that keeps each attempt's own."""
    shown: dict[str, Shown] = {}
    for frame in frames:
        before = shown.get(frame.operation)
        for delta in advance(before.end if before else None, frame):
            shown[frame.operation] = show(shown.get(frame.operation), delta)
    return shown
