"""What the loop does to its transcript before it calls a model: plans carried out, summaries paid for, all of it recorded.

The plans themselves are pure: ``compaction``, ``history_compaction`` and ``pruning``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from evrt.agents.compaction import COMPACTION, Compacted, Compaction, summary_request
from evrt.agents.history_compaction import HISTORY_COMPACTION, HistoryCompaction
from evrt.agents.pruning import Pruning
from evrt.agents.tokens import count_tokens
from evrt.errors import ModelFailed
from evrt.events import JsonObject
from evrt.events.loop import ContextCompacted
from evrt.runtime.context import Context
from evrt.runtime.transcript import Transcript

PRUNING = "tool_result_pruning"
"""Kind of a ``context.compacted`` that shortened results of older steps."""
SUMMARY_CALL = "compaction"
"""Name of the model calls that make summaries."""
Choice = Callable[[], tuple[str | None, JsonObject]]
"""The model for a summary and its parameters; it is asked for only when there is one to be made."""


@dataclass(frozen=True, slots=True)
class ContextFitting:
    """Keeps a transcript fit to be sent. ``small`` names the model that makes summaries.

    Called with the transcript and the indexes of its floor, it gives both as they are then, or None where nothing
    changes. Raises ContextTooLarge where nothing brings them into the budget.
    """

    small: Choice
    compaction: Compaction | None = None
    history: HistoryCompaction | None = None
    pruning: Pruning | None = None

    async def __call__(
        self, ctx: Context[Any], transcript: Transcript, floor: Set[int]
    ) -> tuple[Transcript, set[int]] | None:
        before = transcript
        transcript, floor = await self._history(ctx, transcript, floor)
        transcript = self._pruned(ctx, transcript)
        transcript, floor = await self._within_budget(ctx, transcript, floor)
        return None if transcript is before else (transcript, set(floor))

    @staticmethod
    async def unchanged(
        ctx: Context[Any], transcript: Transcript, floor: Set[int]
    ) -> tuple[Transcript, set[int]] | None:
        """What leaves every transcript as it is."""
        return None

    async def _history(
        self, ctx: Context[Any], transcript: Transcript, floor: Set[int]
    ) -> tuple[Transcript, Set[int]]:
        if self.history is None:
            return transcript, floor
        older = self.history.middle_to_summarise(transcript.messages, floor)
        if older is None:
            return transcript, floor
        summary = await self._summary(ctx, older)
        compacted = self.history.compact(transcript.messages, summary, floor)
        return _carried_out(ctx, transcript, floor, compacted, HISTORY_COMPACTION)

    def _pruned(self, ctx: Context[Any], transcript: Transcript) -> Transcript:
        if self.pruning is None:
            return transcript
        messages = transcript.messages
        plan = self.pruning.plan(messages)
        if plan is None:
            return transcript
        fresh = transcript.replaced(plan)
        shortened = tuple(at for at, item in enumerate(plan) if not isinstance(item, int))
        ctx.record(
            ContextCompacted,
            kind=PRUNING,
            first=shortened[0],
            last=shortened[-1],
            tokens_before=count_tokens(messages, self.pruning.counter),
            tokens_after=count_tokens(fresh.messages, self.pruning.counter),
            shortened=shortened,
        )
        return fresh

    async def _within_budget(
        self, ctx: Context[Any], transcript: Transcript, floor: Set[int]
    ) -> tuple[Transcript, Set[int]]:
        if self.compaction is None:
            return transcript, floor
        middle = self.compaction.look(transcript.messages, floor)
        if middle is None:
            return transcript, floor
        summary = await self._summary(ctx, middle) if middle else None
        compacted = self.compaction.compact(transcript.messages, summary, floor)
        return _carried_out(ctx, transcript, floor, compacted, COMPACTION)

    async def _summary(self, ctx: Context[Any], middle: Sequence[JsonObject]) -> str | None:
        """What the small model makes of it; None where it fails or says nothing, and then nothing is left out."""
        model, parameters = self.small()
        request = ctx.transcript()
        request.extend(summary_request(middle))
        try:
            reply = await ctx.model(request, model=model, name=SUMMARY_CALL, parameters=parameters)
        except ModelFailed:
            return None
        return reply.text.strip() or None


def _carried_out(
    ctx: Context[Any], transcript: Transcript, floor: Set[int], compacted: Compacted | None, kind: str
) -> tuple[Transcript, Set[int]]:
    if compacted is None:
        return transcript, floor
    touched = compacted.summarised or compacted.shortened
    ctx.record(
        ContextCompacted,
        kind=kind,
        first=touched[0],
        last=touched[-1],
        summary=compacted.summary,
        tokens_before=compacted.tokens_before,
        tokens_after=compacted.tokens_after,
        shortened=compacted.shortened,
    )
    return transcript.replaced(compacted.plan), set(compacted.floor)
