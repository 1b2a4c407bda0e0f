"""Forks of conversations: a new one that begins with what was said in another, which is read there and not copied."""

from __future__ import annotations

from collections.abc import Sequence

from evrt.errors import InvalidInput
from evrt.events.conversation import ConversationForked
from evrt.folds.chats import Turn


def fork_of(
    source: str, turns: Sequence[Turn], *, position: int, upto: int | None, by: str | None
) -> ConversationForked:
    """What a fork inherits: the first ``upto`` messages of these turns, or all. Raises InvalidInput."""
    there = sum(len(turn.messages) for turn in turns)
    wanted = there if upto is None else upto
    if not isinstance(wanted, int) or not 0 <= wanted <= there:
        raise InvalidInput(
            f"A fork begins with the first 0 to {there:,} messages of {source}, not with {upto!r:.80}."
        )
    last_at, last_messages, left = 0, 0, wanted
    for turn in turns:
        if left <= 0:
            break
        last_at, last_messages = turn.at, min(left, len(turn.messages))
        left -= last_messages
    return ConversationForked(
        source=source,
        position=position,
        upto=wanted,
        last_at=last_at,
        last_messages=last_messages,
        by=by,
    )
