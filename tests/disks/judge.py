"""What must hold of a log that has been found again, given what had been told before. Pure.

It computes every leaf again, and knows nothing of how the log was written or what has been lost.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import orjson

from evrt.log.contract import Head, Recorded
from evrt.log.entry import build_entry, leaf_hash, payload_digest


class Answered(NamedTuple):
    """A request that was answered: its name, and where its events were said to be."""

    request: str
    first: int
    events: int


@dataclass(slots=True)
class Promises:
    """What has been told so far."""

    log: str | None = None
    answered: list[Answered] = field(default_factory=list)
    erasing: dict[int, bytes] = field(default_factory=dict)
    """How the payload of each event begins that is to be erased, or has been."""
    erased: set[int] = field(default_factory=set)

    def hear(self, text: str) -> None:
        match json.loads(text):
            case {"opened": log}:
                self.log = log
            case {"recorded": request, "first": first, "events": events}:
                self.answered.append(Answered(request, first, events))
            case {"erasing": position, "payload": beginning}:
                self.erasing[position] = bytes.fromhex(beginning)
            case {"erased": position}:
                self.erased.add(position)
            case other:
                raise AssertionError(f"Nobody knows what {other} promises.")

    def gone(self) -> list[bytes]:
        """What may not be in any file any more."""
        return [self.erasing[position] for position in self.erased]

    @property
    def count(self) -> int:
        """How often something has been promised."""
        return len(self.answered) + len(self.erasing) + len(self.erased) + (self.log is not None)


@dataclass(frozen=True, slots=True)
class Found:
    """A log as it was found: its id, all of its events, and the heads of its streams."""

    log: str
    events: Sequence[Recorded]
    heads: Mapping[str, Head]


def violations(found: Found, promises: Promises, history: Sequence[Recorded] | None) -> list[str]:
    """Everything that is wrong. ``history`` is the whole log, where nothing was ever taken back from it."""
    damage = [*_chain(found), *_heads(found)]
    return damage or [
        *_requests(found),
        *_promised(found, promises),
        *([] if history is None else _prefix(found, history)),
    ]


def _chain(found: Found) -> Iterator[str]:
    """Positions dense, times that never fall, versions contiguous, each leaf the hash of its entry (I1, I2, I14)."""
    last_time = 0
    ends: dict[str, tuple[int, bytes | None]] = {}
    for position, event in enumerate(found.events, start=1):
        if event.position != position:
            yield f"Damaged: at place {position} is position {event.position}."
        if event.time < last_time:
            yield f"Damaged: event {position} is older than the one before it."
        last_time = event.time
        version, leaf = ends.get(event.stream, (0, None))
        if event.version != version + 1:
            yield f"Damaged: event {position} is version {event.version} of its stream, after {version}."
        yield from _leaf_problems(found.log, event, leaf)
        ends[event.stream] = (event.version, event.leaf)


@lru_cache(maxsize=20_000)
def _leaf_problems(log: str, event: Recorded, prev: bytes | None) -> tuple[str, ...]:
    """Computed once for each different event, for most states of a disk hold the same ones."""
    entry = build_entry(
        log=log,
        position=event.position,
        time=event.time,
        event_id=event.event_id,
        stream=event.stream,
        version=event.version,
        prev=prev,
        type=event.type,
        correlation=event.correlation,
        meta=event.meta,
        payload_length=event.payload_length,
        payload_digest=event.payload_digest,
    )
    problems = []
    if leaf_hash(entry) != event.leaf:
        problems.append(f"Damaged: the leaf of event {event.position} is not the hash of its entry.")
    if event.payload is None or event.salt is None:
        if event.payload is not event.salt:
            problems.append(f"Damaged: event {event.position} has only one of payload and salt.")
    elif payload_digest(event.salt, event.payload) != event.payload_digest:
        problems.append(f"Damaged: the payload of event {event.position} is another.")
    return tuple(problems)


def _heads(found: Found) -> Iterator[str]:
    last = {event.stream: (event.version, event.leaf) for event in found.events}
    heads = {name: (head.version, head.leaf) for name, head in found.heads.items()}
    if last != heads:
        yield f"Damaged: the heads of the streams {sorted(heads)} are not their last events."


def _requests(found: Found) -> Iterator[str]:
    """All of a request or nothing (I3)."""
    there = Counter(_place(event.meta)[0] for event in found.events)
    whole = {_place(event.meta)[0]: _place(event.meta)[2] for event in found.events}
    for request, count in there.items():
        if count != whole[request]:
            yield f"Torn: {count} of the {whole[request]} events of {request} are there."


@lru_cache(maxsize=20_000)
def _place(meta: bytes) -> tuple[str, int, int]:
    """To which request an event belongs, as which of how many."""
    value = orjson.loads(meta)
    return value["request"], value["number"], value["events"]


def _promised(found: Found, promises: Promises) -> Iterator[str]:
    """What has been told is so (I4, I18)."""
    if promises.log is not None and found.log != promises.log:
        yield f"Lost: the log {promises.log} had been opened, and now it is {found.log}."
    for request, first, events in promises.answered:
        there = [_place(event.meta) for event in found.events[first - 1 : first - 1 + events]]
        if there != [(request, number, events) for number in range(events)]:
            yield f"Lost: {request} had been answered with positions {first} to {first + events - 1}."
    for event in found.events:
        if event.payload is None and event.position not in promises.erasing:
            yield f"Lost: the payload of event {event.position}, which nobody erased."
        if event.payload is not None and event.position in promises.erased:
            yield f"Back again: the payload of event {event.position}, which had been erased."


def _prefix(found: Found, history: Sequence[Recorded]) -> Iterable[str]:
    """Nothing is there that was not written so (I1)."""
    leaves = [event.leaf for event in found.events]
    if leaves != [event.leaf for event in history[: len(leaves)]]:
        yield "Changed: what is there is not a beginning of what was written."
