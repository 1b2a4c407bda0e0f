"""What stands beside the events so that many processes can share the work: queue, leases, keys, schedules.

An **entry** is a run that has not ended and that workers may take. It is changed in the transaction of the
append that gives the reason (``Append.beside``), so log and queue never disagree; it can be made again from
the log. A **lease** says that a worker is alive, on one clock for all: it is no history, and it decides only who
tries next. What a worker may write is decided by the epoch of the run's stream alone (see ``Fence``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

State = Literal["ready", "delayed", "behind", "claimed", "waiting", "paused"]
"""ready: a worker may take it · delayed: becomes ready when it is due · behind: an earlier entry of its lane has
not ended · claimed: a worker has it · waiting: for a cause, or until it is due · paused: until it is unpaused."""

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
"""How long a worker is believed to be alive without a word, and how often it gives one."""

OLDEST_FIRST_EVERY = 10
"""One claim in so many goes to whoever has waited longest, whatever its priority: so nothing starves."""


class Rate(NamedTuple):
    """At most ``count`` runs of one key become ready in ``per_seconds``; the others are delayed, first come first served.

    When an entry is to be ready is settled as it is enqueued. What a worker takes later is not spaced out again.
    """

    key: str
    count: int  # type: ignore[assignment]  # Nobody looks for one rate in another.
    per_seconds: float


class Key(NamedTuple):
    """An idempotency key and whom it belongs to: a user's ref, or '' for nobody."""

    owner: str
    key: str


# ------------------------------------------------------------- changes, made with an append or on their own


class Enqueue(NamedTuple):
    """A new entry: ready, or delayed until ``not_before`` (µs since 1970), or behind others of its lane.

    First come, first served: its place is the position of the run's first event in the append it comes with, else
    of the first event there. Raises Conflict where the key is taken or the run has an entry.
    """

    run: str
    target: str
    priority: int = 0
    """Higher ones first."""
    lane: str | None = None
    """Entries of one lane are active one at a time, in their order: a conversation's ref."""
    not_before: int | None = None
    rate: Rate | None = None
    key: Key | None = None


class Hold(NamedTuple):
    """Changes nothing: raises Fenced, and so refuses the append, unless this worker has claimed the entry.

    A lease that has run out does not matter as long as nobody else was given the entry.
    """

    run: str
    worker: str


class Park(NamedTuple):
    """The run waits, at most until ``due`` (µs since 1970). Makes the entry where there is none, else keeps its place.

    Only together with an append that expects the run's version: so no cause can slip in between. It takes the
    entry from whoever has it: another worker that has been given it is refused by Hold when it begins.
    In a lane that has an earlier entry it is behind, and ready when it moves up.
    """

    run: str
    target: str
    due: int | None = None
    lane: str | None = None
    paused: bool = False
    """It waits to be unpaused, and for nothing else."""
    priority: int = 0
    """Of the entry, where there was none."""


class Yield(NamedTuple):
    """A claimed entry goes back into the queue at its place, at once or when it is due. Made where there is none."""

    run: str
    target: str
    due: int | None = None
    lane: str | None = None
    priority: int = 0
    """Of the entry, where there was none."""


class Wake(NamedTuple):
    """A cause has come: waiting or delayed becomes ready; of a claimed one the worker is told (``news``).

    One that is paused or behind stays so, but will be ready afterwards whatever it was due. Nothing happens where
    there is no entry. So one that was enqueued for later may be claimed before: its runner looks, and yields.
    """

    run: str


class Pause(NamedTuple):
    """Whatever is not claimed is paused; of a claimed one the worker is told."""

    run: str


class Unpause(NamedTuple):
    """Paused becomes ready, or delayed where it is not due yet."""

    run: str


class Remove(NamedTuple):
    """The run has ended, or is executed outside the queue: its entry goes, and the next of its lane moves up."""

    run: str


class Tick(NamedTuple):
    """A schedule has come to this tick (µs since 1970). Raises Conflict unless that is later than all before."""

    schedule: str
    tick: int


class Restore(NamedTuple):
    """An entry as the log says that it is: made, or put right. One that is claimed stays with its worker.

    It is delayed where it is ready but not due yet, and behind where an earlier one of its lane is there.
    """

    run: str
    target: str
    state: Literal["ready", "waiting", "paused"]
    priority: int
    place: int
    lane: str | None = None
    due: int | None = None


class Keep(NamedTuple):
    """An idempotency key is this run's, as the log says; one that is taken stays with whom it belongs to."""

    key: Key
    run: str


Change = Enqueue | Hold | Park | Yield | Wake | Pause | Unpause | Remove | Tick | Restore | Keep


# --------------------------------------------------------------------------------------------- what is there


class Entry(NamedTuple):
    """An entry as it stands. Times are microseconds since 1970."""

    run: str
    state: State
    target: str
    priority: int
    place: int
    """Position of the event it came with: first come, first served."""
    lane: str | None
    due: int | None
    worker: str | None


class Claimed(NamedTuple):
    """An entry that a worker has just been given. ``taken_from`` names the worker whose lease had run out."""

    run: str
    target: str
    taken_from: str | None


class Lease(NamedTuple):
    """A worker's lease. ``left_seconds`` is negative when it has run out. ``claimed`` counts its entries."""

    worker: str
    left_seconds: float
    claimed: int


class Outlook(NamedTuple):
    """What there is for a worker: whether a claim could give it anything now, else in how many seconds at the latest
    something falls due (a timer, a delay, somebody's lease); None when nothing will by itself."""

    ready: bool
    due_in_seconds: float | None


class Coordination(Protocol):
    """The queue of one log. All of it is safe to use from many processes at once; see ``Log.coordination``."""

    async def change(self, *changes: Change) -> None:
        """Make changes without an event, in one transaction. Raises what they raise, and what an append raises."""
        ...

    async def claim(
        self,
        worker: str,
        *,
        targets: Mapping[str, int | None],
        limit: int,
        claimed_max: int | None = None,
    ) -> list[Claimed]:
        """Give a worker up to ``limit`` entries of these targets, by priority and then by place.

        ``targets`` gives each target's cap: how many of its entries may be claimed at once by all workers
        together; None for no cap. ``claimed_max`` is the cap for all entries together, of these targets or not.
        Entries whose worker's lease has run out, and waiting and delayed ones that are due (the first 1,000 of a
        target), count as ready. Gives nothing to a worker without a lease. About one in OLDEST_FIRST_EVERY is the
        one with the smallest place, whatever its priority.

        What is answered is durable. Whoever does not hear the answer (Unavailable, cancelled) may have been given
        entries all the same: it leaves, or they stay claimed as long as it renews its lease.
        """
        ...

    async def renew(self, worker: str, *, seconds: float = LEASE_SECONDS) -> None:
        """Begin or prolong a worker's lease, from now on the log's clock.

        After one that had run out, the worker still has what nobody else has been given.
        """
        ...

    async def leave(self, worker: str) -> None:
        """End a worker's lease; what it still has claimed is ready again."""
        ...

    async def news(self, worker: str) -> list[str]:
        """Runs that this worker has claimed and that were woken or paused since it was last told; tells it once."""
        ...

    async def outlook(self, targets: Sequence[str]) -> Outlook:
        """What there is for a worker with these targets, caps left aside. Only reads."""
        ...

    async def entry(self, run: str) -> Entry | None: ...

    async def entries(
        self, *, state: State | None = None, target: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[Entry]:
        """Entries by place, those with ``place > after``."""
        ...

    async def counts(self) -> dict[tuple[str, State], int]:
        """How many entries each target has in each state."""
        ...

    async def leases(self) -> list[Lease]: ...

    async def run_of(self, key: Key) -> str | None:
        """The run that was requested with this idempotency key."""
        ...

    async def ticks(self) -> dict[str, int]:
        """How far each schedule has come, µs since 1970."""
        ...

    async def now(self) -> int:
        """The log's clock, µs since 1970: the database server's, or this machine's."""
        ...
