"""Reading by way of an app: a run's history, what was said in a conversation, and what models say while they say it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing

from evrt.agents.run_events import Told
from evrt.conversations.reading import read_last_assistant_message, read_messages
from evrt.errors import NotFound
from evrt.events import JsonObject, JsonValue
from evrt.feed import BEGINNING, follow_feed
from evrt.folds.turns import TurnRecord
from evrt.history import Run, load_run, resolve_run
from evrt.live.following import follow
from evrt.live.frames import Delta, Place
from evrt.live.opening import make_reader
from evrt.live.store import LiveReader
from evrt.log import Log
from evrt.projector.moments import Moment
from evrt.projector.views import Views
from evrt.turn_log import read_turns
from evrt.waiting import LOOK_SECONDS


class Reading(ABC):
    """What an app is asked. It opens the log, and says which runs it is starting."""

    _live_reader: LiveReader | None = None

    @abstractmethod
    async def log(self, *, read_only: bool = False) -> Log: ...
    @abstractmethod
    async def views(self) -> Views: ...
    @abstractmethod
    def _starting(self) -> Collection[str]:
        """Runs that are being executed here, whose first event may not be in the log yet."""

    async def get(self, run: str) -> Run:
        """A run's history by its id or a unique beginning of it. Raises NotFound, UsageError."""
        log = await self.log()
        return await load_run(log, await resolve_run(log, run))

    async def deltas(
        self, run: str, *, after: Mapping[str, Place] | None = None
    ) -> AsyncGenerator[Delta, None]:
        """What models say in a run while they say it, in whatever process it is executed; ends when the run has ended.

        ``after`` tells how far each operation has been read before: ``delta.end`` by ``delta.operation``. Of a message
        that has been recorded nothing is told any more but its ``end``: read it from the run. Raises NotFound, UsageError,
        and what reading the log raises.
        """
        log = await self.log()
        found = await self._recorded(log, run)
        if self._live_reader is None:
            self._live_reader = make_reader(log)
        async with aclosing(follow(log, self._live_reader, found, after or {})) as deltas:
            async for delta in deltas:
                yield delta

    async def run_events(self, run: str, *, after: tuple[int, int] = BEGINNING) -> AsyncGenerator[Told, None]:
        """A run told step by step, past and future, in whatever process it is executed; ends when the run has ended.

        ``after`` is the ``cursor`` of what was told last. Raises NotFound, UsageError, and what reading the log raises.
        """
        log = await self.log()
        async with aclosing(follow_feed(log, await self._recorded(log, run), after=after)) as told:
            async for one in told:
                yield one

    async def _recorded(self, log: Log, run: str) -> str:
        """The id of a run; of one that is being started here once its first event is in the log."""
        watch = log.watch()
        while True:
            try:
                return await resolve_run(log, run)
            except NotFound:
                if run not in self._starting():
                    raise
            await watch.wait(LOOK_SECONDS)

    async def turn_log(self, conversation: str | None = None) -> AsyncGenerator[TurnRecord, None]:
        """What each turn took that has ended, of one conversation or of all: see ``evrt.turn_log.read_turns``."""
        async with aclosing(read_turns(await self.views(), conversation)) as records:
            async for record in records:
                yield record

    async def message_history(
        self, conversation: str, *, include_failed_runs: bool = False, as_of: Moment | None = None
    ) -> list[JsonValue]:
        """What was said in a conversation, in all of its runs: see ``evrt.conversations.reading.read_messages``.

        ``as_of`` is a position of the log, a time, or a revision of a run such as ``RUN@42``. Raises NotFound (no such
        conversation, no such moment), InvalidInput, and what ``Views.family`` raises.
        """
        views = await self.views()
        return await read_messages(views, conversation, include_failed_runs=include_failed_runs, as_of=as_of)

    async def last_assistant_message(
        self, conversation: str, *, as_of: Moment | None = None
    ) -> JsonObject | None:
        """The last message of an assistant in words, or None where there is none. See ``message_history``."""
        views = await self.views()
        return await read_last_assistant_message(views, conversation, as_of=as_of)
