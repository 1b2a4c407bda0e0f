"""The app: what a program registers and runs. Puts log, runtime and agents together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from evrt.agents.toolgroups import check_choices
from evrt.attempts import execute_run, run_logger
from evrt.config import as_url, read_config
from evrt.control import Control
from evrt.conversations.conversations import Conversations
from evrt.definitions.finding import NO_CHOICES, Choices, Finding
from evrt.effects.contract import Model
from evrt.effects.models import LiteLLM
from evrt.errors import Conflict, EvrtError, NotFound, UsageError
from evrt.events.run import ClaimReason, RunRequested
from evrt.feed import OnEvent, tell_while
from evrt.folds.journal import Journal
from evrt.folds.run import ERASED
from evrt.history import executable, load_last_chapter, resolve_run
from evrt.inbox import conversation_ref, ensure_conversation
from evrt.journeys import Journeys
from evrt.limits import check_priority
from evrt.live.opening import make_store
from evrt.live.store import LiveReader
from evrt.live.writer import LiveWriter
from evrt.log import Log, open_log
from evrt.log.blobs import Blobs
from evrt.log.coordination import Tick
from evrt.log.ids import new_ref
from evrt.memory import AppMemory
from evrt.orders import unpause_run
from evrt.principal import kind_of
from evrt.projection import AnyProjection
from evrt.projector.views import Views, open_views
from evrt.reading import Reading
from evrt.registry import Target
from evrt.remembering import KEPT, MemoryPolicy
from evrt.replaying import replay_run
from evrt.requesting import Terms, enqueue_run, not_before, request_of
from evrt.responding import OnQuestion, respond_with
from evrt.result import ReplayReport, Result
from evrt.runtime.chats import Chats
from evrt.runtime.execution import World
from evrt.runtime.journal import Turn, payload_of
from evrt.runtime.runner import Runner
from evrt.seal import Redact, admit, keep
from evrt.secret_patterns import redact_secrets
from evrt.waiting import Queued

T = TypeVar("T")

DEFAULT_URL = "sqlite:///evrt.db"


@dataclass(frozen=True, slots=True)
class Running:
    """A run that is being executed in this process. Await it for its result."""

    run_id: str
    _task: asyncio.Task[Result]

    def __await__(self) -> Generator[Any, None, Result]:
        return self._task.__await__()


class App(Control, Reading, Finding):
    """Agents, workflows, and the log that their runs live on. Opens the log when it is first needed.

    url
        ``sqlite:///file.db`` or ``memory://``; without it ``EVRT_DB``, ``db`` in evrt.toml, or ``sqlite:///evrt.db``.
    deps
        handed to tools (``ToolContext.deps``) and to code (``ctx.deps``) as it is.
    models
        models of your own by name; every other name goes to litellm.
    redact
        takes out of every JSON value what must not be recorded; see ``evrt.seal``. Without it whatever looks
        like a key or a password is taken out (``evrt.redact_secrets``); None takes out nothing.
    api_base
        address of an OpenAI-compatible server for litellm.
    on_delta
        called with (run id, operation, text) as models stream; live only.
    live
        whether models stream so that ``deltas`` can follow them from any process; without it they do in workers.
    projections
        of your own, besides those that are installed: see ``views``.
    memory_policy
        how long things are remembered, how many, and in which scope where none is named.
    debug
        whether an exception of a run's code, once recorded, is also raised where the run that was started here is awaited.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        deps: Any = None,
        models: Mapping[str, Model] | None = None,
        default_model: str | None = None,
        api_base: str | None = None,
        redact: Redact | None = redact_secrets,
        on_delta: Callable[[str, str, str], None] | None = None,
        live: bool | None = None,
        projections: Sequence[AnyProjection] = (),
        memory_policy: MemoryPolicy = KEPT,
        debug: bool = False,
    ) -> None:
        super().__init__()
        self._url = url
        self.deps = deps
        self.models: dict[str, Model] = dict(models or {})
        self.default_model = default_model
        self.api_base = api_base
        self.redact: Redact = redact or keep
        self.on_delta = on_delta
        self.live = live
        self.projections = tuple(projections)
        self.memory_policy = memory_policy
        self.debug = debug
        self._log: Log | None = None
        self._turn = Turn()
        self._chats = Chats()
        self._views: Views | None = None
        self._live_writer: LiveWriter | None = None
        self._live_reader: LiveReader | None = None
        self._opening: asyncio.Lock | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._runners: dict[str, Runner] = {}
        self._provider: LiteLLM | None = None

    # Opening and closing

    @property
    def url(self) -> str:
        """Where the log is."""
        if self._url:
            return self._url
        named = os.environ.get("EVRT_DB") or read_config().db
        return DEFAULT_URL if named is None else as_url(named)

    @url.setter
    def url(self, url: str) -> None:
        if self._log is not None:
            raise UsageError("The app's log is open already: set its url before the first run.")
        self._url = url

    @property
    def memory(self) -> AppMemory:
        """What is remembered of users and in conversations, read and written from outside of runs."""
        return AppMemory(self)

    @property
    def blobs(self) -> Blobs:
        """The blobs of the app's log: what is too large for an event."""
        return Blobs(self.log)

    @property
    def conversations(self) -> Conversations[Running]:
        """Conversations: listed, titled, given files, forked, edited, deleted."""
        return Conversations(self)

    @property
    def chats(self) -> Chats:
        """Conversations as this process last folded them."""
        return self._chats

    @property
    def journeys(self) -> Journeys:
        """Journeys from outside of their runs: how they stand, and where a router sends a conversation to."""
        return Journeys(self.log, self.routes_of, lambda text: admit(text, self.redact))

    async def log(self, *, read_only: bool = False) -> Log:
        """The log, opened on first use; ``read_only`` counts for that use. Raises what ``evrt.log.open_log`` raises."""
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._log is None:
                self._log = await open_log(self.url, read_only=read_only)
                self._turn = Turn()
                self._chats = Chats()
        return self._log

    async def views(self) -> Views:
        """What projections make of the log, opened on first use. Raises what ``evrt.projector.views.open_views`` raises."""
        log = await self.log()
        assert self._opening is not None
        async with self._opening:
            if self._views is None:
                self._views = await open_views(log, self.projections)
        return self._views

    async def __aenter__(self) -> Self:
        await self.log()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for task in self._running:
                task.cancel()
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for the runs of this process to end or park, then close the log. Idempotent."""
        while self._running:  # A run may leave a hook.
            await asyncio.wait(self._running)
        for group in self.toolgroups.values():
            await group.aclose()
        provider, self._provider = self._provider, None
        if provider is not None:
            await provider.aclose()
        views, self._views = self._views, None
        if views is not None:
            await views.aclose()
        writer, self._live_writer = self._live_writer, None
        if writer is not None:
            await writer.aclose()
        reader, self._live_reader = self._live_reader, None
        if reader is not None:
            await reader.aclose()
        log, self._log, self._opening = self._log, None, None
        if log is not None:
            await log.aclose()

    # Runs

    async def start(
        self,
        target: Target | str,
        input: object = None,
        *,
        conversation: str | None = None,
        user: str | None = None,
        model: str | None = None,
        revision: int | None = None,
        system: str | None = None,
        toolgroups: Sequence[str] | None = None,
    ) -> Running:
        """Start a run in this process; its id is known at once, its result when awaited.

        ``conversation`` and ``user`` are ids of your own; the log keeps random refs in their place. Of somebody who
        has not logged in, ``user`` is an ``evrt.Anonymous``. ``model`` goes before the agent's own. ``revision`` is one of
        an agent that is defined as data, else the active one; ``system`` the key of the system it is to work in, which has
        to be said where it is in several. ``toolgroups`` (``"group"`` or ``"group/tool"``) take the place of the agent's own
        groups in this run.

        Raises NotFound for an unknown target or toolgroup, InvalidInput for an input that does not fit it, Conflict for an agent that
        takes no runs, UsageError for what is asked of the wrong kind of target.
        """
        choices = Choices(model, revision, system, toolgroups)
        found, requested = await self._request(target, input, conversation, user, choices)
        log = await self.log()
        where = requested.conversation
        if where is not None:
            await ensure_conversation(log, where, target=found.name, owner=requested.user)
        journal = Journal(new_ref("run"), requested=requested, correlation=where)
        return self._execute(log, found, journal, requested, "start")

    async def enqueue(
        self,
        target: Target | str,
        input: object = None,
        *,
        conversation: str | None = None,
        user: str | None = None,
        model: str | None = None,
        revision: int | None = None,
        system: str | None = None,
        priority: int = 0,
        delay: str | float | None = None,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        concurrent: bool = False,
        toolgroups: Sequence[str] | None = None,
    ) -> Queued:
        """Ask for a run that a worker executes: see ``evrt worker``. Returns once it is recorded.

        model, revision, system
            as for ``start``.
        priority
            higher ones first, then first come first served.
        delay, at
            when it may begin at the earliest: in "10m" or so many seconds, or at a time with its zone.
        idempotency_key
            asked again with the same key and body for the same user, the run that is there is returned.
        concurrent
            runs of one conversation are executed one at a time, in their order; this one need not be.

        Raises NotFound, InvalidInput, UsageError, Conflict (a key that was used for another body).
        """
        choices = Choices(model, revision, system, toolgroups)
        found, requested = await self._request(target, input, conversation, user, choices)
        log = await self.log()
        requested = requested.model_copy(
            update={
                "priority": check_priority(priority),
                "not_before": await not_before(log, delay, at),
                "idempotency_key": idempotency_key,
            }
        )
        run, new = await enqueue_run(log, requested, Terms(rate=found.policy.rate, concurrent=concurrent))
        return Queued(run, new, log)

    async def trigger(self, schedule: str, *, tick: int | None = None) -> Queued:
        """Ask for a run of a schedule: now, beside those of its ticks, or for this tick (µs since 1970).

        Raises NotFound; Conflict where that tick, or a later one, has been dealt with already.
        """
        found = self.schedules.get(schedule)
        if found is None:
            known = ", ".join(sorted(self.schedules)) or "none"
            raise NotFound(f"The app has no schedule {schedule!r}. It has: {known}.")
        target, requested = await self._request(found.target, found.input, found.conversation, found.user)
        log = await self.log()
        requested = requested.model_copy(update={"schedule": found.name, "tick": tick})
        beside = () if tick is None else (Tick(found.name, tick),)
        run, new = await enqueue_run(log, requested, Terms(rate=target.policy.rate, beside=beside))
        return Queued(run, new, log)

    async def run(
        self,
        target: Target | str,
        input: object = None,
        *,
        conversation: str | None = None,
        user: str | None = None,
        model: str | None = None,
        revision: int | None = None,
        system: str | None = None,
        toolgroups: Sequence[str] | None = None,
        on_event: OnEvent | None = None,
        on_question: OnQuestion | None = None,
    ) -> Result:
        """Start a run and wait until it ends or parks. See ``start``.

        ``on_event`` is awaited with each ``RunEvent`` that the run tells, in order, as they are recorded. ``on_question``
        is given what the run asks a person, and returns the answer: see ``evrt.respond_with``.
        """
        running = await self.start(
            target,
            input,
            conversation=conversation,
            user=user,
            model=model,
            revision=revision,
            system=system,
            toolgroups=toolgroups,
        )
        if on_event is None:
            result = await running
        else:
            result = await tell_while(await self.log(), running.run_id, running._task, on_event)
        return result if on_question is None else await respond_with(self, result, on_question)

    def run_sync(
        self,
        target: Target | str,
        input: object = None,
        *,
        conversation: str | None = None,
        user: str | None = None,
        model: str | None = None,
        revision: int | None = None,
        system: str | None = None,
        toolgroups: Sequence[str] | None = None,
        on_question: OnQuestion | None = None,
    ) -> Result:
        """``run`` for code that is not async: opens the log, runs, closes it."""
        return self.run_alone(
            lambda: self.run(
                target,
                input,
                conversation=conversation,
                user=user,
                model=model,
                revision=revision,
                system=system,
                toolgroups=toolgroups,
                on_question=on_question,
            ),
            "run_sync cannot be used where an event loop is running: await app.run(…) there.",
        )

    def run_alone(self, work: Callable[[], Coroutine[Any, Any, T]], otherwise: str) -> T:
        """Do something on an event loop of its own, with the log opened for it. Raises UsageError(otherwise) within one."""

        async def once() -> T:
            async with self:
                return await work()

        if _in_event_loop():
            raise UsageError(otherwise)
        return asyncio.run(once())

    async def resume(self, run: str) -> Result:
        """Go on with a run that was interrupted or waits, or begin one that is queued: claims and executes it.

        Raises NotFound; Conflict for a run that has ended, or that another process claims meanwhile.
        """
        return await (await self.go_on(run))

    async def go_on(self, run: str) -> Running:
        """``resume``, without waiting for what it comes to."""
        log = await self.log()
        history = await load_last_chapter(log, await resolve_run(log, run))
        if history.journal.terminal is not None:
            ended = ERASED[history.journal.terminal.type]
            raise Conflict(f"{history.id} has ended ({ended}): there is nothing to resume.")
        if history.journal.paused:
            await unpause_run(log, history.id, by=None)
            history = await load_last_chapter(log, history.id)
        requested = executable(history)
        target = await self.pinned(requested)
        reason: ClaimReason = "resume" if history.journal.epoch else "start"
        return self._execute(log, target, history.journal, requested, reason)

    async def replay(self, run: str) -> ReplayReport:
        """Execute a run's code against its history alone: no model, no tool, nothing written. Raises NotFound."""
        history = await self.get(run)
        target = await self.pinned(executable(history))
        return await replay_run(self.make_world(await self.log()), target, history)

    # Executing

    async def _request(
        self,
        target: Target | str,
        input: object,
        conversation: str | None,
        user: str | None,
        choices: Choices = NO_CHOICES,
    ) -> tuple[Target, RunRequested]:
        """What is asked for, checked: an input that does not fit, or is too large, leaves nothing behind, not even a log."""
        found = await self._target_of_new_run(target if isinstance(target, str) else target.name, choices)
        requested = request_of(found, admit(input, self.redact), self.target)
        if choices.model is not None:
            requested = requested.model_copy(update={"model": choices.model})
        if choices.toolgroups is not None:
            check_choices(choices.toolgroups, self.toolgroups)
            requested = requested.model_copy(update={"toolgroups": tuple(choices.toolgroups)})
        payload_of(requested)
        log = await self.log()
        refs = {
            "conversation": None if conversation is None else await conversation_ref(log, conversation),
            "user": None if user is None else await log.ref(kind_of(user), user),
        }
        system = getattr(found, "system", None)
        if isinstance(system, str):
            refs["system"] = await log.ref("system", system)
        requested = requested.model_copy(update=refs)
        payload_of(requested)  # With its refs it is longer.
        return found, requested

    def _execute(
        self, log: Log, target: Target, journal: Journal, requested: RunRequested, reason: ClaimReason
    ) -> Running:
        run = journal.run

        async def execute() -> Result:
            world = self.make_world(log)
            try:
                ending = await execute_run(
                    world,
                    target,
                    journal,
                    requested,
                    reason,
                    begins=lambda runner: self._runners.update({run: runner}),
                )
            finally:
                self._runners.pop(run, None)
            if self.debug and ending.error is not None:
                raise ending.error
            if ending.hook is not None:
                self._own(asyncio.create_task(self._execute_hook(log, ending.hook), name=ending.hook))
            return Result(
                run,
                ending.status,
                ending.output,
                ending.failure,
                ending.reason,
                ending.waiting_for,
                ending.limit,
            )

        task = asyncio.get_running_loop().create_task(execute(), name=run)
        self._own(task)
        return Running(run, task)

    async def _execute_hook(self, log: Log, run: str) -> None:
        """Execute the hook of a run that was executed here, unless a worker has begun to."""
        try:
            journal = (await load_last_chapter(log, run)).journal
            if journal.epoch == 0 and (requested := journal.requested) is not None:
                world = self.make_world(log)
                await execute_run(world, await self.pinned(requested), journal, requested, "start")
        except Conflict as error:
            run_logger.info("%s", error)
        except EvrtError as error:
            run_logger.warning("%s, the hook of a run that has ended, could not be executed: %s", run, error)

    def _starting(self) -> Collection[str]:
        return {task.get_name() for task in self._running}

    async def _look_outside(self, run: str) -> None:
        runner = self._runners.get(run)
        if runner is not None:
            await runner.look_outside()

    def _own(self, task: asyncio.Task[Any]) -> None:
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def make_world(self, log: Log, *, worker: str | None = None) -> World:
        """What the app's runs share, when they are executed by the caller or by this worker."""
        return World(
            log=log,
            models=self._model,
            deps=self.deps,
            redact=self.redact,
            default_model=self.default_model,
            turn=self._turn,
            chats=self._chats,
            on_delta=self.on_delta,
            live=self._live(log) if self.live or (self.live is None and worker is not None) else None,
            find=self.target,
            find_defined=self._find_defined,
            memory=self.memory_policy,
            worker=worker,
        )

    def _live(self, log: Log) -> LiveWriter:
        if self._live_writer is None:
            self._live_writer = LiveWriter(log, make_store(log), self.redact)
        return self._live_writer

    def _model(self, name: str) -> Model:
        own = self.models.get(name)
        if own is not None:
            return own
        if self._provider is None:
            self._provider = LiteLLM(api_base=self.api_base)
        return self._provider


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
