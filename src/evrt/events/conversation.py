"""Conversations: what groups runs."""

from __future__ import annotations

from typing import ClassVar

from evrt.events.base import Event, register


@register
class ConversationStarted(Event):
    """The first run of a conversation was asked for. ``owner`` is the ref of its user."""

    type: ClassVar[str] = "conversation.started"

    target: str
    owner: str | None = None
