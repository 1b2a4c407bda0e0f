"""What was said before in a run's conversation: read once, recorded in one event, and never read again for that run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from evrt.errors import InvalidInput
from evrt.events import JsonObject
from evrt.events.conversation import ConversationRecalled
from evrt.events.run import CANCELLED
from evrt.folds.recalling import choose
from evrt.folds.requests import CHAIN_START, chain
from evrt.log.contract import PAYLOAD_BYTES_MAX
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.transcript import Recalled

HISTORY_MESSAGES_MAX = 100
"""How many messages ``ctx.history`` gives unless told otherwise."""
MESSAGES_MAX = 10_000
"""The most that it can be told to give."""

RECALLED_BYTES_MAX = PAYLOAD_BYTES_MAX - 16 * 1024
"""What the messages of one recall may have as JSON, so that what stands around them has room in the event as well."""


class History(list[JsonObject]):
    """The messages that were said before in the conversation, oldest first, in the neutral chat shape.

    ``omitted``: how many older ones were left out. ``untrusted``: whether any of them came, directly or not, from
    what nobody vouches for. ``operation``: the identity under which it was recorded, None where nothing was.
    """

    def __init__(
        self,
        messages: Iterable[JsonObject] = (),
        *,
        operation: str | None = None,
        omitted: int = 0,
        untrusted: bool = False,
    ) -> None:
        super().__init__(messages)
        self.operation = operation
        self.omitted = omitted
        self.untrusted = untrusted


async def recall(execution: Execution, messages_max: int) -> History:
    """See ``Context.history``."""
    execution.here()
    if not isinstance(messages_max, int) or not 0 <= messages_max <= MESSAGES_MAX:
        raise InvalidInput(
            f"A history has 0 to {MESSAGES_MAX:,} messages, so messages_max cannot be {messages_max!r:.80}."
        )
    if execution.conversation is None:
        return History()
    identity = execution.bind("history")
    digest = digest_of([messages_max])
    known = await execution.recorded(identity, "conversation", digest)
    if known is not None and known.outcome is not None:
        recalled = known.outcome.event
    else:
        try:
            recalled = await execution.outside(_recall(execution, identity, digest, messages_max))
        except asyncio.CancelledError:
            if execution.stopped is None:
                failure = execution.failure(CANCELLED, "The code that awaited this cancelled it.")
                execution.record(ConversationRecalled(operation=identity, digest=digest, failure=failure))
            raise
        execution.record(recalled)
    assert isinstance(recalled, ConversationRecalled)
    if recalled.untrusted:
        execution.untrusted.setdefault("history")
    return _as_history(recalled)


async def _recall(
    execution: Execution, identity: str, digest: str, messages_max: int
) -> ConversationRecalled:
    assert execution.conversation is not None
    # With it the run's own request is in the log, which says what came before.
    await execution.barrier()
    world = execution.world
    chat = await world.chats.read(world.log, execution.conversation)
    own = chat.runs.get(execution.run)
    chosen = choose(
        chat.newest_first(before=None if own is None else own.at),
        messages_max=messages_max,
        bytes_max=RECALLED_BYTES_MAX,
    )
    chained = CHAIN_START
    for message in chosen.messages:
        chained = chain(chained, message)
    return ConversationRecalled(
        operation=identity,
        digest=digest,
        messages=chosen.messages,
        sha256=chained.hex(),
        omitted=chosen.omitted,
        untrusted=chosen.untrusted,
        position=chat.position,
    )


def _as_history(recalled: ConversationRecalled) -> History:
    messages = [
        Recalled(message, {"recalled_by": recalled.operation, "index": index})
        for index, message in enumerate(recalled.messages)
        if isinstance(message, dict)
    ]
    return History(
        messages, operation=recalled.operation, omitted=recalled.omitted, untrusted=recalled.untrusted
    )
