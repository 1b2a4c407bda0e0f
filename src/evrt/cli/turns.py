"""``evrt turns``: what each turn of a conversation took."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place, SinceOption, UntilOption, drive

cli = typer.Typer(
    help="The turn log: what each turn took, in tokens, cost and time.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@cli.callback()
def root() -> None:
    """The turn log: what each turn took, in tokens, cost and time."""


@cli.command()
def export(
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this conversation: your id, or its ref.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A file for each conversation, named by its ref, instead of lines here."
        ),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print turns that have ended as JSON lines, in the order in which they were asked for.

    A turn belongs to the time at which it ended. It is JSON with --json and without.
    """
    from evrt.cli.exporting import export_turns

    drive(export_turns(Place(app, db), conversation, folder, since=since, until=until))
