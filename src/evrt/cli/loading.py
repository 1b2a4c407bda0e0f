"""From ``module:name`` to the app: importing somebody else's code, and saying clearly when that fails."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from evrt.cli.output import prints_aside
from evrt.errors import EvrtError, UsageError

if TYPE_CHECKING:
    from evrt.app import App

ATTRIBUTE = "app"


def load_app(name: str) -> App:
    """Import ``module:name`` (``module`` alone: its ``app``). Raises UsageError that says what to mend."""
    module_name, _, attribute = name.partition(":")
    attribute = attribute or ATTRIBUTE
    parts = f"{module_name}.{attribute}".split(".")
    if module_name.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise UsageError(_not_a_name(name, module_name))
    found: object = _import(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(_no_attribute(sys.modules[module_name], attribute))
        found = getattr(found, part)

    from evrt.app import App

    if not isinstance(found, App):
        raise UsageError(
            f"{module_name}:{attribute} is not an evrt.App but {_a(type(found).__name__)}. "
            + _apps_of(sys.modules[module_name])
        )
    return found


def _import(name: str) -> ModuleType:
    # A console script has its own folder on the path where `python` has the current one.
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with prints_aside():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"There is no module {error.name!r}, neither in {folder} nor installed in this Python. "
                "--app takes module:name: for `app = evrt.App()` in support.py that is --app support:app."
            ) from None
        raise UsageError(failure_of(name, error)) from error
    except EvrtError as error:
        raise UsageError(f"The app in {name} is not right ({_place(error)}): {error}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(failure_of(name, error)) from error


def failure_of(name: str, error: BaseException) -> str:
    """What to say of a module whose code raised."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return (
        f"The module {name} could not be loaded: it raised {type(error).__name__}"
        f"{f': {text}' if text else ''} ({_place(error)})."
    )


def _place(error: BaseException) -> str:
    """File and line in the code being loaded, not in what was generated, the import system or evrt, where it surfaced."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    ours = str(Path(__file__).parents[1]) + os.sep
    frames = [
        frame
        for frame in traceback.extract_tb(_skip_import(error.__traceback__))
        if not frame.filename.startswith((ours, "<"))
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "in a file that it does not name"


def _skip_import(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of this module and of importlib's own file, which come first."""
    inside = {__file__, importlib.__file__}
    while trace is not None and trace.tb_frame.f_code.co_filename in inside:
        trace = trace.tb_next
    return trace


def _not_a_name(name: str, module_name: str) -> str:
    text = f"{name!r} does not name an app: --app takes module:name, for example support:app."
    if module_name.endswith(".py"):
        text += f" For the file {module_name} write {Path(module_name).stem}:{ATTRIBUTE}, and run evrt in its folder."
    return text


def _no_attribute(module: ModuleType, attribute: str) -> str:
    where = getattr(module, "__file__", None) or module.__name__
    return f"The module {module.__name__} ({where}) has no {attribute!r}. {_apps_of(module)}"


def _apps_of(module: ModuleType) -> str:
    from evrt.app import App

    names = [name for name, value in vars(module).items() if isinstance(value, App)]
    if not names:
        return f"It has no evrt.App at all: write `{ATTRIBUTE} = evrt.App()` into it and register agents with that."
    return f"It has {', '.join(f'{module.__name__}:{name}' for name in names)}."


def _a(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
