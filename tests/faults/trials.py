"""Lives under faults, one after the other, each judged; and what the calls of a life say about its recovery."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evrt.log import Append, open_log
from faults.injecting import Fault, Nursery, failed
from faults.judge import violations
from faults.life import DATABASE, Story, draft

AT_LEAST = {
    "pwrite64": 80,
    "fdatasync": 18,
    "fsync": 2,
    "ftruncate": 4,
    "openat": 12,
    "unlink": 3,
    "pread64": 30,
    "mmap": 1,
    "flock": 12,
    "newfstatat": 50,
}
"""Calls of each kind that a life makes. With fewer, the faults have missed their target and nothing was tried."""


class Trial(NamedTuple):
    """A life under a fault: what its worker was told, its calls, and what is wrong."""

    fault: Fault
    story: Story
    calls: Sequence[str]
    wrong: list[str]

    @property
    def refusals(self) -> list[str]:
        """What appends were refused for, other than by what the log holds."""
        return [told["text"] for told in self.story["told"] if told["error"] == "Unavailable"]


class Trials:
    """Each life has a folder of its own, which is kept if something is wrong with it."""

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self._nursery = nursery
        self._folder = folder
        self._numbers = itertools.count(1)

    def live(self, fault: Fault, **how: Any) -> Trial:
        """For ``how`` see ``Nursery.live``."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        story, calls = self._nursery.live(folder, fault, **how)
        wrong = violations(story, folder / DATABASE) or asyncio.run(goes_on(folder / DATABASE))
        if not wrong:
            shutil.rmtree(folder)
        return Trial(fault, story, calls, [f"{violation} ({fault}, {folder})" for violation in wrong])

    def each(self, call: str, error: str, when: str, **how: Any) -> Iterator[Trial]:
        """A life for each n, until no call is left to fail. In ``when``, {0} is n, {1} is n + 1 and so on."""
        for n in itertools.count(1):
            trial = self.live(Fault(call, error, when.format(*range(n, n + 9))), **how)
            if failed(trial.calls) == 0:
                if how.get("dies") != "when refused":
                    assert n > AT_LEAST[call]
                return
            yield trial


async def goes_on(path: Path) -> list[str]:
    """What is wrong with the log once the disk is well: another process opens it and appends."""
    async with aclosing(await open_log(f"sqlite:///{path}")) as log:
        appended = await log.append(Append([draft("after")], {}))
        rows = await log.read()
    return [] if rows[-1].position == appended.position == len(rows) else ["Another process cannot go on."]


# ---------------------------------------------------------------------------------- reading the calls


class Call(NamedTuple):
    """A system call: the end of its file's name behind that of the database, and what strace says it came to."""

    thread: str
    name: str
    suffix: str
    outcome: str

    @property
    def made_to_fail(self) -> bool:
        return "(INJECTED)" in self.outcome


def a_sync_of_the_wal_failed(lines: Sequence[str]) -> bool:
    return any(
        (call.name, call.suffix) == ("fdatasync", "-wal") and call.made_to_fail for call in calls_in(lines)
    )


def wal_after_a_failed_sync(lines: Sequence[str]) -> Literal["written anew", "unused", "believed"]:
    """What the thread whose sync failed did with the WAL before SQLite opened the log again.

    ``written anew``: its bytes, and then synced · ``unused``: it was empty, gone, or not opened again ·
    ``believed``: something else. Needs the calls openat, pwrite64, fsync and fdatasync.
    """
    failure, *after = itertools.dropwhile(lambda call: not call.made_to_fail, calls_in(lines))
    own = [call for call in after if call.thread == failure.thread]
    opened = next((call for call in own if call.name == "openat" and call.suffix in ("", "-wal")), None)
    if opened is None:
        # The log was being closed.
        return "believed" if ("pwrite64", "-wal") in [(call.name, call.suffix) for call in own] else "unused"
    if opened.suffix != "-wal":
        return "believed"
    if "ENOENT" in opened.outcome:
        return "unused"
    of_wal = [call.name for call in own[own.index(opened) :] if call.suffix in ("", "-wal")]
    if "openat" not in of_wal[1:]:
        # The log was never opened again.
        return "believed"
    until = of_wal.index("openat", 1)
    match of_wal[1:until]:
        case ["fsync"]:
            return "unused"
        case [*writes, "fsync"] if set(writes) == {"pwrite64"}:
            return "written anew"
        case _:
            return "believed"


_CALL = re.compile(
    r'(?P<thread>\d+)\] (?P<name>\w+)\((?:\d+<(?P<file>[^>]*)>|AT_FDCWD\S*, "(?P<path>[^"]*)")(?P<rest>.*)'
)


def calls_in(lines: Sequence[str]) -> Iterator[Call]:
    """What strace has told, without the calls to other files."""
    for line in lines:
        found = _CALL.search(line)
        if found is not None:
            file = found["file"] or found["path"] or ""
            if DATABASE in file:
                yield Call(found["thread"], found["name"], file.rpartition(DATABASE)[2], found["rest"])
