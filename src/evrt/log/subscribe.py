"""How readers learn that there is more: a bell for each event loop, and the subscription that waits for it.

Publishing carries nothing. A writer rings after its commit; whoever waits reads the log
again. A bell that was missed costs a second, never an event: every wait has a time-out.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from evrt.errors import EvrtError, UsageError
from evrt.log.contract import Recorded

PAGE_EVENTS = 500
"""Events that a subscription reads at once."""

WAIT_SECONDS = 1.0
"""A subscription reads again after this time even if no bell rang."""


class Bell:
    """What the subscriptions of one event loop wait for. Used on that loop only, but for ``listeners``."""

    def __init__(self) -> None:
        self.rung = 0
        self.listeners = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        self.rung += 1
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            _wake(waiter)

    @property
    def waited_for(self) -> bool:
        return bool(self._waiting)

    async def wait(self, seen: int, timeout_seconds: float) -> None:
        """Return when the bell has rung since its count was ``seen``, or when the time is over."""
        if self.rung != seen:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.add(waiter)
        alarm = loop.call_later(timeout_seconds, _wake, waiter)
        try:
            await waiter
        finally:
            alarm.cancel()
            self._waiting.discard(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Bells:
    """The bells of one log: one for each event loop, and those of threads without one. Rung from any thread."""

    def __init__(self) -> None:
        self._bells: dict[asyncio.AbstractEventLoop, Bell] = {}
        self._threads: weakref.WeakSet[threading.Event] = weakref.WeakSet()
        # Entered again where garbage is collected while it is held, and what is collected closes its log.
        self._lock = threading.RLock()
        self.closed = False
        self.commits = 0
        """How many there were, whether anybody heard of them or not."""

    def here(self) -> Bell:
        """The running loop's bell."""
        loop = asyncio.get_running_loop()
        with self._lock:
            bell = self._bells.get(loop)
            if bell is None:
                for gone in [other for other in self._bells if other.is_closed()]:
                    del self._bells[gone]
                bell = self._bells[loop] = Bell()
            return bell

    def for_thread(self) -> threading.Event:
        """A bell to wait for without an event loop; it is rung as long as somebody keeps it."""
        bell = threading.Event()
        with self._lock:
            self._threads.add(bell)
        return bell

    def ring_threads(self) -> None:
        """Ring for those who wait without an event loop."""
        with self._lock:
            bells = list(self._threads)
        for bell in bells:
            bell.set()

    def heard_in(self) -> list[tuple[asyncio.AbstractEventLoop, Bell]]:
        """There was a commit: the loops where somebody reads or waits now, with their bells.

        A reader that is not counted yet has still to begin its read, and
        will find what was committed.
        """
        with self._lock:
            self.commits += 1
            return [(loop, bell) for loop, bell in self._bells.items() if bell.listeners]

    def close(self) -> None:
        """End every subscription that waits, and every one to come."""
        self.closed = True
        with self._lock:
            bells = list(self._bells.items())
        for loop, bell in bells:
            call_in(loop, bell.ring)
        self.ring_threads()


def call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Have a loop call this soon; a loop that has been closed has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        if not loop.is_closed():
            raise


class Watching:
    """Waits for commits to a log; see ``evrt.log.contract.Watch``. For one event loop and one task at a time.

    ``before_waiting`` has the loop's bell rung for what other processes commit, as long as somebody waits for it.
    """

    def __init__(self, bells: Bells, before_waiting: Callable[[], None] | None = None) -> None:
        self._bells = bells
        self._before_waiting = before_waiting
        self._bell = bells.here()
        self._seen = self._now()

    async def wait(self, timeout_seconds: float) -> bool:
        # Before the look, so that no commit falls between them.
        self._bell.listeners += 1
        try:
            if self._now() == self._seen:
                if self._before_waiting is not None:
                    self._before_waiting()
                await self._bell.wait(self._bell.rung, timeout_seconds)
        finally:
            self._bell.listeners -= 1
        seen, self._seen = self._seen, self._now()
        return self._seen != seen

    def _now(self) -> tuple[int, int]:
        """Changes with every commit: of this log, whether it was waited for or not, and of others, once looked for."""
        return self._bells.commits, self._bell.rung


class Following:
    """A subscription: reads page after page, and waits at the end of the log.

    Every event is delivered once and in order, because the position read last is all the state
    there is. Cancelling ``__anext__`` loses nothing; leaving one without closing it holds nothing.
    """

    def __init__(
        self,
        read: Callable[[int], Awaitable[Iterable[Recorded]]],
        bells: Bells,
        *,
        after: int,
        before_waiting: Callable[[], None] | None = None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._read = read
        self._bells = bells
        self._after = after
        self._before_waiting = before_waiting
        self._wait_seconds = wait_seconds
        self._page: deque[Recorded] = deque()
        self._bell: Bell | None = None
        self._closed = False

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> Recorded:
        await self._have_page()
        row = self._page.popleft()
        self._after = row.position
        return row

    async def page(self) -> list[Recorded]:
        """Everything that has been read and not been delivered yet, at least one event: waits for it."""
        await self._have_page()
        rows = list(self._page)
        self._page.clear()
        self._after = rows[-1].position
        return rows

    async def _have_page(self) -> None:
        if not self._page:
            if self._bell is not None:
                raise UsageError("A subscription can be read by one task at a time; open one for each.")
            await self._next_page()

    async def aclose(self) -> None:
        self._closed = True
        self._page.clear()
        if self._bell is not None:
            self._bell.ring()

    async def _next_page(self) -> None:
        bell = self._bell = self._bells.here()
        bell.listeners += 1
        try:
            while True:
                if self._closed or self._bells.closed:
                    raise StopAsyncIteration
                # Taken before the read, so no append falls between them.
                seen = bell.rung
                try:
                    page = await self._read(self._after)
                except EvrtError:
                    if self._bells.closed:
                        raise StopAsyncIteration from None
                    raise
                self._page.extend(page)
                if self._page and not self._closed:
                    return
                if self._before_waiting is not None:
                    self._before_waiting()
                await bell.wait(seen, self._wait_seconds)
        finally:
            bell.listeners -= 1
            self._bell = None
