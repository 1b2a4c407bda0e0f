"""Writes what models say while they say it: gathered for a moment, off the event loop, and never at a run's cost.

Nothing here fails a run or makes it wait. What cannot be written is left out, and readers see by the offsets that
something is missing; the message itself is in the log as soon as it is whole.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from evrt.errors import EvrtError, NotFound
from evrt.history import load_last_chapter
from evrt.live.redacting import Redacting
from evrt.live.store import EVERY_EPOCH, Batch, Call, LiveStore, Piece, Removal
from evrt.log import Log
from evrt.seal import Redact, keep

live_logger = logging.getLogger("evrt.live")

GATHER_SECONDS = 0.05
"""Text that comes in within this time is one frame, and all frames of it are one transaction."""

WAITING_CHARACTERS_MAX = 1_000_000
"""What may wait to be written, of all runs of a process together; beyond it text is left out."""

CALL_CHARACTERS_MAX = 1_000_000
"""What is written of one attempt: a message that is longer could not be recorded anyway."""

REMOVALS_MAX = 10_000
"""What may wait to be removed; beyond it, it is found when its run has ended, or when it is old."""

PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 30.0
"""Before it is tried again after a failure, doubled from one to the next."""

CLOSE_SECONDS_MAX = 5.0
"""How long closing waits for a write that is under way."""

SWEEP_SECONDS = 3_600.0
KEPT_SECONDS = 86_400.0
"""What nobody has added to for a day has been left by a worker that died, of a run that nobody took over."""

QUIET_SECONDS = 60.0
"""Of a call that has said nothing for so long it is looked whether its run has ended."""

SWEPT_RUNS_MAX = 100


@dataclass(slots=True, eq=False)
class _Streaming:
    """An attempt that streams."""

    call: Call
    redacting: Redacting
    gathered: list[str] = field(default_factory=list)
    lost: int = 0
    """Characters that were left out behind what has been gathered."""
    offset: int = 0
    heard: int = 0
    ended: bool = False


class LiveWriter:
    """What the runs of one process stream into. For one event loop at a time; ``store`` is opened when there is something to write."""

    def __init__(self, log: Log, store: LiveStore, redact: Redact = keep) -> None:
        self._log = log
        self._store = store
        self._redact = redact
        self._streaming: dict[tuple[str, str], _Streaming] = {}
        self._news: dict[int, _Streaming] = {}
        self._removals: dict[Removal, None] = {}
        self._written: set[int] = set()
        """Calls of which something has been written."""
        self._waiting = 0
        self._writing: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False
        self._closing: asyncio.Event | None = None
        """What ends a rest of the task that writes: one for each, as an app may live through several event loops."""
        self._pause_seconds = 0.0
        self._sweep_next = 0.0

    # ------------------------------------------------------------------------------ what runs tell it

    def begin(self, run: str, operation: str, epoch: int, attempt: int) -> Callable[[str], None]:
        """Whom to tell of an attempt's text as it comes in, on this loop. It costs nothing before."""
        streaming = _Streaming(
            Call(secrets.randbits(62), run, operation, epoch, attempt, True), Redacting(self._redact)
        )

        def hear(text: str) -> None:
            if text and not streaming.ended and not self._closed:
                self._streaming[run, operation] = streaming
                self._hear(streaming, text)

        return hear

    def conclude(self, run: str, operation: str, epoch: int) -> None:
        """The outcome of an operation is durable: remove what it has streamed."""
        streaming = self._streaming.pop((run, operation), None)
        if streaming is not None:
            self._end(streaming)
            self._remove(Removal(run, operation, epoch))

    def leave(self, run: str, epoch: int) -> None:
        """This process executes a run no longer: remove what it has streamed, and what was left by those before it."""
        left = [key for key in self._streaming if key[0] == run]
        for key in left:
            self._end(self._streaming.pop(key))
        if left or epoch > 1:
            self._remove(Removal(run, None, epoch))

    def _hear(self, streaming: _Streaming, text: str) -> None:
        streaming.heard += len(text)
        full = self._waiting + len(text) > WAITING_CHARACTERS_MAX or streaming.heard > CALL_CHARACTERS_MAX
        if full or streaming.lost:
            # Nothing is taken after what was left out before that has been told.
            streaming.lost += len(text)
        else:
            streaming.gathered.append(text)
            self._waiting += len(text)
        if streaming.heard - len(text) <= CALL_CHARACTERS_MAX:
            self._news[streaming.call.id] = streaming
            self._write_soon()

    def _end(self, streaming: _Streaming) -> None:
        streaming.ended = True
        self._written.discard(streaming.call.id)
        self._news.pop(streaming.call.id, None)
        self._waiting -= sum(map(len, streaming.gathered))
        streaming.gathered.clear()

    def _remove(self, removal: Removal) -> None:
        if len(self._removals) < REMOVALS_MAX and not self._closed:
            self._removals[removal] = None
            self._write_soon()

    # -------------------------------------------------------------------------------------- writing

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._closing = asyncio.Event()
            self._writing = asyncio.get_running_loop().create_task(
                self._write(self._closing), name="evrt live"
            )

    async def _write(self, closing: asyncio.Event) -> None:
        while self._news or self._removals:
            await _rest(closing, self._pause_seconds or GATHER_SECONDS)
            removals, self._removals = self._removals, {}
            try:
                await self._write_once(list(removals))
            except Exception as error:  # noqa: BLE001  (whatever it is, no run is to fail of it)
                self._failed(error)
                self._removals = removals | self._removals
                if self._closed:
                    return

    async def _write_once(self, removals: Sequence[Removal]) -> None:
        calls, pieces = self._take()
        if calls or removals:
            await self._in_thread(lambda: self._store.write(Batch(calls, pieces, removals)))
            self._written.update(call.id for call in calls)
            self._recovered()
            await self._sweep()

    def _take(self) -> tuple[list[Call], list[Piece]]:
        """Everything that waits, redacted. What is still held back as part of a word stays out."""
        calls: list[Call] = []
        pieces: list[Piece] = []
        for streaming in list(self._news.values()):
            text = "".join(streaming.gathered)
            self._waiting -= len(text)
            streaming.gathered.clear()
            shown = _storable(streaming.redacting.take(text))
            if shown:
                calls.append(streaming.call._replace(first=streaming.call.id not in self._written))
                pieces.append(Piece(streaming.call.id, streaming.offset, shown))
            streaming.offset += len(shown) + streaming.lost
            if streaming.lost:
                streaming.redacting.tear()
                streaming.lost = 0
            del self._news[streaming.call.id]
        return calls, pieces

    def _recovered(self) -> None:
        if self._pause_seconds:
            self._pause_seconds = 0.0
            live_logger.info("Streaming text is written again.")

    def _failed(self, error: Exception) -> None:
        if not self._pause_seconds:
            said = error if isinstance(error, EvrtError) else f"{type(error).__name__}: {error}"
            live_logger.warning(
                "%s Runs go on; what their models say is seen by others when it is whole.", said
            )
        self._pause_seconds = min(max(2 * self._pause_seconds, PAUSE_SECONDS), PAUSE_SECONDS_MAX)

    async def _sweep(self) -> None:
        """Now and then: remove what is old, and what runs have left that have ended."""
        now = asyncio.get_running_loop().time()
        if now < self._sweep_next:
            return
        self._sweep_next = now + SWEEP_SECONDS
        quiet: list[str] = []
        await self._in_thread(
            lambda: quiet.extend(self._store.sweep(KEPT_SECONDS, QUIET_SECONDS, SWEPT_RUNS_MAX))
        )
        own = {run for run, _ in self._streaming}
        for run in quiet:
            if run not in own and await self._has_ended(run):
                self._removals[Removal(run, None, EVERY_EPOCH)] = None

    async def _has_ended(self, run: str) -> bool:
        try:
            return (await load_last_chapter(self._log, run)).journal.terminal is not None
        except NotFound:
            return True

    async def _in_thread(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="evrt live")
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def aclose(self) -> None:
        """Write and remove what waits, if that is done in a few seconds, then close. Idempotent."""
        self._closed = True
        if self._closing is not None:
            self._closing.set()
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing], timeout=CLOSE_SECONDS_MAX)
            self._writing.cancel()
        if self._thread is not None:
            self._thread.submit(self._store.close)
            self._thread.shutdown(wait=False)
            self._thread = None


async def _rest(closing: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await closing.wait()


def _storable(text: str) -> str:
    """Text that any database takes, of the same length: without zero characters and halves of a surrogate pair."""
    return text.replace("\x00", "\u2400").encode("utf-8", "replace").decode()
