"""The write side of a run: events are gathered during a turn of the loop and appended in order.

Code may see an outcome as soon as it exists. What must wait is the next effect: ``barrier`` returns
once everything recorded so far is durable. So an outcome and the intent that follows it ride in
one append, and K sequential calls cost K + 1 syncs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from evrt.codec import encode
from evrt.errors import EvrtError, Fenced, PayloadTooLarge, Unavailable, WrongVersion
from evrt.events import Event
from evrt.log.contract import PAYLOAD_BYTES_MAX, Append, Appended, Claim, Draft, Expectation, Fence, Log
from evrt.log.ids import new_event_id
from evrt.runtime.stop import RunStopped, Stop


class JournalWriter:
    """Appends one run's events under one claim.

    on_failure is called once when an append fails; on_gap when events from outside were found to
    stand before the ones just appended.
    """

    def __init__(
        self,
        log: Log,
        *,
        run: str,
        correlation: str,
        meta: bytes,
        epoch: int,
        version: int,
        on_failure: Callable[[EvrtError], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._log = log
        self._run = run
        self._correlation = correlation
        self._meta = meta
        self._expect: Expectation = Claim(epoch)
        self._epoch = epoch
        self.version = version
        self._pending: list[Draft] = []
        self._scheduled = False
        self._submitted = 0
        self.landed = 0
        """Appends that are durable."""
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._failure: EvrtError | None = None
        self._on_failure = on_failure
        self._on_gap = on_gap
        self._loop = asyncio.get_running_loop()
        self.alone = True
        """True while one task executes the run: then a barrier need not wait for siblings' events."""

    def draft(self, event: Event) -> Draft:
        """An event of this run, encoded. Raises InvalidInput or PayloadTooLarge."""
        payload = encode(event)
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(
                f"A {event.type} event of {len(payload):,} bytes is over the limit of {PAYLOAD_BYTES_MAX:,} bytes. "
                "Keep big results in a file or an object store and return a reference to them."
            )
        return Draft(self._run, event.type, new_event_id(), self._correlation, self._meta, payload)

    def record(self, *drafts: Draft) -> None:
        """Add events, also those of other streams, to this turn's append: all of them or none are written."""
        self._pending.extend(drafts)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    @property
    def next_batch(self) -> int:
        """Number of the append that the next event goes into; ``landed`` counts those that are durable."""
        return self._submitted + 1

    async def barrier(self) -> None:
        """Return when everything recorded so far is durable. Raises RunStopped if an append failed."""
        if self._failure is not None:
            raise RunStopped(Stop("log", self._failure))
        if self.alone:
            self._flush()
        target = self._submitted + (1 if self._pending else 0)
        if target <= self.landed:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((target, waiter))
        await waiter

    async def append_now(self, drafts: Sequence[Draft], expect: Mapping[str, Expectation]) -> Appended:
        """Append events of this run and of other streams at once, with expectations about the others.

        Raises Conflict when one of those fails, and then nothing is written: for the caller that is an
        outcome, not the end of the run.
        """
        await self.barrier()
        future = self._submit(list(drafts), expect)
        try:
            return await asyncio.shield(future)
        except (Fenced, Unavailable) as error:
            raise RunStopped(Stop("log", error)) from error

    def _flush(self) -> None:
        self._scheduled = False
        if self._pending and self._failure is None:
            drafts, self._pending = self._pending, []
            self._submit(drafts, {})

    def _submit(self, drafts: list[Draft], expect: Mapping[str, Expectation]) -> asyncio.Future[Appended]:
        own, self._expect = self._expect, Fence(self._epoch)
        future = self._log.append(Append(drafts, {**expect, self._run: own}))
        self._submitted += 1
        future.add_done_callback(lambda done: self._on_landed(done, drafts))
        return future

    def _on_landed(self, future: asyncio.Future[Appended], drafts: list[Draft]) -> None:
        if future.cancelled():
            self._fail(Unavailable("The log was closed while an append was under way."))
            return
        error = future.exception()
        if error is None:
            self._note_versions(drafts, future.result())
        elif not isinstance(error, WrongVersion):
            self._fail(error if isinstance(error, EvrtError) else Unavailable(f"The log failed: {error!r}"))
            return
        self.landed += 1
        while self._waiters and self._waiters[0][0] <= self.landed:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _note_versions(self, drafts: list[Draft], appended: Appended) -> None:
        gap = False
        for draft, version in zip(drafts, appended.versions, strict=True):
            if draft.stream == self._run:
                gap = gap or version != self.version + 1
                self.version = version
        if gap:
            self._on_gap()

    def _fail(self, error: EvrtError) -> None:
        if self._failure is None:
            self._failure = error
            self._pending.clear()
            self._on_failure(error)
