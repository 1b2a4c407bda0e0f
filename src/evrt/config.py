"""The configuration file: ``evrt.toml``, or ``[tool.evrt]`` in pyproject.toml, in the current folder.

It says which app and which log are meant where nobody else does. Both keys may be left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from evrt.errors import Denied, UsageError

FILE = "evrt.toml"
PROJECT_FILE = "pyproject.toml"
KEYS = ("app", "db")


@dataclass(frozen=True, slots=True)
class Config:
    """``app`` as ``module:name``; ``db`` a URL, or the path of a SQLite file. ``file`` is where it was found."""

    app: str | None = None
    db: str | None = None
    file: str | None = None


def read_config() -> Config:
    """What the current folder says. Raises UsageError for a file that cannot be understood, Denied."""
    table = _table(FILE)
    if table is not None:
        return _config(table, FILE, FILE)
    project = _table(PROJECT_FILE) or {}
    tool = project.get("tool")
    section = tool.get("evrt") if isinstance(tool, dict) else None
    if section is None:
        return Config()
    return _config(section, PROJECT_FILE, f"[tool.evrt] in {PROJECT_FILE}")


def _table(name: str) -> dict[str, object] | None:
    try:
        with open(name, "rb") as file:
            # Imported only where there is a file, for `evrt --help` has to be there at once.
            import tomllib

            return tomllib.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:  # Not TOML, or not UTF-8.
        raise UsageError(f"{os.path.abspath(name)} is not TOML: {error}. Mend it, or remove it.") from error
    except OSError as error:
        raise Denied(f"{os.path.abspath(name)} cannot be read: {error.strerror}.") from error


def _config(section: object, file: str, where: str) -> Config:
    if not isinstance(section, dict):
        raise UsageError(f"{where} has to be a table with the keys {' and '.join(KEYS)}.")
    for key, value in section.items():
        if key not in KEYS:
            raise UsageError(
                f"{where} has a key {key!r} that evrt does not know. It knows {' and '.join(KEYS)}."
            )
        if not isinstance(value, str) or not value:
            raise UsageError(f"{where}: {key} has to be a text that is not empty, not {value!r}.")
    return Config(section.get("app"), section.get("db"), file)


def as_url(db: str) -> str:
    """A log's URL; a bare path stands for a SQLite file."""
    # With too few slashes it would be the strange name of a new file.
    return db if "://" in db or db.startswith("sqlite:") else f"sqlite:///{db}"
