"""Reading runs from the log: a run's history, a moment of it, and names of both in the manner of git.

``RUN`` is a run's id or a beginning of it that only one run has; ``RUN@42`` the run after its 42nd
event, ``RUN@head`` after its last, ``RUN@head~3`` three events earlier, ``RUN@{name}`` after the
checkpoint of that name.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import orjson

from evrt.errors import Conflict, NotFound, UsageError
from evrt.events import Envelope, Erased, JsonObject, JsonValue, Unknown
from evrt.events.run import CheckpointSaved, RunContinued, RunRequested
from evrt.folds.digest import history_digest
from evrt.folds.journal import Journal, fold_chapters, fold_journal
from evrt.folds.memory import MemoryItem, fold_memory, own_memory, shared_memory
from evrt.folds.messages import fold_messages
from evrt.folds.requests import rebuild_request
from evrt.folds.run import RunState, fold_run
from evrt.log import Log, Recorded
from evrt.log.envelopes import envelopes

PREFIX = "run-"
REVISION = re.compile(r"(?P<run>[^@]+)(@(?P<moment>.+))?")
HEAD = re.compile(r"head(~(?P<back>\d+))?")
DIGITS_MAX = 18
"""More are beyond every history, and Python does not read as many as somebody may write."""
CONTINUED = "continued"
"""Key in the meta of a run's own events: the version of the ``run.continued`` that their chapter begins at."""
TAIL_EVENTS = 100
"""How much of a history's end is read to find where its last chapter begins."""
PAGE_EVENTS = 1_000
OTHERS = ("memory-user-", "memory-system-", "agent-", "system-")
"""Streams of those to whom what happened in a conversation belongs as well."""
REF = re.compile(r"[a-z]+-[a-z2-7]{16}")


@dataclass(frozen=True)
class Run:
    """A run's whole history as read from the log."""

    id: str
    events: Sequence[Envelope]

    @cached_property
    def chapters(self) -> Sequence[Journal]:
        """A journal for each of its chapters: a new one begins where the code continued as another state."""
        return fold_chapters(self.id, self.events)

    @property
    def journal(self) -> Journal:
        """Its operations, with their intents and outcomes; those of its last chapter, where it has several."""
        return self.chapters[-1]

    @cached_property
    def state(self) -> RunState:
        """Its status and figures."""
        return fold_run(self.id, self.events)

    @property
    def status(self) -> str:
        return self.state.status

    @property
    def digest(self) -> str:
        """SHA-256 of its operations and their outcomes: equal where the same happened."""
        return history_digest(self.chapters)

    @property
    def messages(self) -> list[JsonObject]:
        """What was said, as chat messages."""
        return fold_messages(self.id, self.events)

    def at(self, version: int) -> Run:
        """The run as it was after its event number ``version``. Raises NotFound outside its history."""
        if not 1 <= version <= len(self.events):
            raise NotFound(f"{self.id} has events 1 to {len(self.events)}; there is no {self.id}@{version}.")
        return Run(self.id, self.events[:version])

    def request(self, operation: str) -> JsonObject:
        """The exact request of a model call, rebuilt and checked against its digest."""
        return rebuild_request(self.journal, operation)

    def version_of(self, moment: str) -> int:
        """The event number that a moment's name stands for. Raises NotFound, UsageError."""
        if moment.isdecimal():
            return int(moment[:DIGITS_MAX])
        if head := HEAD.fullmatch(moment):
            if (version := len(self.events) - int((head["back"] or "0")[:DIGITS_MAX])) < 1:
                raise NotFound(
                    f"{self.id} has events 1 to {len(self.events)}; there is no {self.id}@{moment}."
                )
            return version
        if moment.startswith("{") and moment.endswith("}"):
            return self._checkpoint(moment[1:-1])
        raise UsageError(
            f"{moment!r} names no moment of a run. Write RUN@42, RUN@head~3 or RUN@{{checkpoint-name}}."
        )

    def _checkpoint(self, name: str) -> int:
        saved = [(e.version, e.event.name) for e in self.events if isinstance(e.event, CheckpointSaved)]
        found = [version for version, known in saved if known == name]
        if not found:
            names = ", ".join(sorted({known for _, known in saved if known})) or "none with a name"
            raise NotFound(f"{self.id} has no checkpoint {name!r}. Its checkpoints: {names}.")
        return found[-1]


async def load_run(log: Log, run: str) -> Run:
    """A run's history by its exact id. Raises NotFound."""
    rows = await log.read_stream(run) if run.startswith(PREFIX) else []
    if not rows:
        raise NotFound(f"There is no run {run} in {log.url}. `evrt runs list` shows those that are.")
    return Run(run, envelopes(rows))


@dataclass(frozen=True)
class LastChapter:
    """What leads a run's code when it is resumed: its request, and its events since it last continued."""

    id: str
    events: Sequence[Envelope]
    """Of what came before, its request and what is still to reach the code are here; the rest is missing."""

    @cached_property
    def journal(self) -> Journal:
        """The journal of the whole run, as far as a resume needs it."""
        return fold_journal(self.id, self.events)

    @cached_property
    def state(self) -> RunState:
        """The run's status; figures count from where the chapter begins."""
        return fold_run(self.id, self.events)


async def load_last_chapter(log: Log, run: str) -> LastChapter:
    """The part of a run's history that a resume reads, however long the rest is. Raises NotFound."""
    head = (await log.head(run)).version if run.startswith(PREFIX) else 0
    rows = await log.read_stream(run, after=head - TAIL_EVENTS) if head else []
    if not rows:
        raise NotFound(f"There is no run {run} in {log.url}. `evrt runs list` shows those that are.")
    begins = max(_continued(row) for row in rows)
    if rows[0].version > max(begins, 1):
        # The chapter is longer than its tail; without a mark in that, it is the first, and the whole history.
        rows = [*await log.read_stream(run, after=begins - 1, upto=rows[0].version - 1), *rows]
    if not begins:
        return LastChapter(run, envelopes(rows))
    events = envelopes(row for row in rows if row.version >= begins)
    first = envelopes(await log.read_stream(run, upto=1))
    kept = [row for version in _kept(events[0]) for row in await _one(log, run, version)]
    return LastChapter(run, [*first, *envelopes(kept), *events])


def _continued(row: Recorded) -> int:
    """Where the chapter of an event begins, as far as the event says it: whatever a run writes of itself does."""
    if row.type == RunContinued.type:
        return row.version
    version = orjson.loads(row.meta).get(CONTINUED, 0)
    return version if isinstance(version, int) else 0


def _kept(continued: Envelope) -> tuple[int, ...]:
    return continued.event.kept if isinstance(continued.event, RunContinued) else ()


async def _one(log: Log, run: str, version: int) -> list[Recorded]:
    return await log.read_stream(run, after=version - 1, upto=version)


async def resolve_run(log: Log, name: str) -> str:
    """The id of the run that a name or the beginning of one stands for. Raises NotFound, UsageError."""
    full = name if name.startswith(PREFIX) else f"{PREFIX}{name}"
    found = await log.streams(full)
    if full in found:
        return full
    if len(found) > 1:
        raise UsageError(
            f"{name} could be any of {len(found)} runs: {', '.join(found[:5])}. Give more of the id."
        )
    if not found:
        raise NotFound(f"There is no run {name} in {log.url}. `evrt runs list` shows those that are.")
    return found[0]


async def resolve_ref(log: Log, kind: str, name: str) -> str:
    """The ref that an id of one's own stands for, of a ``user`` or a ``conversation``; a ref stands for itself.

    Raises NotFound where no run was ever started for that id.
    """
    ref = await log.ref(kind, name, create=False)
    if ref is not None:
        return ref
    if is_ref(kind, name):
        return name  # As it is printed. Its id may have been erased.
    raise NotFound(
        f"There is no {kind} {name!r} in {log.url}: no run was started with --{kind} {name}. Give the id as it was given "
        f"then, or the ref that is shown in its place ({kind}-…)."
    )


def is_ref(kind: str, name: str) -> bool:
    """Whether this is how the ref of a ``user`` or a ``conversation`` is written."""
    return name.startswith(f"{kind}-") and REF.fullmatch(name) is not None


async def find_run(log: Log, revision: str) -> Run:
    """The run, or the moment of it, that a revision such as ``RUN@42`` names."""
    match = REVISION.fullmatch(revision)
    if match is None:
        raise UsageError(
            f"{revision!r} names no run. Write RUN, RUN@42, RUN@head~3 or RUN@{{checkpoint-name}}."
        )
    run = await load_run(log, await resolve_run(log, match["run"]))
    moment = match["moment"]
    return run if moment is None else run.at(run.version_of(moment))


async def memory_at(log: Log, run: Run) -> dict[str, dict[str, MemoryItem]]:
    """What the scopes of a run remembered at its last event, without what had expired by then: scope, key, item."""
    user, conversation = run.state.user, run.state.conversation
    requested = run.events[0].event
    system = requested.system if isinstance(requested, RunRequested) else None
    streams = {"user": user and own_memory(user), "conversation": conversation and own_memory(conversation)}
    if user is not None and system is not None:
        streams["system"] = shared_memory(system, user)
    found: dict[str, dict[str, MemoryItem]] = {}
    for scope, stream in streams.items():
        if stream is not None:
            events = envelopes(await log.read_stream(stream))
            memory = fold_memory(event for event in events if event.position <= run.state.position)
            items = memory.newest_first(run.events[-1].time)
            found[scope] = {item.key: item for item in reversed([*items])}
    return found


async def belonging_to(log: Log, conversation: str, *, upto: int | None = None) -> AsyncIterator[Recorded]:
    """Every event that has to do with a conversation: those of its runs, and of the hooks of these, and of its memory."""
    seen = {conversation}
    correlations = [conversation]
    while correlations:
        correlation, after = correlations.pop(), 0
        while rows := await log.read(after=after, upto=upto, correlation=correlation, limit=PAGE_EVENTS):
            for row in rows:
                # What a run has others do after its end has the run as its correlation.
                if row.stream.startswith(PREFIX) and row.stream not in seen:
                    seen.add(row.stream)
                    correlations.append(row.stream)
                yield row
            after = rows[-1].position
    for stream in await log.streams(f"memory-{conversation}"):
        for row in await log.read_stream(stream):
            if row.correlation != conversation and (upto is None or row.position <= upto):
                yield row


def is_its_own(row: Recorded) -> bool:
    """Whether such an event is the conversation's alone; what a user or a system remembers of it outlives it."""
    return not row.stream.startswith(OTHERS)


def executable(history: Run | LastChapter) -> RunRequested:
    """The request of a run whose history can lead its code. Raises Conflict when it cannot."""
    requested = history.journal.requested
    erased = sum(isinstance(envelope.event, Erased) for envelope in history.events)
    if requested is None or erased:
        raise Conflict(
            f"{erased or 'Some'} of the events of {history.id} have been erased, so its code cannot be executed any more."
        )
    unknown = {
        e.type for e in history.events if isinstance(e.event, Unknown) and _has_operation(e.event.state)
    }
    if unknown:
        # Passing over an outcome could make its effect happen again.
        raise Conflict(
            f"{history.id} holds operations that this version of evrt does not know ({', '.join(sorted(unknown))}): "
            "a newer one wrote them, so use that one."
        )
    return requested


def _has_operation(state: JsonValue) -> bool:
    return isinstance(state, dict) and "operation" in state
