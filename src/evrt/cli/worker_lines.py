"""What there is to say of workers: what they do, how the queue stands, as lines on stderr or as JSON on stdout."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from evrt.cli.output import Cell
from evrt.cli.telling import Teller, tell_warnings
from evrt.cli.text import counted, duration, listed
from evrt.worker.queue import QueueFigures
from evrt.worker.worker import Worker

RATE_SECONDS = 5.0
"""How many runs end in a second is the mean of so many."""

LINE_SECONDS = 10.0
"""How often a line is written where there is no terminal, while anything happens."""


@dataclass(frozen=True, slots=True)
class Done:
    """What workers are at, and have done since they started."""

    running: int = 0
    claimed: int = 0
    ended: int = 0
    failed: int = 0
    parked: int = 0
    lost: int = 0
    troubled: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Done)))

    def at_rest(self) -> Done:
        """Of a process that has ended: it is at nothing any more."""
        return self + Done(running=-self.running)


def done_by(worker: Worker) -> Done:
    return Done(running=len(worker.running), **asdict(worker.figures))


def done_of(document: Mapping[str, object]) -> Done:
    """From what another process said; what it did not say is 0."""
    given = {field.name: document.get(field.name) for field in fields(Done)}
    return Done(**{name: value for name, value in given.items() if isinstance(value, int)})


class Voice:
    """Says what becomes of workers: in lines and a live one to people, in JSON lines to programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = Teller(sys.stdout) if as_json else None
        self._teller = Teller(sys.stderr, live=not as_json)
        self._seen: deque[tuple[float, int]] = deque()
        self._said: tuple[float, Done] | None = None
        tell_warnings(self._teller)

    @property
    def live(self) -> bool:
        """Whether there is a line that is written anew."""
        return self._teller.live

    def say(self, event: str, text: str, style: str = "", **more: Any) -> None:
        """Something that has happened."""
        if self._json is None:
            self._teller.line(text, style)
        else:
            self._json.line(json_line({"event": event, **more}))

    def tell(
        self, now: float, done: Done, queue: QueueFigures | None, processes: int, doing: str = ""
    ) -> None:
        """How things stand at this time: at once on a terminal, else where something has happened since, now and then."""
        self._seen.append((now, done.ended))
        while now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        if self.live:
            self._teller.show(self._live(done, queue, processes, doing))
            return
        last, before = self._said or (now, Done())
        self._said = self._said or (now, Done())
        if now - last >= LINE_SECONDS and done != before:
            self._said = (now, done)
            self.say("figures", plain_line(done, queue), **figures_document(done, queue, processes))

    def close(self) -> None:
        for teller in filter(None, (self._teller, self._json)):
            teller.close()

    def _live(self, done: Done, queue: QueueFigures | None, processes: int, doing: str) -> list[Cell]:
        cells = [Cell(doing, "yellow")] if doing else []
        cells.append(Cell(f"{done.running} running", "cyan" if done.running else ""))
        if queue is not None:
            cells += [Cell(f"{queue.queued} queued"), Cell(f"{queue.waiting} waiting")]
        cells += [
            Cell(f"{self._per_second():.1f} done/s"),
            Cell(f"{done.failed} failed", "red" if done.failed else ""),
        ]
        if queue is not None:
            cells.append(Cell(f"lag {duration(queue.lag_seconds) if queue.lag_seconds else '0 s'}"))
        cells.append(Cell(counted(processes, "process", "processes"), "dim"))
        between = Cell("  ")
        return [part for cell in cells for part in (between, cell)][1:]

    def _per_second(self) -> float:
        (first, ended_then), (last, ended_now) = self._seen[0], self._seen[-1]
        return (ended_now - ended_then) / (last - first) if last > first else 0.0


def json_line(document: Mapping[str, object]) -> str:
    return orjson.dumps(document).decode()


def plain_line(done: Done, queue: QueueFigures | None) -> str:
    """How things stand as a sentence."""
    parts = [
        f"{done.running} running",
        f"{done.ended} ended ({done.failed} failed)",
        f"{done.parked} parked",
    ]
    more = {"taken over by others": done.lost, "given back": done.troubled}
    parts += [f"{count} {what}" for what, count in more.items() if count]
    text = listed(parts)
    if queue is not None:
        text += f"; queue: {queue.queued} queued, {queue.waiting} waiting, lag {queue.lag_seconds:.1f} s"
    return f"{text}."


def figures_document(done: Done, queue: QueueFigures | None, processes: int) -> dict[str, Any]:
    return {"processes": processes, **asdict(done), "queue": None if queue is None else asdict(queue)}
