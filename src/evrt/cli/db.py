"""``evrt db``: the log as a file."""

from __future__ import annotations

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place

cli = typer.Typer(help="Look after the log's file.", no_args_is_help=True, rich_markup_mode=None)


@cli.callback()
def group() -> None:
    """Look after the log's file."""


@cli.command()
def check(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Check the log from its first event to its last.

    Computes digests, chains, positions and heads again, looks at the database itself, and writes
    nothing. Exit code 0 if all is sound, 1 if not.
    """
    from evrt.cli.checking import check_log

    raise typer.Exit(check_log(Place(app, db), as_json=as_json))
