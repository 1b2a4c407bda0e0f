"""Conversations as a process holds them: folded from the log, and folded on by what has come since.

So a turn costs the events that are new since the one before it, however long the conversation has become.
"""

from __future__ import annotations

from collections import OrderedDict

from evrt.folds.chats import Chat, inherited_by
from evrt.log import Log
from evrt.log.envelopes import Row

HELD_BYTES_MAX = 64 * 1024 * 1024
"""What a process holds of conversations, roughly; the one that was read last is held however large it is."""

PAGE_EVENTS = 1_000


class Chats:
    """Conversations as this process last folded them; the least used of them are forgotten first."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, Chat] = OrderedDict()

    async def read(self, log: Log, conversation: str) -> Chat:
        """A conversation as it is now. Reads the events that have come since it was last read here.

        One that has been deleted says nothing any more, and nothing of it is inherited.
        """
        chat = self._held.get(conversation) or Chat()
        await take_in(log, conversation, chat)
        if await is_deleted(log, conversation):
            # What is held may be what was erased since.
            self.forget(conversation)
            return Chat(chat.position)
        await self._inherit(log, chat)
        self._hold(conversation, chat)
        return chat

    def forget(self, conversation: str) -> None:
        """Hold nothing of a conversation any more, as it was at whatever moment."""
        for place in [place for place in self._held if place.partition("@")[0] == conversation]:
            del self._held[place]

    async def _inherit(self, log: Log, chat: Chat) -> None:
        """Put into a fork what it has from its source: nothing, once that has been deleted."""
        origin = chat.origin
        if origin is None or origin.source is None:
            return
        if await is_deleted(log, origin.source):
            chat.inherited = ()
            return
        place = f"{origin.source}@{origin.source_position}"
        source = self._held.get(place) or Chat()
        await take_in(log, origin.source, source, upto=origin.source_position)
        await self._inherit(log, source)
        self._hold(place, source)
        chat.inherited = inherited_by(origin, source.turns())

    def _hold(self, place: str, chat: Chat) -> None:
        self._held[place] = chat
        self._held.move_to_end(place)
        held_bytes = sum(one.size for one in self._held.values())
        while held_bytes > self._bytes_max and len(self._held) > 1:
            held_bytes -= self._held.popitem(last=False)[1].size


async def is_deleted(log: Log, conversation: str) -> bool:
    """Whether a conversation has been deleted: the first thing that a deletion does is to claim its stream."""
    return (await log.head(conversation)).epoch > 0


async def take_in(log: Log, conversation: str, chat: Chat, *, upto: int | None = None) -> None:
    """Fold a conversation on to the log's last event, or to ``upto``."""
    while True:
        rows = await log.read(after=chat.position, upto=upto, correlation=conversation, limit=PAGE_EVENTS)
        for recorded in rows:
            if recorded.position > chat.position:  # Else somebody was here meanwhile.
                chat.apply(Row(recorded).envelope)
                chat.position = recorded.position
                chat.size += recorded.payload_length
        await _put_right(log, chat)
        if len(rows) < PAGE_EVENTS:
            return


async def _put_right(log: Log, chat: Chat) -> None:
    """Read what an outcome from outside was too large for to be kept until the run had seen it."""
    while chat.cut:
        run, part = chat.cut.pop()
        position = chat.lines[run][part].whole_at if part in chat.lines[run] else None
        if position is not None:
            [recorded] = await log.read(after=position - 1, upto=position)
            chat.put_right(run, part, Row(recorded).envelope)
