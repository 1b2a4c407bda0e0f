"""``evrt blob``: what is too large for an event, by its digest."""

from __future__ import annotations

from typing import Annotated

import typer

from evrt.cli.place import AppOption, DbOption, Place, drive


def blob(
    sha256: Annotated[
        str, typer.Argument(metavar="SHA256", help="The digest in the event that refers to it.")
    ],
    app: AppOption = None,
    db: DbOption = None,
) -> None:
    """Print a blob's bytes as they are.

    Exit code 3 where the log does not hold it. The bytes are checked against the digest as they go out.
    """
    from evrt.cli.fetching import print_blob

    drive(print_blob(Place(app, db), sha256))
