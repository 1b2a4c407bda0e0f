"""Following a run through its log while another process executes it: what is decided, what is under way."""

from __future__ import annotations

from collections.abc import Callable

from evrt.demo.deliveries import Write, write_of
from evrt.events import Envelope
from evrt.events.calls import ToolCallFailed
from evrt.events.run import TERMINAL
from evrt.folds.journal import operation_of
from evrt.log import Log
from evrt.log.envelopes import envelope


class Follower:
    """A subscription to one run. ``tell`` is called with the number of decisions whenever there is one more."""

    def __init__(self, log: Log, run: str, tell: Callable[[int], None]) -> None:
        self.run = run
        self.decided = 0
        self.ended = False
        self.under_way: dict[str, Write] = {}
        """Writes that have begun and have no outcome yet, by operation."""
        self.tell = tell
        self._rows = log.subscribe()

    async def until(self, due: Callable[[], bool]) -> None:
        """Follow until ``due()`` holds. May be cancelled and called again: nothing is missed."""
        while not due():
            row = await anext(self._rows)
            if row.stream == self.run and row.type in TERMINAL:
                self.ended = True
            elif row.stream == self.run and row.type.startswith("tool_call."):
                self._take(envelope(row))

    def _take(self, row: Envelope) -> None:
        write = write_of(row.event)
        if write is not None:
            self.under_way[write.operation] = write
        elif self.under_way.pop(operation_of(row.event), None) and not isinstance(row.event, ToolCallFailed):
            self.decided += 1
            self.tell(self.decided)
