"""The audit trail: who did what, when and for whom, of one run or of all; of the view ``audit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from evrt.cli.listing import when
from evrt.cli.output import Cell, note, out_json, out_table
from evrt.cli.place import Place
from evrt.cli.text import rfc3339, short
from evrt.cli.viewing import viewing
from evrt.events import JsonObject, JsonValue
from evrt.history import resolve_ref, resolve_run
from evrt.projection import Document

VIEW = "audit"


class Asked(NamedTuple):
    """Which facts are asked for; what is None may be anything. The user is an id of one's own, or a ref."""

    run: str | None = None
    what: str | None = None
    who: str | None = None
    user: str | None = None


async def show_trail(place: Place, asked: Asked, *, limit: int, as_json: bool) -> None:
    """Print the last ``limit`` facts, in the order in which they came to be."""
    async with viewing(place, VIEW) as seen:
        where: dict[str, object] = {"what": asked.what, "who": asked.who}
        if asked.run is not None:
            where["run"] = await resolve_run(seen.log, asked.run)
        if asked.user is not None:
            where["on_behalf_of"] = await resolve_ref(seen.log, "user", asked.user)
        documents, more = await seen.listed(
            VIEW, limit=limit, where={field: value for field, value in where.items() if value is not None}
        )
        refs = {fact.value.on_behalf_of for fact in documents if fact.value.on_behalf_of}
        names = await seen.names(refs)
        url = seen.log.url
    facts = list(reversed(documents))
    if as_json:
        out_json([_document(fact, names) for fact in facts])
    elif facts:
        # Where one run is asked for, its name in every line would only take the room of what it did.
        run = () if asked.run is not None else ("RUN",)
        headings = ("POSITION", "WHEN", "WHAT", "WHO", "FOR", *run, "DETAILS")
        out_table(headings, [_row(fact, names, with_run=bool(run)) for fact in facts])
    else:
        note(f"There is nothing like that in {url}.")
    if more:
        note(f"These are the last {len(facts)} facts, and there are more; --limit shows more at once.")


def _document(fact: Document[Any], names: Mapping[str, str | None]) -> JsonObject:
    document = cast(JsonObject, fact.value.model_dump(mode="json"))
    followed = cast(list[JsonObject], document["followed"])
    return document | {
        "when": rfc3339(fact.value.when),
        "on_behalf_of_name": names.get(fact.value.on_behalf_of or ""),
        "stream": fact.key,
        "followed": [one | {"when": rfc3339(cast(int, one["when"]))} for one in followed],
    }


def _row(fact: Document[Any], names: Mapping[str, str | None], *, with_run: bool) -> list[Cell]:
    value = fact.value
    details: dict[str, JsonValue] = dict(value.details)
    told = ", ".join(f"{name}={short(detail)}" for name, detail in details.items())
    came = "".join(f" → {one.what.partition('.')[2]}" for one in value.followed)
    return [
        Cell(str(value.at), "dim"),
        Cell(when(value.when), "dim"),
        Cell(value.what),
        Cell(value.who or value.worker or ""),
        Cell(names.get(value.on_behalf_of or "") or value.on_behalf_of or ""),
        *([Cell(value.run or "", "dim")] if with_run else []),
        Cell(f"{told}{came}"),
    ]
