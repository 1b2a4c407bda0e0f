"""``evrt agents``: agents that are defined as data, and their revisions."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place, drive

cli = typer.Typer(
    help="Agents that are defined as data: their revisions, and which of them counts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The agent's key.")]
NumberArgument = Annotated[int, typer.Argument(metavar="N", help="The number of a revision.")]
RevisionOption = Annotated[
    int | None, typer.Option("--revision", metavar="N", help="Of this revision; else of the active one.")
]
FileOption = Annotated[
    str | None,
    typer.Option("--file", metavar="FILE", help="Its configuration, as YAML or JSON; - reads it from stdin."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="One setting: model=openai/gpt-4o, limits.tokens_max=5000; JSON or text.",
    ),
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What people call it.")]
DescriptionOption = Annotated[
    str | None, typer.Option("--description", metavar="TEXT", help="What it is for.")
]
ParentOption = Annotated[
    str | None, typer.Option("--parent", metavar="KEY", help="What is not set comes from this agent.")
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="llama-stack: the file is an agent_config, kept verbatim."),
]
DraftOption = Annotated[bool, typer.Option("--draft", help="It counts only once it is activated.")]
IfRevisionOption = Annotated[
    int | None, typer.Option(metavar="N", help="Only if this is its newest revision still.")
]
ByOption = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does it; recorded.")]


@cli.command("list")
def list_(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the agents, the oldest first."""
    from evrt.cli.defining import list_agents

    drive(list_agents(Place(app, db), as_json=as_json))


@cli.command()
def show(
    key: KeyArgument,
    revision: RevisionOption = None,
    effective: Annotated[
        bool, typer.Option("--effective", help="With all that it inherits, and every default.")
    ] = False,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an agent: its revisions, and the configuration of one."""
    from evrt.cli.defining import show_agent

    drive(show_agent(Place(app, db), key, revision, effective=effective, as_json=as_json))


@cli.command()
def define(
    key: KeyArgument,
    file: FileOption = None,
    settings: SetOption = None,
    name: NameOption = None,
    description: DescriptionOption = None,
    parent: ParentOption = None,
    format: FormatOption = None,
    draft: DraftOption = False,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define an agent; this is its revision 1. The log is made where there is none."""
    from evrt.cli.defining import Given, define_agent

    given = Given(file, tuple(settings or ()), name, description, parent, format, draft, by)
    drive(define_agent(Place(app, db), key, given, as_json=as_json))


@cli.command()
def revise(
    key: KeyArgument,
    file: FileOption = None,
    settings: SetOption = None,
    name: NameOption = None,
    description: DescriptionOption = None,
    parent: ParentOption = None,
    no_parent: Annotated[bool, typer.Option("--no-parent", help="It inherits from nobody any more.")] = False,
    format: FormatOption = None,
    draft: DraftOption = False,
    if_revision: IfRevisionOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a revision. --file takes the place of the whole configuration, --set changes one setting of it."""
    from evrt.cli.defining import Given, revise_agent

    given = Given(file, tuple(settings or ()), name, description, parent, format, draft, by, no_parent)
    drive(revise_agent(Place(app, db), key, given, if_revision=if_revision, as_json=as_json))


@cli.command()
def activate(
    key: KeyArgument,
    number: NumberArgument,
    if_revision: IfRevisionOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have new runs execute this revision. An agent that was retired comes back by it."""
    from evrt.cli.defining import activate_revision

    drive(activate_revision(Place(app, db), key, number, if_revision=if_revision, by=by, as_json=as_json))


@cli.command()
def restore(
    key: KeyArgument,
    number: NumberArgument,
    draft: DraftOption = False,
    if_revision: IfRevisionOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an older revision the newest, as a new one."""
    from evrt.cli.defining import restore_revision

    drive(
        restore_revision(
            Place(app, db), key, number, draft=draft, if_revision=if_revision, by=by, as_json=as_json
        )
    )


@cli.command()
def fork(
    key: KeyArgument,
    new_key: Annotated[str, typer.Argument(metavar="NEW-KEY", help="The key of the new agent.")],
    revision: RevisionOption = None,
    name: NameOption = None,
    draft: DraftOption = False,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a new agent that begins as a copy of this one."""
    from evrt.cli.defining import fork_agent

    drive(fork_agent(Place(app, db), key, new_key, revision, name=name, draft=draft, by=by, as_json=as_json))


@cli.command()
def retire(
    key: KeyArgument,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; recorded.")] = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take on no new runs of an agent; those that there are go on."""
    from evrt.cli.defining import retire_agent

    drive(retire_agent(Place(app, db), key, reason=reason, by=by, as_json=as_json))


@cli.command()
def diff(
    key: KeyArgument,
    old: Annotated[int, typer.Argument(metavar="N", help="A revision.")],
    new: Annotated[
        int | None, typer.Argument(metavar="[M]", help="The other one; else the newest.", show_default=False)
    ] = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what two revisions differ in; exit code 1 where they differ."""
    from evrt.cli.defining import diff_revisions

    raise typer.Exit(drive(diff_revisions(Place(app, db), key, old, new, as_json=as_json)))


@cli.command()
def spec(
    key: KeyArgument,
    file: Annotated[
        str | None,
        typer.Option("--set", metavar="FILE", help="Set it from this file; - reads it from stdin."),
    ] = None,
    revision: Annotated[int | None, typer.Option("--revision", metavar="N", help="As it was then.")] = None,
    if_revision: IfRevisionOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print, or set, the text that says what an agent is meant to do."""
    from evrt.cli.defining import set_spec, show_spec

    place = Place(app, db)
    if file is None:
        drive(show_spec(place, key, revision, as_json=as_json))
    else:
        drive(set_spec(place, key, file, if_revision=if_revision, by=by, as_json=as_json))


@cli.command("import")
def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="YAML, or JSON where its name ends in .json; - is stdin.")
    ],
    check_only: Annotated[
        bool, typer.Option("--check", help="Say what would be done, and do nothing.")
    ] = False,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define and revise agents and systems as a file says: all of it, or nothing of it."""
    from evrt.cli.defining import import_file

    drive(import_file(Place(app, db), file, check_only=check_only, by=by, as_json=as_json))


@cli.command()
def export(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Agents; else all.", show_default=False)
    ] = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print agents with all that they inherit from, and their systems, as YAML; with --json as JSON."""
    from evrt.cli.defining import export_agents

    drive(export_agents(Place(app, db), keys or None, as_json=as_json))
