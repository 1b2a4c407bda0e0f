"""Sums of what model calls took, over the documents of the view ``usage``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from evrt.cli.output import Cell, aligned, note, out_json, out_table
from evrt.cli.place import Place
from evrt.cli.text import counted
from evrt.cli.viewing import Period, Seen, day, period, viewing
from evrt.projection import Document

VIEW = "usage"
NONE = "(none)"
"""Stands for calls that belong to no user or no conversation."""


@dataclass(slots=True)
class Sum:
    """What some model calls took. ``tokens`` and ``cost`` are of all attempts; those that failed are counted again apart."""

    calls: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    calls_without_cost: int = 0
    """Calls whose cost is not known, so that it is not in the sum."""
    failed_attempts: int = 0
    failed_input_tokens: int = 0
    failed_output_tokens: int = 0
    failed_cost_usd: float = 0.0

    def add(self, call: Any) -> None:
        """Count a call, a document of the view. Of very many attempts, those that it does not list have failed."""
        came = [attempt for attempt in call.attempts if attempt.error_type is None]
        self.calls += 1
        self.attempts += call.attempts_count
        self.input_tokens += call.input_tokens
        self.output_tokens += call.output_tokens
        self.cost_usd += call.cost_usd or 0.0
        self.calls_without_cost += call.cost_usd is None
        self.failed_attempts += call.attempts_count - len(came)
        self.failed_input_tokens += call.input_tokens - sum(attempt.input_tokens for attempt in came)
        self.failed_output_tokens += call.output_tokens - sum(attempt.output_tokens for attempt in came)
        if call.attempts_count > len(came):
            self.failed_cost_usd += (call.cost_usd or 0.0) - sum(attempt.cost_usd or 0.0 for attempt in came)


async def show_usage(place: Place, by: str, *, since: str | None, until: str | None, as_json: bool) -> None:
    """Print a sum for each model, agent … or run, and what they come to together."""
    asked = period(since, until)
    sums: dict[str, Sum] = defaultdict(Sum)
    total = Sum()
    async with viewing(place, VIEW) as seen:
        for document in await _calls(seen, asked):
            call = document.value
            sums[_belongs_to(by, document)].add(call)
            total.add(call)
        names = await seen.names(sums if by in ("user", "conversation") else ())
        url = seen.log.url
    ordered = sorted(sums.items(), key=lambda one: one[0] if by == "day" else (-one[1].cost_usd, one[0]))
    if as_json:
        groups = [
            {by: None if key == NONE else key, "name": names.get(key), **asdict(one)} for key, one in ordered
        ]
        out_json({"by": by, "groups": groups, "total": asdict(total)})
        return
    if not ordered:
        note(f"There is no model call in {url}{' in that time' if since or until else ' yet'}.")
        return
    rows = [(names.get(key) or key, one) for key, one in ordered]
    _out_sums(by, rows + ([("together", total)] if len(rows) > 1 else []))
    if total.calls_without_cost:
        note(f"The cost of {counted(total.calls_without_cost, 'call')} is not known and not in the sums.")


async def _calls(seen: Seen, asked: Period) -> list[Document[Any]]:
    """The calls begun in a period. Days are what the view is sorted by; the rest is seen to here."""
    from_day = {} if asked.since is None else {"day": day(asked.since)}
    documents, _ = await seen.listed(VIEW, oldest_first=True, since=from_day)
    return [document for document in documents if asked.holds(document.value.began_at)]


def _belongs_to(by: str, document: Document[Any]) -> str:
    call = document.value
    match by:
        case "model":
            return call.model or "(erased)"
        case "agent":
            return (call.actor or NONE).partition(":")[2] or NONE
        case "user":
            return call.user or NONE
        case "conversation":
            return call.conversation or NONE
        case "day":
            return str(call.day)
        case _:
            return document.key


def _out_sums(by: str, rows: list[tuple[str, Sum]]) -> None:
    columns = {
        "CALLS": [f"{one.calls:,}" for _, one in rows],
        "IN": [f"{one.input_tokens:,}" for _, one in rows],
        "OUT": [f"{one.output_tokens:,}" for _, one in rows],
        "USD": [_cost(one.cost_usd, one.calls > one.calls_without_cost) for _, one in rows],
        "FAILED ATTEMPTS": [f"{one.failed_attempts:,}" for _, one in rows],
        "IN OF THEM": [f"{one.failed_input_tokens:,}" for _, one in rows],
        "OUT OF THEM": [f"{one.failed_output_tokens:,}" for _, one in rows],
        "USD OF THEM": [_cost(one.failed_cost_usd, one.failed_attempts > 0) for _, one in rows],
    }
    headings, cells = zip(
        *((head.rjust(max(map(len, texts))), texts) for head, texts in columns.items()), strict=True
    )
    padded = [aligned([heading, *texts])[1:] for heading, texts in zip(headings, cells, strict=True)]
    out_table(
        (by.upper(), *headings),
        [
            [Cell(name, "bold"), *(Cell(column[row]) for column in padded)]
            for row, (name, _) in enumerate(rows)
        ],
    )


def _cost(cost_usd: float, known: bool) -> str:
    return f"{cost_usd:.6f}" if known else "-"
