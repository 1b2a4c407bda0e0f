"""Transcripts: the messages of one line of model calls, only ever added to.

A request is its predecessor plus what is new. A transcript keeps for every message where it comes
from and a digest chained over all before it, so that a model call costs and records what is new,
however long the conversation has become.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

from evrt.errors import InvalidInput
from evrt.events import JsonObject, JsonValue
from evrt.folds.requests import CHAIN_START, chain, tool_message
from evrt.runtime.reply import Reply, ToolOutcome
from evrt.seal import Redact, admit


class Recalled(dict[str, JsonValue]):
    """A message of a history, which knows where the log has it: a model call refers to it instead of repeating it."""

    __slots__ = ("_recorded", "source")

    def __init__(self, message: JsonObject, source: JsonObject) -> None:
        super().__init__(deepcopy(message))  # What somebody does to it is not done to the event.
        self._recorded = message
        self.source = source

    def as_recorded(self) -> JsonObject | None:
        """The message as the log has it; None where somebody has changed this one since."""
        return self._recorded if self == self._recorded else None


class Transcript:
    """Messages in the chat-completions shape, append-only. Made by ``ctx.transcript()``."""

    def __init__(self, redact: Redact) -> None:
        self._redact = redact
        self._messages: list[JsonObject] = []
        self._sources: list[JsonObject] = []
        self._digests: list[bytes] = []
        self.previous: str | None = None
        """The last model call made with this transcript."""
        self.kept = 0
        """How many of the messages that call's request held."""

    @property
    def messages(self) -> Sequence[JsonObject]:
        """The messages, oldest first. Do not change them."""
        return self._messages

    @property
    def digest(self) -> bytes:
        """The chained digest over all messages."""
        return self._digests[-1] if self._digests else CHAIN_START

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, role: str, content: str) -> None:
        """Add a message of text."""
        self.extend([{"role": role, "content": content}])

    def extend(self, messages: Sequence[JsonObject]) -> None:
        """Add whole messages. Raises InvalidInput when one cannot be recorded."""
        for message in messages:
            if isinstance(message, Recalled) and (recalled := message.as_recorded()) is not None:
                self._append(recalled, message.source)
                continue
            admitted = admit(message, self._redact)
            if not isinstance(admitted, dict) or not isinstance(admitted.get("role"), str):
                raise InvalidInput(f"A chat message is an object with a role, not {message!r:.80}.")
            self._append(admitted, admitted)

    def add_reply(self, reply: Reply) -> None:
        """Add what the model said; the log refers to the reply's own event."""
        self._append(reply.message, {"reply_of": reply.operation})

    def add_result(self, outcome: ToolOutcome) -> None:
        """Add what a tool call came to; the log refers to the outcome's own event."""
        message = tool_message(outcome.event, outcome.tool_call_id)
        self._append(message, {"result_of": outcome.operation, "tool_call_id": outcome.tool_call_id})

    def extend_from_state(self, messages: Sequence[JsonObject], *path: str) -> None:
        """Add messages that stand in ``ctx.state``, as a list at this path; the log refers to them there."""
        for index, message in enumerate(messages):
            self._append(message, {"state": list(path), "first": index, "count": 1})

    def replaced(self, plan: Sequence[int | JsonObject]) -> Transcript:
        """A transcript of messages of this one, by index, and of new ones. What the log has by reference stays so.

        Raises InvalidInput when a new message cannot be recorded.
        """
        fresh = Transcript(self._redact)
        for item in plan:
            if isinstance(item, int):
                fresh._append(self._messages[item], self._sources[item])
            else:
                fresh.extend([item])
        fresh.previous = self.previous
        for index, item in enumerate(plan[: self.kept]):
            if item != index:
                break
            fresh.kept = index + 1
        return fresh

    def new(self) -> tuple[JsonObject, ...]:
        """What the last model call has not seen, as the log keeps it."""
        return tuple(_together(self._sources[self.kept :]))

    def requested_by(self, operation: str) -> None:
        """Note that a model call was made with all messages so far."""
        self.previous = operation
        self.kept = len(self._messages)

    def rewritten(self, messages: Sequence[JsonObject]) -> Transcript:
        """A transcript of other messages that shares the longest common beginning with this one."""
        fresh = Transcript(self._redact)
        fresh.extend(messages)
        common = 0
        for mine, theirs in zip(self._digests[: self.kept], fresh._digests, strict=False):
            if mine != theirs:
                break
            common += 1
        # Messages that this transcript knows by reference stay references.
        for index in range(common, min(len(self._messages), len(fresh._messages))):
            if self._digests[index] != fresh._digests[index]:
                break
            fresh._sources[index] = self._sources[index]
        fresh.previous = self.previous
        fresh.kept = common
        return fresh

    def _append(self, message: JsonObject, source: JsonObject) -> None:
        self._digests.append(chain(self.digest, message))
        self._messages.append(message)
        self._sources.append(source)


def _together(sources: Sequence[JsonObject]) -> list[JsonObject]:
    """Messages that follow one another in the state are one reference, however many they are."""
    found: list[JsonObject] = []
    for source in sources:
        last = found[-1] if found else {}
        if "state" in source and last.get("state") == source["state"]:
            first, count = cast(int, last["first"]), cast(int, last["count"])
            if first + count == source["first"]:
                found[-1] = {**last, "count": count + 1}
                continue
        found.append(source)
    return found
