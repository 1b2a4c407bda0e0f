"""Memory as a person reads it: a value, all of a scope, and every value that a key has had."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from evrt.cli.listing import when
from evrt.cli.output import Cell, note, out, out_json, out_table
from evrt.cli.place import Place
from evrt.cli.text import cut, pretty, rfc3339, rfc3339_or_none, short
from evrt.cli.viewing import Seen, now, viewing
from evrt.errors import NotFound, UsageError
from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.memory import MemoryForgotten, MemorySet
from evrt.folds.clip import is_clipped
from evrt.folds.documents import meta_text
from evrt.folds.memory import PREFIX, begins_with, own_memory, scope_of, shared_memory
from evrt.history import resolve_ref
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.projection import Document
from evrt.projector.moments import position_of

VIEW = "memory"
PAGE_EVENTS = 1_000
NAME_CHARACTERS_MAX = 40
"""Of an id of the user's own, in a table."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memory is asked for, by ids of one's own or refs: a user's, a conversation's, or a user's in a system."""

    user: str | None
    conversation: str | None
    system: str | None = None

    @property
    def named(self) -> bool:
        """Whether any is."""
        return (self.user, self.conversation, self.system) != (None, None, None)

    def check(self) -> None:
        """Raises UsageError where it is not clear whose memory is meant."""
        if (self.user is None) == (self.conversation is None) or (self.system and self.user is None):
            raise UsageError(
                "Whose memory? Name one: --user ID or --conversation ID, or --user ID with --system ID."
            )

    async def stream(self, log: Log) -> str:
        """Name of the memory stream. Raises UsageError, NotFound."""
        self.check()
        if self.user is None:
            return own_memory(await resolve_ref(log, "conversation", self.conversation or ""))
        user = await resolve_ref(log, "user", self.user)
        if self.system is None:
            return own_memory(user)
        return shared_memory(await resolve_ref(log, "system", self.system), user)

    def __str__(self) -> str:
        if self.user is None:
            return f"conversation {self.conversation}"
        return f"user {self.user}" if self.system is None else f"user {self.user} in system {self.system}"


async def get_value(place: Place, scope: Scope, key: str, *, as_of: str | None, as_json: bool) -> None:
    """Print the value of a key, now or as of a moment."""
    async with viewing(place, VIEW, as_of=as_of is not None) as seen:
        documents = await _held(seen, scope, as_of)
        found = [document for document in documents if document.part == key]
        if not found:
            then = " now" if as_of is None else f" as of {as_of}"
            known = ", ".join(document.part for document in documents) or "none"
            raise NotFound(f"There is no {key!r} in the memory of {scope}{then}. Its keys: {known}.")
        value = await _whole(seen.log, found[0])
    if as_json:
        out_json(_document(found[0], value))
    else:
        out(pretty(value))


async def list_keys(
    place: Place, scope: Scope, prefix: str, *, as_of: str | None, limit: int, as_json: bool
) -> None:
    """Print the keys of a scope and their values, now or as of a moment."""
    async with viewing(place, VIEW, as_of=as_of is not None) as seen:
        held = [one for one in await _held(seen, scope, as_of) if begins_with(one.part, prefix)]
        documents = held[:limit]
        values = await _values(seen, documents, whole=as_json)
    if as_json:
        out_json([_document(*one) for one in zip(documents, values, strict=True)])
    elif documents:
        out_table(("KEY", "SET", "UNTIL", "RUN", "VALUE"), _rows(documents, values))
    else:
        note(f"Nothing is remembered of {scope}{'' if as_of is None else f' as of {as_of}'}.")
    _note_more(len(held) > limit, limit)


async def list_all(place: Place, prefix: str, *, as_of: str | None, limit: int, as_json: bool) -> None:
    """Print the keys of every memory of the log and their values, those set last first."""
    if as_of is not None:
        raise UsageError(
            "Whose memory? What was remembered as of a moment can be listed of one memory: name --user or --conversation."
        )
    async with viewing(place, VIEW) as seen:
        held, more = await seen.listed(VIEW)
        moment = now()
        living = [one for one in held if _lives(one, moment) and begins_with(one.part, prefix)]
        documents = living[:limit]
        values = await _values(seen, documents, whole=as_json)
        names = await seen.names({_owner(document) for document in documents})
    if as_json:
        owned = [
            {
                "scope": scope_of(document.key),
                "owner": _owner(document),
                "owner_id": names[_owner(document)],
                **_document(document, value),
            }
            for document, value in zip(documents, values, strict=True)
        ]
        out_json(owned)
    elif documents:
        rows = [
            [Cell(scope_of(document.key)), Cell(cut(names[ref] or ref, NAME_CHARACTERS_MAX)), *row]
            for document, row in zip(documents, _rows(documents, values), strict=True)
            if (ref := _owner(document))
        ]
        out_table(("SCOPE", "OF", "KEY", "SET", "UNTIL", "RUN", "VALUE"), rows)
    else:
        note(f"Nothing is remembered in {seen.log.url}.")
    _note_more(more or len(living) > limit, limit)


async def _held(seen: Seen, scope: Scope, as_of: str | None) -> list[Document[Any]]:
    """What a memory held at a moment, without what had expired by then."""
    documents = await seen.family(VIEW, await scope.stream(seen.log), as_of)
    moment = now()
    if as_of is not None and any(document.value.expires_at is not None for document in documents):
        position = await position_of(seen.log, as_of, now=moment)
        [row] = await seen.log.read(after=position - 1, upto=position)
        moment = row.time
    return [document for document in documents if _lives(document, moment)]


def _lives(document: Document[Any], moment: int) -> bool:
    expires_at: int | None = document.value.expires_at
    return expires_at is None or moment < expires_at


def _owner(document: Document[Any]) -> str:
    """The ref of whose memory it is: a user's, or a conversation's."""
    if scope_of(document.key) == "system":
        return document.value.on_behalf_of or document.key
    return document.key.removeprefix(PREFIX)


async def _values(seen: Seen, documents: Sequence[Document[Any]], *, whole: bool) -> list[JsonValue]:
    return [await _whole(seen.log, one) if whole else one.value.value for one in documents]


def _rows(documents: Sequence[Document[Any]], values: Sequence[JsonValue]) -> list[list[Cell]]:
    return [
        [
            Cell(document.part, "cyan"),
            Cell(when(document.value.set_at), "dim"),
            Cell("" if document.value.expires_at is None else when(document.value.expires_at), "dim"),
            Cell(document.value.run or (document.value.by and f"by {document.value.by}") or "", "dim"),
            Cell(short(value) + (" (untrusted)" if document.value.trust == "untrusted" else "")),
        ]
        for document, value in zip(documents, values, strict=True)
    ]


def _note_more(more: bool, limit: int) -> None:
    if more:
        note(f"There are more than these {limit}; --limit shows more at once.")


async def show_history(place: Place, scope: Scope, key: str, *, as_json: bool) -> None:
    """Print what happened to a key, the first first, read from its memory stream."""
    async with place.reading() as log:
        stream = await scope.stream(log)
        known: set[str] = set()
        events: list[Envelope] = []
        async for envelope in _events(log, stream):
            changed = envelope.event.__dict__.get("key")
            if changed is not None:
                known.add(changed)
            if changed == key:
                events.append(envelope)
        actors = {run: await _actor(log, run) for run in {_run(envelope) for envelope in events} if run}
    if not events:
        raise NotFound(
            f"There has never been {key!r} in the memory of {scope}. What there has been: "
            f"{', '.join(sorted(known)) or 'nothing'}."
        )
    if as_json:
        out_json([_change(envelope, actors) for envelope in events])
        return
    lines = [_line(envelope, actors) for envelope in events]
    out_table(("WHEN", "POSITION", "BY", "RUN", "VALUE"), lines)


def _run(envelope: Envelope) -> str | None:
    run = envelope.meta.get("run")
    return run if isinstance(run, str) else None


async def _actor(log: Log, run: str) -> str | None:
    """The agent or workflow that a run is of, such as ``agent:helper``, as its first event says."""
    rows = await log.read_stream(run, limit=1)
    actor = Row(rows[0]).meta.get("actor") if rows else None
    return actor if isinstance(actor, str) else None


async def _events(log: Log, stream: str) -> AsyncIterator[Envelope]:
    """What was set and forgotten, in order; what has been erased does not say of which key it was."""
    after = -1
    while rows := await log.read_stream(stream, after=after, limit=PAGE_EVENTS):
        after = rows[-1].version
        for row in rows:
            yield Row(row).envelope


async def _whole(log: Log, document: Document[Any]) -> JsonValue:
    """The value, read from the log where the view has only a beginning of it."""
    value = cast(JsonValue, document.value.value)
    if not is_clipped(value):
        return value
    [row] = await log.read(after=document.position - 1, upto=document.position)
    event = Row(row).envelope.event
    return event.value if isinstance(event, MemorySet) else value


def _document(document: Document[Any], value: JsonValue) -> JsonObject:
    remembered = cast(JsonObject, document.value.model_dump(mode="json"))
    return {
        "key": document.part,
        **remembered,
        "value": value,
        "set_at": rfc3339(document.value.set_at),
        "expires_at": rfc3339_or_none(document.value.expires_at),
        "position": document.position,
    }


def _change(envelope: Envelope, actors: Mapping[str, str | None]) -> JsonObject:
    event = envelope.event
    return {
        "action": "forgotten" if isinstance(event, MemoryForgotten) else "set",
        "value": event.value if isinstance(event, MemorySet) else None,
        "source": getattr(event, "source", None),
        "by": getattr(event, "by", None),
        "time": rfc3339(envelope.time),
        "version": envelope.version,
        "position": envelope.position,
        "run": _run(envelope),
        "actor": actors.get(_run(envelope) or "") or meta_text(envelope.meta, "actor"),
    }


def _line(envelope: Envelope, actors: Mapping[str, str | None]) -> list[Cell]:
    event = envelope.event
    text = short(event.value) if isinstance(event, MemorySet) else "(forgotten)"
    return [
        Cell(when(envelope.time), "dim"),
        Cell(str(envelope.position), "dim"),
        Cell(getattr(event, "by", None) or actors.get(_run(envelope) or "") or ""),
        Cell(_run(envelope) or "", "dim"),
        Cell(text),
    ]
