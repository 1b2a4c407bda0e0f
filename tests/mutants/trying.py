"""Tries mutants: a copy of the source with the bug in it, and the test that has to notice.

    python tests/mutants/trying.py [PART-OF-A-NAME …] [--json]

Before any of them the same tests have to pass on a copy without a bug, or their failures would mean nothing.
Exit code 0 if every mutant was caught.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from mutants.mutant import Mutant
from mutants.plants import MUTANTS

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "evrt"
CORES = os.cpu_count() or 1
TIMEOUT_SECONDS = 300
FAILED = 1
"""What pytest exits with where tests failed; more means that it could not even try them."""

Verdict = Literal["caught", "missed", "broken"]


class Trial(NamedTuple):
    """What became of a mutant; ``told`` is what pytest printed."""

    mutant: Mutant
    verdict: Verdict
    told: str


def planted(mutant: Mutant, source: Path) -> dict[Path, str]:
    """The files that a mutant changes, as they are with the bug. Raises AssertionError where it does not apply."""
    changed: dict[Path, str] = {}
    for file, old, new in mutant.edits:
        path = source / file
        text = changed.get(path) or path.read_text("utf-8")
        assert text.count(old) == 1, f"{mutant.what}: {file} has {text.count(old)} times {old!r}"
        changed[path] = text.replace(old, new)
        compile(changed[path], str(path), "exec")
    return changed


def copy_source(folder: Path) -> Path:
    """The source in a folder of its own, compiled as far as it was: each process that a test starts would do it again."""
    copied = folder / "evrt"
    # Left out are files that Python gives their names only when they are whole.
    shutil.copytree(SOURCE, copied, ignore=shutil.ignore_patterns("*.pyc.*"))
    return copied


def write(path: Path, text: str) -> None:
    """Write a file of the source, so that what was compiled of it before does not count any more."""
    path.write_text(text, "utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def pytest(tests: Iterable[str], folder: Path, *options: str) -> tuple[int, str]:
    """Run tests against the source in a folder."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "projections")]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *options, *tests]
    try:
        tried = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return FAILED, f"no end within {TIMEOUT_SECONDS} s"
    return tried.returncode, tried.stdout + tried.stderr


def try_mutant(mutant: Mutant) -> Trial:
    """Whether the test notices."""
    with tempfile.TemporaryDirectory(prefix="evrt-mutant-") as name:
        copied = copy_source(Path(name))
        for path, text in planted(mutant, copied).items():
            write(path, text)
        code, told = pytest([mutant.caught_by], Path(name))
    verdict: Verdict = "caught" if code == FAILED else "missed" if code == 0 else "broken"
    return Trial(mutant, verdict, told)


def try_without(mutants: Sequence[Mutant]) -> tuple[int, str]:
    """Whether the tests of all of them pass where there is no bug."""
    with tempfile.TemporaryDirectory(prefix="evrt-mutant-") as name:
        copied = copy_source(Path(name))
        where = subprocess.run(
            [sys.executable, "-c", "import evrt; print(evrt.__file__)"],
            env=os.environ | {"PYTHONPATH": name},
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(where.stdout.strip()).parent == copied, "The copy is not what is imported."
        tests = sorted({mutant.caught_by for mutant in mutants})
        return pytest(tests, Path(name), "--numprocesses", str(min(CORES, len(tests))), "--dist", "worksteal")


def try_all(mutants: Sequence[Mutant], tell: Callable[[Trial], None]) -> list[Trial]:
    """Try them, as many at a time as there are cores."""
    found: list[Trial] = []
    with ThreadPoolExecutor(max_workers=CORES) as pool:
        for trial in pool.map(try_mutant, mutants):
            found.append(trial)
            tell(trial)
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="*", help="only mutants whose name or file has this in it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    chosen = [
        mutant
        for mutant in MUTANTS
        if not options.part or any(part in f"{mutant.what} {mutant.edits[0].file}" for part in options.part)
    ]
    code, told = try_without(chosen)
    if code != 0:
        print(told, file=sys.stderr)
        print("The tests do not pass without a bug, so they would prove nothing.", file=sys.stderr)
        return 2

    def tell(trial: Trial) -> None:
        if not options.json:
            print(f"{trial.verdict:7} {trial.mutant.what}  ({trial.mutant.caught_by})", flush=True)
            if trial.verdict == "broken":
                print(trial.told)

    trials = try_all(chosen, tell)
    caught = sum(trial.verdict == "caught" for trial in trials)
    if options.json:
        print(
            json.dumps(
                [{"mutant": t.mutant.what, "verdict": t.verdict, "test": t.mutant.caught_by} for t in trials]
            )
        )
    else:
        print(f"{caught} of {len(trials)} mutants caught.")
    return 0 if caught == len(trials) else 1


if __name__ == "__main__":
    sys.exit(main())
