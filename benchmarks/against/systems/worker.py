"""What every worker does the same way: its arguments, the text that each step gives back, its answer.

A worker is ``python -m against.systems.NAME MEASURE …`` in the venv of its system, so this module imports
nothing but the standard library. It prints one line of JSON: a value, how much it did, and how much of it
the system's own store holds afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

RUNS = 50
WARM_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker was asked to do."""

    measure: str
    variant: str
    seconds: float
    steps: int
    folder: Path
    """A folder of its own, empty or a copy of a prepared one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A worker's answer. ``stored`` is counted in the system's store when the work is over."""

    value: float
    done: int
    stored: int
    extra: Mapping[str, float] = field(default_factory=dict)


def text(number: int) -> str:
    """Two hundred characters, other ones for each number: equal ones would be compressed away by some."""
    return hashlib.shake_256(number.to_bytes(8)).hexdigest(100)


def die() -> None:
    """End this process as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)


def now() -> float:
    """Seconds on a clock that all processes of this machine share."""
    return time.monotonic()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def checkpointed_bytes(sqlite: Any, file: Path) -> int:
    """Bytes of a SQLite file once its write-ahead log is folded into it."""
    connection = sqlite.connect(file)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return file.stat().st_size


def count(sqlite: Any, file: Path, query: str) -> int:
    """The one number that a query of a SQLite file gives."""
    connection = sqlite.connect(file)
    [[found]] = connection.execute(query).fetchall()
    connection.close()
    return int(found)


def serve(
    measures: Mapping[str, Callable[[Task], Sample | None]], packages: list[str], **versions: str
) -> None:
    """Do what the command line asks for, print the sample, and leave without waiting for anybody's threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", choices=sorted(measures))
    parser.add_argument("--variant", default="")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    sample = measures[options.measure](Task(**vars(options)))
    if sample is not None:
        answer = asdict(sample) | {"versions": {name: version(name) for name in packages} | versions}
        print(json.dumps(answer), flush=True)
    sys.stderr.flush()
    os._exit(0)
