"""Memory as a person reads it: a value, all of a scope, and every value that a key has had."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from evrt.cli.listing import when
from evrt.cli.output import Cell, note, out, out_json, out_table
from evrt.cli.place import Place
from evrt.cli.text import pretty, rfc3339, short
from evrt.cli.viewing import viewing
from evrt.errors import NotFound, UsageError
from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.memory import MemoryForgotten, MemorySet
from evrt.folds.clip import is_clipped
from evrt.history import resolve_ref
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.projection import Document

VIEW = "memory"
PAGE_EVENTS = 1_000


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memory is asked for: one of the two, an id of one's own or a ref."""

    user: str | None
    conversation: str | None

    async def stream(self, log: Log) -> str:
        """Name of the memory stream. Raises UsageError, NotFound."""
        if (self.user is None) == (self.conversation is None):
            raise UsageError("Whose memory? Name one: --user ID or --conversation ID.")
        kind = "user" if self.user is not None else "conversation"
        ref = await resolve_ref(log, kind, self.user or self.conversation or "")
        return f"memory-{ref}"

    def __str__(self) -> str:
        return f"user {self.user}" if self.user is not None else f"conversation {self.conversation}"


async def get_value(place: Place, scope: Scope, key: str, *, as_of: str | None, as_json: bool) -> None:
    """Print the value of a key, now or as of a moment."""
    async with viewing(place, VIEW, as_of=as_of is not None) as seen:
        stream = await scope.stream(seen.log)
        documents = await seen.family(VIEW, stream, as_of)
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


async def list_keys(place: Place, scope: Scope, *, as_of: str | None, as_json: bool) -> None:
    """Print the keys of a scope and their values, now or as of a moment."""
    async with viewing(place, VIEW, as_of=as_of is not None) as seen:
        stream = await scope.stream(seen.log)
        documents = await seen.family(VIEW, stream, as_of)
        values = [
            await _whole(seen.log, document) if as_json else document.value.value for document in documents
        ]
    if as_json:
        out_json([_document(*one) for one in zip(documents, values, strict=True)])
    elif documents:
        rows = [
            [
                Cell(document.part, "cyan"),
                Cell(when(document.value.set_at), "dim"),
                Cell(document.value.run or "", "dim"),
                Cell(short(value)),
            ]
            for document, value in zip(documents, values, strict=True)
        ]
        out_table(("KEY", "SET", "RUN", "VALUE"), rows)
    else:
        note(f"Nothing is remembered of {scope}{'' if as_of is None else f' as of {as_of}'}.")


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
        "position": document.position,
    }


def _change(envelope: Envelope, actors: Mapping[str, str | None]) -> JsonObject:
    event = envelope.event
    return {
        "action": "forgotten" if isinstance(event, MemoryForgotten) else "set",
        "value": event.value if isinstance(event, MemorySet) else None,
        "source": getattr(event, "source", None),
        "time": rfc3339(envelope.time),
        "version": envelope.version,
        "position": envelope.position,
        "run": _run(envelope),
        "actor": actors.get(_run(envelope) or ""),
    }


def _line(envelope: Envelope, actors: Mapping[str, str | None]) -> list[Cell]:
    event = envelope.event
    text = short(event.value) if isinstance(event, MemorySet) else "(forgotten)"
    return [
        Cell(when(envelope.time), "dim"),
        Cell(str(envelope.position), "dim"),
        Cell(actors.get(_run(envelope) or "") or ""),
        Cell(_run(envelope) or "", "dim"),
        Cell(text),
    ]
