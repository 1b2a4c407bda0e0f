"""The turn log: a line for every turn that has ended, read from the view ``turns`` and written as JSON lines.

Files are named by the refs of conversations and never by your own ids, which may be any text, a path out of the folder
among them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from evrt.errors import Unavailable
from evrt.folds.turns import Turn, TurnRecord, turn_records
from evrt.history import resolve_ref
from evrt.projection import Document
from evrt.projector.views import LIST_LIMIT_MAX, Views

TURNS = "turns"
"""The projection that has a document per turn."""
ALONE = "runs-alone"
"""Name of the file with the turns that belong to no conversation."""


async def read_turns(views: Views, conversation: str | None = None) -> AsyncGenerator[TurnRecord, None]:
    """The turns that have ended, of one conversation or of all, in the order in which they were asked for.

    ``conversation`` is your own id, or its ref. Raises NotFound (no such conversation), and what ``Views.list`` raises.
    """
    where = (
        {}
        if conversation is None
        else {"conversation": await resolve_ref(views.log, "conversation", conversation)}
    )
    head = await views.log.position()
    names: dict[str, str | None] = {}
    counts: dict[str, int] = {}
    more: int | None = None
    while True:
        page = await views.list(
            TURNS, where=where, limit=LIST_LIMIT_MAX, more=more, oldest_first=True, min_position=head
        )
        await _learn_names(views, page.documents, names)
        for record in turn_records(page.documents, names, counts=counts):
            yield record
        more = page.more
        if more is None:
            return


async def _learn_names(
    views: Views, documents: Sequence[Document[Turn]], names: dict[str, str | None]
) -> None:
    for document in documents:
        ref = document.value.conversation
        if ref is not None and ref not in names:
            names[ref] = await views.log.external(ref)


def to_line(record: TurnRecord) -> str:
    """A record as one line of JSON."""
    return record.model_dump_json()


def write_turn_files(records: Iterable[TurnRecord], folder: Path) -> list[Path]:
    """Write a file of JSON lines for every conversation, and one for the runs alone; returns their paths.

    A file is replaced as a whole, so that a reader sees the old one or the new one. Raises Unavailable where the folder
    cannot be written to.
    """
    lines: dict[str, list[str]] = {}
    for record in records:
        lines.setdefault(record.conversation_ref or ALONE, []).append(to_line(record))
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, texts in lines.items():
            path = folder / f"{name}.jsonl"
            with NamedTemporaryFile("w", encoding="utf-8", dir=folder, delete=False) as file:
                file.write("".join(f"{text}\n" for text in texts))
            os.replace(file.name, path)
            written.append(path)
    except OSError as error:
        raise Unavailable(
            f"The turn log cannot be written to {folder}: {error.strerror or error}."
        ) from error
    return written
