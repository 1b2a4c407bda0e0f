"""``evrt memory``: what is remembered of a user or in a conversation, and what has been."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, AsOfOption, DbOption, JsonOption, Place, drive

cli = typer.Typer(
    help="Read memory: what is remembered of a user or in a conversation.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A key, such as preferences.theme.")]
UserOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Memory of this user: your id, or their ref.")
]
ConversationOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Memory of this conversation: your id, or its ref.")
]


@cli.command()
def get(
    key: KeyArgument,
    user: UserOption = None,
    conversation: ConversationOption = None,
    as_of: AsOfOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the value of a key.

    With --json, also since when it has been so, and who set it in which run.
    """
    from evrt.cli.remembering import Scope, get_value

    drive(get_value(Place(app, db), Scope(user, conversation), key, as_of=as_of, as_json=as_json))


@cli.command("list")
def list_(
    user: UserOption = None,
    conversation: ConversationOption = None,
    as_of: AsOfOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys that have a value, and the values."""
    from evrt.cli.remembering import Scope, list_keys

    drive(list_keys(Place(app, db), Scope(user, conversation), as_of=as_of, as_json=as_json))


@cli.command()
def history(
    key: KeyArgument,
    user: UserOption = None,
    conversation: ConversationOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every value that a key has had: when, by whom, in which run."""
    from evrt.cli.remembering import Scope, show_history

    drive(show_history(Place(app, db), Scope(user, conversation), key, as_json=as_json))
