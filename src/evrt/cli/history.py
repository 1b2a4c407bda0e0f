"""``evrt log``, ``evrt at`` and ``evrt replay``: what happened, what was the case then, does the code still do it."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place, drive
from evrt.errors import UsageError

POSITION_MAX = 2**63 - 1
"""SQLite's integers go no further."""


def log(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN[@N]", help="A run, up to its Nth event; without it, the whole log."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is to come.")] = False,
    type: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Only events of this type, or family: tool_call. May be repeated."),
    ] = None,
    after: Annotated[
        int,
        typer.Option(
            min=0,
            max=POSITION_MAX,
            metavar="POSITION",
            show_default=False,
            help="Only events after this position.",
        ),
    ] = 0,
    request: Annotated[
        str | None, typer.Option(metavar="OP", help="Print the exact request of this model call instead.")
    ] = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print events of a run, or of the whole log, one line each.

    A line holds version and position, time, type, operation, and what the event says in short.
    """
    from evrt.cli import lines

    place = Place(app, db)
    if request is None:
        drive(lines.show_log(place, run, follow=follow, types=type or (), after=after, as_json=as_json))
    elif run is None:
        raise UsageError("A request belongs to a run: write `evrt log RUN --request OP`.")
    else:
        drive(lines.show_request(place, run, request))


def at(
    revision: Annotated[
        str,
        typer.Argument(
            metavar="RUN@N", help="After its Nth event; also RUN@head~3, RUN@{checkpoint} and RUN."
        ),
    ],
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run as it was after one of its events.

    Its state, what had been said, what it remembered, and what was under way.
    """
    from evrt.cli.showing import show_moment

    drive(show_moment(Place(app, db), revision, as_json=as_json))


def replay(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, ended or not.")],
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Execute a run's code against its history.

    Calls no model and no tool, and writes nothing. Exit code 0 if the code does what the history says, 1 if it diverges.
    """
    from evrt.cli import replaying

    raise typer.Exit(drive(replaying.replay(Place(app, db), run, as_json=as_json)))
