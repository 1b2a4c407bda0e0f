"""Where errors end: whatever goes wrong in a command becomes one paragraph and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import TextIO

from evrt import __version__
from evrt.cli.output import NotPrinted, flush, harmless, whisper
from evrt.errors import EvrtError, Unavailable

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE has ended."""

UNEXPECTED = 70
"""A bug: of evrt, or of what an app has hung into it."""


def guarded(command: Callable[[], object]) -> int:
    """Run a command; returns the code to exit with, after everything printed has really gone out."""
    sys.stdout, sys.stderr = _printable(sys.stdout), _printable(sys.stderr)
    try:
        code = _exit_code(command)
        flush()
        return code
    except NotPrinted as failed:
        # The interpreter would try again at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        cause = failed.__cause__
        if isinstance(cause, BrokenPipeError):
            return BROKEN_PIPE
        _say(f"The output could not be written: {getattr(cause, 'strerror', cause)}.")
        return Unavailable.exit_code


def _exit_code(command: Callable[[], object]) -> int:
    try:
        command()
        return 0
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except EvrtError as error:
        _say(str(error))
        return error.exit_code
    except NotPrinted:
        raise
    except Exception as error:  # noqa: BLE001  # The last one to see it: nobody gets a traceback.
        _say(_unexpected(error))
        return UNEXPECTED


def _unexpected(error: Exception) -> str:
    import platform
    import traceback

    told = "".join(traceback.format_exception(error))
    if os.environ.get("EVRT_DEBUG") == "1":
        return told.rstrip()
    report = f"evrt {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n{told}"
    return (
        f"evrt met an error that it did not expect: {traceback.format_exception_only(error)[-1].strip()}. "
        f"Nothing that had been recorded is lost. Please report it with {_kept(report)}."
    )


def _kept(report: str) -> str:
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="evrt-error-", suffix=".txt", delete=False
        ) as file:
            file.write(report)
    except OSError:
        return "what EVRT_DEBUG=1 prints when the command is run again"
    return f"the file {file.name}, which says where it happened (EVRT_DEBUG=1 prints that instead)"


def _say(text: str) -> None:
    whisper(f"{harmless(text)}\n")


def _printable(stream: TextIO | None) -> TextIO:
    """A stream that takes any text: what its encoding has no character for is printed as an escape."""
    if stream is None:  # Closed by whoever started us.
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
