"""Views built anew, and compared with the log: ``evrt projections rebuild`` and ``verify``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from evrt.cli.output import note, out, out_json, paint, progress
from evrt.cli.place import Place
from evrt.cli.text import counted
from evrt.cli.viewing import catch_up, opened
from evrt.projector.verify import Verified, verify_view
from evrt.projector.views import Views

EQUAL, DIFFERENT = 0, 1


async def rebuild_views(place: Place, names: Sequence[str] | None, *, anew: bool, as_json: bool) -> None:
    """Build these views anew, or all, and tell of each."""
    rebuilt: list[dict[str, object]] = []
    async with opened(place, *(names or ())) as views:
        for name in names or views.projections:
            await _rebuild(views, name, anew=anew)
            [status] = [one for one in await views.status() if (one.name, one.stage) == (name, "live")]
            rebuilt.append({"name": name, "position": status.position, "documents": status.documents})
            if not as_json:
                built = counted(status.documents, "document")
                out(f"{name} is built anew: {built}, as of position {status.position}.")
        temporary = views.temporary
    if as_json:
        out_json(rebuilt)
    if temporary:
        note("Nothing can be kept beside this log, so what has been built is gone again.")


async def _rebuild(views: Views, name: str, *, anew: bool) -> None:
    try:
        with progress(f"Building {name}", "events") as advance:
            await views.rebuild(name, anew=anew, advance=advance)
        # The one before it may have been behind itself.
        await catch_up(views, await views.log.position(), name)
    except asyncio.CancelledError:
        if not views.temporary:
            note(
                f"Interrupted. `evrt projections rebuild {name}` goes on from there; readers see the view as it was."
            )
        raise


async def remove_views(place: Place, names: Sequence[str], *, as_json: bool) -> None:
    """Throw these views away."""
    async with opened(place, only=()) as views:
        for name in names:
            await views.remove(name)
            if not as_json:
                out(f"{name} is removed.")
    if as_json:
        out_json(names)


async def verify_views(place: Place, names: Sequence[str], *, as_json: bool) -> int:
    """Compare these views, or all that have been built, with what the log makes of them; returns the exit code."""
    found: list[Verified] = []
    async with opened(place) as views:
        built = [
            one.name for one in await views.status() if one.stage == "live" and one.name in views.projections
        ]
        for name in names or built:
            with progress(f"Verifying {name}", "events") as advance:
                verified = await verify_view(views, name, advance)
            found.append(verified)
            if not as_json:
                _out_verified(verified)
        url = views.log.url
    if as_json:
        out_json([one._asdict() | {"agrees": one.agrees} for one in found])
    elif not found:
        note(f"No view of {url} has been built yet.")
    return EQUAL if all(one.agrees for one in found) else DIFFERENT


def _out_verified(verified: Verified) -> None:
    where = f"as of position {verified.position}"
    if verified.agrees:
        out(f"{paint('ok', 'green')}  {verified.name}: {verified.rebuilt}, {where}.")
        return
    out(
        f"{paint('DIFFERENT', 'bold red')}  {verified.name}, {where}: kept {verified.incremental}, built anew "
        f"{verified.rebuilt}, built on from kept moments {verified.snapshot_and_tail}."
    )
    note(f"`evrt projections rebuild {verified.name}` builds it anew; the log is as it was.")
