"""``evrt worker``: execute the runs that are queued, in one process or several."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, JsonOption, Place

SECONDS_MAX = 86_400.0
LEASE_SECONDS_MIN = 0.2


def worker(
    app: AppOption = None,
    db: DbOption = None,
    agents: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Execute only these agents and workflows.", show_default="all of the app"
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="So many processes, each with its own runs.")
    ] = 1,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Runs at once in each process.")
    ] = 20,
    runs_max: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Runs at once of all workers of the log together."),
    ] = None,
    poll_interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="How often to look into the queue when nothing says that there is work."
        ),
    ] = 1.0,
    grace: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="How long runs may go on after SIGTERM, before others get them."
        ),
    ] = 30.0,
    lease: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How long a silent worker is believed to be alive."),
    ] = 30.0,
    reload: Annotated[
        bool | None,
        typer.Option(
            "--reload/--no-reload",
            help="Begin anew when a file of the code changes.",
            show_default="--reload for one process on a terminal",
        ),
    ] = None,
    as_json: JsonOption = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Execute queued runs until it is told to end.

    SIGTERM or Ctrl-C: it takes no more runs, lets those it has go on for the grace period, hands the
    others over, and exits with 0. A second time: it hands over what it can at once and exits with 130; the
    rest is taken over as after a crash. Without --app it executes what installed packages register as evrt.agents.
    """
    from evrt.cli.settings import Settings, seconds

    settings = Settings(
        agents=agents,
        concurrency=concurrency,
        runs_max=runs_max,
        poll_seconds=seconds("--poll-interval", poll_interval, 0.001, SECONDS_MAX),
        grace_seconds=seconds("--grace", grace, 0.0, SECONDS_MAX),
        lease_seconds=seconds("--lease", lease, LEASE_SECONDS_MIN, SECONDS_MAX),
    )
    place = Place(app, db)
    if supervised:
        from evrt.cli import working

        raise typer.Exit(working.work_supervised(place, settings, reports_folders=bool(reload)))
    from evrt.cli import supervising

    raise typer.Exit(supervising.start(place, settings, processes=processes, reload=reload, as_json=as_json))
