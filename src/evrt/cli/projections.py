"""``evrt projections``: how views stand, build them anew, verify them, keep them current."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place, drive
from evrt.errors import UsageError

cli = typer.Typer(
    help="Look after views of the log: how they stand, build them anew, verify them, keep them current.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Projections; `list` shows them.")
]


@cli.command("list")
def list_(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the views: how far they have come, how many documents they have, why one stands still.

    Builds nothing.
    """
    from evrt.cli.keeping import list_views

    drive(list_views(Place(app, db), as_json=as_json))


@cli.command()
def lag(
    names: NamesArgument = None,
    lag_max: Annotated[
        int | None,
        typer.Option("--max", min=0, metavar="N", help="Exit with 1 if a view is more than N events behind."),
    ] = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how far views are behind the log, in events and in seconds between those events.

    Builds nothing. Exit code 1 if one is further behind than --max, 0 if not.
    """
    from evrt.cli.keeping import show_lag

    raise typer.Exit(drive(show_lag(Place(app, db), names or [], lag_max=lag_max, as_json=as_json)))


@cli.command()
def run(app: AppOption = None, db: DbOption = None) -> None:
    """Keep all views current until Ctrl-C or SIGTERM.

    Any number of processes may do so; one of them does the work, and another takes over when it is gone.
    """
    from evrt.cli.keeping import keep_views

    drive(keep_views(Place(app, db)))


@cli.command()
def rebuild(
    names: NamesArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them, one after the other.")] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Do not go on with a rebuild that was interrupted.")
    ] = False,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build views anew from the log's first event.

    Whoever reads a view sees the old one until the new one takes its place. A rebuild that is interrupted goes on where
    it was when it is called again.
    """
    from evrt.cli.rebuilding import rebuild_views

    drive(rebuild_views(Place(app, db), _chosen(names, all_), anew=anew, as_json=as_json))


@cli.command()
def verify(
    names: NamesArgument = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare views, or all of them, with what the log makes of them.

    A view as it was kept, one built anew, and one built on from the kept moments have to be equal. Exit code 0 if they
    are, 1 if not.
    """
    from evrt.cli.rebuilding import verify_views

    raise typer.Exit(drive(verify_views(Place(app, db), names or [], as_json=as_json)))


@cli.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Views; `list` shows them.")],
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Throw views away, as of a projection that is gone.

    The log is as it was. A view whose projection is there is built again when it is read next.
    """
    from evrt.cli.rebuilding import remove_views

    drive(remove_views(Place(app, db), names, as_json=as_json))


def _chosen(names: list[str] | None, all_: bool) -> list[str] | None:
    """The names given, or None for all of them. Raises UsageError."""
    if bool(names) == all_:
        raise UsageError("Which views? Name them, or give --all for all of them.")
    return names or None
