"""Where a run stands in the lane of its conversation: what it is behind, and whether it could go on but for that."""

from __future__ import annotations

from collections.abc import Collection

from evrt.log import Log
from evrt.log.coordination import Coordination, Entry

PAGE = 1_000


async def first_of(queue: Coordination, entries: Collection[Entry]) -> dict[str, str]:
    """For each of these entries that is behind: the run whose turn it is in its lane."""
    behind = [entry for entry in entries if entry.state == "behind" and entry.lane is not None]
    lanes = {entry.lane for entry in behind}
    first: dict[str | None, str] = {}
    after = 0
    while len(first) < len(lanes) and (page := await queue.entries(after=after, limit=PAGE)):
        for entry in page:
            if entry.lane in lanes:
                first.setdefault(entry.lane, entry.run)
        after = page[-1].place
    return {entry.run: first[entry.lane] for entry in behind if first.get(entry.lane, entry.run) != entry.run}


async def behind_text(log: Log, run: str) -> str | None:
    """``behind run-… of its conversation``; None where a run is behind nothing."""
    entry = await log.coordination.entry(run)
    if entry is None:
        return None
    before = (await first_of(log.coordination, [entry])).get(run)
    return None if before is None else f"behind {before} of its conversation"
