"""The command line: ``evrt``. Data goes to stdout, hints and progress to stderr; ``--json`` is for programs.

Only what describes the commands is imported here; what does the work is imported by the command
that needs it, so that ``evrt --help`` is there at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from evrt import __version__
from evrt.cli import (
    agents,
    audit,
    blobs,
    conversations,
    db,
    demo,
    doctor,
    history,
    init,
    memory,
    projections,
    questions,
    queue,
    runs,
    schedules,
    systems,
    turns,
    usage,
    worker,
)
from evrt.cli.boundary import guarded
from evrt.errors import InvalidInput, NotFound

EPILOG = (
    "Exit codes: 0 ok, 1 negative result (a run failed, code diverged, a check found something), 2 wrong usage, "
    "3 not found, 4 conflict, 5 denied, 6 unavailable, 70 an error of evrt itself, 130 interrupted."
)

cli = typer.Typer(
    name="evrt",
    help="Durable runs of LLM agents on an append-only log: run, resume, look at any moment, replay.",
    epilog=EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The console script: run the command that was typed, exit with its code."""
    sys.exit(guarded(_run))


def _run() -> None:
    for argument in sys.argv:
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            raise InvalidInput(f"An argument is not text in UTF-8: {argument!r}.")
    try:
        os.getcwd()
    except FileNotFoundError:
        raise NotFound("The current folder has been removed. Change to one that is there.") from None
    cli()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evrt {__version__}")
        raise typer.Exit


@cli.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Durable runs of LLM agents on an append-only log: run, resume, look at any moment, replay."""


cli.command("demo")(demo.demo)
cli.command("init")(init.init)
cli.add_typer(runs.cli, name="runs")
cli.command("worker")(worker.worker)
cli.add_typer(queue.cli, name="queue")
cli.command("log")(history.log)
cli.command("at")(history.at)
cli.command("replay")(history.replay)
cli.add_typer(schedules.cli, name="schedules")
cli.add_typer(agents.cli, name="agents")
cli.add_typer(systems.cli, name="systems")
cli.add_typer(conversations.cli, name="conversations")
cli.add_typer(memory.cli, name="memory")
cli.command("questions")(questions.questions)
cli.command("usage")(usage.usage)
cli.add_typer(turns.cli, name="turns")
cli.command("blob")(blobs.blob)
cli.add_typer(audit.cli, name="audit")
cli.add_typer(projections.cli, name="projections")
cli.add_typer(db.cli, name="db")
cli.command("doctor")(doctor.doctor)
