"""An app made of what installed packages register in the group ``evrt.agents``, for where nobody names one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

from evrt.agents.workflow import Workflow
from evrt.app import App
from evrt.cli.loading import failure_of
from evrt.cli.output import prints_aside
from evrt.errors import UsageError

GROUP = "evrt.agents"


def installed_app() -> App | None:
    """The app, or None where no package registers anything. Raises UsageError for what cannot be taken."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    if not points:
        return None
    loaded = [(point, _loaded(point)) for point in points]
    whole = [point for point, found in loaded if isinstance(found, App)]
    if whole:
        return _only(whole, points)
    app = App()
    for point, found in loaded:
        _register(app, point, found)
    return app


def _only(whole: Sequence[EntryPoint], points: Sequence[EntryPoint]) -> App:
    """An app has models and a log of its own, so nothing is added to it."""
    if len(points) > 1:
        names = ", ".join(f"{point.name} ({point.value})" for point in points)
        raise UsageError(
            f"Installed packages register {names} as {GROUP}, and {whole[0].name} is an app of its own, which others "
            "cannot be added to. Name the one that is meant with --app."
        )
    app: App = whole[0].load()
    return app


def _loaded(point: EntryPoint) -> object:
    try:
        with prints_aside():
            return point.load()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{point.name} of the entry points {GROUP}: {failure_of(point.module, error)}"
        ) from error


def _register(app: App, point: EntryPoint, found: object) -> None:
    try:
        if callable(found) and not isinstance(found, Workflow):  # Which is callable, too.
            with prints_aside():
                found(app)
        else:
            app.add(found)  # type: ignore[arg-type]  # It is told what is wrong with it.
    except UsageError as error:
        raise UsageError(f"{point.name} ({point.value}) of the entry points {GROUP}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{point.name} of the entry points {GROUP}: {failure_of(point.module, error)}"
        ) from error
