"""``evrt init``: an agent to begin with, that runs at once."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import JsonOption


def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where; made if it is not there.")] = ".",
    as_json: JsonOption = False,
) -> None:
    """Write an app to begin with: an agent, tools, a workflow, tests, configuration.

    It needs no key and no network, and runs at once. No file that is there already is touched.
    """
    from evrt.cli.starting import write_starter

    write_starter(folder, as_json=as_json)
