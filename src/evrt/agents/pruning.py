"""Tool results shortened where they are not worth their tokens any more, as a plan of what messages become.

A plan changes nothing by itself. It says for every place of the new list which message stands there: the index of one
that is kept as it is, or a message of its own. Whoever carries it out keeps references to the log for what is kept, and
the requests made before it stay on record with every result whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from evrt.agents.tokens import Counter, count_tokens, estimate_tokens, text_content, text_of
from evrt.events import JsonObject

Plan: TypeAlias = list[int | JsonObject]

CEILING_TOKENS = 12_000
"""Beyond this, what a request costs again at every step is worth shortening (B39)."""
STEPS_PROTECTED = 2
"""The last steps whose results stay whole: the model has not seen the last ones yet, and those before it once."""
HEAD_CHARACTERS = 400
"""How much of a shortened result is kept: enough to recognise it by."""
SHORTENED = "shortened"
"""``metadata.kind`` of a message that stands for a tool result."""


def apply_plan(plan: Plan, messages: Sequence[JsonObject]) -> list[JsonObject]:
    """The messages after a plan."""
    return [messages[item] if isinstance(item, int) else item for item in plan]


def changes_anything(plan: Plan, messages: Sequence[JsonObject]) -> bool:
    """Whether a plan leaves other messages than there were."""
    return plan != list(range(len(messages)))


def shorten(message: JsonObject, counter: Counter, head_characters: int = HEAD_CHARACTERS) -> JsonObject:
    """A reference to a tool's result: its size, its call, and how it begins. Of a reference, a shorter one."""
    metadata = message.get("metadata")
    text = text_content(message.get("content"))
    if is_shortened(message):
        tokens = cast(JsonObject, metadata)["tokens"]
        text = text.partition("\n")[2]
    else:
        tokens = counter(text)
    note = f"[Result of {message.get('tool_call_id')} shortened to save room: it had {tokens} tokens"
    head = text[:head_characters]
    return {
        **message,
        "content": f"{note}, and begins:]\n{head}" if head else f"{note}.]\n",
        "metadata": {"kind": SHORTENED, "tokens": tokens},
    }


def is_shortened(message: JsonObject) -> bool:
    """Whether a message stands for a tool result that was shortened."""
    metadata = message.get("metadata")
    return isinstance(metadata, dict) and metadata.get("kind") == SHORTENED


def saving(message: JsonObject, counter: Counter, head_characters: int = HEAD_CHARACTERS) -> int:
    """Tokens that shortening a tool's result would save; none or less where it is short already."""
    return counter(text_of(message)) - counter(text_of(shorten(message, counter, head_characters)))


@dataclass(frozen=True, slots=True)
class Pruning:
    """Shortens tool results of older steps once the context has more than ``ceiling`` tokens; with 0 never.

    A step is an assistant's message with the results of its tool calls; results of the last ``protected`` steps stay
    whole. Pure: ``plan`` looks at the messages alone.
    """

    ceiling: int = CEILING_TOKENS
    protected: int = STEPS_PROTECTED
    counter: Counter = estimate_tokens

    def plan(self, messages: Sequence[JsonObject]) -> Plan | None:
        """What the messages become, or None where they stay as they are."""
        if self.ceiling <= 0 or count_tokens(messages, self.counter) <= self.ceiling:
            return None
        first = first_of_steps(messages, self.protected)
        plan: Plan = list(range(len(messages)))
        for index, message in enumerate(messages[:first]):
            if message.get("role") == "tool" and saving(message, self.counter) > 0:
                plan[index] = shorten(message, self.counter)
        return plan if changes_anything(plan, messages) else None


def first_of_steps(messages: Sequence[JsonObject], steps: int) -> int:
    """The index at which the last ``steps`` steps begin; 0 where there are not as many."""
    if steps < 1:
        return len(messages)
    for index in range(len(messages) - 1, -1, -1):
        steps -= messages[index].get("role") == "assistant"
        if steps == 0:
            return index
    return 0
