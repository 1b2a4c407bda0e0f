"""A log copied to another place and store, row by row, and moved there: what ``evrt db copy`` does.

Positions, ids, times, versions and leaves stay, so proofs, trees and whatever counts by positions stay good. Every
event is built again from its row before it is written, and read back from the copy before that is called whole. A
copy that was broken off at any moment goes on where it ends: what is there has to be the beginning of the same log.

Until it is whole, the copy says so and takes nothing from anybody else. A move seals the log first and copies the
rest then, so nothing can come in between; from the seal on the old place can only be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import NamedTuple, Protocol

from evrt.audit.tiles import GrowingTree
from evrt.errors import Conflict, TreeDisagrees, UnusableLog, UsageError
from evrt.log.beside import BLOBS, TABLES, Difference, Table, carried, differences
from evrt.log.contract import Recorded
from evrt.log.ends import BlobPiece, Source, Target, open_source, open_target
from evrt.log.entry import payload_digest
from evrt.log.standing import Origin
from evrt.log.walk import BlobRow, Rows, Step, prove_step

BATCH_EVENTS = 2_000
BATCH_BYTES = 8 * 1024 * 1024
"""A transaction of the copy is beyond one of these, and no further."""

BATCH_ROWS = 2_000
"""Rows beside the events that one transaction changes."""

LEVEL_EVENTS = 1_000
"""When no more than these are missing, the rest is copied as of one moment, or after the seal."""

ROUNDS_MAX = 100
"""So often a copy runs after those who write before it takes the rest as of one moment, however much that is."""


class Teller(Protocol):
    """Who is told how a copy comes on."""

    def copying(self, done: int, total: int) -> None:
        """So many events are there, of so many."""
        ...

    def reading_back(self, done: int, total: int) -> None: ...

    def level(self, position: int) -> None:
        """The copy has come up with the log, for the first time."""
        ...

    def sealed(self, position: int) -> None:
        """The log takes nothing more; its last event has this position."""
        ...

    def waits(self) -> bool:
        """Wait a moment before a copy that follows looks for more. Whether it is to look."""
        ...


class Copied(NamedTuple):
    """What a copy came to: events it holds and those copied now, how many are erased, blobs, the root of its tree."""

    log: str
    source: str
    target: str
    events: int
    copied: int
    erased: int
    blobs: int
    root: bytes
    moved: bool


def copy(
    source_url: str, target_url: str, *, teller: Teller, follow: bool = False, switch: bool = False
) -> Copied:
    """Copy the log at one URL to another, or go on with that. Blocks; run it in a thread where an event loop runs.

    ``follow``: keep up with a log that is being written as long as ``teller.waits``. ``switch``: when the copy is
    level, seal the log and have the copy take its place.

    Raises UsageError (the same place), NotFound, Conflict (something else is there), TreeDisagrees (an event is not
    what was recorded), Denied, UnusableLog, Unavailable; what has been copied stays, and the next call goes on.
    """
    with closing(open_source(source_url)) as source, closing(open_target(target_url)) as target:
        if target.is_same_as(source):
            raise UsageError(
                f"{target.place} is the log that is to be copied. Name another place for the copy."
            )
        return _Copy(source, target, teller).run(follow=follow, switch=switch)


@dataclass(slots=True)
class _Copy:
    source: Source
    target: Target
    teller: Teller
    begun_at: int = 0
    position: int = 0
    """Of the last event that the copy has."""
    read_back: int = 0
    """Up to here the copy has been read back."""
    tree: GrowingTree = field(default_factory=lambda: GrowingTree(lambda tile, content: None))

    def run(self, *, follow: bool, switch: bool) -> Copied:
        rows, target = self.source.rows, self.target
        if switch:
            self.source.check_sealable()
        self.check_target()
        target.begin(Origin(rows.id, rows.created, rows.place), self.position)
        self.begun_at = self.position
        self.come_level(follow=follow and not switch)
        if switch:
            # What can be done before is, for nobody can write between the seal and the end.
            self.read_back_upto(self.position)
            self.beside()
            self.source.seal(target.place)
            self.teller.sealed(rows.position())
        with rows.moment():
            self.events_upto(rows.position())
            self.read_back_upto(self.position)
            erased = self.erasures()
            blobs = self.beside()
        target.finish()
        return Copied(
            log=rows.id,
            source=rows.place,
            target=target.place,
            events=self.position,
            copied=self.position - self.begun_at,
            erased=erased,
            blobs=blobs,
            root=self.tree.root(),
            moved=self.source.standing().moved_to == target.place,
        )

    # ------------------------------------------------------------------------- what is there

    def check_target(self) -> None:
        """Raises Conflict unless what is there is the beginning of this log."""
        source, target = self.source, self.target
        if not target.is_there:
            return
        with target.rows() as there:
            if there.id != source.rows.id:
                raise Conflict(
                    f"There is another log at {target.place}: {there.id}, and {source.rows.place} is {source.rows.id}. "
                    "It has been left as it is; name another place."
                )
            moved_to, unfinished = source.standing().moved_to, target.standing().copied_from
            if moved_to is not None and unfinished is None and target.standing().moved_to is None:
                raise Conflict(
                    f"{source.rows.place} has moved to {moved_to} already, and {target.place} is a log of its own by "
                    "now. Nothing has been changed."
                )
            self.check_prefix(there)

    def check_prefix(self, there: Rows) -> None:
        rows = self.source.rows
        end, upto = rows.position(), there.position()
        if upto > end:
            raise Conflict(
                f"{there.place} ends at position {upto} and {rows.place} at {end}: it has been written since it was "
                "copied, and cannot be brought level. Name another place."
            )
        pairs = zip(rows.leaves(after=0, upto=upto), there.leaves(after=0, upto=upto), strict=True)
        for (position, leaf), other in pairs:
            if (position, leaf) != other:
                raise Conflict(
                    f"{there.place} is not the beginning of {rows.place}: from position {position} on they differ, for "
                    "both have been written since one was copied from the other. Name another place."
                )
        self.position = upto

    # ---------------------------------------------------------------------------- the events

    def come_level(self, *, follow: bool) -> None:
        """Copy until little is missing; then go on as long as somebody wants to follow."""
        rows = self.source.rows
        for _ in range(ROUNDS_MAX):
            end = rows.position()
            if end - self.position <= LEVEL_EVENTS:
                break
            self.events_upto(end)
        if not follow:
            return
        self.beside()
        told = False
        while True:
            end = rows.position()
            self.events_upto(end)
            self.read_back_upto(end)
            if not told:
                self.teller.level(end)
                told = True
            if not self.teller.waits():
                return

    def events_upto(self, end: int) -> None:
        batch: list[Step] = []
        size = 0
        for page in self.source.rows.steps(after=self.position, upto=end):
            for step in page:
                self.check_step(step, self.position + len(batch) + 1)
                batch.append(step)
                size += len(step.event.meta) + len(step.event.payload or b"")
                if len(batch) >= BATCH_EVENTS or size >= BATCH_BYTES:
                    self.write(batch, end)
                    batch, size = [], 0
        if batch:
            self.write(batch, end)
        if self.position < end:
            raise TreeDisagrees(
                f"{self.source.rows.place} has no event at position {self.position + 1}, though it has later ones. "
                "`evrt db check` finds what else is wrong."
            )

    def check_step(self, step: Step, position: int) -> None:
        """Raises TreeDisagrees unless it is the event of this position, and what was recorded."""
        rows = self.source.rows
        if step.event.position != position:
            raise TreeDisagrees(
                f"{rows.place} has no event at position {position}, though it has later ones. "
                "`evrt db check` finds what else is wrong."
            )
        prove_step(rows, step)
        prove_payload(rows.place, step.event)

    def write(self, batch: list[Step], end: int) -> None:
        self.target.write(batch)
        self.position = batch[-1].event.position
        self.teller.copying(self.position, end)

    def read_back_upto(self, end: int) -> None:
        """Build every event of the copy again, from its row there, and hold it against the log's."""
        if self.read_back >= end:
            return
        rows = self.source.rows
        leaves = rows.leaves(after=self.read_back, upto=end)
        with self.target.rows() as there:
            for step in flat(there.steps(after=self.read_back, upto=end)):
                prove_step(there, step)
                prove_payload(there.place, step.event)
                position, leaf = next(leaves, (0, b""))
                if (step.event.position, step.event.leaf) != (position, leaf):
                    raise TreeDisagrees(
                        f"The event at position {step.event.position} of {there.place} is not that of {rows.place}. "
                        "The copy is not finished; `evrt db check` tells which of the two is sound."
                    )
                self.tree.add(leaf, b"")
                if position % BATCH_EVENTS == 0:
                    self.teller.reading_back(position, end)
        if self.tree.size != end:
            raise TreeDisagrees(
                f"{self.target.place} holds {self.tree.size} of the {end} events that were written to it."
            )
        self.read_back = end

    def erasures(self) -> int:
        """Erase in the copy what has been erased in the log since; how many events of the log are erased."""
        number = 0
        missing: list[int] = []
        with self.target.rows() as there:
            erased = there.erased(upto=self.position)
            other = next(erased, None)
            for position in self.source.rows.erased(upto=self.position):
                number += 1
                while other is not None and other < position:
                    other = next(erased, None)
                if position != other:
                    missing.append(position)
        for start in range(0, len(missing), BATCH_ROWS):
            self.target.erase(missing[start : start + BATCH_ROWS])
        return number

    # ---------------------------------------------------------------------- beside the events

    def beside(self) -> int:
        """Bring all that stands beside the events to what the log has; how many blobs it has."""
        blobs = self.blobs()
        for table in TABLES:
            with self.target.rows() as there:
                self.change(table, self.differences(table, there))
        return blobs

    def differences(self, table: Table, there: Rows) -> Iterator[Difference]:
        return differences(table, carried(table, self.source.rows.table(table)), there.table(table))

    def change(self, table: Table, found: Iterable[Difference]) -> None:
        following = iter(found)
        while batch := list(islice(following, BATCH_ROWS)):
            self.target.change(table, batch)

    def blobs(self) -> int:
        """Pieces come before the row that leads to them, and go after it."""
        with self.target.rows() as there:
            found = list(self.differences(BLOBS, there))
        number = 0
        wanted = {one.key[0] for one in found if one.row is not None}
        for blob in self.source.rows.blobs():
            number += 1
            if blob.id in wanted:
                self.pieces(blob)
        self.change(BLOBS, found)
        gone = [one.key[0] for one in found if one.row is None]
        if gone:
            self.target.drop_pieces(gone)
        return number

    def pieces(self, blob: BlobRow) -> None:
        hashed = sha256()
        size = 0
        batch: list[BlobPiece] = []
        for number, content in self.source.rows.blob_pieces(blob.id):
            hashed.update(content)
            batch.append(BlobPiece(blob.id, number, content))
            size += len(content)
            if size >= BATCH_BYTES:
                self.target.write_pieces(batch)
                batch, size = [], 0
        if hashed.digest() != blob.digest:
            raise UnusableLog(
                f"Blob {blob.digest.hex()} of {self.source.rows.place} does not hold the bytes that were written. Erase "
                "it, or take it from a copy; then copy again."
            )
        if batch:
            self.target.write_pieces(batch)


def prove_payload(place: str, event: Recorded) -> None:
    """Raises TreeDisagrees for a payload that is not the one that was recorded, unless it has been erased."""
    salt, payload = event.salt, event.payload
    if salt is None and payload is None:
        return
    if salt is None or payload is None or payload_digest(salt, payload) != event.payload_digest:
        raise TreeDisagrees(
            f"The event at position {event.position} of {place} is not what was recorded: its payload is not the one "
            "whose digest it has. `evrt db check` finds what else is wrong."
        )


def flat(pages: Iterable[Iterable[Step]]) -> Iterator[Step]:
    """The events of all pages."""
    for page in pages:
        yield from page
