"""``evrt demo``: decide real cases, die by SIGKILL in the middle, resume, replay, and look whether it was right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evrt.cli.boundary import INTERRUPTED
from evrt.cli.place import JsonOption, drive

HELD, DID_NOT_HOLD = 0, 1


def demo(
    claims: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Expense claims as CSV; else a sample of 48.", show_default=False),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            "--dir", metavar="DIR", help="Where each demo gets a folder of its own; older ones stay."
        ),
    ] = Path("evrt-demo"),
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A real model, as litellm names it: openai/gpt-4o, ollama/llama3."),
    ] = None,
    api_base: Annotated[
        str | None, typer.Option(metavar="URL", help="Another server with the API of OpenAI, for --model.")
    ] = None,
    kill_after: Annotated[
        int | None,
        typer.Option(metavar="N", help="Kill after N recorded decisions; else somewhere in the middle."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Kill an agent in the middle of its work, and see it lose nothing.

    An agent decides expense claims. Its process is killed and another one goes on; the run is then replayed offline, every decision is
    computed again by the policy, the ledger is searched for what is missing or double, and the history is
    compared with that of a run that nobody killed. A model that reads what it is given stands in for a real
    one, so this needs no network and no key. Exit code 0 if everything held, 1 if not.
    """
    from evrt.cli.stage import Stage
    from evrt.demo.plan import make_plan
    from evrt.demo.story import tell

    plan = make_plan(claims=claims, parent=folder, model=model, api_base=api_base, kill_after=kill_after)
    with Stage(plan, as_json=as_json) as stage:
        try:
            report = drive(tell(plan, stage))
        except KeyboardInterrupt:
            stage.interrupted()
            raise typer.Exit(INTERRUPTED) from None
        stage.finish(report)
    raise typer.Exit(HELD if report.ok else DID_NOT_HOLD)
