"""Running the demo as a newcomer does: a command, in an empty folder, in an environment that knows nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from demo.cases import csv_of
from evrt.demo.claims import SAMPLE_PATH, Claim, read_claims

SOURCES = Path(__file__).parents[2] / "src"
EVRT = Path(sys.executable).with_name("evrt")
SAMPLE = read_claims(SAMPLE_PATH)
LANES = 3
"""Demos at once."""

CHECKS = ["killed", "resumed", "replayed", "policy", "once", "same"]


class Told(NamedTuple):
    """What a command came to, and the folder it was typed in."""

    code: int
    out: str
    err: str
    cwd: Path

    @property
    def flat(self) -> str:
        """What went to stdout, without its line breaks."""
        return " ".join(self.out.split())

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out)
        return report

    @property
    def checks(self) -> dict[str, bool | None]:
        return {check["name"]: check["ok"] for check in self.report["checks"]}

    def text_of(self, name: str) -> str:
        """What is said of a check, its problems included."""
        [check] = [check for check in self.report["checks"] if check["name"] == name]
        return "\n".join([check["text"], *check["problems"]])


def environment(home: Path, **more: str) -> dict[str, str]:
    """An empty home, no key, nothing of evrt's own."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **more}


def typed(
    cwd: Path, *words: str | Path, sources: Path | None = None, command: str | None = None, **more: str
) -> Told:
    """Type ``evrt`` and these words, or a whole command line. ``sources`` are used instead of the installed ones."""
    home = cwd / "home"
    home.mkdir(exist_ok=True)
    if sources is not None:
        more["PYTHONPATH"] = str(sources)
    finished = subprocess.run(
        command
        if command is not None
        else [sys.executable, "-m", "evrt", *words]
        if sources
        else [EVRT, *words],
        shell=command is not None,
        cwd=cwd,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in finished.stdout + finished.stderr
    assert list(home.iterdir()) == []
    return Told(finished.returncode, finished.stdout, finished.stderr, cwd)


def claims_file(folder: Path, claims: list[Claim] | int) -> Path:
    """Some claims as a CSV file; as many of the sample, if a number is given."""
    path = folder / "claims.csv"
    path.write_bytes(csv_of(SAMPLE[:claims] if isinstance(claims, int) else claims))
    return path


def spoilt(folder: Path, *changes: tuple[str, str, str]) -> Path:
    """A copy of the sources in which files of the demo say something else, each in one place."""
    sources = folder / "spoilt"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in changes:
        path = sources / "evrt" / "demo" / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), "utf-8")
    return sources


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """What a database holds, asked without any of evrt's code."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return found != "" and not found.startswith("Z")
