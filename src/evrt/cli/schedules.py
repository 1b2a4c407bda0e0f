"""``evrt schedules``: what an app runs by the clock, how far that has come, and a run of it by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place, drive

cli = typer.Typer(
    help="Show what an app runs by the clock, and when; run it now.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@cli.callback()
def schedules(
    context: typer.Context, app: AppOption = None, db: DbOption = None, as_json: JsonOption = False
) -> None:
    """List the app's schedules: their last tick and their next ones. `evrt schedules run NAME` runs one now.

    Workers start the runs: see `evrt worker`.
    """
    context.obj = Place(app, db)
    if context.invoked_subcommand is None:
        from evrt.cli.scheduling import list_schedules

        drive(list_schedules(context.obj, as_json=as_json))


@cli.command()
def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The schedule; `evrt schedules` lists them.")],
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for a run of a schedule now, beside those of its ticks. A worker executes it.

    Its id is printed.
    """
    from evrt.cli.scheduling import run_now

    before: Place = context.obj
    place = Place(app or before.app_flag, db or before.db_flag)
    drive(run_now(place, name, as_json=as_json))
