"""Which projections there are: those that packages register by entry point, and those that an app is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from evrt.errors import NotFound, UsageError
from evrt.projection import AnyProjection, Projection

GROUP = "evrt.projections"


def projections(own: Iterable[AnyProjection] = ()) -> Mapping[str, AnyProjection]:
    """All of them by name, in the order of names. Raises UsageError where two have one name, or one cannot be loaded."""
    found: dict[str, AnyProjection] = {}
    for projection in (*_installed(), *own):
        if not isinstance(projection, Projection):
            raise UsageError(
                f"{projection!r} is not a projection: give an evrt.projection.Projection, as in "
                "App(projections=[PROJECTION])."
            )
        known = found.setdefault(projection.name, projection)
        if known is not projection:
            raise UsageError(
                f"Two projections are named {projection.name!r}. The name is where the view is found, so each needs "
                "one of its own: rename one of them."
            )
    return dict(sorted(found.items()))


def _installed() -> Iterable[Any]:
    for entry_point in entry_points(group=GROUP):
        try:
            yield entry_point.load()
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"The projection {entry_point.name!r} of the entry point group {GROUP} cannot be loaded from "
                f"{entry_point.value}: {type(error).__name__}: {error}. Mend it, or uninstall its package."
            ) from error


def named(projections: Mapping[str, AnyProjection], name: str) -> AnyProjection:
    """A projection by its name. Raises NotFound that says which there are."""
    found = projections.get(name)
    if found is None:
        near = get_close_matches(name, projections, 1)
        meant = f" Is {near[0]!r} meant?" if near else ""
        raise NotFound(
            f"There is no projection {name!r}.{meant} There are: {', '.join(projections) or 'none'}."
        )
    return found
