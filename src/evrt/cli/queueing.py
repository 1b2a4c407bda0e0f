"""The queue as tables and JSON: ``evrt queue`` and ``evrt queue workers``."""

from __future__ import annotations

from collections import Counter

from evrt.cli.lanes import first_of
from evrt.cli.listing import when
from evrt.cli.output import Cell, aligned, note, out, out_json, out_table, paint
from evrt.cli.place import Place
from evrt.cli.text import duration, rfc3339, rfc3339_or_none
from evrt.log import Log
from evrt.log.coordination import Coordination, Entry, Lease, State

STATES: tuple[State, ...] = ("ready", "delayed", "behind", "claimed", "waiting", "paused")
STYLES: dict[State, str] = {
    "ready": "green",
    "delayed": "dim",
    "behind": "dim",
    "claimed": "cyan",
    "waiting": "yellow",
    "paused": "magenta",
}
PAGE = 1_000


async def list_entries(
    place: Place, state: State | None, target: str | None, *, limit: int, as_json: bool
) -> None:
    """Print how many entries there are in each state, and the first of them."""
    async with place.reading() as log:
        queue = log.coordination
        counts = {key: count for key, count in (await queue.counts()).items() if target in (None, key[0])}
        entries = await queue.entries(state=state, target=target, limit=limit + 1)
        more, entries = len(entries) > limit, entries[:limit]
        asked = [await _asked_at(log, entry) for entry in entries]
        first = await first_of(queue, entries)
    if as_json:
        document = {
            "counts": {name: sum(n for (_, at), n in counts.items() if at == name) for name in STATES},
            "targets": _by_target(counts),
            "entries": [_document(entry, time, first) for entry, time in zip(entries, asked, strict=True)],
        }
        out_json(document)
    else:
        _out_counts(counts)
        if entries:
            headings = ("RUN", "STATE", "PRIORITY", "ASKED FOR", "DUE", "WORKER OR BEHIND", "TARGET")
            rows = [_row(entry, time, first) for entry, time in zip(entries, asked, strict=True)]
            out_table(headings, rows)
    if more:
        note(f"There are more than these {limit}; --limit shows more at once.")


async def _asked_at(log: Log, entry: Entry) -> int | None:
    rows = await log.read_stream(entry.run, limit=1)
    return rows[0].time if rows else None


def _by_target(counts: dict[tuple[str, State], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (target, state), count in sorted(counts.items()):
        found.setdefault(target, {})[state] = count
    return found


def _out_counts(counts: dict[tuple[str, State], int]) -> None:
    total: Counter[State] = Counter()
    for (_, state), count in counts.items():
        total[state] += count
    each = [paint(f"{total[state]} {state}", STYLES[state]) for state in STATES if total[state]]
    out(", ".join(each) if each else "The queue is empty.")


def _document(entry: Entry, asked: int | None, first: dict[str, str]) -> dict[str, object]:
    times = {"due": rfc3339_or_none(entry.due), "asked_at": rfc3339_or_none(asked)}
    return {**entry._asdict(), **times, "behind": first.get(entry.run)}


def _row(entry: Entry, asked: int | None, first: dict[str, str]) -> list[Cell]:
    return [
        Cell(entry.run, "bold"),
        Cell(entry.state, STYLES[entry.state]),
        Cell(str(entry.priority)),
        Cell(when(asked), "dim"),
        Cell("" if entry.due is None else rfc3339(entry.due)),
        Cell(entry.worker or first.get(entry.run, "")),
        Cell(entry.target),
    ]


# ---------------------------------------------------------------------------------------- workers


async def list_workers(place: Place, *, as_json: bool) -> None:
    """Print the leases, and what each worker has claimed."""
    async with place.reading() as log:
        known = await log.coordination.leases()
        # Who is gone and has nothing is forgotten when another worker next gives a word.
        leases = [lease for lease in known if lease.left_seconds > 0 or lease.claimed]
        claimed = await claimed_by(log.coordination)
        url = log.url
    if as_json:
        out_json([_lease_document(lease, claimed.get(lease.worker, [])) for lease in leases])
    elif leases:
        lasts = [_lasts(lease) for lease in leases]
        figures = aligned([str(lease.claimed) for lease in leases])
        rows = [
            [
                Cell(lease.worker, "bold"),
                Cell(last, "" if lease.left_seconds > 0 else "red"),
                Cell(figure),
                Cell(", ".join(f"{entry.run} ({entry.target})" for entry in claimed.get(lease.worker, []))),
            ]
            for lease, last, figure in zip(leases, lasts, figures, strict=True)
        ]
        out_table(("WORKER", "LEASE", "CLAIMED", "RUNS"), rows)
    else:
        note(f"No worker is at {url}: `evrt worker` starts one.")


async def claimed_by(queue: Coordination) -> dict[str, list[Entry]]:
    """Claimed entries by worker."""
    found: dict[str, list[Entry]] = {}
    after = 0
    while page := await queue.entries(state="claimed", after=after, limit=PAGE):
        for entry in page:
            found.setdefault(entry.worker or "", []).append(entry)
        after = page[-1].place
        if len(page) < PAGE:
            break
    return found


def _lasts(lease: Lease) -> str:
    if lease.left_seconds > 0:
        return f"{duration(lease.left_seconds)} left"
    return "has run out"


def _lease_document(lease: Lease, claimed: list[Entry]) -> dict[str, object]:
    return {
        "worker": lease.worker,
        "alive": lease.left_seconds > 0,
        "left_seconds": round(lease.left_seconds, 3),
        "claimed": lease.claimed,
        "runs": [{"run": entry.run, "target": entry.target} for entry in claimed],
    }
