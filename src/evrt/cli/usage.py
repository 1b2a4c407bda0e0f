"""``evrt usage``: tokens and cost."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place, SinceOption, UntilOption, drive

By = Literal["model", "agent", "user", "conversation", "day", "run"]


def usage(
    by: Annotated[By, typer.Option(help="What the sums are of.")] = "model",
    since: SinceOption = None,
    until: UntilOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what model calls took: tokens and cost, those of failed attempts apart.

    A model call belongs to the day and the time at which it was begun.
    """
    from evrt.cli.summing import show_usage

    drive(show_usage(Place(app, db), by, since=since, until=until, as_json=as_json))
