"""``evrt db``: the log as a file, or as a schema of a database."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place, drive

cli = typer.Typer(help="Look after the log.", no_args_is_help=True, rich_markup_mode=None)


@cli.callback()
def group() -> None:
    """Look after the log."""


@cli.command()
def check(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Check the log from its first event to its last.

    Computes digests, chains, positions and heads again, looks at the database itself and at the queue, whether it is
    what the events say, and writes nothing. Exit code 0 if all is sound, 1 if not.
    """
    from evrt.cli.checking import check_log

    raise typer.Exit(check_log(Place(app, db), as_json=as_json))


@cli.command()
def backup(
    target: Annotated[
        str, typer.Argument(metavar="FILE", help="Where the copy is to be; nothing may be there yet.")
    ],
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the log, while it may be in use.

    The copy is the log as of one moment, checked from its first event to its last before it gets its name. That of a
    log on PostgreSQL is a SQLite file too, copied as by `evrt db copy`; copies of the whole database are pg_dump's.
    """
    from evrt.cli.copying import back_up

    back_up(Place(app, db), target, as_json=as_json)


@cli.command()
def copy(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The log to copy: a URL, or the path of a SQLite file.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Where it is to go: nothing yet, or an earlier copy of the same log."
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep up with a log that is being written, until Ctrl-C.")
    ] = False,
    switch: Annotated[
        bool,
        typer.Option(
            "--switch",
            help="Move: when the copy is level, seal SOURCE, copy the rest, and have TARGET take its place.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a log to another place or store: to PostgreSQL, back, or from file to file.

    Positions, ids, times and leaves stay as they are, so proofs and trees stay good. A copy that was broken off goes on
    where it ended. Views are not copied: they are built anew from the events.
    """
    from evrt.cli.moving import copy_log

    copy_log(source, target, follow=follow, switch=switch, as_json=as_json)


@cli.command()
def migrate(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Bring a log that an older evrt wrote to today's schema.

    Forward only, and no event is changed. Its queue is made from its events, as by `evrt db requeue`. Of a log in a
    file a checked copy as it was stays beside it; on PostgreSQL all is one transaction, and copies are pg_dump's.
    """
    from evrt.cli.copying import bring_up_to_date

    bring_up_to_date(Place(app, db), as_json=as_json)


@cli.command()
def requeue(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Make the queue again from the events.

    For a log whose queue is in doubt. What a worker has claimed stays with it, so workers may go on meanwhile.
    """
    from evrt.cli.requeueing import make_queue

    drive(make_queue(Place(app, db), as_json=as_json))


@cli.command()
def roles(
    owner: Annotated[
        str, typer.Option(metavar="NAME", help="Owns the schema, and may migrate it.")
    ] = "evrt_owner",
    writer: Annotated[str, typer.Option(metavar="NAME", help="Appends.")] = "evrt_writer",
    reader: Annotated[str, typer.Option(metavar="NAME", help="Reads.")] = "evrt_reader",
    app: AppOption = None,
    db: DbOption = None,
) -> None:
    """Print the SQL that gives the users of a log on PostgreSQL the least rights each needs.

    Nothing is connected to and nothing is changed: look at it, then give it to psql.
    """
    from evrt.cli.granting import print_roles

    print_roles(Place(app, db), owner=owner, writer=writer, reader=reader)
