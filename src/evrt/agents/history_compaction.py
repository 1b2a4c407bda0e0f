"""Long conversations: of more than ten turns of a history the latest five are kept, and a summary stands for the rest.

Pure, as the compaction of a run is. A turn is a message of the user and all that follows it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from evrt.agents.compaction import Compacted
from evrt.agents.pruning import Plan, apply_plan
from evrt.agents.tokens import Counter, count_tokens, estimate_tokens
from evrt.errors import UsageError
from evrt.events import JsonObject

TURNS_MAX = 10
TURNS_KEPT = 5
HISTORY_COMPACTION = "history_compaction"
"""``metadata.kind`` of the message with the summary."""
SUMMARY_PREFIX = "Earlier in this conversation: "


@dataclass(frozen=True, slots=True)
class HistoryCompaction:
    """A history of more than ``turns_max`` turns is summarised but for its last ``turns_kept``. Raises UsageError."""

    turns_max: int = TURNS_MAX
    turns_kept: int = TURNS_KEPT
    counter: Counter = estimate_tokens

    def __post_init__(self) -> None:
        if not 1 <= self.turns_kept <= self.turns_max:
            raise UsageError(
                f"A history keeps at least one turn and at most as many as it may have: turns_kept is {self.turns_kept}, "
                f"turns_max {self.turns_max}."
            )

    def middle_to_summarise(
        self, messages: Sequence[JsonObject], floor: Collection[int]
    ) -> Sequence[JsonObject] | None:
        """What a summary is to stand for, or None where the history is short enough.

        The history is what lies before the last message of the floor, the task, and is not of the floor itself.
        """
        older = self._older(messages, floor)
        return [messages[index] for index in older] if older else None

    def _older(self, messages: Sequence[JsonObject], floor: Collection[int]) -> list[int]:
        history = [index for index in range(max(floor, default=0)) if index not in floor]
        turns = [index for index in history if messages[index].get("role") == "user"]
        if len(turns) <= self.turns_max:
            return []
        first_kept = turns[-self.turns_kept]
        return [index for index in history if index < first_kept]

    def compact(
        self, messages: Sequence[JsonObject], summary: str | None, floor: Collection[int]
    ) -> Compacted | None:
        """The messages with the summary in place of the older turns; None where they stay as they are."""
        older = self._older(messages, floor)
        if summary is None or not older:
            return None
        gone = set(older)
        plan: Plan = []
        for index in range(len(messages)):
            if index == older[0]:
                plan.append(history_summary(summary))
            if index not in gone:
                plan.append(index)
        return Compacted(
            plan=plan,
            summary=summary,
            summarised=tuple(older),
            shortened=(),
            tokens_before=count_tokens(messages, self.counter),
            tokens_after=count_tokens(apply_plan(plan, messages), self.counter),
            floor=tuple(at for at, item in enumerate(plan) if isinstance(item, int) and item in floor),
        )


def history_summary(summary: str) -> JsonObject:
    """The message that stands for the older turns."""
    return {
        "role": "system",
        "content": f"{SUMMARY_PREFIX}{summary}",
        "metadata": {"kind": HISTORY_COMPACTION},
    }
