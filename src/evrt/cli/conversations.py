"""``evrt conversations``: which there are, and what was said in them."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, AsOfOption, DbOption, JsonOption, LimitOption, Place, drive

cli = typer.Typer(
    help="Read conversations: which there are, what was said.", no_args_is_help=True, rich_markup_mode=None
)


@cli.command("list")
def list_(
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those of this user: your id, or their ref.")
    ] = None,
    limit: LimitOption = 50,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List conversations, the newest first."""
    from evrt.cli.conversing import list_conversations

    drive(list_conversations(Place(app, db), user=user, limit=limit, as_json=as_json))


@cli.command()
def show(
    conversation: Annotated[str, typer.Argument(metavar="ID", help="A conversation: your id, or its ref.")],
    include_failed_runs: Annotated[
        bool, typer.Option("--include-failed-runs", help="Also what runs said that failed or timed out.")
    ] = False,
    as_of: AsOfOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a conversation: whose it is, and everything that was said, in all of its runs."""
    from evrt.cli.conversing import show_conversation

    drive(
        show_conversation(
            Place(app, db),
            conversation,
            include_failed_runs=include_failed_runs,
            as_of=as_of,
            as_json=as_json,
        )
    )
