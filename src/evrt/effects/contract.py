"""What the runtime asks of a model, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from evrt.events import JsonObject
from evrt.events.calls import Usage

OnDelta = Callable[[str], None]
"""Called with each piece of text as it streams in."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One chat completion, in the shapes of the chat-completions API.

    ``messages``: role, content, tool_calls, tool_call_id. ``tools``: function tools, possibly none.
    ``parameters``: whatever else goes to the provider (temperature, max_tokens, response_format, …).
    """

    model: str
    messages: Sequence[JsonObject]
    tools: Sequence[JsonObject] = ()
    parameters: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """``message`` is JSON: role "assistant", content (text or None), tool_calls where there are any."""

    message: JsonObject
    finish_reason: str | None = None
    provider: str | None = None
    model_returned: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()


class ModelError(Exception):
    """A model call failed. ``retriable``: the same request may succeed later (429, 5xx, connection, time-out).

    ``usage`` is what the failed call used up, as far as the provider said so, else None.
    ``retry_after_seconds`` is how long the provider asks to be left alone, if it does.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        *,
        retriable: bool,
        usage: Usage | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.retriable = retriable
        self.usage = usage
        self.retry_after_seconds = retry_after_seconds


class Model(Protocol):
    """Anything that completes a request: litellm, a script, a fake server's client."""

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        """Raises ModelError."""
        ...
