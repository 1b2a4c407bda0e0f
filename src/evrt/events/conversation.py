"""Conversations: what groups runs, what belongs to one beside them, and what a run has read of one."""

from __future__ import annotations

from typing import ClassVar, Literal

from evrt.events.base import Event, JsonObject, JsonValue, register
from evrt.events.run import Failure

ResourceKind = Literal["file", "document", "vector_db", "link"]
"""file: a blob · document: text that stands in the event · vector_db, link: what lies elsewhere, by its id or address."""


@register
class ConversationStarted(Event):
    """A conversation began: with its first run, or before it. ``owner`` is the ref of its user."""

    type: ClassVar[str] = "conversation.started"

    target: str = ""
    owner: str | None = None
    title: str | None = None
    metadata: JsonObject | None = None


@register
class ConversationTitled(Event):
    """A conversation got another title, or none any more."""

    type: ClassVar[str] = "conversation.titled"

    title: str | None = None
    by: str | None = None


@register
class ConversationDescribed(Event):
    """A conversation got other metadata, in place of what it had."""

    type: ClassVar[str] = "conversation.described"

    metadata: JsonObject
    by: str | None = None


@register
class ConversationResourceAttached(Event):
    """Something was attached to a conversation; the one that had its name before is not attached any more.

    A file is a blob, by the SHA-256 of its bytes; a document's text stands here; anything else lies where ``reference``
    says. ``size`` is in bytes.
    """

    type: ClassVar[str] = "conversation.resource_attached"

    name: str
    kind: ResourceKind
    media_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    text: str | None = None
    reference: str | None = None
    by: str | None = None


@register
class ConversationResourceDetached(Event):
    """Something is not attached to a conversation any more."""

    type: ClassVar[str] = "conversation.resource_detached"

    name: str
    by: str | None = None


@register
class ConversationForked(Event):
    """A conversation begins with what was said in another one: its first ``upto`` messages, as of a position of the log.

    They are those of the runs whose requests stand before position ``last_at``, and the first ``last_messages`` of the one
    whose request stands there.
    """

    type: ClassVar[str] = "conversation.forked"

    source: str
    position: int
    upto: int
    last_at: int = 0
    last_messages: int = 0
    by: str | None = None


@register
class ConversationRewound(Event):
    """What was said from some message on does not count any more: ``run`` takes its place.

    Superseded are the runs whose requests stand from position ``since`` on and before this event, in what a fork has from
    its source as well. ``at`` is the index of the message that was named.
    """

    type: ClassVar[str] = "conversation.rewound"

    run: str
    at: int
    since: int
    by: str | None = None


@register
class ConversationDeleted(Event):
    """Somebody wants a conversation to be forgotten with everything in it. From here on it cannot be read any more."""

    type: ClassVar[str] = "conversation.deleted"

    by: str | None = None
    reason: str | None = None


@register
class ConversationErased(Event):
    """Everything in a conversation that was deleted is gone: payloads of so many events, and so many blobs."""

    type: ClassVar[str] = "conversation.erased"

    events: int
    blobs: int = 0


@register
class ConversationRecalled(Event):
    """The code read what had been said before in its conversation: these messages, and not what may be said later.

    ``omitted`` older ones were left out. ``position`` is that of the last event that was looked at, ``sha256`` the chained
    digest of the messages. ``untrusted``: whether any of it came, directly or not, from what nobody vouches for.
    """

    type: ClassVar[str] = "conversation.recalled"
    volatile: ClassVar[frozenset[str]] = frozenset({"position"})

    operation: str
    digest: str
    messages: tuple[JsonValue, ...] = ()
    sha256: str = ""
    omitted: int = 0
    untrusted: bool = False
    position: int = 0
    failure: Failure | None = None
