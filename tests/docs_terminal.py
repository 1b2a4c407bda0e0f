"""Examples at a prompt, tried as they stand: each command on a terminal of its own, each documented line looked for.

What differs from run to run is not compared: times, digests, versions, widths of columns. A run's id in a
page stands for the id of the run that the commands really made, wherever the page uses it again.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cli.forker import Forker
from evrt.log.postgres.address import shown_url
from postgres import fresh_url, shared

BIN = Path(sys.executable).parent
RUNNABLE = frozenset({"evrt", "python", "pytest"})
COLUMNS = 110
LINES = 500
TIMEOUT_SECONDS = 60

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
ERASED = re.compile(r"[^\n]*\x1b\[2K")
"""What a progress bar has written and taken back."""

ASSIGNMENT = re.compile(r"[A-Z_]+=.*", re.DOTALL)
VARYING = (
    (re.compile(r"\b\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?( ?UTC|Z|\+00:00)?)?"), "DATE"),
    # What took no time worth telling is shown without one.
    (re.compile(r" ?\(\d+ ms\)"), ""),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)?( ?ms| s|s| seconds?)\b"), "DURATION"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,64}\b…?"), "DIGEST"),
    (re.compile(r"[─━═]+|\.{3,}|={3,}"), "RULE"),
    (re.compile(r"\s+"), " "),
)
SERVER = "postgresql://evrt:secret@db.example.org/agents"
SHOWN_SERVER = "postgresql://evrt@db.example.org/agents"
"""The URL of a log on PostgreSQL, as a page gives it to a command and as commands show it: on the tests' server it
stands for one that is not there yet."""

FIGURE = re.compile(r"\d+(\.\d+)?")
REF = re.compile(r"\b(run|user|conversation)-[a-z2-7]{16}\b")


@dataclass(frozen=True, slots=True)
class Command:
    """What stands behind a prompt, and the lines shown under it."""

    text: str
    shown: tuple[str, ...]


def commands(text: str) -> list[Command]:
    """The commands of a ``console`` block; a backslash at the end of a line carries on to the next."""
    found: list[tuple[list[str], list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif found and not found[-1][1] and found[-1][0][-1].endswith("\\"):
            found[-1][0].append(line.strip())
        else:
            assert found, f"A console block begins with a command behind '$ ': {line!r}"
            found[-1][1].append(line)
    return [
        Command(" ".join(part.removesuffix("\\").strip() for part in parts), tuple(filter(str.strip, shown)))
        for parts, shown in found
    ]


@dataclass(slots=True)
class Terminal:
    """A folder and an environment in which commands are tried one after the other."""

    folder: Path
    forker: Forker | None = None
    """What `evrt` is forked from; without it every command is an interpreter of its own, as it is to a person."""
    known: dict[str, str] = field(default_factory=dict)
    """What the page calls a run, and what it is called here."""
    variables: dict[str, str] = field(default_factory=dict)
    """What has been exported."""
    exit_code: int = 0
    server: str = ""
    """Where the page's log on PostgreSQL is."""

    def run(self, command: Command, *, figures_vary: bool = False) -> None:
        """Try a command. Raises AssertionError where it does not do what the page says."""
        text = REF.sub(lambda ref: self.known.get(ref[0], ref[0]), command.text)
        printed = self._printed(self.reaching(text))
        printed = CONTROL.sub("", ERASED.sub("", printed))
        if self.server:
            printed = printed.replace(shown_url(self.server), SHOWN_SERVER)
        lines = printed.splitlines()
        told = f"$ {command.text}\n{printed}"
        killed = self.exit_code == -signal.SIGKILL
        shown = [line for line in command.shown if not (killed and line == "Killed")]
        assert not killed or len(shown) < len(command.shown), (
            f"It was killed, and the page does not say so:\n{told}"
        )
        assert "Traceback" not in printed, told
        for line in shown:
            assert self._find(line, lines, figures_vary), (
                f"The page shows {line!r}, which was not printed:\n{told}"
            )

    def reaching(self, text: str) -> str:
        """A text of the page with the tests' server for the page's."""
        if SERVER in text:
            self.server = self.server or fresh_url(shared().owner)
        return text.replace(SERVER, self.server) if self.server else text

    def _printed(self, text: str) -> str:
        words = shlex.split(text, comments=True)
        if words == ["echo", "$?"]:
            return f"{self.exit_code if self.exit_code >= 0 else 128 - self.exit_code}\n"
        given: dict[str, str] = {}
        exported = words[0] == "export"
        rest = words[1:] if exported else words
        while rest and ASSIGNMENT.fullmatch(rest[0]):
            name, _, value = rest.pop(0).partition("=")
            given[name] = value
        if exported:
            self.variables |= given
            return ""
        words, environment = rest, self._environment() | self.variables | given
        assert words[0] in RUNNABLE, (
            f"A page cannot try {words[0]}: mark the block as not run, with the reason."
        )
        if words[0] == "evrt" and self.forker is not None:
            printed, self.exit_code = forked_on_a_terminal(self.forker, words[1:], self.folder, environment)
        else:
            command = [str(BIN / words[0]), *words[1:]]
            printed, self.exit_code = on_a_terminal(command, self.folder, environment)
        return printed

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        return kept | {
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder),
            "TERM": "xterm",
            "NO_COLOR": "1",
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": str(COLUMNS),
            "LINES": str(LINES),
        }

    def _find(self, shown: str, lines: list[str], figures_vary: bool) -> bool:
        """Whether a line was printed; the ids in it become known."""
        for line in lines:
            ids = dict(self.known)
            if matches(shown, line, ids, figures_vary=figures_vary):
                self.known = ids
                return True
        return False


def matches(shown: str, printed: str, ids: dict[str, str], *, figures_vary: bool = False) -> bool:
    """Whether a printed line is the one shown. ``…`` stands for anything; ``ids`` gains what refs are bound to."""
    if shown.strip() == "…":
        return True
    theirs, ours = REF.finditer(printed), REF.finditer(shown)
    found = [ref[0] for ref in theirs]
    wanted = [ref[0] for ref in ours]
    for name, actual in zip(wanted, found, strict=False):
        if ids.setdefault(name, actual) != actual:
            return False
    shown, printed = steady(shown), steady(printed)
    if figures_vary:
        shown, printed = FIGURE.sub("N", shown), FIGURE.sub("N", printed)
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    return len(wanted) <= len(found) and re.fullmatch(pattern, printed) is not None


def steady(line: str) -> str:
    """A line with placeholders for what differs from run to run."""
    line = REF.sub(lambda ref: f"{ref[1]}-REF", line)
    for pattern, placeholder in VARYING:
        line = pattern.sub(placeholder, line)
    return line.strip()


def forked_on_a_terminal(
    forker: Forker, words: list[str], folder: Path, environment: dict[str, str]
) -> tuple[str, int]:
    """The same of `evrt` and these words, without a second of imports."""
    ours, theirs = pty.openpty()
    terminal = Path(os.ttyname(theirs))
    with ThreadPoolExecutor(1) as reading:
        shown = reading.submit(_read_all, ours)
        try:
            code = forker.run(words, folder, environment, [Path(os.devnull), terminal, terminal])
        finally:
            os.close(theirs)
            text = shown.result()
            os.close(ours)
    return text, code


def on_a_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[str, int]:
    """What a command shows to somebody at a terminal, and its exit code (negative: the signal)."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        )
    finally:
        os.close(theirs)
    try:
        text = _read_all(ours)
        code = process.wait(TIMEOUT_SECONDS)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return text, code


def _read_all(terminal: int) -> str:
    pieces: list[bytes] = []
    while piece := _read(terminal):
        pieces.append(piece)
    return b"".join(pieces).decode("utf-8", "replace")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # How Linux says that nobody writes any more.
        return b""
