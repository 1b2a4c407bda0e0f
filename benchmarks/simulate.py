"""How many queued runs per second do W worker processes on K cores execute over L logs, and what bounds them?

A discrete-event simulation. A run is a chain of appends, each after some processor time in the event loop of its worker
and, between the two appends of a step, an effect that takes no processor. Each worker process has one interpreter,
which does one thing at a time, and one writer for its log: that takes all requests that wait, waits for the head
of the log, which one writer has at a time, commits the batch, and answers. Claims are requests like others.

    python benchmarks/simulate.py --measure                 service times of this machine, and predictions checked
    python benchmarks/simulate.py --costs FILE --workers 64 --logs 16 --cores 64 --server-cores 8 --servers 4

``--measure`` works on SQLite and on the PostgreSQL of the tests; it writes its figures to a file with --out, which
--costs reads. Without it figures of a machine with two slow cores are taken. Left out are: the network (but for
--round-trip-ms), what the operating system needs for itself, caches that get cold, and checkpoints of the database.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness import print_table


@dataclass(frozen=True, slots=True)
class Costs:
    """Service times of one machine and one kind of log, in seconds. ``cpu``: of the interpreter, which is held."""

    cpu_run: float
    """The event loop, for a run without steps, its claims and its one append."""
    cpu_step: float
    """The event loop, for each step beyond."""
    cpu_batch: float
    """The writer's thread, for a batch whatever its size, the head and its interpreter held."""
    cpu_request: float
    """The same for each request in it."""
    head_batch: float
    """A core, while the head is held, for a batch whatever its size: the interpreter is free."""
    head_request: float
    """The same for each request in it."""
    sync: float
    """The disk, while the head is held, no core: once for a batch."""
    handover: float
    """A core, while the head is held: what a writer needs beyond where another has written since it last did."""
    store_run: float
    """A core of the store's, the head free, for what else a run needs: its history is read."""
    local: bool
    """Whether the store's work is done by the worker's own process (SQLite), on its cores."""


# Of two virtual cores that nobody else used; see --measure. A sync of PostgreSQL was too short to be told from noise.
SQLITE = Costs(
    cpu_run=0.356e-3,
    cpu_step=0.104e-3,
    cpu_batch=0.080e-3,
    cpu_request=0.013e-3,
    head_batch=0.160e-3,
    head_request=0.028e-3,
    sync=0.101e-3,
    handover=0.015e-3,
    store_run=0.200e-3,
    local=True,
)
POSTGRES = Costs(
    cpu_run=0.783e-3,
    cpu_step=0.164e-3,
    cpu_batch=0.349e-3,
    cpu_request=0.059e-3,
    head_batch=0.273e-3,
    head_request=0.033e-3,
    sync=0.0,
    handover=0.354e-3,
    store_run=0.459e-3,
    local=False,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated. ``cores``: of the machines of the workers, and of each server's; 0: they share the workers'."""

    costs: Costs
    workers: int = 1
    concurrency: int = 20
    logs: int = 1
    cores: int = 2
    servers: int = 1
    server_cores: int = 0
    steps: int = 0
    effect_seconds: float = 0.0
    round_trip_seconds: float = 0.0
    """Of the network; each batch makes two while it holds the head."""
    runs: int = 4_000
    rate: float | None = None
    """Runs per second that arrive; None: all are there at the beginning."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Times in seconds; ``*_busy`` as shares of one, the mean over those that there are."""

    runs_per_second: float
    head_busy: float
    cores_busy: float
    server_busy: float
    batch: float
    """Requests in a batch, the mean."""
    lag_p50: float
    lag_p99: float
    """From the moment a run is in the queue to its claim."""
    in_system: float
    """Runs that had arrived and not ended, the mean over time."""
    stay: float
    """From arrival to end, the mean."""


# ------------------------------------------------------------------------------------ the machinery

Process = Generator["float | Event", None, None]


class Event:
    """Something that happens once, or has."""

    __slots__ = ("happened", "waiting")

    def __init__(self) -> None:
        self.happened = False
        self.waiting: list[Process] = []


class Clock:
    """Runs processes, generators that yield seconds to pass or an event to wait for. Ties go to who came first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Process]] = []
        self._count = 0

    def start(self, process: Process, at: float = 0.0) -> None:
        self._count += 1
        heapq.heappush(self._queue, (max(at, self.now), self._count, process))

    def happen(self, event: Event) -> None:
        event.happened = True
        for process in event.waiting:
            self.start(process)
        event.waiting.clear()

    def run(self, until: Callable[[], bool]) -> None:
        while self._queue and not until():
            self.now, _, process = heapq.heappop(self._queue)
            self._go_on(process)

    def _go_on(self, process: Process) -> None:
        for wait in process:
            if isinstance(wait, Event):
                if not wait.happened:
                    wait.waiting.append(process)
                    return
            elif wait > 0:
                self.start(process, self.now + wait)
                return


class Resource:
    """So many places, given first come first served."""

    def __init__(self, clock: Clock, places: int) -> None:
        self._clock = clock
        self.places = places
        self._free = places
        self._waiting: deque[Event] = deque()
        self.busy_seconds = 0.0

    def use(self, seconds: float) -> Process:
        yield from self.take()
        yield seconds
        self.give(seconds)

    def take(self) -> Process:
        if self._free:
            self._free -= 1
        else:
            turn = Event()
            self._waiting.append(turn)
            yield turn

    def give(self, seconds: float) -> None:
        """Give a place back that was used for so long."""
        self.busy_seconds += seconds
        if self._waiting:
            self._clock.happen(self._waiting.popleft())
        else:
            self._free += 1

    def busy(self) -> float:
        """The share of its places that was in use up to now."""
        return self.busy_seconds / (self._clock.now * self.places) if self._clock.now else 0.0


# ---------------------------------------------------------------------------------------- the model


class LogModel:
    """One log: its head, its queue, and the cores of its server."""

    def __init__(self, clock: Clock, server: Resource) -> None:
        self.head = Resource(clock, 1)
        self.last: Writer | None = None
        """Who had the head last."""
        self.server = server
        self.ready: deque[float] = deque()
        """When the runs that wait were put there."""
        self.news = Event()


class Writer:
    """The writer of one process for one log: group commit without a timer."""

    def __init__(self, world: World, log: LogModel, interpreter: Resource | None) -> None:
        self._world = world
        self._log = log
        self._interpreter = interpreter
        self._pending: list[Event] = []
        self._news = Event()
        world.clock.start(self._run())

    def commit(self) -> Process:
        """Have a request committed."""
        done = Event()
        self._pending.append(done)
        self._world.clock.happen(self._news)
        yield done

    def _run(self) -> Process:
        world, log, costs = self._world, self._log, self._world.plan.costs
        while True:
            if not self._pending:
                self._news = Event()
                yield self._news
            batch, self._pending = self._pending, []
            world.batches.append(len(batch))
            yield from log.head.take()
            since = world.clock.now
            yield 2 * world.plan.round_trip_seconds
            if self._interpreter is not None:
                yield from world.compute(self._interpreter, costs.cpu_batch + costs.cpu_request * len(batch))
            other = costs.handover if log.last not in (None, self) else 0.0
            log.last = self
            yield from log.server.use(costs.head_batch + other + costs.head_request * len(batch))
            yield costs.sync
            log.head.give(world.clock.now - since)
            for done in batch:
                world.clock.happen(done)


class WorkerModel:
    """One worker process: so many runs at once, one interpreter."""

    def __init__(self, world: World, log: LogModel) -> None:
        self._world = world
        self._log = log
        self._interpreter = Resource(world.clock, 1)
        self._writer = Writer(world, log, self._interpreter)
        self._free = world.plan.concurrency
        self._freed = Event()
        world.clock.start(self._claim())

    def _claim(self) -> Process:
        world, log = self._world, self._log
        while True:
            if not self._free:
                self._freed = Event()
                yield self._freed
            if not log.ready:
                if log.news.happened:
                    log.news = Event()
                yield log.news
                continue
            yield from self._writer.commit()
            # What is there when the claim is committed; another worker may have been first.
            while self._free and log.ready:
                self._free -= 1
                arrived = log.ready.popleft()
                world.lags.append(world.clock.now - arrived)
                world.clock.start(self._run(arrived))

    def _run(self, arrived: float) -> Process:
        world, plan, costs = self._world, self._world.plan, self._world.plan.costs
        yield from self._log.server.use(costs.store_run)
        # Its claim is written with its first intent, the outcome of each step with what comes next.
        yield from world.compute(self._interpreter, costs.cpu_run / 2)
        for _ in range(plan.steps):
            yield from world.compute(self._interpreter, costs.cpu_step)
            yield from self._writer.commit()
            yield plan.effect_seconds
        yield from world.compute(self._interpreter, costs.cpu_run / 2)
        yield from self._writer.commit()
        world.ended(arrived)
        self._free += 1
        world.clock.happen(self._freed)


class World:
    """Everything that one simulation consists of."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = Clock()
        self.cores = Resource(self.clock, plan.cores)
        self._servers = [
            Resource(self.clock, plan.server_cores)
            if plan.server_cores and not plan.costs.local
            else self.cores
            for _ in range(plan.servers)
        ]
        self.logs = [LogModel(self.clock, self._servers[n % plan.servers]) for n in range(plan.logs)]
        self.batches: list[int] = []
        self.lags: list[float] = []
        self._stays: list[float] = []
        self._in_system = 0
        self._area = 0.0
        self._since = 0.0
        for number in range(plan.workers):
            WorkerModel(self, self.logs[number % plan.logs])
        self.clock.start(self._arrivals())

    def compute(self, interpreter: Resource, seconds: float) -> Process:
        """Hold an interpreter and a core for so long."""
        yield from interpreter.take()
        yield from self.cores.use(seconds)
        interpreter.give(seconds)

    def _arrivals(self) -> Process:
        chance = random.Random(self.plan.seed)
        # Whoever asks for runs does so elsewhere, but for the head and the server.
        writers = [Writer(self, log, None) for log in self.logs]
        for number in range(self.plan.runs):
            if self.plan.rate is None:
                self._arrived(number)
            else:
                yield chance.expovariate(self.plan.rate)
                self.clock.start(self._asked(writers[number % self.plan.logs], number))

    def _asked(self, writer: Writer, number: int) -> Process:
        yield from writer.commit()
        self._arrived(number)

    def _arrived(self, number: int) -> None:
        self._count(1)
        log = self.logs[number % self.plan.logs]
        log.ready.append(self.clock.now)
        self.clock.happen(log.news)

    def _count(self, change: int) -> None:
        self._area += self._in_system * (self.clock.now - self._since)
        self._since = self.clock.now
        self._in_system += change

    def ended(self, arrived: float) -> None:
        self._count(-1)
        self._stays.append(self.clock.now - arrived)

    def run(self) -> Outcome:
        self.clock.run(lambda: len(self._stays) == self.plan.runs)
        now = self.clock.now
        heads = [log.head.busy() for log in self.logs]
        return Outcome(
            runs_per_second=len(self._stays) / now,
            head_busy=sum(heads) / len(heads),
            cores_busy=self.cores.busy(),
            server_busy=sum(server.busy() for server in self._servers) / len(self._servers),
            batch=sum(self.batches) / len(self.batches),
            lag_p50=percentile(self.lags, 0.5),
            lag_p99=percentile(self.lags, 0.99),
            in_system=self._area / now,
            stay=sum(self._stays) / len(self._stays),
        )


def percentile(figures: Sequence[float], share: float) -> float:
    return sorted(figures)[min(len(figures) - 1, int(share * len(figures)))]


def simulate(plan: Plan) -> Outcome:
    """Pure: the same plan gives the same outcome."""
    if plan.workers < plan.logs:
        raise ValueError(
            "A log without a worker is never worked off: there have to be as many workers as logs."
        )
    return World(plan).run()


# -------------------------------------------------------------------------------------- the command


def show(plans: Sequence[Plan]) -> None:
    rows = [
        ["workers × logs", "runs/s", "head busy", "cores busy", "server busy", "batch", "lag p50", "lag p99"]
    ]
    for plan in plans:
        found = simulate(plan)
        server = found.server_busy if plan.server_cores else math.nan
        rows.append(
            [
                f"{plan.workers} × {plan.logs}",
                f"{found.runs_per_second:,.0f}",
                *(f"{share:.0%}" for share in (found.head_busy, found.cores_busy)),
                "" if math.isnan(server) else f"{server:.0%}",
                f"{found.batch:.1f}",
                *(f"{1_000 * seconds:,.1f} ms" for seconds in (found.lag_p50, found.lag_p99)),
            ]
        )
    print_table(rows)


def read_costs(path: Path | None, store: str) -> Costs:
    if path is None:
        return POSTGRES if store == "postgres" else SQLITE
    return Costs(**json.loads(path.read_text("utf-8"))[store])


def write_costs(path: Path, costs: dict[str, Costs]) -> None:
    path.write_text(json.dumps({store: asdict(found) for store, found in costs.items()}, indent=2), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="measure this machine, and check predictions")
    parser.add_argument("--quick", action="store_true", help="with --measure: few runs")
    parser.add_argument("--out", metavar="FILE", type=Path, help="with --measure: write the costs to a file")
    parser.add_argument("--costs", metavar="FILE", type=Path, help="costs that --measure has written")
    parser.add_argument("--store", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--concurrency", type=int, default=20)
    parser.add_argument("--logs", type=int, default=1)
    parser.add_argument("--cores", type=int, help="of the workers' machines together (default: one a worker)")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--server-cores", type=int, default=8, help="of each server; 0: the workers' own")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--effect-ms", type=float, default=0.0, help="how long the call in each step takes")
    parser.add_argument("--round-trip-ms", type=float, default=0.0, help="between worker and server")
    parser.add_argument("--runs", type=int, default=4_000)
    parser.add_argument("--rate", type=float, help="runs per second that arrive (default: a backlog)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.measure:
        from measuring import measure_and_check

        found = measure_and_check(quick=options.quick)
        if options.out:
            write_costs(options.out, found)
        return
    plan = Plan(
        read_costs(options.costs, options.store),
        concurrency=options.concurrency,
        logs=options.logs,
        servers=options.servers,
        server_cores=options.server_cores,
        steps=options.steps,
        effect_seconds=options.effect_ms / 1_000,
        round_trip_seconds=options.round_trip_ms / 1_000,
        runs=options.runs,
        rate=options.rate,
        seed=options.seed,
    )
    if min(options.workers) < options.logs:
        parser.error("A log without a worker is never worked off: there have to be as many workers as logs.")
    show([replace(plan, workers=n, cores=options.cores or n) for n in options.workers])


if __name__ == "__main__":
    main()
