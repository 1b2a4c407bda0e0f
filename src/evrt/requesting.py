"""Asking for runs: what is recorded when a run is requested, and its entry in the queue with it.

An idempotency key belongs to a user, or to nobody. Asked again with the same key and the same body, the run
that is there is the answer; with another body, a Conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

import orjson

from evrt.codec import encode, meta_for
from evrt.errors import Conflict, InvalidInput, NotFound, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.run import Kind, RunRequested, RunSuperseded
from evrt.inbox import NOT_DELETED, ensure_conversation, refuse_deleted
from evrt.limits import RateLimit, RunPolicy
from evrt.log import NAME_BYTES_MAX, NEW, Append, Draft, Expectation, Log
from evrt.log.coordination import Change, Enqueue, Key, Rate
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id, new_ref
from evrt.retry import WAIT_SECONDS_MAX, parse_length


@dataclass(frozen=True, slots=True)
class Pin:
    """What a run keeps to of what is defined as data: see the fields of that name in ``RunRequested``."""

    defined_at: int
    agent: str | None = None
    revision: int | None = None
    system: str | None = None
    system_revision: int | None = None


class Startable(Protocol):
    """What a run can be of: an agent or a workflow of the app."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def timeout_seconds(self) -> float | None: ...
    @property
    def model_turns_max(self) -> int | None: ...
    @property
    def policy(self) -> RunPolicy: ...
    @property
    def pin(self) -> Pin | None:
        """Set where it, or the system that it works in, is defined as data."""
        ...

    def check_input(self, value: JsonValue) -> JsonValue:
        """Raises InvalidInput."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a run stands in the queue."""

    rate: RateLimit | None = None
    concurrent: bool = False
    """Whether it may be executed beside other runs of its conversation."""
    beside: tuple[Change, ...] = ()
    """What is changed with it."""


def request_of(target: Startable, input: JsonValue, find: Callable[[str], Startable]) -> RunRequested:
    """What asks for a run of a target, but for whose it is, and when.

    Raises InvalidInput where the input does not fit; UsageError where its hook is none that ``find`` knows.
    """
    hook = _hook_of(target, find)
    return RunRequested(
        target=target.name,
        kind=target.kind,
        input=target.check_input(input),
        timeout_seconds=target.timeout_seconds,
        model_turns_max=target.model_turns_max,
        on_end=None if hook is None else hook.name,
        on_end_timeout_seconds=None if hook is None else hook.timeout_seconds,
        **({} if target.pin is None else asdict(target.pin)),
    )


def _hook_of(target: Startable, find: Callable[[str], Startable]) -> Startable | None:
    name = target.policy.hook
    if name is None:
        return None
    try:
        hook = find(name)
    except NotFound as error:
        raise UsageError(f"{target.name} cannot be run: its on_end names {name!r}. {error}") from error
    if hook.kind != "workflow":
        raise UsageError(
            f"{target.name} cannot be run: its on_end names {name!r}, which is an {hook.kind}. Name a workflow."
        )
    return hook


def key_of(requested: RunRequested) -> Key | None:
    """The idempotency key of a request, with its owner. Raises InvalidInput."""
    key = requested.idempotency_key
    if key is None:
        return None
    if not isinstance(key, str) or not key or not key.isprintable() or len(key.encode()) > NAME_BYTES_MAX:
        raise InvalidInput(
            f"An idempotency key is a text of 1 to {NAME_BYTES_MAX} bytes without control characters; not {key!r:.80}."
        )
    return Key(requested.user or "", key)


async def enqueue_run(log: Log, requested: RunRequested, terms: Terms = Terms()) -> tuple[str, bool]:
    """Record a request and its entry; returns the run, and whether it is a new one.

    Raises Conflict (the key was used for another body), InvalidInput, and what an append raises.
    """
    key = key_of(requested)
    if key is not None and (known := await _known(log, key, requested)):
        return known, False
    if requested.conversation is not None:
        await ensure_conversation(log, requested.conversation, target=requested.target, owner=requested.user)
    run = new_ref("run")
    drafts = [request_draft(run, requested)]
    if requested.supersedes is not None:
        drafts.append(await _superseded(log, requested.supersedes, run))
    enqueue = Enqueue(
        run,
        requested.target,
        priority=requested.priority,
        lane=None if terms.concurrent else requested.conversation,
        not_before=requested.not_before,
        rate=rate_of(terms.rate, requested),
        key=key,
    )
    expect: dict[str, Expectation] = {run: NEW}
    if requested.conversation is not None:
        expect[requested.conversation] = NOT_DELETED
    try:
        await log.append(Append(drafts, expect, beside=(*terms.beside, enqueue)))
    except Conflict:
        if requested.conversation is not None:
            await refuse_deleted(log, requested.conversation)
        # Somebody was first with the same key; else the conflict is another's, and stays one.
        known = None if key is None else await _known(log, key, requested)
        if known is None:
            raise
        return known, False
    return run, True


def request_draft(run: str, requested: RunRequested, meta: JsonObject | None = None) -> Draft:
    """The first event of a run that somebody outside of it asks for. Raises InvalidInput, PayloadTooLarge."""
    known: JsonObject = {"actor": "client"}
    if requested.user is not None:
        known["on_behalf_of"] = requested.user
    written = meta_for(requested, orjson.dumps({**known, **(meta or {})}))
    correlation = requested.conversation or run
    return Draft(run, requested.type, new_event_id(), correlation, written, encode(requested))


async def _superseded(log: Log, old: str, run: str) -> Draft:
    [first] = await log.read_stream(old, limit=1)
    event = RunSuperseded(run=run)
    meta = meta_for(event, b'{"actor":"client"}')
    return Draft(old, event.type, new_event_id(), first.correlation, meta, encode(event))


async def _known(log: Log, key: Key, requested: RunRequested) -> str | None:
    """The run that was requested with this key, if any. Raises Conflict where its body was another."""
    run = await log.coordination.run_of(key)
    if run is None:
        return None
    [first] = envelopes(await log.read_stream(run, limit=1))
    before = first.event
    if isinstance(before, RunRequested) and _body(before) != _body(requested):
        raise Conflict(
            f"The idempotency key {key.key!r:.80} was used for another request already, which became {run}: it had "
            "another target, input, conversation or toolgroups. Take a key of its own for every request."
        )
    return run


def _body(requested: RunRequested) -> tuple[object, ...]:
    return requested.target, requested.input, requested.conversation, requested.toolgroups


def rate_of(limit: RateLimit | None, requested: RunRequested) -> Rate | None:
    """What a limit is for this request: the runs of its target, of its user or of its conversation share one."""
    if limit is None:
        return None
    whose = {"target": "", "user": requested.user or "", "conversation": requested.conversation or ""}[
        limit.by
    ]
    return Rate(f"{requested.target}/{limit.by}/{whose}", limit.count, limit.per_seconds)


async def not_before(log: Log, delay: str | float | None, at: datetime | None) -> int | None:
    """When a run may begin at the earliest, in microseconds since 1970. Raises UsageError, InvalidInput."""
    if delay is not None and at is not None:
        raise UsageError("Give a delay or a time to begin at, not both.")
    if at is not None:
        if at.tzinfo is None:
            raise UsageError(
                f"{at.isoformat()} has no time zone: write datetime(…, tzinfo=UTC), or another zone."
            )
        begin = round(at.timestamp() * 1_000_000)
    elif delay is not None:
        begin = await log.coordination.now() + round(parse_length(delay) * 1_000_000)
    else:
        return None
    if begin > await log.coordination.now() + round(WAIT_SECONDS_MAX * 1_000_000):
        raise InvalidInput(f"{at} is too far away for a run to begin: a hundred years is the most.")
    return begin
