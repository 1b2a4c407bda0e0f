"""Bytes out of a log and onto stdout: ``evrt blob``."""

from __future__ import annotations

import asyncio
import re
import sys

from evrt.cli.output import NotPrinted, on_terminal
from evrt.cli.place import Place
from evrt.errors import UsageError


async def print_blob(place: Place, sha256: str) -> None:
    """Write a blob to stdout, piece by piece. Raises NotFound, UnusableLog, UsageError on a terminal."""
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"{sha256!r} is not the digest of a blob, which has 64 digits of 0 to 9 and a to f.")
    if on_terminal(sys.stdout):
        raise UsageError(
            "A blob is bytes, and could do anything to a terminal: send it to a file with '> FILE'."
        )
    async with place.reading() as log:
        async for piece in log.read_blob(sha256.lower()):
            await asyncio.to_thread(_write, piece)


def _write(piece: bytes) -> None:
    try:
        sys.stdout.buffer.write(piece)
    except OSError as error:
        raise NotPrinted from error
