"""``evrt doctor``: whether all that a log needs is there."""

from __future__ import annotations

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place


def doctor(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Look at what a log needs: SQLite, file system, room, locks, syncs, or the PostgreSQL server; and the log itself.

    Changes nothing. Exit code 0 if nothing is bad, 1 if something is.
    """
    from evrt.cli.examining import examine_place

    raise typer.Exit(examine_place(Place(app, db), as_json=as_json))
