"""``evrt systems``: groups of agents with a common prefix to their prompts and common knowledge."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.agents import ByOption, DescriptionOption, NameOption
from evrt.cli.place import AppOption, DbOption, JsonOption, Place, drive

cli = typer.Typer(
    help="Groups of agents: their members, the prefix of their prompts, what they know in common.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The system's key.")]
AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="The key of an agent.")]
PrefixOption = Annotated[
    str | None,
    typer.Option("--prefix", metavar="TEXT", help="What stands before the prompts of its members."),
]


@cli.command("list")
def list_(app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the systems, the oldest first."""
    from evrt.cli.grouping import list_systems

    drive(list_systems(Place(app, db), as_json=as_json))


@cli.command()
def show(key: KeyArgument, app: AppOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Show a system: its members, its prefix, what they know in common."""
    from evrt.cli.grouping import show_system

    drive(show_system(Place(app, db), key, as_json=as_json))


@cli.command()
def define(
    key: KeyArgument,
    name: NameOption = None,
    description: DescriptionOption = None,
    prefix: PrefixOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a system. The log is made where there is none."""
    from evrt.cli.grouping import define_system

    drive(define_system(Place(app, db), key, name, description, prefix, by=by, as_json=as_json))


@cli.command()
def revise(
    key: KeyArgument,
    name: NameOption = None,
    description: DescriptionOption = None,
    prefix: PrefixOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given."""
    from evrt.cli.grouping import revise_system

    drive(revise_system(Place(app, db), key, name, description, prefix, by=by, as_json=as_json))


@cli.command()
def add(
    key: KeyArgument,
    agent: AgentArgument,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an agent in."""
    from evrt.cli.grouping import change_members

    drive(change_members(Place(app, db), key, agent, taken_in=True, by=by, as_json=as_json))


@cli.command()
def remove(
    key: KeyArgument,
    agent: AgentArgument,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an agent go."""
    from evrt.cli.grouping import change_members

    drive(change_members(Place(app, db), key, agent, taken_in=False, by=by, as_json=as_json))


@cli.command()
def learn(
    key: KeyArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is known as.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The text; - reads it from stdin.")],
    inject: Annotated[
        str, typer.Option(metavar="WHERE", help="Into the system prefix, the context, or the knowledge.")
    ] = "knowledge",
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="always: in every prompt; rag: looked for in each run.")
    ] = "always",
    priority: Annotated[int, typer.Option(metavar="N", help="Higher ones first.")] = 0,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Its text may be acted on; else it is quoted.")
    ] = False,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have all members know a text, in place of what they knew under that name."""
    from evrt.cli.grouping import Learnt, learn_text

    learnt = Learnt(name, file, inject, mode, priority, trusted)
    drive(learn_text(Place(app, db), key, learnt, by=by, as_json=as_json))


@cli.command()
def forget(
    key: KeyArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is known as.")],
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have what is known under this name known no more."""
    from evrt.cli.grouping import forget_text

    drive(forget_text(Place(app, db), key, name, by=by, as_json=as_json))
