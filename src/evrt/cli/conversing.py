"""Conversations as a person reads them: the list, and one with its messages."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from evrt.cli.listing import when
from evrt.cli.output import Cell, note, out, out_json, out_table, paint
from evrt.cli.place import Place
from evrt.cli.showing import MESSAGES_MAX, message_lines, out_fields, out_section, ref_text, time_text
from evrt.cli.text import counted, cut, listed, rfc3339_or_none, short, words
from evrt.cli.viewing import Seen, viewing
from evrt.conversations.reading import MESSAGES, read_messages
from evrt.errors import NotFound
from evrt.events import JsonObject
from evrt.history import resolve_ref
from evrt.inbox import refuse_deleted
from evrt.projection import Document

HEADERS = "conversations"
NAME_CHARACTERS_MAX = 40
"""Of an id of the user's own, in a table."""


async def list_conversations(place: Place, *, user: str | None, limit: int, as_json: bool) -> None:
    """Print the conversations, the newest first, at most ``limit`` of them."""
    async with viewing(place, HEADERS) as seen:
        where: dict[str, object] = {"deleted": False}
        if user is not None:
            where["owner"] = await resolve_ref(seen.log, "user", user)
        documents, more = await seen.listed(HEADERS, limit=limit, where=where)
        names = await _names(seen, documents)
        url = seen.log.url
    if as_json:
        out_json([_document(document, names) for document in documents])
    elif documents:
        headings = ("CONVERSATION", "ID", "USER", "WITH", "RUNS", "ACTIVE", "TITLE OR LAST SAID")
        out_table(headings, [_row(document, names) for document in documents])
    else:
        note(f"There are no conversations {'of this user ' if user else ''}in {url} yet.")
    if more:
        note(f"There are more than these {len(documents)}; --limit shows more at once.")


async def show_conversation(
    place: Place, name: str, *, include_failed_runs: bool, as_of: str | None, as_json: bool
) -> None:
    """Print a conversation's header and its messages, now or as of a moment."""
    async with viewing(place, HEADERS, MESSAGES, as_of=as_of is not None) as seen:
        ref = await resolve_ref(seen.log, "conversation", name)
        if as_of is None:
            await refuse_deleted(seen.log, ref)
        headers = await seen.family(HEADERS, ref, as_of)
        if not headers:
            then = "" if as_of is None else f" as of {as_of}"
            raise NotFound(
                f"There is no conversation {name} in {seen.log.url}{then}. `evrt conversations list` shows those that are."
            )
        messages = await read_messages(seen.views, ref, include_failed_runs=include_failed_runs, as_of=as_of)
        names = await _names(seen, headers)
    if as_json:
        out_json(_document(headers[0], names) | {"messages": messages})
        return
    _out_header(headers[0], names)
    shown = [message for message in messages[-MESSAGES_MAX:] if isinstance(message, dict)]
    out_section("messages", message_lines(shown), "nothing has been said")
    if len(messages) > MESSAGES_MAX:
        note(f"The last {MESSAGES_MAX} of {len(messages)} messages; --json has all.")


async def _names(seen: Seen, documents: Any) -> dict[str, str | None]:
    """The ids behind the refs of conversations and their owners."""
    refs = {ref for document in documents for ref in (document.key, document.value.owner) if ref}
    return await seen.names(refs)


def _document(document: Document[Any], names: dict[str, str | None]) -> JsonObject:
    header = cast(JsonObject, document.value.model_dump(mode="json"))
    return {
        "conversation": document.key,
        "conversation_name": names.get(document.key),
        "owner_name": names.get(document.value.owner or ""),
        **header,
        "started_at": rfc3339_or_none(document.value.started_at),
        "active_at": rfc3339_or_none(document.value.active_at),
    }


def _row(document: Document[Any], names: dict[str, str | None]) -> list[Cell]:
    header = document.value
    said = header.title or header.last_answer or header.last_asked or ""
    return [
        Cell(document.key, "bold"),
        Cell(cut(names.get(document.key) or "", NAME_CHARACTERS_MAX)),
        Cell(cut(names.get(header.owner or "") or header.owner or "", NAME_CHARACTERS_MAX)),
        Cell(header.target or "(erased)"),
        Cell(str(header.runs)),
        Cell(when(header.active_at), "dim"),
        Cell(words(said)),
    ]


def _out_header(document: Document[Any], names: dict[str, str | None]) -> None:
    header = document.value
    out(paint(ref_text(document.key, names) or document.key, "bold"))
    ended = Counter(header.ended)
    each = listed([f"{count} {status.replace('_', ' ')}" for status, count in sorted(ended.items())])
    attached = listed([f"{one.name} ({one.kind})" for one in header.resources])
    source = header.source and f"{header.source}, its first {counted(header.source_messages or 0, 'message')}"
    out_fields(
        [
            ("title", header.title and words(header.title)),
            ("fork of", source),
            ("user", ref_text(header.owner, names)),
            ("with", header.target or "(erased)"),
            ("started", time_text(header.started_at)),
            ("active", time_text(header.active_at)),
            ("runs", f"{counted(header.runs, 'run')}{f', {each}' if each else ''}"),
            ("last run", header.last_run),
            ("attached", attached or None),
            ("metadata", short(header.metadata) if header.metadata else None),
        ]
    )
