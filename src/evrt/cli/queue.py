"""``evrt queue``: what waits to be executed, and who executes."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, LimitOption, Place, drive

StateName = Literal["ready", "delayed", "behind", "claimed", "waiting", "paused"]
"""The states of an entry. Spelled out, for the log's modules take long to import."""

cli = typer.Typer(help="Look at the queue that workers take runs from.", rich_markup_mode=None)


@cli.callback(invoke_without_command=True)
def entries(
    context: typer.Context,
    state: Annotated[StateName | None, typer.Option(help="Only entries in this state.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this agent or workflow.")
    ] = None,
    limit: LimitOption = 50,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what is in the queue, first come first: runs that have not ended and that workers may take.

    ready: a worker may take it. delayed: not yet. behind: an earlier run of its conversation has not
    ended. claimed: a worker has it. waiting: for an answer, a signal, a time. paused: until it is
    resumed.
    """
    if context.invoked_subcommand is not None:
        return
    from evrt.cli import queueing

    drive(queueing.list_entries(Place(app, db), state, target, limit=limit, as_json=as_json))


@cli.command()
def workers(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the workers of a log: how long their leases last, and which runs each has."""
    from evrt.cli import queueing

    drive(queueing.list_workers(Place(app, db), as_json=as_json))
