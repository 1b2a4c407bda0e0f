"""``evrt questions``: what waits for a person."""

from __future__ import annotations

from evrt.cli.place import AppOption, DbOption, JsonOption, LimitOption, Place, drive


def questions(
    limit: LimitOption = 50,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what waits for a person, the oldest first: questions, and writes nobody knows the outcome of.

    With the commands to answer or settle them, and to let their runs go on.
    """
    from evrt.cli.asking import show_questions

    drive(show_questions(Place(app, db), limit=limit, as_json=as_json))
