"""``evrt conversations``: which there are, what was said in them; titled, forked, deleted."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, AsOfOption, DbOption, JsonOption, LimitOption, Place, drive

ConversationArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A conversation: your id, or its ref.")
]
ByOption = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who says so; recorded.")]

cli = typer.Typer(
    help="Conversations: which there are, what was said; title, fork, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
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
    conversation: ConversationArgument,
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


@cli.command()
def title(
    conversation: ConversationArgument,
    text: Annotated[
        str | None, typer.Argument(metavar="[TITLE]", help="The title; without it there is none any more.")
    ] = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a conversation another title."""
    from evrt.cli import tending

    drive(tending.title(Place(app, db), conversation, text, by=by, as_json=as_json))


@cli.command()
def fork(
    conversation: ConversationArgument,
    upto: Annotated[
        int | None, typer.Option("--upto", min=0, metavar="N", help="Only with the first N messages.")
    ] = None,
    new: Annotated[
        str | None, typer.Option("--as", metavar="ID", help="Your id for the new conversation.")
    ] = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a conversation with what was said in another one, and print its ref.

    Nothing is copied: what it begins with is read where it is, and gone when the other is deleted.
    """
    from evrt.cli import tending

    drive(tending.fork(Place(app, db), conversation, upto, new=new, by=by, as_json=as_json))


@cli.command()
def delete(
    conversation: ConversationArgument,
    sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also while a run of it is being executed: it is taken away.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; it is kept, so nothing that is to be forgotten.")
    ] = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a conversation with everything in it: runs, what they had others do, its memory, its files.

    Hashes of the events stay, so that proofs stay good, and that it was deleted, by whom and when. One that was broken off
    goes on when it is given again. On a terminal it asks first; elsewhere it needs --yes. Exits with 1 where the answer is no.
    """
    from evrt.cli import tending

    raise typer.Exit(
        drive(
            tending.delete(
                Place(app, db),
                conversation,
                by=by,
                reason=reason,
                force=force,
                sure=sure,
                as_json=as_json,
            )
        )
    )
