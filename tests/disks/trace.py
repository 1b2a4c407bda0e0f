"""What processes did to the files of one folder, recorded by strace, in the order in which it happened."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from crash.tracing import strace

CHANGES = (
    "pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,sync_file_range,msync,ftruncate,truncate,"
    "fallocate,openat,open,creat,unlink,unlinkat,rename,renameat,renameat2,link,linkat"
)
"""Every call that may change a file, make it durable, or change a name."""

STRING_BYTES_MAX = 1_000_000

LEFT_OUT = ("-shm", "-lock")
"""Ends of names of files that mean nothing after a loss of power.

SQLite's index of the WAL is written through memory, which strace cannot see, and made anew by whoever
comes first; of the lock file nothing counts but who has it open.
"""


class Wrote(NamedTuple):
    name: str
    offset: int
    content: bytes


class Truncated(NamedTuple):
    name: str
    size: int


class Created(NamedTuple):
    """Opened in such a way that it is made where it is not there yet."""

    name: str


class Unlinked(NamedTuple):
    name: str


class Synced(NamedTuple):
    """A file; the folder itself where ``name`` is empty."""

    name: str
    ok: bool


class Told(NamedTuple):
    """What a process has told the outside: from now on it may rely on it."""

    text: str


Op = Wrote | Truncated | Created | Unlinked | Synced | Told


class Unclear(Exception):
    """The trace does not say whether something was done, as when a process was killed in the middle of it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What was done to a folder that was empty at first, and how it looked in the end."""

    ops: Sequence[Op]
    looks: dict[str, bytes]
    status: int


def record(command: Sequence[str], folder: Path, told: Path, *, inject: Sequence[str] = ()) -> Recording:
    """Run a command that works in this folder and writes to ``told`` what it tells.

    ``inject`` is what strace is to do to its calls, in strace's words.
    """
    # The quick way stops a process at the calls that are traced only, and there strace sends no signals.
    quick = [] if any("signal=" in one for one in inject) else ["--seccomp-bpf"]
    folder.mkdir()
    trace = told.with_suffix(".trace")
    traced = subprocess.run(
        [
            *(strace(), "-f", *quick, "-qq", "-y", "-xx", "-s", str(STRING_BYTES_MAX)),
            *("-o", str(trace), "-e", f"trace={CHANGES}", "-e", "signal=none"),
            *(f"--inject={one}" for one in inject),
            *command,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    looks = {path.name: path.read_bytes() for path in folder.iterdir() if not _is_left_out(path.name)}
    ops = list(parse(trace.read_text().splitlines(), folder, told))
    trace.unlink()
    if not ops:
        raise AssertionError(f"Nothing was recorded (exit {traced.returncode}): {traced.stderr}")
    return Recording(ops, looks, traced.returncode)


def _is_left_out(name: str) -> bool:
    return name.endswith(LEFT_OUT)


# ------------------------------------------------------------------------------------ the words of strace

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<(.*?)>)?(?: .*)?")
_KILLED_SYNC = re.compile(r"((?:fdatasync|fsync)\(.*?)\)? +(?:= \?|<unfinished \.\.\.>)")
_FILE = re.compile(r"\d+<(.*?)>(\(deleted\))?")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")


def parse(lines: Sequence[str], folder: Path, told: Path) -> Iterator[Op]:
    """What the lines of a trace come to. A call that others ran beside counts where it ended."""
    reader = _Reader(str(folder), str(told))
    begun: dict[str, str] = {}
    for line in lines:
        matched = _LINE.fullmatch(line)
        if matched is None or matched[2].startswith(("+++", "---")):
            continue
        process, text = matched.groups()
        if text.endswith(" <unfinished ...>"):
            begun[process] = text.removesuffix(" <unfinished ...>")
            continue
        if resumed := _RESUMED.fullmatch(text):
            text = begun.pop(process) + resumed[2]
        yield from reader.call(text)
    for text in begun.values():
        yield from reader.call(f"{text} <unfinished ...>")


class _Reader:
    """Turns calls into what they did to the folder, if anything."""

    def __init__(self, folder: str, told: str) -> None:
        self._folder = folder
        self._told = told

    def concerns(self, text: str) -> bool:
        return self._folder in _HEX.sub(lambda found: _bytes(found[0]).decode("latin-1"), text)

    def call(self, text: str) -> Iterator[Op]:
        # Of a process killed in a sync nobody will know what became of it: the worst.
        text = _KILLED_SYNC.sub(r"\1) = -1", text)
        matched = _CALL.fullmatch(text)
        if matched is None:
            # What nobody may have heard was not promised.
            if not text.startswith("write(") and self.concerns(text):
                raise Unclear(text[:200])
            return
        call, arguments, result, opened = matched[1], matched[2].split(", "), int(matched[3]), matched[4]
        first = _FILE.fullmatch(arguments[0])
        path = _text(first[1]) if first else ""
        match call:
            case "write" if path == self._told:
                yield Told(_text(arguments[1]))
            case "openat" if result >= 0 and "O_CREAT" in arguments[2]:
                yield from self._at(_text(opened or ""), Created)
            case "unlink" if result >= 0:
                yield from self._at(_text(arguments[0]), Unlinked)
            case "pwrite64" if result >= 0:
                content = _bytes(arguments[1])
                if len(content) == result:
                    name = self._name(path)
                    if name is not None:
                        yield Wrote(name, int(arguments[3]), content)
                elif self._name(path) is not None:
                    raise Unclear(f"{result} of {len(content)} bytes were written: {text[:200]}")
            case "ftruncate" if result >= 0:
                name = self._name(path)
                if name is not None:
                    yield Truncated(name, int(arguments[1]))
            case "fdatasync" | "fsync":
                if path == self._folder:
                    yield Synced("", result == 0)
                elif (name := self._name(path)) is not None:
                    yield Synced(name, result == 0)
            case "openat" | "open" | "unlink" | "pwrite64" | "ftruncate":
                # Nothing came of it.
                pass
            case _:
                if self.concerns(text):
                    raise AssertionError(f"The disk has no such thing: {text[:200]}")

    def _at(self, path: str, make: type[Created] | type[Unlinked]) -> Iterator[Op]:
        name = self._name(path)
        if name is not None:
            yield make(name)

    def _name(self, path: str) -> str | None:
        """The name of a file of the folder; None for all others."""
        folder, _, name = path.rpartition("/")
        return name if folder == self._folder and not _is_left_out(name) else None


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.strip('"').replace("\\x", ""))


def _text(text: str) -> str:
    """A path or text as strace writes it."""
    return _HEX.sub(lambda found: _bytes(found[0]).decode("latin-1"), text).strip('"')
