"""What model calls and tool calls come to, as the code sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evrt.events import Event, JsonObject
from evrt.events.calls import ModelCallCompleted, Usage
from evrt.folds.journal import established


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply. ``message`` is the assistant's message in the chat-completions shape."""

    operation: str
    message: JsonObject
    finish_reason: str | None
    model: str
    usage: Usage

    @property
    def text(self) -> str:
        """The text of the message, that of its text parts joined; empty when there is none."""
        content = self.message.get("content")
        if isinstance(content, str):
            return content
        parts = content if isinstance(content, list) else []
        texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(text for text in texts if isinstance(text, str))

    @property
    def tool_calls(self) -> list[JsonObject]:
        """The tool calls that the model asks for, as it wrote them."""
        calls = self.message.get("tool_calls")
        return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool call that a model asked for came to."""

    operation: str
    tool_call_id: str
    event: Event

    @property
    def is_error(self) -> bool:
        return not established(self.event)[0]

    @property
    def value(self) -> Any:
        """The result as JSON, or the failure."""
        return established(self.event)[1]


def reply_from(event: ModelCallCompleted, model: str) -> Reply:
    """The reply recorded in an event."""
    return Reply(
        operation=event.operation,
        message=event.message,
        finish_reason=event.finish_reason,
        model=event.model_returned or model,
        usage=event.usage,
    )
