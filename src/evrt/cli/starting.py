"""Writes the files of ``evrt init``; they lie in the folder ``starter`` as they will be."""

from __future__ import annotations

import errno
import os
import shlex
from importlib.resources import files

from evrt.cli.output import note, out, out_json
from evrt.cli.place import evrt_command
from evrt.errors import Conflict, Denied, EvrtError, Unavailable, UsageError

FILES = {
    "desk.py": "the app: two tools, an agent, a workflow",
    "test_desk.py": "its tests",
    "evrt.toml": "which app the command line means",
    ".gitignore": "what does not belong into a repository",
}


def write_starter(folder: str, *, as_json: bool) -> None:
    """Write all files or none, and say what to do next. Raises Conflict, UsageError, Denied, Unavailable."""
    if not folder:
        raise UsageError("The name of the folder is empty. Name one, or leave it out for the current one.")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UsageError(f"{folder} is a file. Name a folder.")
    there = [name for name in FILES if os.path.lexists(os.path.join(folder, name))]
    if there:
        raise Conflict(
            f"There is {_and(there)} in {os.path.abspath(folder)} already. Nothing has been written; name another "
            "folder, such as `evrt init desk`."
        )
    written: list[str] = []
    try:
        os.makedirs(folder, exist_ok=True)
        for name in FILES:
            # "x": what somebody has put there since is not replaced either.
            with open(os.path.join(folder, name), "x", encoding="utf-8") as file:
                written.append(file.name)
                file.write(_text(name))
    except OSError as error:
        for path in written:
            os.unlink(path)
        raise _refusal(folder, error) from error
    _tell(folder, as_json=as_json)


def _refusal(folder: str, error: OSError) -> EvrtError:
    """What a failure of the file system means."""
    name = error.filename or folder
    if isinstance(error, PermissionError):
        return Denied(f"{name} cannot be written: this user has no permission to.")
    if isinstance(error, NotADirectoryError):
        return UsageError(f"{name} lies below a file. Name another folder.")
    if error.errno == errno.ENAMETOOLONG:
        return UsageError("The name of the folder is too long. Name another.")
    return Unavailable(f"{name} cannot be written: {error.strerror}.")


def _text(name: str) -> str:
    return (files("evrt.cli") / "starter" / f"{name.removeprefix('.')}.txt").read_text("utf-8")


def _tell(folder: str, *, as_json: bool) -> None:
    if as_json:
        out_json({"folder": os.path.abspath(folder), "files": list(FILES)})
        return
    for name, what in FILES.items():
        out(f"{os.path.normpath(os.path.join(folder, name))}  {what}")
    if os.path.normpath(folder) != ".":
        note(f"Next: cd {shlex.quote(folder)}")
    note(f'Next: {shlex.join(evrt_command())} runs start handle "Order 7 arrived broken."')


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
