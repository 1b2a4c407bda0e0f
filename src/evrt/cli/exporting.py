"""Turns as JSON lines, to the terminal or to a folder."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from evrt.cli.output import note, out
from evrt.cli.place import Place
from evrt.cli.text import counted
from evrt.cli.viewing import EPOCH, period, viewing
from evrt.folds.turns import TurnRecord
from evrt.turn_log import TURNS, read_turns, to_line, write_turn_files


async def export_turns(
    place: Place, conversation: str | None, folder: Path | None, *, since: str | None, until: str | None
) -> None:
    """Print the turns, or write them to a folder, a file for each conversation."""
    asked = period(since, until)
    kept: list[TurnRecord] = []
    count = 0
    async with viewing(place, TURNS) as seen, aclosing(read_turns(seen.views, conversation)) as records:
        async for record in records:
            if not asked.holds((record.timestamp - EPOCH) // EPOCH.resolution):
                continue
            count += 1
            if folder is None:
                out(to_line(record))
            else:
                kept.append(record)
        url = seen.log.url
    if folder is not None:
        for path in write_turn_files(kept, folder):
            out(str(path))
    if not count:
        note(f"There is no turn that has ended in {url}{' in that time' if since or until else ' yet'}.")
    elif folder is not None:
        note(f"{counted(count, 'turn')} written.")
