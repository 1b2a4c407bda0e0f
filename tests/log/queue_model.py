"""A queue in a few lines, to compare the real ones with. It shares no code with them but the contract's words.

It does not choose who is given what: it says who may be, and whether what was chosen was right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evrt.log.coordination import (
    Change,
    Enqueue,
    Entry,
    Hold,
    Key,
    Park,
    Pause,
    Remove,
    Tick,
    Unpause,
    Wake,
    Yield,
)

PAST, LATER = 1, 4_000_000_000_000_000
"""Times that have come, and that have not."""


@dataclass
class QueueModel:
    """``entries`` in no order; ``alive`` and ``lapsed`` are workers by how their leases stand."""

    entries: dict[str, Entry] = field(default_factory=dict)
    news: set[str] = field(default_factory=set)
    keys: dict[Key, str] = field(default_factory=dict)
    ticks: dict[str, int] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    lapsed: set[str] = field(default_factory=set)

    # ------------------------------------------------------------------------------------ changes

    def change(self, changes: Sequence[Change], places: Mapping[str, int]) -> str | None:
        """Make all of them, or the name of the error."""
        before = replace(
            self,
            entries=dict(self.entries),
            news=set(self.news),
            keys=dict(self.keys),
            ticks=dict(self.ticks),
        )
        for change in changes:
            error = before.refusal(change)
            if error is not None:
                return error
            # So that two of one request cannot be the same.
            if isinstance(change, Enqueue) and change.key is not None:
                before.keys[change.key] = change.run
            if isinstance(change, Enqueue | Park | Yield):
                before.entries.setdefault(change.run, Entry(change.run, "ready", "", 0, 0, None, None, None))
            elif isinstance(change, Tick):
                before.ticks[change.schedule] = change.tick
        for change in changes:
            self.make(change, places)
        return None

    def refusal(self, change: Change) -> str | None:
        match change:
            case Enqueue(run=run, key=key) if run in self.entries or key in self.keys:
                return "Conflict"
            case Hold(run, worker):
                entry = self.entries.get(run)
                return None if entry is not None and entry.worker == worker else "Fenced"
            case Tick(schedule, tick) if tick <= self.ticks.get(schedule, -1):
                return "Conflict"
            case _:
                return None

    def make(self, change: Change, places: Mapping[str, int]) -> None:
        match change:
            case Tick(schedule, tick):
                self.ticks[schedule] = tick
            case Enqueue(run, target, priority, lane, not_before, _, key):
                due = LATER if not_before == LATER else None
                self.entries[run] = Entry(run, "delayed", target, priority, places[run], lane, due, None)
                if key is not None:
                    self.keys[key] = run
                self.settle(run, "delayed" if due else "ready")
            case Park(run, target, due, lane, paused, priority):
                self.give_back(run, target, priority, lane, places, due, "paused" if paused else "waiting")
            case Yield(run, target, due, lane, priority):
                later = due if due == LATER else None
                self.give_back(run, target, priority, lane, places, later, "delayed" if later else "ready")
            case Wake(run) | Pause(run) | Unpause(run) | Remove(run) if run in self.entries:
                self.make_of_there(change, self.entries[run])
            case _:
                pass

    def make_of_there(self, change: Change, entry: Entry) -> None:
        run = entry.run
        match change, entry.state:
            case ((Wake() | Pause()), "claimed"):
                self.news.add(run)
            case Wake(), _:
                self.entries[run] = entry._replace(due=None)
                if entry.state in ("waiting", "delayed"):
                    self.settle(run, "ready")
            case Pause(), _:
                self.entries[run] = entry._replace(state="paused")
            case Unpause(), "paused":
                self.settle(run, "delayed" if entry.due == LATER else "ready")
            case Remove(), _:
                del self.entries[run]
                self.news.discard(run)
                lane = sorted(self.lane(entry), key=lambda one: one.place)
                if entry.lane is not None and lane and lane[0].state == "behind":
                    self.settle(lane[0].run, "delayed" if lane[0].due == LATER else "ready")
            case _:
                pass

    def give_back(
        self,
        run: str,
        target: str,
        priority: int,
        lane: str | None,
        places: Mapping[str, int],
        due: int | None,
        state: str,
    ) -> None:
        entry = self.entries.get(run) or Entry(
            run, "claimed", target, priority, places[run], lane, None, None
        )
        self.entries[run] = entry._replace(due=due, worker=None)
        self.news.discard(run)
        if entry.state != "paused":
            self.settle(run, state)

    def lane(self, entry: Entry) -> list[Entry]:
        return [one for one in self.entries.values() if entry.lane is not None and one.lane == entry.lane]

    def settle(self, run: str, state: str) -> None:
        """Give it this state, if it is the first of its lane or paused."""
        entry = self.entries[run]
        first = all(one.place >= entry.place for one in self.lane(entry))
        kept = state if first or state == "paused" else "behind"
        self.entries[run] = entry._replace(state=kept)  # type: ignore[arg-type]  # One of the states.

    # ------------------------------------------------------------------------------------- claims

    def may_be_given(self, targets: Mapping[str, int | None], claimed_max: int | None) -> list[Entry]:
        """Who may be given next to somebody alive, in no order."""
        claimed = [one for one in self.entries.values() if one.worker in self.alive]
        if claimed_max is not None and len(claimed) >= claimed_max:
            return []
        counts = {target: sum(one.target == target for one in claimed) for target in targets}
        return [
            one
            for one in self.entries.values()
            if one.target in targets
            and (one.state == "ready" or one.worker in self.lapsed)
            and ((cap := targets[one.target]) is None or counts[one.target] < cap)
        ]

    def make_due(self, targets: Mapping[str, int | None]) -> None:
        for run, one in self.entries.items():
            if one.target in targets and one.state in ("delayed", "waiting") and one.due == PAST:
                self.entries[run] = one._replace(state="ready", due=None)

    def give(self, run: str, worker: str) -> None:
        self.entries[run] = self.entries[run]._replace(state="claimed", due=None, worker=worker)
        self.news.discard(run)

    def leave(self, worker: str) -> None:
        self.alive.discard(worker)
        self.lapsed.discard(worker)
        for run, one in self.entries.items():
            if one.worker == worker:
                self.entries[run] = one._replace(state="ready", worker=None)
                self.news.discard(run)
