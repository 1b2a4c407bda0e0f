"""Editing and asking again: a new run in place of what was said from a message on. Nothing that was said is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evrt.codec import encode, meta_for
from evrt.conversations.facts import fact_draft
from evrt.errors import Conflict, Fenced, InvalidInput, NotFound
from evrt.events import JsonObject, JsonValue
from evrt.events.conversation import ConversationRewound
from evrt.events.run import RunRequested, RunSuperseded
from evrt.folds.chats import Chat, Turn
from evrt.folds.messages import input_messages
from evrt.folds.queued import lane_of
from evrt.folds.said import OPEN
from evrt.inbox import NOT_DELETED, refuse_deleted
from evrt.log import NEW, Append, Draft, Expectation, Log
from evrt.log.coordination import Enqueue
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id, new_ref
from evrt.orders import cancel_run
from evrt.requesting import request_draft

SUPERSEDED_AT_ONCE = 1_000
"""How many runs are noted as superseded in one append; those beyond are noted in the next ones."""


class Place(NamedTuple):
    """Where a message stands: in which turn, and as which of its messages."""

    turn: Turn
    number: int


def place_of(turns: Sequence[Turn], at: int) -> Place:
    """Where the message with this index stands. Raises NotFound, InvalidInput."""
    if not isinstance(at, int) or at < 0:
        raise InvalidInput(f"Messages are counted from 0, so there is none at {at!r:.80}.")
    left = at
    for turn in turns:
        if left < len(turn.messages):
            return Place(turn, left)
        left -= len(turn.messages)
    raise NotFound(f"There is no message {at}: the conversation has {at - left:,}, counted from 0.")


async def requested_at(log: Log, turn: Turn) -> RunRequested:
    """What the run of a turn was asked. Raises Conflict where that has been erased."""
    event = envelopes(await log.read_stream(turn.run, limit=1))[0].event
    if not isinstance(event, RunRequested):
        raise Conflict(f"What {turn.run} was asked has been erased, so it cannot be asked again.")
    return event


def edited(given: JsonValue, place: Place, at: int, content: JsonValue) -> JsonValue:
    """A run's input with another text in place of one of its messages, and nothing behind that. Raises InvalidInput."""
    asked = input_messages(given)
    if place.number >= len(asked) or asked[place.number].get("role") != "user":
        role = place.turn.messages[place.number]
        whose = role.get("role") if isinstance(role, dict) else None
        raise InvalidInput(
            f"Message {at} is the {whose}'s, and only what a user said can be edited. To have it asked again, retry it."
        )
    if isinstance(given, str) or asked != list(_messages(given)):
        return content
    kept = [*asked[: place.number], {**asked[place.number], "content": content}]
    return {**given, "messages": kept} if isinstance(given, dict) else kept


def _messages(given: JsonValue) -> Sequence[JsonValue]:
    found = given.get("messages") if isinstance(given, dict) else given
    return found if isinstance(found, list) else ()


async def rewind(
    log: Log,
    ref: str,
    chat: Chat,
    place: Place,
    *,
    requested: RunRequested,
    at: int,
    by: str | None,
    queued: bool,
) -> str:
    """Record the run that takes the place of what was said from a turn on; returns it.

    Runs that are at it are cancelled. Raises NotFound (deleted meanwhile), and what an append raises.
    """
    since = place.turn.at
    replaced = [(run, own.status) for run, own in chat.runs.items() if own.at >= since and not own.superseded]
    new = new_ref("run")
    for run, status in replaced:
        if status == OPEN:
            await _cancel(log, run, by)
    rewound = ConversationRewound(run=new, at=at, since=since, by=by)
    drafts = [
        fact_draft(ref, rewound, owner=requested.user),
        request_draft(new, requested),
        *(_superseded(run, new, ref) for run, _ in replaced[:SUPERSEDED_AT_ONCE]),
    ]
    expect: dict[str, Expectation] = {new: NEW, ref: NOT_DELETED}
    lane = lane_of(requested, {})
    beside = [Enqueue(new, requested.target, requested.priority, lane)] if queued else []
    try:
        await log.append(Append(drafts, expect, beside=beside))
    except Fenced:
        await refuse_deleted(log, ref)
        raise
    for start in range(SUPERSEDED_AT_ONCE, len(replaced), SUPERSEDED_AT_ONCE):
        some = replaced[start : start + SUPERSEDED_AT_ONCE]
        await log.append(Append([_superseded(run, new, ref) for run, _ in some], {}))
    return new


async def _cancel(log: Log, run: str, by: str | None) -> None:
    try:
        await cancel_run(log, run, by=by, reason="What it was asked was taken back.")
    except Conflict:
        return  # It has ended meanwhile.


def _superseded(old: str, run: str, correlation: str) -> Draft:
    event = RunSuperseded(run=run)
    meta = meta_for(event, b'{"actor":"client"}')
    return Draft(old, event.type, new_event_id(), correlation, meta, encode(event))


def asked_again(requested: RunRequested, given: JsonValue, conversation: str, old: Turn) -> RunRequested:
    """The same request with this input, for a run of its own."""
    change: JsonObject = {
        "input": given,
        "conversation": conversation,
        "supersedes": None if old.inherited else old.run,
        "idempotency_key": None,
        "not_before": None,
        "schedule": None,
        "tick": None,
        "parent": None,
        "operation_of_parent": None,
    }
    return requested.model_copy(update=change)
