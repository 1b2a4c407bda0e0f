"""What was said in a conversation, whole and in order, now or as of a moment: read from its view and from the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evrt.events import Envelope, JsonObject, JsonValue
from evrt.folds.chats import Turn, inherited_by, last_assistant_message, origin_of, to_be_read, turns_of
from evrt.folds.said import Said
from evrt.history import resolve_ref
from evrt.inbox import refuse_deleted
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.projector.moments import Moment
from evrt.projector.views import Views
from evrt.runtime.chats import is_deleted

MESSAGES = "messages"
"""The projection that has what was said, a document per message."""


async def read_messages(
    views: Views,
    conversation: str,
    *,
    include_failed_runs: bool = False,
    as_of: Moment | None = None,
) -> list[JsonValue]:
    """The messages of all runs of a conversation, run after run in the order in which they were asked for.

    They are in the neutral chat shape, as they were recorded: nothing is cut, nothing left out that was said twice. What
    runs said that failed or timed out is left out unless asked for, and what was superseded always. A fork begins with
    what was said in its source. ``conversation`` is one's own id, or its ref; ``as_of`` what ``Views.family`` takes.

    Raises NotFound (no such conversation, or it has been deleted), and what ``Views.family`` raises.
    """
    ref = await resolve_ref(views.log, "conversation", conversation)
    await refuse_deleted(views.log, ref)
    turns = await _turns(views, ref, include_failed_runs=include_failed_runs, as_of=as_of)
    return [message for turn in turns for message in turn.messages]


async def read_last_assistant_message(
    views: Views, conversation: str, *, as_of: Moment | None = None
) -> JsonObject | None:
    """The last message of an assistant that says something in words; None where there is none. See ``read_messages``."""
    return last_assistant_message(await read_messages(views, conversation, as_of=as_of))


async def _turns(
    views: Views, ref: str, *, include_failed_runs: bool = False, as_of: Moment | None = None
) -> list[Turn]:
    said = [document.value for document in await views.family(MESSAGES, ref, as_of=as_of)]
    events = await _whole(views.log, said)
    inherited = await _inherited(views, origin_of(said))
    return turns_of(said, include_failed_runs=include_failed_runs, events=events, inherited=inherited)


async def _inherited(views: Views, origin: Said | None) -> Sequence[Turn]:
    """What a fork has from its source, of which nothing is left once that has been deleted."""
    if origin is None or origin.source is None or await is_deleted(views.log, origin.source):
        return ()
    return inherited_by(origin, await _turns(views, origin.source, as_of=origin.source_position))


async def _whole(log: Log, said: Iterable[Said]) -> dict[int, Envelope]:
    """The events that hold what had to be cut in these documents, by their positions."""
    found: dict[int, Envelope] = {}
    for position in to_be_read(said):
        [row] = await log.read(after=position - 1, upto=position)
        found[position] = Row(row).envelope
    return found
