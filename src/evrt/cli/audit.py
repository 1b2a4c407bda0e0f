"""``evrt audit``: the Merkle tree over the log's leaves, for those who must not have to believe us."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, LimitOption, Place, drive

cli = typer.Typer(
    help="Prove what the log holds, to people with tools of their own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TreeOption = Annotated[
    Path | None,
    typer.Option(
        "--tree",
        metavar="FOLDER",
        help="The tree's folder; else the log's name with -tree.",
        show_default=False,
    ),
]


@cli.callback()
def group() -> None:
    """Prove what the log holds, to people with tools of their own."""


@cli.command()
def keygen(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key goes; must not be there yet.")
    ],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The key's name, which is the origin of what it signs; else evrt/ and the log's id.",
            show_default=False,
        ),
    ] = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key to sign checkpoints with.

    Writes the private key to FILE, for its owner's eyes only, and the verifier key to give to auditors (vkey) to
    FILE.vkey; prints the latter.
    """
    from evrt.cli.auditing import make_key_file

    make_key_file(Place(app, db), file, name, as_json=as_json)


@cli.command()
def head(
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sign a checkpoint with this private key.", show_default=False),
    ] = None,
    tree: TreeOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the tree up to date with the log; print its size and root.

    With --key, sign and print a checkpoint: keep it where whoever writes the log cannot reach it.
    """
    from evrt.cli.auditing import show_head

    show_head(Place(app, db), tree, key, as_json=as_json)


@cli.command()
def prove(
    what: Annotated[
        str | None,
        typer.Argument(metavar="POSITION|RUN@N", help="The event to prove.", show_default=False),
    ] = None,
    old: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Prove also that the tree has only grown since this earlier checkpoint.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The checkpoint to prove it under; else the tree folder's own.",
            show_default=False,
        ),
    ] = None,
    tree: TreeOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a proof that the log holds an event, and that it has only grown.

    Of inclusion as a C2SP tlog-proof, of consistency as a C2SP tlog-witness takes it.
    """
    from evrt.cli.auditing import show_proofs

    show_proofs(Place(app, db), tree, what, old=old, checkpoint=checkpoint, as_json=as_json)


@cli.command()
def verify(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A checkpoint that was kept elsewhere. May be repeated.", show_default=False
        ),
    ] = None,
    proof: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A proof that was kept elsewhere. May be repeated.", show_default=False
        ),
    ] = None,
    vkey: Annotated[
        str | None,
        typer.Option(
            metavar="VKEY|FILE", help="The verifier key that they have to be signed by.", show_default=False
        ),
    ] = None,
    tree: TreeOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the log: compute every leaf again, compare the tree, hold checkpoints against it.

    Writes nothing. Exit code 0 if all is sound, 1 if not. Without a checkpoint or proof from outside the log is
    UNANCHORED: whoever owns it could have written all of it anew.
    """
    from evrt.cli.verifying import verify_log

    raise typer.Exit(verify_log(Place(app, db), tree, checkpoint or [], proof or [], vkey, as_json=as_json))


@cli.command()
def trail(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Only what this run did; without it, everything.")
    ] = None,
    what: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Only events of this type: question.answered.")
    ] = None,
    who: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what was done by agent:NAME, workflow:NAME, or a person."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only what was done for this user: your id, or their ref."),
    ] = None,
    limit: LimitOption = 100,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print who did what, when and for whom.

    Runs asked for and ended, tools called that write, questions and answers, memory: the last ones, in their order.
    """
    from evrt.cli.trail import Asked, show_trail

    drive(show_trail(Place(app, db), Asked(run, what, who, user), limit=limit, as_json=as_json))
