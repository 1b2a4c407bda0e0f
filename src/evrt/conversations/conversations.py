"""``app.conversations``: what can be asked of conversations, and done to them, from outside of their runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

from evrt.conversations.deleting import Deleted, delete_conversation
from evrt.conversations.facts import append_fact, fact_draft, find
from evrt.conversations.forking import fork_of
from evrt.conversations.limits import (
    MEDIA_TYPE_CHARACTERS_MAX,
    REFERENCE_CHARACTERS_MAX,
    RESOURCES_MAX,
    TEXT_BYTES_MAX,
    checked_metadata,
    checked_name,
    checked_short,
    checked_title,
)
from evrt.conversations.reading import read_messages
from evrt.conversations.rewinding import asked_again, edited, place_of, requested_at, rewind
from evrt.errors import Conflict, InvalidInput, NotFound, Unavailable, UsageError, WrongVersion
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.conversation import (
    ConversationDescribed,
    ConversationResourceAttached,
    ConversationResourceDetached,
    ConversationStarted,
    ConversationTitled,
    ResourceKind,
)
from evrt.events.run import RunRequested
from evrt.folds.conversations import ConversationState
from evrt.history import resolve_ref
from evrt.log import NEW, Append, Log
from evrt.log.blobs import Blob, Blobs, Source
from evrt.log.ids import new_ref
from evrt.projection import Document
from evrt.projector.moments import Moment
from evrt.projector.views import Views
from evrt.runtime.chats import Chats, is_deleted
from evrt.seal import Redact, admit
from evrt.waiting import Queued

HEADERS = "conversations"
LIST_MAX = 1_000
FORGET_SECONDS = 30.0
"""How long a deletion waits for one view to forget what was said."""
"""The most conversations that one list has."""

R_co = TypeVar("R_co", covariant=True)


class Runs(Protocol[R_co]):
    """What an app has that conversations need."""

    redact: Redact

    async def log(self) -> Log: ...
    async def views(self) -> Views: ...
    @property
    def chats(self) -> Chats: ...
    def target(self, name: str) -> Any: ...
    async def pinned(self, requested: RunRequested) -> Any: ...
    async def go_on(self, run: str) -> R_co:
        """Execute a run that has been asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that is attached to a conversation.

    file
        a blob: ``size`` in bytes, ``sha256`` of them.
    document
        a text that stands in the log.
    vector_db, link
        what lies elsewhere, where ``reference`` says.
    """

    name: str
    kind: ResourceKind
    media_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    reference: str | None = None

    @property
    def blob(self) -> Blob | None:
        """The file as ``ctx.blobs`` and ``app.blobs`` read it."""
        if self.sha256 is None or self.size is None or self.kind != "file":
            return None
        return Blob(sha256=self.sha256, length=self.size, media_type=self.media_type)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation's header. Times are microseconds since 1970, UTC.

    ``id`` is its ref, ``name`` your own id for it, ``owner`` the ref of its user, and ``target`` the agent or workflow that
    it was begun with. ``runs`` counts its runs, and ``ended`` those that have ended, by their status. A fork has
    ``source``, and ``source_messages`` of it, or none any more where that has been deleted (``source_deleted``).
    """

    id: str
    name: str | None
    owner: str | None
    target: str
    title: str | None
    metadata: JsonObject
    resources: tuple[Resource, ...]
    started_at: int
    active_at: int
    runs: int
    ended: Mapping[str, int] = field(default_factory=dict)
    last_run: str | None = None
    source: str | None = None
    source_messages: int | None = None
    source_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Conversations(Generic[R_co]):
    """The conversations of an app. Each is named by your own id, or by its ref (``conversation-…``).

    All raise NotFound for a conversation that there is not; of one that was deleted that says when, and by whom. ``by`` is
    who does it, as it is to be recorded.
    """

    _app: Runs[R_co]

    # Looking

    async def get(self, conversation: str) -> Conversation:
        """Its header. Raises NotFound."""
        log = await self._app.log()
        ref, _ = await find(log, conversation)
        views = await self._app.views()
        return await _header(log, await views.view(HEADERS, ref))

    async def list(self, *, user: str | None = None, limit: int = 50) -> list[Conversation]:
        """The conversations of a user, or of all, the newest first. Raises NotFound (no such user), InvalidInput."""
        log = await self._app.log()
        where: dict[str, object] = {"deleted": False}
        if user is not None:
            where["owner"] = await resolve_ref(log, "user", user)
        views = await self._app.views()
        page = await views.list(HEADERS, where=where, limit=limit)
        return [await _header(log, document) for document in page.documents]

    async def history(
        self, conversation: str, *, include_failed_runs: bool = False, as_of: Moment | None = None
    ) -> Sequence[JsonValue]:
        """What was said in it: see ``App.message_history``."""
        views = await self._app.views()
        return await read_messages(views, conversation, include_failed_runs=include_failed_runs, as_of=as_of)

    async def read(self, conversation: str, name: str) -> AsyncIterator[bytes]:
        """The bytes of a file or document that is attached to it. Raises NotFound, InvalidInput (it lies elsewhere)."""
        log = await self._app.log()
        _, state = await find(log, conversation)
        attached = _attached(state, conversation, name)
        if attached.kind == "document":
            yield (attached.text or "").encode()
        elif attached.kind == "file" and attached.sha256 is not None:
            async for piece in log.read_blob(attached.sha256):
                yield piece
        else:
            raise InvalidInput(
                f"{name!r} is a {attached.kind}: it lies elsewhere, at {attached.reference!r}, and the log has none of it."
            )

    # What it is called, and what is attached

    async def start(
        self,
        target: Any = None,
        *,
        conversation: str | None = None,
        user: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> str:
        """Begin a conversation before its first run; returns its ref.

        ``conversation`` and ``user`` are ids of your own. Raises Conflict where one with this id is there, NotFound (no such
        target), InvalidInput.
        """
        name = (
            ""
            if target is None
            else self._app.target(target if isinstance(target, str) else target.name).name
        )
        event = ConversationStarted(
            target=name,
            title=checked_title(self._shown(title)),
            metadata=None if metadata is None else checked_metadata(admit(metadata, self._app.redact)),
        )
        log = await self._app.log()
        owner = None if user is None else await log.ref("user", user)
        return await self._begin(log, conversation, event.model_copy(update={"owner": owner}))

    async def title(self, conversation: str, title: str | None, *, by: str | None = None) -> None:
        """Give it another title, or none. Raises NotFound, InvalidInput."""
        event = ConversationTitled(title=checked_title(self._shown(title)), by=self._shown(by))
        log = await self._app.log()
        await append_fact(log, conversation, lambda state: None if state.title == event.title else event)

    async def set_metadata(
        self, conversation: str, metadata: Mapping[str, object], *, by: str | None = None
    ) -> None:
        """Give it other metadata, in place of what it has. Raises NotFound, InvalidInput (too large)."""
        shown = checked_metadata(admit(metadata, self._app.redact))
        event = ConversationDescribed(metadata=shown, by=self._shown(by))
        log = await self._app.log()
        await append_fact(log, conversation, lambda state: None if state.metadata == shown else event)

    async def attach(
        self,
        conversation: str,
        name: str,
        content: Source | str | Blob | None = None,
        *,
        media_type: str | None = None,
        vector_db_id: str | None = None,
        link: str | None = None,
        by: str | None = None,
    ) -> Resource:
        """Attach a file (bytes, an open file, a stream of bytes, a blob), a document (text), a vector database or a link.

        Something else of this name takes its place. A file is durable when this returns. Raises NotFound, Conflict (too
        many), InvalidInput (no such name can be, not exactly one of them), and what ``Blobs.write`` raises.
        """
        if sum(given is not None for given in (content, vector_db_id, link)) != 1:
            raise UsageError("Attach a content, a vector_db_id or a link: exactly one of them.")
        checked_name(name)
        checked_short("media type", media_type, MEDIA_TYPE_CHARACTERS_MAX)
        log = await self._app.log()
        await find(log, conversation)  # Before anything is kept for one that there is not.
        event = ConversationResourceAttached(
            name=name,
            media_type=media_type,
            by=self._shown(by),
            **await self._content(log, content, vector_db_id, link),
        )

        def decide(state: ConversationState) -> Event:
            if name not in state.resources and len(state.resources) >= RESOURCES_MAX:
                raise Conflict(
                    f"{conversation} has {RESOURCES_MAX} things attached to it already, which is the most: detach one first."
                )
            return event

        await append_fact(log, conversation, decide)
        return _resource(event)

    async def detach(self, conversation: str, name: str, *, by: str | None = None) -> None:
        """Have something not be attached any more; a file's bytes go with the conversation. Raises NotFound."""
        log = await self._app.log()
        event = ConversationResourceDetached(name=name, by=self._shown(by))

        def decide(state: ConversationState) -> Event:
            _attached(state, conversation, name)
            return event

        await append_fact(log, conversation, decide)

    # Another way on

    async def fork(
        self,
        source: str,
        upto: int | None = None,
        *,
        conversation: str | None = None,
        title: str | None = None,
        by: str | None = None,
    ) -> str:
        """A new conversation that begins with the first ``upto`` messages of another, or all; returns its ref.

        They are read where they are, and nothing is copied: when the source is deleted, the fork loses them. It has the
        source's user and target, and ``conversation`` as your own id for it. Raises NotFound, Conflict, InvalidInput.
        """
        log = await self._app.log()
        ref, state = await find(log, source)
        chat = await self._app.chats.read(log, ref)
        forked = fork_of(ref, chat.turns(), position=chat.position, upto=upto, by=self._shown(by))
        started = ConversationStarted(
            target=state.target, owner=state.owner, title=checked_title(self._shown(title))
        )
        return await self._begin(log, conversation, started, forked)

    @overload
    async def edit(
        self,
        conversation: str,
        at: int,
        content: object,
        *,
        by: str | None = None,
        queued: Literal[False] = False,
    ) -> R_co: ...
    @overload
    async def edit(
        self, conversation: str, at: int, content: object, *, by: str | None = None, queued: Literal[True]
    ) -> Queued: ...
    async def edit(
        self, conversation: str, at: int, content: object, *, by: str | None = None, queued: bool = False
    ) -> R_co | Queued:
        """Have something else been said by the user as message ``at``, counted as in ``history``: a new run goes on from there.

        Everything from that message on is superseded, and runs that are still at it are cancelled. The run is executed here,
        or ``queued`` for a worker. Raises NotFound, InvalidInput (it is not the user's, the content does not fit).
        """
        return await self._rewind(conversation, at, admit(content, self._app.redact), by=by, queued=queued)

    @overload
    async def retry(
        self,
        conversation: str,
        at: int | None = None,
        *,
        by: str | None = None,
        queued: Literal[False] = False,
    ) -> R_co: ...
    @overload
    async def retry(
        self, conversation: str, at: int | None = None, *, by: str | None = None, queued: Literal[True]
    ) -> Queued: ...
    async def retry(
        self, conversation: str, at: int | None = None, *, by: str | None = None, queued: bool = False
    ) -> R_co | Queued:
        """Ask again what message ``at`` belongs to, or what was asked last: the answer to come takes the place of that one.

        Everything from there on is superseded. See ``edit``.
        """
        return await self._rewind(conversation, at, None, by=by, queued=queued)

    async def _rewind(
        self, conversation: str, at: int | None, content: JsonValue, *, by: str | None, queued: bool
    ) -> R_co | Queued:
        log = await self._app.log()
        ref, _ = await find(log, conversation)
        chat = await self._app.chats.read(log, ref)
        turns = chat.turns()
        if at is None:
            at = sum(len(turn.messages) for turn in turns[:-1])
        place = place_of(turns, at)
        old = await requested_at(log, place.turn)
        given = old.input if content is None else edited(old.input, place, at, content)
        target = await self._app.pinned(old)
        requested = asked_again(old, target.check_input(given), ref, place.turn)
        run = await rewind(
            log, ref, chat, place, requested=requested, at=at, by=self._shown(by), queued=queued
        )
        return Queued(run, True, log) if queued else await self._app.go_on(run)

    # The end

    async def delete(
        self, conversation: str, *, by: str | None = None, reason: str | None = None, force: bool = False
    ) -> Deleted:
        """Forget a conversation with everything in it: payloads of its runs and of all they had others do, memory in its
        scope, journeys, and files that no other conversation has.

        Runs that wait or are queued are cancelled. Of the events hashes remain, so proofs stay good, and who deleted it,
        when and why, so give no reason that is to be forgotten. Memory of its user stays. Forks of it lose what they had from
        it. What was broken off is gone on with when it is deleted again. Raises NotFound, Conflict (a run is being executed:
        with ``force`` it is taken away from whoever executes it).
        """
        log = await self._app.log()
        deleted = await delete_conversation(
            log,
            conversation,
            by=self._shown(by),
            reason=self._shown(reason),
            force=force,
            shared=self._is_attached_elsewhere,
        )
        self._app.chats.forget(deleted.conversation)
        return deleted._replace(behind=await self._views_forget(log))

    async def _views_forget(self, log: Log) -> tuple[str, ...]:
        """Bring every view that has been built past the deletion, so that none keeps what was said; those that are not."""
        views = await self._app.views()
        head = await log.position()
        behind: list[str] = []
        for name in {one.name: one for one in await views.status() if one.known}:
            try:
                await views.wait_for(head, name, timeout_seconds=FORGET_SECONDS)
            except Unavailable:
                behind.append(name)
        return tuple(behind)

    async def _is_attached_elsewhere(self, digest: str, conversation: str) -> bool:
        views = await self._app.views()
        more = None
        while True:
            page = await views.list(HEADERS, since={"files": 1}, limit=LIST_MAX, more=more)
            for document in page.documents:
                if document.key != conversation and any(
                    one.sha256 == digest for one in document.value.resources
                ):
                    return True
            more = page.more
            if more is None:
                return False

    # ------------------------------------------------------------------------------------------

    async def _begin(self, log: Log, name: str | None, *events: Event) -> str:
        ref = new_ref("conversation") if name is None else str(await log.ref("conversation", name))
        owner = getattr(events[0], "owner", None)
        drafts = [fact_draft(ref, event, owner=owner) for event in events]
        try:
            await log.append(Append(drafts, {ref: NEW}))
        except WrongVersion as error:
            raise Conflict(f"There is a conversation {name!r} already: take another id.") from error
        return ref

    async def _content(
        self, log: Log, content: Source | str | Blob | None, vector_db_id: str | None, link: str | None
    ) -> dict[str, Any]:
        """What the event says of a content. A file is kept by then."""
        if content is None:
            kind = "link" if vector_db_id is None else "vector_db"
            reference = checked_short(kind, vector_db_id or link, REFERENCE_CHARACTERS_MAX)
            return {"kind": kind, "reference": self._shown(reference)}
        if isinstance(content, str):
            text = str(self._shown(content))
            encoded = text.encode()
            if len(encoded) > TEXT_BYTES_MAX:
                raise InvalidInput(
                    f"A document may have {TEXT_BYTES_MAX:,} bytes, and this has {len(encoded):,}: attach its bytes as a file."
                )
            return {"kind": "document", "text": text, "size": len(encoded), "sha256": None}

        async def opened() -> Log:
            return log

        blob = content if isinstance(content, Blob) else await Blobs(opened).write(content)
        if await log.blob_length(blob.sha256) is None:
            raise NotFound(f"The log holds no blob {blob.sha256}, so it cannot be attached.")
        return {"kind": "file", "sha256": blob.sha256, "size": blob.length}

    def _shown(self, text: str | None) -> str | None:
        return None if text is None else str(admit(text, self._app.redact))


async def _header(log: Log, document: Document[Any]) -> Conversation:
    header = document.value
    return Conversation(
        id=document.key,
        name=await log.external(document.key),
        owner=header.owner,
        target=header.target,
        title=header.title,
        metadata=header.metadata,
        resources=tuple(
            Resource(one.name, one.kind, one.media_type, one.size, one.sha256, one.reference)
            for one in header.resources
        ),
        started_at=header.started_at,
        active_at=header.active_at,
        runs=header.runs,
        ended=header.ended,
        last_run=header.last_run,
        source=header.source,
        source_messages=header.source_messages,
        source_deleted=header.source is not None and await is_deleted(log, header.source),
    )


def _resource(event: ConversationResourceAttached) -> Resource:
    return Resource(event.name, event.kind, event.media_type, event.size, event.sha256, event.reference)


def _attached(state: ConversationState, conversation: str, name: str) -> ConversationResourceAttached:
    attached = state.resources.get(name)
    if attached is None:
        known = ", ".join(sorted(state.resources)) or "nothing"
        raise NotFound(f"Nothing is attached to {conversation} as {name!r:.80}. What is: {known}.")
    return attached
