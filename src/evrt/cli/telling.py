"""What a worker says: lines, and on a terminal one more that is written anew all the time.

A thread writes, so that a terminal that has been stopped, or a pipe that nobody reads, stops no run. What
does not fit into its queue is left out.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from evrt.cli.output import Cell, fit, harmless, on_terminal, paint
from evrt.errors import EvrtError

LINES_MAX = 1_000
CLOSE_SECONDS = 1.0
"""How long a reader is waited for at the end."""

CLEAR = "\r\x1b[J"
"""Whatever stands below, too: a terminal that has become narrower has broken the line."""
COLUMNS_LEAST = 20


class Teller:
    """Tells on one stream. ``live``: it has a line that is written anew, as one on a terminal may."""

    def __init__(self, stream: TextIO, *, live: bool = False) -> None:
        self._stream = stream
        self._last: Sequence[Cell] = ()
        self._texts: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self._thread = threading.Thread(target=self._write, name="evrt teller", daemon=True)
        # Also of a terminal that another process writes a live line on.
        self._clear = CLEAR if on_terminal(stream) else ""
        self.live = live and on_terminal(stream)
        self._thread.start()

    def line(self, text: str, style: str = "") -> None:
        """Something that stays."""
        self._put(f"{self._clear}{paint(text, style, self._stream)}\n{self._live_text()}")

    def show(self, cells: Sequence[Cell]) -> None:
        """What the live line is now."""
        if self.live and (cells or self._last):
            self._last = cells
            self._put(CLEAR + self._live_text())

    def close(self) -> None:
        """Take the live line away and write what is left, as far as somebody takes it."""
        self.show(())
        with suppress(queue.Full):
            self._texts.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)

    def _live_text(self) -> str:
        """Fitting the terminal as it is now; the cursor goes back, so that what others write stands at a beginning."""
        if not self.live or not self._last:
            return ""
        left = max(_columns(self._stream), COLUMNS_LEAST) - 1
        written = []
        for cell in self._last:
            text = fit(cell.text, left) if left > 0 else ""
            written.append(paint(text, cell.style, self._stream))
            left -= len(text)
        return "".join(written) + "\r"

    def _put(self, text: str) -> None:
        with suppress(queue.Full):
            self._texts.put_nowait(text)

    def _write(self) -> None:
        descriptor = self._stream.fileno()
        while (text := self._texts.get()) is not None:
            left = text.encode("utf-8", "backslashreplace")
            while left:
                try:
                    left = left[os.write(descriptor, left) :]
                except OSError:  # Nobody reads it any more: the work goes on.
                    break


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return 80


class OneLine(logging.Handler):
    """Log records as one line each; a traceback only where somebody looks for a bug."""

    def __init__(self, teller: Teller) -> None:
        super().__init__(logging.WARNING)
        self._teller = teller

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, EvrtError):
            text = f"{text} {error}"
        elif error is not None:
            text = f"{text} {type(error).__name__}: {' '.join(str(error).split())}"
            if os.environ.get("EVRT_DEBUG") == "1":
                text += "\n" + logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
            else:
                text += " (EVRT_DEBUG=1 says where.)"
        self._teller.line(harmless(text), "yellow")


def tell_warnings(teller: Teller) -> None:
    """Have warnings of workers and runs told, unless the app has set up its logging otherwise."""
    for name in ("evrt.worker", "evrt.run"):
        logger = logging.getLogger(name)
        if not logger.hasHandlers():
            logger.addHandler(OneLine(teller))
