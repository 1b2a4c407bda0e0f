"""Forgetting a conversation with everything in it: its runs, what they had others do, its memory, journeys and files.

The events stay, as hashes of what they said; payloads and salts go. The tombstone comes first, with the claim of the
conversation's stream that lets nothing new begin, and says what is intended: doing it again goes on where it stopped,
whatever it was stopped by. Memory of users and of systems is not the conversation's, and stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from evrt.conversations.facts import fact_draft, find_deleted
from evrt.errors import Conflict, Fenced, NotFound, WrongVersion
from evrt.events.conversation import ConversationDeleted, ConversationErased
from evrt.events.run import TERMINAL, RunCancelled
from evrt.folds.conversations import ConversationState
from evrt.folds.run import ENDED
from evrt.history import belonging_to, is_its_own, load_last_chapter
from evrt.log import Append, Claim, Log
from evrt.orders import cancel_run, end_unclaimed

ERASED_AT_ONCE = 500
"""Payloads that are erased in one go; the writer puts them into few transactions."""

TOMBSTONES = frozenset({ConversationDeleted.type, ConversationErased.type})
"""What stays readable: that it was deleted, by whom and when."""

Shared = Callable[[str, str], Awaitable[bool]]
"""Whether a file (by its SHA-256) is attached to another conversation than this one (by its ref)."""


class Deleted(NamedTuple):
    """What was deleted: payloads of so many events, and so many blobs, in this go.

    ``behind`` names views that have not forgotten it yet: they are parked, or kept by a program that is too slow.
    """

    conversation: str
    events: int
    blobs: int
    behind: tuple[str, ...] = ()


async def delete_conversation(
    log: Log, name: str, *, by: str | None, reason: str | None, force: bool, shared: Shared
) -> Deleted:
    """See ``Conversations.delete``."""
    ref, state = await find_deleted(log, name)
    if state.deleted is None:
        await _end_runs(log, ref, by=by, force=force)
        await _claim(log, ref, ConversationDeleted(by=by, reason=reason), state)
        state = (await find_deleted(log, ref))[1]
    # Whoever was about to begin a run when it was claimed has by now, or never will.
    await _end_runs(log, ref, by=by, force=True)
    blobs = await _erase_blobs(log, ref, state, shared)
    events = await _erase_events(log, ref)
    if not state.erased or events or blobs:
        erased = ConversationErased(events=events, blobs=blobs)
        await log.append(Append([fact_draft(ref, erased, owner=state.owner)], {}))
    # Last, so that until everything is gone it can be asked for again by the id that people know.
    await log.forget(ref)
    return Deleted(ref, events, blobs)


async def _claim(log: Log, ref: str, event: ConversationDeleted, state: ConversationState) -> None:
    draft = fact_draft(ref, event, owner=state.owner, meta={"epoch": 1})
    with suppress(Fenced):  # Somebody else is deleting it as well: then both do.
        await log.append(Append([draft], {ref: Claim(1)}))


async def _end_runs(log: Log, ref: str, *, by: str | None, force: bool) -> None:
    """Cancel what waits or is queued. Raises Conflict for a run that is being executed, unless it is taken away by force."""
    open_runs: dict[str, None] = {}
    async for row in belonging_to(log, ref):
        if row.type == "run.requested":
            open_runs[row.stream] = None
        elif row.type in TERMINAL:
            open_runs.pop(row.stream, None)
    for run in open_runs:
        await _end_run(log, run, by=by, force=force)


async def _end_run(log: Log, run: str, *, by: str | None, force: bool) -> None:
    reason = "Its conversation was deleted."
    while True:
        history = await load_last_chapter(log, run)
        status = history.state.status
        if status in ENDED:
            return
        if status == "running" and not force:
            raise Conflict(
                f"{run} of this conversation is being executed, so the conversation is not deleted. Cancel it with "
                f"`evrt runs cancel {run}` and delete the conversation when it has ended; or delete it by force, and the "
                "run is taken away from whoever executes it."
            )
        with suppress(WrongVersion, Fenced):
            if status == "running":
                await end_unclaimed(log, history, RunCancelled(by=by, reason=reason))
            else:
                with suppress(Conflict):  # It has ended meanwhile.
                    await cancel_run(log, run, by=by, reason=reason)


async def _erase_events(log: Log, ref: str) -> int:
    erased = 0
    batch: list[int] = []
    async for row in belonging_to(log, ref):
        if row.payload is None or row.type in TOMBSTONES or not is_its_own(row):
            continue
        batch.append(row.position)
        if len(batch) == ERASED_AT_ONCE:
            erased += await _erase(log, batch)
    return erased + await _erase(log, batch)


async def _erase(log: Log, batch: list[int]) -> int:
    count = len(batch)
    await asyncio.gather(*(log.erase_payload(position) for position in batch))
    batch.clear()
    return count


async def _erase_blobs(log: Log, ref: str, state: ConversationState, shared: Shared) -> int:
    """Erase the files that are, or ever were, attached to it and to no other. Before the events that tell of them."""
    erased = 0
    for digest in sorted(state.files):
        if await shared(digest, ref):
            continue
        with suppress(NotFound):  # It was erased before.
            await log.erase_blob(digest)
            erased += 1
    return erased
