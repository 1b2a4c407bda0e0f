"""Makes what the rivals run in: a venv each from its requirements file, and Restate's server from npm.

Everything goes into ``benchmarks/against/.venvs``, which git ignores, from whichever package index pip and
npm are set up with. A stamp holds the requirements that a venv was made from; a changed file makes it anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
VENVS = HERE / ".venvs"
REQUIREMENTS = HERE / "requirements"
STAMP = "made-from"


class NotInstalled(Exception):
    """A rival could not be set up; the text says what the package client said last."""


def has_requirements(name: str) -> bool:
    return (REQUIREMENTS / f"{name}.txt").exists()


def python_of(name: str) -> Path:
    """The interpreter of a system: its venv's, or this one where it asks for nothing (raw, evrt)."""
    return VENVS / name / "bin" / "python" if has_requirements(name) else Path(sys.executable)


def install(name: str, say: Callable[[str], None]) -> None:
    """Set up what a system needs, unless it is there. Raises NotInstalled."""
    if has_requirements(name):
        _once(VENVS / name, REQUIREMENTS / f"{name}.txt", _make_venv, say)
    if name == "restate":
        _once(VENVS / "restate-server", REQUIREMENTS / "package.json", _fetch_server, say)


def _once(folder: Path, wanted: Path, make: Callable[[Path, Path], None], say: Callable[[str], None]) -> None:
    text = f"{sys.version}\n{wanted.read_text('utf-8')}"
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text("utf-8") == text:
        return
    say(f"installing {wanted.relative_to(HERE)} (once)")
    shutil.rmtree(folder, ignore_errors=True)
    make(folder, wanted)
    stamp.write_text(text, "utf-8")


def _make_venv(folder: Path, wanted: Path) -> None:
    venv.create(folder, with_pip=True)
    pip: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
    ]
    _run([*pip, "install", "--quiet", "--progress-bar", "off", "--requirement", wanted], folder)


def _fetch_server(folder: Path, wanted: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("npm is not on the PATH, and Restate's server comes from it.")
    folder.mkdir(parents=True)
    shutil.copy(wanted, folder / "package.json")
    _run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"], folder)


def _run(command: list[str | Path], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=600
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalled("\n".join(lines[-3:]) or f"{command[0]} ended with {done.returncode}")
