"""A conversation's own stream folded: whose it is, what it is called, what is attached, whether it has been deleted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from evrt.events import Envelope, JsonObject
from evrt.events.conversation import (
    ConversationDeleted,
    ConversationDescribed,
    ConversationForked,
    ConversationResourceAttached,
    ConversationResourceDetached,
    ConversationStarted,
    ConversationTitled,
)


@dataclass(slots=True)
class ConversationState:
    """What a conversation's stream says of it."""

    version: int = 0
    target: str = ""
    owner: str | None = None
    title: str | None = None
    metadata: JsonObject = field(default_factory=dict)
    resources: dict[str, ConversationResourceAttached] = field(default_factory=dict)
    """What is attached, by name, in the order in which it was."""
    files: set[str] = field(default_factory=set)
    """The SHA-256 of every file that is attached, or has been."""
    forked: ConversationForked | None = None
    deleted: Envelope | None = None
    """Its ``conversation.deleted``, where there is one."""
    erased: bool = False
    """Whether everything in it is gone."""

    def apply(self, envelope: Envelope) -> None:
        """Take in the next event of the stream."""
        self.version = envelope.version
        match envelope.event:
            case ConversationStarted() as event:
                self.target, self.owner, self.title = event.target, event.owner, event.title
                self.metadata = event.metadata or {}
            case ConversationTitled() as event:
                self.title = event.title
            case ConversationDescribed() as event:
                self.metadata = event.metadata
            case ConversationResourceAttached() as event:
                self.resources.pop(event.name, None)
                self.resources[event.name] = event
                if event.sha256 is not None:
                    self.files.add(event.sha256)
            case ConversationResourceDetached() as event:
                self.resources.pop(event.name, None)
            case ConversationForked() as event:
                self.forked = event
            case ConversationDeleted():
                self.deleted = self.deleted or envelope
            case _:
                self.erased = self.erased or envelope.type == "conversation.erased"


def fold_conversation(envelopes: Iterable[Envelope]) -> ConversationState:
    """What the whole stream of a conversation says."""
    state = ConversationState()
    for envelope in envelopes:
        state.apply(envelope)
    return state
