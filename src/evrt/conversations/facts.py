"""Facts of a conversation itself, written to its own stream as it was read: what it is called, what is attached."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from evrt.codec import encode, meta_for
from evrt.errors import Conflict, NotFound, WrongVersion
from evrt.events import Event, JsonObject
from evrt.folds.conversations import ConversationState, fold_conversation
from evrt.history import resolve_ref
from evrt.inbox import was_deleted
from evrt.log import Append, Draft, Exact, Log
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id

TRIES_MAX = 100
"""How often to look again when somebody else wrote to the conversation meanwhile."""


async def find(log: Log, name: str) -> tuple[str, ConversationState]:
    """The ref of a conversation that is there, and what its stream says. Raises NotFound."""
    ref, state = await find_deleted(log, name)
    if state.deleted is not None:
        raise await was_deleted(log, ref)
    return ref, state


async def find_deleted(log: Log, name: str) -> tuple[str, ConversationState]:
    """The same, of one that may have been deleted."""
    ref = await resolve_ref(log, "conversation", name)
    state = fold_conversation(envelopes(await log.read_stream(ref)))
    if not state.version:
        raise NotFound(f"There is no conversation {name} in {log.url}.")
    return ref, state


async def append_fact(log: Log, name: str, decide: Callable[[ConversationState], Event | None]) -> str:
    """Append what follows from the conversation as it is; nothing where that is None. Returns its ref.

    Raises NotFound, and what ``decide`` raises.
    """
    ref, state = await find(log, name)
    for _ in range(TRIES_MAX):
        event = decide(state)
        if event is None:
            return ref
        draft = fact_draft(ref, event, owner=state.owner)
        try:
            await log.append(Append([draft], {ref: Exact(state.version)}))
            return ref
        except WrongVersion:
            ref, state = await find(log, ref)
    raise Conflict(f"{ref} is being written too fast to add to it; try again.")


def fact_draft(ref: str, event: Event, *, owner: str | None, meta: JsonObject | None = None) -> Draft:
    """An event of a conversation's own stream. Raises InvalidInput, PayloadTooLarge."""
    known: JsonObject = {"actor": "client"}
    if owner is not None:
        known["on_behalf_of"] = owner
    written = meta_for(event, orjson.dumps({**known, **(meta or {})}))
    return Draft(ref, event.type, new_event_id(), ref, written, encode(event))
