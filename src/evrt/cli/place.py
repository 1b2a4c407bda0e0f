"""Which app and which log a command is about: flags, then environment, then what the app says, then a default."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from evrt.config import as_url, read_config
from evrt.errors import Denied, NotFound, UsageError

if TYPE_CHECKING:
    from evrt.app import App
    from evrt.log import Log

T = TypeVar("T")

DEFAULT_URL = "sqlite:///evrt.db"

AppOption = Annotated[
    str | None,
    typer.Option(
        "--app", metavar="MODULE:NAME", help="The app; else EVRT_APP or evrt.toml.", show_default=False
    ),
]
DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL|FILE",
        help=f"The log; else EVRT_DB, the app's own, evrt.toml, or {DEFAULT_URL}.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many.")]
SinceOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="From this time on: 2026-11-27, 2026-11-27T12:00:00Z, or 2h ago."),
]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="MOMENT",
        help="As it was then: a position, a time such as 2026-11-27T12:00:00Z, or RUN@N.",
    ),
]


@dataclass(frozen=True, slots=True)
class Place:
    """What the flags ``--app`` and ``--db`` said; environment and configuration are asked where they said nothing."""

    app_flag: str | None = None
    db_flag: str | None = None

    @property
    def app_name(self) -> str | None:
        return self.app_flag or os.environ.get("EVRT_APP") or read_config().app

    @property
    def url(self) -> str | None:
        """The URL of the log, if flag or environment name one. A bare path stands for a SQLite file."""
        if self.db_flag is not None and not self.db_flag.strip():
            # As from --db "$LOG" where LOG is not set: some other log must not be taken for it.
            raise UsageError("--db names no log: what was given is empty.")
        given = self.db_flag or os.environ.get("EVRT_DB") or None
        return None if given is None else as_url(given)

    def command(self, *words: str) -> str:
        """A command to copy that is about the same app and log; the environment is taken to stay as it is."""
        from evrt.log.postgres.address import shown_url

        # What is copied from a screen has been seen by others: without a password.
        flags = {"--app": self.app_flag, "--db": self.db_flag and shown_url(self.db_flag)}
        given = [word for flag, value in flags.items() if value for word in (flag, value)]
        return shlex.join([*evrt_command(), *words, *given])

    def load_app(self) -> App:
        """The app, its log being the one named; where none is, what installed packages register as ``evrt.agents``.

        Raises UsageError where there is neither, or it cannot be loaded.
        """
        from evrt.cli.assembling import installed_app
        from evrt.cli.loading import load_app

        app = installed_app() if self.app_name is None else load_app(self.app_name)
        if app is None:
            raise UsageError(
                "Which app? Name it with --app module:name, in EVRT_APP, or as app in evrt.toml. For `app = evrt.App()` in support.py "
                "that is --app support:app."
            )
        if self.url is not None:
            app.url = self.url
        return app

    def load_app_if_named(self) -> App | None:
        """The app, where flag or environment name one."""
        return self.load_app() if self.app_name is not None else None

    def existing_url(self) -> str:
        """The URL of a log that is there. Raises NotFound: only a new run may create one."""
        url = self.url
        if url is None:
            try:
                app = self.load_app_if_named()
            except UsageError as error:
                raise UsageError(f"{error} --db FILE looks into a log without the app.") from error
            url = default_url() if app is None else app.url
        require_log(url)
        return url

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Log]:
        """The log, opened for reading only."""
        from evrt.log import open_log

        async with aclosing(await open_log(self.existing_url(), read_only=True)) as log:
            yield log


def default_url() -> str:
    """The log where neither flag, environment nor app name one."""
    configured = read_config().db
    return DEFAULT_URL if configured is None else as_url(configured)


def require_log(url: str) -> None:
    """Raises NotFound where a URL names a file that is not there, Denied."""
    from evrt.log.address import is_postgres, parse_url

    if is_postgres(url):
        # Whether there is a log only the server can tell: whoever opens it for reading is told.
        return
    path = parse_url(url)
    if path is None:
        return
    try:
        os.stat(path)
    except PermissionError:
        raise Denied(f"The log {path} cannot be reached: this user may not look into its folder.") from None
    except OSError:
        raise NotFound(
            f"There is no log at {path}. Name another with --db or EVRT_DB; `evrt runs start` creates one."
        ) from None


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on an event loop that is imported only now."""
    import asyncio

    return asyncio.run(work)


def evrt_command() -> list[str]:
    """How to call evrt from here, as this process was called."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return [sys.executable, "-m", "evrt"]
    on_path = shutil.which("evrt")
    if os.path.basename(called) != "evrt" or not os.path.exists(called):
        return ["evrt"]
    return ["evrt"] if on_path is not None and os.path.samefile(on_path, called) else [called]
