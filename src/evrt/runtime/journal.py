"""The write side of a run: events are gathered during a turn of the loop and appended in order.

Code may see an outcome as soon as it exists. What must wait is the next effect: ``barrier`` returns
once everything recorded so far is durable. So an outcome and the intent that follows it ride in
one append, and K sequential calls cost K + 1 syncs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from evrt.codec import encode, meta_for
from evrt.errors import EvrtError, PayloadTooLarge, Unavailable, WrongVersion
from evrt.events import Event
from evrt.log.contract import (
    PAYLOAD_BYTES_MAX,
    Append,
    Appended,
    Claim,
    Draft,
    Expectation,
    Fence,
    Landing,
    Log,
)
from evrt.log.coordination import Change
from evrt.log.ids import new_event_id
from evrt.runtime.stop import RunStopped, Stop

APPEND_EVENTS_MAX = 1_000
"""Most events of one append, far below what the log takes: code that emits in a loop may record any number."""


def payload_of(event: Event) -> bytes:
    """An event's payload. Raises InvalidInput or PayloadTooLarge."""
    payload = encode(event)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(
            f"A {event.type} event of {len(payload):,} bytes is over the limit of {PAYLOAD_BYTES_MAX:,} bytes. "
            "Keep big results in a file or an object store and return a reference to them."
        )
    return payload


class Turn:
    """The current turn of the event loop: what asks to be called at its end is called, with one callback for all."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []

    def at_its_end(self, call: Callable[[], None]) -> None:
        """Call this before the loop waits for anything, in the order of asking."""
        if not self._calls:
            asyncio.get_running_loop().call_soon(self._end)
        self._calls.append(call)

    def _end(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()


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
        turn: Turn,
        claim_version: int | None = None,
    ) -> None:
        self._log = log
        self._run = run
        self._correlation = correlation
        self.meta = meta
        """Of the events drafted from now on."""
        self._expect: Expectation = Claim(epoch, claim_version)
        self._fence = Fence(epoch)
        self.version = version
        self._pending: list[tuple[tuple[Draft, ...], Sequence[Change]]] = []
        self.recorded = 0
        """Events handed in so far."""
        self.landed = 0
        """How many of them are durable."""
        self._in_flight: Landing[Appended] | None = None
        self._in_flight_drafts: list[Draft] = []
        self._outcome_is_the_caller_s = False
        """Whether the append under way may be refused for what it expects of streams, and the run goes on."""
        self._when_landed: deque[tuple[int, Callable[[], None]]] = deque()
        self._failure: EvrtError | None = None
        self._on_failure = on_failure
        self._on_gap = on_gap
        self._turn = turn

    def draft(self, event: Event, *, meta: bytes | None = None) -> Draft:
        """An event of this run, encoded. Raises InvalidInput or PayloadTooLarge."""
        payload = payload_of(event)
        meta = meta_for(event, meta or self.meta)
        return Draft(self._run, event.type, new_event_id(), self._correlation, meta, payload)

    def record(self, *drafts: Draft, beside: Sequence[Change] = ()) -> None:
        """Add events, also those of other streams, and changes beside them to this turn's append.

        All of it is written, or nothing.
        """
        if not self._pending:
            self._turn.at_its_end(self.flush)
        self._pending.append((drafts, beside))
        self.recorded += len(drafts)

    async def barrier(self) -> None:
        """Return when everything recorded so far is durable. Raises RunStopped if an append failed."""
        target = self.recorded
        while self.landed < target and self._failure is None:
            await self._land(self._in_flight or self._hand_over())
        self._check()

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call this once everything recorded so far is durable; never, if it does not become so."""
        self._when_landed.append((self.recorded, call))

    async def append_now(
        self,
        drafts: Sequence[Draft],
        expect: Mapping[str, Expectation],
        *,
        too_late: Callable[[], None],
        beside: Sequence[Change] = (),
    ) -> Appended:
        """Append events of this run and of other streams at once, with expectations about streams.

        One about the run's own takes the place of the fence, which the events' meta carries as well.

        ``too_late`` is called when the task was cancelled while they were being written.
        Raises WrongVersion when one of those fails, and then nothing is written: for the caller that is an
        outcome, not the end of the run.
        """
        while self._in_flight is not None or self._pending:
            await self.barrier()
        self.recorded += len(drafts)
        landing = self._submit(list(drafts), expect, beside)
        try:
            await self._land(landing)
        except asyncio.CancelledError:  # It comes when the answer is there.
            too_late()
        self._check()
        return landing.result()

    def flush(self) -> None:
        """Hand what is pending to the log, unless an append is under way: then it follows that one.

        One at a time, so that no event can become durable after one before it was lost.
        """
        if self._pending and self._in_flight is None and self._failure is None:
            self._hand_over().add_done_callback(self._on_landed)

    def _hand_over(self) -> Landing[Appended]:
        """Submit what is pending, as much as one append may carry."""
        drafts: list[Draft] = []
        beside: list[Change] = []
        groups = 0
        for group, changes in self._pending:
            if drafts and len(drafts) + len(group) > APPEND_EVENTS_MAX:
                break
            drafts.extend(group)
            beside.extend(changes)
            groups += 1
        del self._pending[:groups]
        return self._submit(drafts, {}, beside)

    def _submit(
        self, drafts: list[Draft], expect: Mapping[str, Expectation], beside: Sequence[Change]
    ) -> Landing[Appended]:
        own, self._expect = self._expect, self._fence
        self._outcome_is_the_caller_s = bool(expect)
        landing = self._log.append(Append(drafts, {self._run: own, **expect}, beside=beside))
        self._in_flight = landing
        self._in_flight_drafts = drafts
        return landing

    async def _land(self, landing: Landing[Appended]) -> None:
        """Wait for an answer, and note it: also for a task that was cancelled meanwhile."""
        try:
            await landing
        except EvrtError:
            pass
        finally:
            if landing.done():  # Else nobody waits any more: the event loop is being closed.
                self._on_landed(landing)

    def _on_landed(self, landing: asyncio.Future[Appended]) -> None:
        if landing is not self._in_flight:
            return
        self._in_flight = None
        error = landing.exception()
        if error is None:
            self._note_versions(self._in_flight_drafts, landing.result())
        elif not (isinstance(error, WrongVersion) and self._outcome_is_the_caller_s):
            self._fail(error if isinstance(error, EvrtError) else Unavailable(f"The log failed: {error!r}"))
            return
        self.landed += len(self._in_flight_drafts)
        while self._when_landed and self._when_landed[0][0] <= self.landed:
            self._when_landed.popleft()[1]()
        self.flush()

    def _check(self) -> None:
        if self._failure is not None:
            raise RunStopped(Stop("log", self._failure))

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
