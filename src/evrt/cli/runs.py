"""``evrt runs``: start runs, list and show them, give them what they wait for, resume them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from evrt.cli.place import (
    AppOption,
    DbOption,
    JsonOption,
    LimitOption,
    Place,
    SinceOption,
    UntilOption,
    drive,
)
from evrt.errors import UsageError

cli = typer.Typer(
    help="Start runs, look at them, let them go on.", no_args_is_help=True, rich_markup_mode=None
)

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, or a beginning of it that no other run has.")
]
ByOption = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who says so; recorded.")]
ApprovalOption = Annotated[
    str | None, typer.Option("--operation", metavar="OP", help="Which approval, if it waits for several.")
]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; the code sees it.")]
DigestOption = Annotated[
    str | None,
    typer.Option(
        "--digest", metavar="HEX", help="Of what you were shown; refused where it asks for something else."
    ),
]
DetachOption = Annotated[bool, typer.Option("--detach", help="Leave it to a worker.")]
StatusName = Literal[
    "queued", "running", "waiting", "succeeded", "failed", "cancelled", "timed_out", "step_limit"
]


@cli.command()
def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An agent or workflow of the app.")],
    given: Annotated[
        str | None,
        typer.Argument(metavar="INPUT", help="JSON if it is JSON, else text; - reads it from stdin."),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the input from a file, - for stdin.")
    ] = None,
    conversation: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The conversation that the run belongs to; an id of yours."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="The user it is for; an id of yours.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model, in place of the agent's own.")
    ] = None,
    revision: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of an agent that is defined as data: this revision of it."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="KEY", help="The system that the agent is to work in.")
    ] = None,
    detach: DetachOption = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="With --detach: watch until it ends or waits for somebody.")
    ] = False,
    priority: Annotated[
        int | None, typer.Option(metavar="N", help="With --detach: higher ones first; 0 is usual.")
    ] = None,
    delay: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --detach: not before so long, as 10m or 2h.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --detach: not before then: 2026-11-27T12:00:00Z."),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="With --detach: asked again with this key, it is the same run."),
    ] = None,
    concurrent: Annotated[
        bool,
        typer.Option("--concurrent", help="With --detach: also beside other runs of its conversation."),
    ] = False,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run and execute it here, or leave it to workers.

    It goes on until it ends or waits for a person. Its id goes to stderr before anything else, its
    output to stdout. Exit code 0 if it succeeded or waits, 1 if it failed, timed out, was cancelled,
    used up its model turns, or its code diverged. With --detach it is put into the queue, and its id
    goes to stdout.
    """
    from evrt.cli import executing, leaving
    from evrt.definitions.finding import Choices

    choices = Choices(model, revision, system)
    wish = leaving.Wish(conversation, user, priority, delay, at, idempotency_key, concurrent, choices)
    asked = [*(["--follow"] if follow else []), *wish.options]
    if asked and not detach:
        raise UsageError(f"{asked[0]} is for a run that is left to workers: add --detach, or leave it out.")
    value = executing.read_input(given, input_file)
    place = Place(app, db)
    if detach:
        raise typer.Exit(leaving.enqueue(place, name, value, wish, follow=follow, as_json=as_json))
    raise typer.Exit(
        executing.start(
            place, name, value, conversation=conversation, user=user, choices=choices, as_json=as_json
        )
    )


@cli.command("list")
def list_(
    status: Annotated[StatusName | None, typer.Option(help="Only runs with this status.")] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this agent or workflow.")
    ] = None,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Only runs of this conversation: your id, or its ref.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Only runs for this user: your id, or their ref.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="RUN", help="Only the children that this run has started.")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 50,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The other way round.")] = False,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    from evrt.cli.listing import Wanted, list_runs

    wanted = Wanted(status, agent, conversation, user, since, until, parent)
    drive(list_runs(Place(app, db), wanted, limit=limit, oldest_first=oldest_first, as_json=as_json))


@cli.command()
def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN[@N]", help="A run, or the moment of it after its Nth event.")
    ],
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run: how it stands, and why."""
    from evrt.cli.showing import show_run

    drive(show_run(Place(app, db), run, as_json=as_json))


@cli.command()
def answer(
    run: RunArgument,
    given: Annotated[
        str,
        typer.Argument(
            metavar="ANSWER", help="JSON if it is JSON, else text; one of the options if it has any."
        ),
    ],
    operation: Annotated[
        str | None, typer.Option(metavar="OP", help="Which question, if it waits for several answers.")
    ] = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question that a run waits for.

    With --app, the app's redaction is applied to the answer before it is recorded. A worker
    goes on with the run then, or `evrt runs resume`.
    """
    from evrt.cli import waiting

    drive(waiting.answer(Place(app, db), run, given, operation=operation, by=by, as_json=as_json))


@cli.command()
def signal(
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="PAYLOAD", help="JSON if it is JSON, else text.")
    ] = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a run a signal, which its code receives when it waits for one of that name.

    With --app, the app's redaction is applied to the payload before it is recorded.
    """
    from evrt.cli import waiting

    drive(waiting.signal(Place(app, db), run, name, payload, by=by, as_json=as_json))


@cli.command()
def approve(
    run: RunArgument,
    operation: ApprovalOption = None,
    reason: ReasonOption = None,
    digest: DigestOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grant what a run asks leave for. A worker goes on with it then, or `evrt runs resume`."""
    from evrt.cli import waiting

    place = Place(app, db)
    drive(
        waiting.decide(
            place, run, True, operation=operation, reason=reason, digest=digest, by=by, as_json=as_json
        )
    )


@cli.command()
def deny(
    run: RunArgument,
    operation: ApprovalOption = None,
    reason: ReasonOption = None,
    digest: DigestOption = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deny what a run asks leave for. A worker goes on with it then, or `evrt runs resume`."""
    from evrt.cli import waiting

    place = Place(app, db)
    drive(
        waiting.decide(
            place, run, False, operation=operation, reason=reason, digest=digest, by=by, as_json=as_json
        )
    )


@cli.command()
def resume(
    run: RunArgument,
    detach: DetachOption = False,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was interrupted, is paused or waits.

    Prints, and exits, as start does. With --detach a worker goes on with it; that needs no app. --by
    is recorded of one that was paused.
    """
    if detach:
        from evrt.cli import ordering

        drive(ordering.resume_detached(Place(app, db), run, by=by, as_json=as_json))
        return
    from evrt.cli import executing

    raise typer.Exit(executing.resume(Place(app, db), run, by=by, as_json=as_json))


@cli.command()
def pause(
    run: RunArgument,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a run begin nothing more until it is resumed."""
    from evrt.cli import ordering

    drive(ordering.pause(Place(app, db), run, by=by, as_json=as_json))


@cli.command()
def cancel(
    run: RunArgument,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; recorded.")] = None,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a run: at once where nobody executes it, else at its next operation."""
    from evrt.cli import ordering

    drive(ordering.cancel(Place(app, db), run, reason=reason, by=by, as_json=as_json))


@cli.command()
def retry(
    run: RunArgument,
    detach: DetachOption = False,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a run again that has ended, as a new run with the same input; or make the attempt it waits for now.

    Prints, and exits, as start does.
    """
    if detach:
        from evrt.cli import ordering

        drive(ordering.retry_detached(Place(app, db), run, as_json=as_json))
        return
    from evrt.cli import leaving

    raise typer.Exit(leaving.retry(Place(app, db), run, as_json=as_json))


@cli.command()
def settle(
    run: RunArgument,
    operation: Annotated[
        str | None, typer.Argument(metavar="OP", help="Which write, if several are in doubt.")
    ] = None,
    result: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="It happened, and returned this: JSON if it is JSON, else text."),
    ] = None,
    error: Annotated[
        str | None, typer.Option(metavar="TEXT", help="It was tried and failed; the code sees an error.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="It did not happen: make it again.")] = False,
    by: ByOption = None,
    app: AppOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a write in doubt came to.

    With --app, the app's redaction is applied to what you say before it is recorded. A worker
    goes on with the run then, or `evrt runs resume`.
    """
    from evrt.cli import waiting

    drive(
        waiting.settle(
            Place(app, db),
            run,
            operation,
            result=result,
            error=error,
            again=again,
            by=by,
            as_json=as_json,
        )
    )
