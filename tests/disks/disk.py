"""A disk as a program may count on it: what was synced stays, and of the rest any part may be there. Pure.

Content lives in sectors of 512 bytes. Until a file is synced, each of its sectors may come out of a
loss of power in any of the versions that were written since, or torn between two of them; its size
may be any that it had; and names that were made or removed may be as they were. Two models of names:

``JOURNAL``  as on ext4: they change in order, and syncing a file that is new or has grown commits
             every change before it.
``POSIX``    nothing but a sync of the folder commits them, and each name may come out by itself.

A sync that fails drops what it was to write, for good: the program still reads it, from memory, and
a later sync that succeeds does not write it again (what Linux did and may do).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Literal, NamedTuple, TypeVar

SECTOR = 512

T = TypeVar("T")

Names = Literal["journal", "posix"]


@dataclass(slots=True, eq=False)
class File:
    """One file, whatever its name. ``seen`` is what programs read, ``durable`` what has reached the disk."""

    durable: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)
    versions: dict[int, list[bytes]] = field(default_factory=dict)
    """By sector: what has been written there since the last sync, oldest first."""
    sizes: list[int] = field(default_factory=list)
    """The sizes that it has had since the last sync."""
    shortest: int | None = None
    """The smallest of them."""

    def write(self, offset: int, content: bytes) -> None:
        if not content:
            return
        end = offset + len(content)
        if end > len(self.seen):
            self.seen.extend(bytes(end - len(self.seen)))
            self.sizes.append(end)
        self.seen[offset:end] = content
        for sector in range(offset // SECTOR, (end - 1) // SECTOR + 1):
            if sector not in self.versions:
                # After a cut it may also have come back as nothing.
                cut = self.shortest is not None and sector * SECTOR >= self.shortest
                self.versions[sector] = [bytes(SECTOR)] if cut else []
            self.versions[sector].append(bytes(self.seen[sector * SECTOR : (sector + 1) * SECTOR]))

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self.seen.extend(bytes(size - len(self.seen)))
        self.sizes.append(size)
        self.shortest = size if self.shortest is None else min(size, self.shortest)

    def was(self, sector: int) -> bytes:
        """What the disk held there at the last sync."""
        return bytes(self.durable[sector * SECTOR : (sector + 1) * SECTOR])

    def sync(self) -> None:
        for sector, versions in self.versions.items():
            _put(self.durable, sector, versions[-1])
        self._set_size()
        self.versions.clear()
        self.sizes.clear()
        self.shortest = None

    def fail_sync(self) -> None:
        """Drop what has not been written. The size is kept elsewhere, and may still get there."""
        self.versions.clear()

    def _set_size(self) -> None:
        size = len(self.seen)
        del self.durable[size:]
        self.durable.extend(bytes(size - len(self.durable)))


def _put(content: bytearray, sector: int, value: bytes) -> None:
    begin = sector * SECTOR
    if begin + len(value) > len(content):
        content.extend(bytes(begin + len(value) - len(content)))
    content[begin : begin + len(value)] = value


class Sector(NamedTuple):
    """A sector of which it is not decided which version the disk has, the first being the oldest."""

    file: File
    number: int
    values: Sequence[bytes]


class Size(NamedTuple):
    """A file of which it is not decided how long it is."""

    file: File
    values: Sequence[int]


class Name(NamedTuple):
    """A name of which it is not decided what it stands for, if anything."""

    name: str
    values: Sequence[File | None]


class Changes(NamedTuple):
    """How many of the changes of names are done, where they are done in order."""

    values: Sequence[int]


Piece = Sector | Size | Name | Changes
"""One thing that is undecided, with its possible values."""


class Torn(NamedTuple):
    """A sector that is of one version as far as this byte, and of another from there."""

    head: int
    tail: int
    at: int


Choice = Sequence[int | Torn]
"""For each piece the index of its value."""


class Disk:
    """One folder of files, as it looks and as it may turn out to be."""

    def __init__(self, names: Names) -> None:
        self._model = names
        self._seen: dict[str, File] = {}
        self._durable: dict[str, File] = {}
        self._changes: list[tuple[str, File | None]] = []
        """Names made (with their file) and removed since they were last committed, in order."""

    # ------------------------------------------------------------------------ what programs do

    def __contains__(self, name: str) -> bool:
        return name in self._seen

    def create(self, name: str) -> None:
        self._name(name, File())

    def unlink(self, name: str) -> None:
        self._name(name, None)

    def rename(self, old: str, new: str) -> None:
        file = self._seen[old]
        self._name(new, file)
        self._name(old, None)

    def write(self, name: str, offset: int, content: bytes) -> None:
        self._seen[name].write(offset, content)

    def truncate(self, name: str, size: int) -> None:
        self._seen[name].truncate(size)

    def sync(self, name: str) -> None:
        file = self._seen[name]
        new = any(changed is file for _, changed in self._changes)
        if self._model == "journal" and (new or file.sizes):
            self.sync_folder()
        file.sync()

    def fail_sync(self, name: str) -> None:
        self._seen[name].fail_sync()

    def sync_folder(self) -> None:
        self._durable = dict(self._seen)
        self._changes.clear()

    def looks(self) -> dict[str, bytes]:
        """What programs see."""
        return {name: bytes(file.seen) for name, file in self._seen.items()}

    def _name(self, name: str, file: File | None) -> None:
        _rename(self._seen, name, file)
        self._changes.append((name, file))

    # ------------------------------------------------------------------- what may be left of it

    def pieces(self) -> list[Piece]:
        """Everything that is undecided now."""
        found: list[Piece] = list(self._undecided_names())
        for file in self._files():
            sizes = _changes([len(file.durable), *file.sizes])
            if len(sizes) > 1:
                found.append(Size(file, sizes))
            for number, versions in file.versions.items():
                values = _changes([file.was(number), *versions])
                if len(values) > 1:
                    found.append(Sector(file, number, values))
        return found

    def _undecided_names(self) -> Iterator[Piece]:
        if self._model == "journal" and self._changes:
            yield Changes(range(len(self._changes) + 1))
        elif self._changes:
            for name in dict.fromkeys(name for name, _ in self._changes):
                made = [file for changed, file in self._changes if changed == name]
                yield Name(name, [self._durable.get(name), *made])

    def _files(self) -> list[File]:
        """Every file that may be found again, each once."""
        files = [*self._durable.values(), *(file for _, file in self._changes if file is not None)]
        return list(dict.fromkeys(files))

    def state(self, pieces: Sequence[Piece], choice: Choice, noise: random.Random | None) -> dict[str, bytes]:
        """What the disk holds after a loss of power that came out so.

        What a file has grown over and not written is zeros, or with ``noise`` what lay there before.
        """
        names = dict(self._durable)
        sizes: dict[File, int] = {}
        sectors: dict[File, list[tuple[int, bytes]]] = {}
        for piece, index in zip(pieces, choice, strict=True):
            match piece, index:
                case Sector(file, number, values), int():
                    sectors.setdefault(file, []).append((number, values[index]))
                case Sector(file, number, values), Torn(head, tail, at):
                    torn = values[head][:at].ljust(at, b"\0") + values[tail][at:]
                    sectors.setdefault(file, []).append((number, torn))
                case Size(file, lengths), int():
                    sizes[file] = lengths[index]
                case Name(name, files), int():
                    _rename(names, name, files[index])
                case Changes(), int():
                    for name, changed in self._changes[:index]:
                        _rename(names, name, changed)
        return {
            name: _content(file, sizes.get(file, len(file.durable)), sectors.get(file, ()), noise)
            for name, file in names.items()
        }


def _changes(values: Sequence[T]) -> list[T]:
    """Without those that are as the one before."""
    return [value for number, value in enumerate(values) if number == 0 or value != values[number - 1]]


def _rename(names: dict[str, File], name: str, file: File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


def _content(
    file: File, size: int, chosen: Sequence[tuple[int, bytes]], noise: random.Random | None
) -> bytes:
    content = bytearray(file.durable[:size])
    grown = size - len(content)
    content.extend(noise.randbytes(grown) if noise is not None else bytes(grown))
    for sector, value in chosen:
        begin = sector * SECTOR
        if begin < size:
            value = value[: size - begin]
            content[begin : begin + len(value)] = value
    return bytes(content)


# ------------------------------------------------------------------------------- which of them all

TORN = 0.1
"""Share of the sectors drawn by lot that are torn."""


WHOLE = 0.6
"""Share of the files drawn by lot that have the size that they had last."""


def count(pieces: Sequence[Piece]) -> int:
    """How many states there are, tears apart."""
    return prod(len(piece.values) for piece in pieces)


def every(pieces: Sequence[Piece]) -> Iterator[Choice]:
    """All of them, where they are few."""
    return product(*(range(len(piece.values)) for piece in pieces))


def extremes(pieces: Sequence[Piece]) -> Iterator[Choice]:
    """All old, all new, each one alone against the others, and all up to each one."""
    old = [0] * len(pieces)
    new = [len(piece.values) - 1 for piece in pieces]
    yield old
    yield new
    for place in range(len(pieces)):
        yield [*old[:place], new[place], *old[place + 1 :]]
        yield [*new[:place], 0, *new[place + 1 :]]
        yield [*new[:place], *old[place:]]


def draw(pieces: Sequence[Piece], chance: random.Random) -> Choice:
    """One state by lot; few or many pieces of it are new, for either kind has its own bugs."""
    newness = chance.choice((0.1, 0.5, 0.9))
    return [_draw(piece, newness, chance) for piece in pieces]


def _draw(piece: Piece, newness: float, chance: random.Random) -> int | Torn:
    last = len(piece.values) - 1
    if isinstance(piece, Sector) and chance.random() < TORN:
        return Torn(chance.randint(0, last), chance.randint(0, last), chance.randrange(SECTOR))
    if isinstance(piece, Size) and chance.random() < WHOLE:
        # In a file that has come out short, nothing beyond its end makes any difference.
        return last
    return chance.randint(1, last) if chance.random() < newness else 0


def share(counts: Mapping[int, int], wanted: int) -> dict[int, int]:
    """How many states to try at each point, so that it comes to as many as wanted: all where there are few."""
    shares: dict[int, int] = {}
    left = wanted
    for number, point in enumerate(sorted(counts, key=lambda point: counts[point])):
        shares[point] = min(counts[point], left // (len(counts) - number))
        left -= shares[point]
    return shares
