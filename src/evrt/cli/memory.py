"""``evrt memory``: what is remembered of a user, in a conversation or in a system, what has been, and setting it right."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, AsOfOption, DbOption, JsonOption, LimitOption, Place, drive

cli = typer.Typer(
    help="Read memory, and set it right: of a user, in a conversation, of a user in a system.",
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
SystemOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="With --user: what the agents of this system share about that user."),
]
SourceOption = Annotated[str | None, typer.Option(metavar="TEXT", help="Where it comes from; recorded.")]
ByOption = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does it; recorded.")]
IfVersionOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Only if its value has this version still; 0: if it has none."),
]


@cli.command()
def get(
    key: KeyArgument,
    user: UserOption = None,
    conversation: ConversationOption = None,
    system: SystemOption = None,
    as_of: AsOfOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the value of a key.

    With --json, also since when it has been so, and who set it in which run.
    """
    from evrt.cli.remembering import Scope, get_value

    drive(get_value(Place(app, db), Scope(user, conversation, system), key, as_of=as_of, as_json=as_json))


@cli.command("list")
def list_(
    user: UserOption = None,
    conversation: ConversationOption = None,
    system: SystemOption = None,
    prefix: Annotated[
        str, typer.Option(metavar="KEY", help="Only keys that begin with this, segment by segment.")
    ] = "",
    as_of: AsOfOption = None,
    limit: LimitOption = 1_000,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys that have a value, and the values: of one memory, or of all that the log holds."""
    from evrt.cli.remembering import Scope, list_all, list_keys

    scope = Scope(user, conversation, system)
    if scope.named:
        drive(list_keys(Place(app, db), scope, prefix, as_of=as_of, limit=limit, as_json=as_json))
    else:
        drive(list_all(Place(app, db), prefix, as_of=as_of, limit=limit, as_json=as_json))


@cli.command()
def history(
    key: KeyArgument,
    user: UserOption = None,
    conversation: ConversationOption = None,
    system: SystemOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every value that a key has had: when, by whom, in which run."""
    from evrt.cli.remembering import Scope, show_history

    drive(show_history(Place(app, db), Scope(user, conversation, system), key, as_json=as_json))


@cli.command("set")
def set_(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON, or else text as it is.")],
    user: UserOption = None,
    conversation: ConversationOption = None,
    system: SystemOption = None,
    expires: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="For how long it is remembered: 30d, 12h, 90m.")
    ] = None,
    source: SourceOption = None,
    if_version: IfVersionOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a key. The runs that are under way see it at their next look."""
    from evrt.cli.correcting import Said, set_value
    from evrt.cli.remembering import Scope

    said = Said(expires, source, by, if_version)
    drive(set_value(Place(app, db), Scope(user, conversation, system), key, value, said, as_json=as_json))


@cli.command()
def forget(
    key: KeyArgument,
    user: UserOption = None,
    conversation: ConversationOption = None,
    system: SystemOption = None,
    if_version: IfVersionOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a key; exits with 3 where it has no value. What it held stays in its history."""
    from evrt.cli.correcting import Said, forget_key
    from evrt.cli.remembering import Scope

    said = Said(None, None, by, if_version)
    drive(forget_key(Place(app, db), Scope(user, conversation, system), key, said, as_json=as_json))
