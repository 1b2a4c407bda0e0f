"""The protocol of workers as a model: what any process may do next, and what must never come of it.

A state is what the log holds (facts and entries of runs), what the world has seen, and what each worker has in
its memory. A step is something that others can see and that nothing interrupts: an append in the database, an
effect, a reading. What a worker makes up its mind to thereupon is part of the same step, as nobody could tell the
difference. Between two steps anything else may happen, and a worker may stay where it is for as long as it likes:
so to be frozen and to thaw need no steps of their own, and neither do clocks. A lease may run out at any moment.

Epochs and versions only ever rise and are only compared for equality, so a worker's knowledge of them is one
truth value each: whether it is still the same (``current``, ``level``). That keeps the model finite, however often
workers die and take over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

ATTEMPTS_MAX = 2
"""A person says of a write in doubt once that it is to be made again; the second time they say what it came to."""

# Where the entry of a run stands; a worker's number, 0 or more, says that this one has claimed it.
READY, WAITING, ABSENT, ORPHANED = -1, -2, -3, -4
"""ORPHANED: claimed by a worker that has died, whose lease is bound to run out."""

Kind = Literal["write", "wait"]
"""What the code of a run does, one after another: a write without a key; a wait for a signal."""

Cause = Literal["done", "again", "signal"]
"""What comes from outside: what a write came to, that it is to be made again, a signal."""


class Rules(NamedTuple):
    """What the protocol insists on. Each is there because of what happens without it: see the tests."""

    fence: bool = True
    """An append of a worker is refused once another has claimed the run."""
    hold: bool = True
    """A claim of the run is refused unless its entry is still this worker's."""
    exact: bool = True
    """An append that parks is refused when anything has come since its author looked."""
    names_epoch: bool = True
    """So is it when it names an epoch, as all of a worker's do, and the run is at another: what was refused because
    something had come is made again after a look at it, and what had come may have been a claim."""
    wake: bool = True
    """What comes from outside wakes the run."""
    late_report_wakes: bool = True
    """So does what a worker reports that had lost its claim."""
    ids: bool = True
    """An append whose answer was lost is repeated with the ids it had, and is not written twice."""
    barrier: bool = True
    """No effect starts before its intent is durable."""
    never_repeats: bool = True
    """A write without a key that somebody else began is in doubt, and is not made again."""
    lets_go: bool = True
    """A worker gives back entries of which it knows nothing (any more)."""
    leases_end: bool = True
    """Who has died loses its entries."""
    leases_matter: bool = True
    """Who is alive loses its entries only when its lease has run out."""


class Operation(NamedTuple):
    """What log and world know of one operation."""

    kind: Kind
    intents: int = 0
    closed: int = 0
    """Outcomes in the log; more than one is wrong."""
    doubt: bool = False
    outside: tuple[Cause, ...] = ()
    """What has come from outside and has not been seen by the code."""


class Run(NamedTuple):
    operations: tuple[Operation, ...]
    entry: int = READY
    ended: int = 0
    """Terminal events in the log; more than one is wrong."""


Place = Literal["idle", "given", "executing"]
What = Literal["", "claim", "intent", "outcome", "doubt", "received", "again", "park", "end", "report"]


class Worker(NamedTuple):
    """What a worker has in its memory; and, as nobody but the model can know, whether it is still true."""

    place: Place = "idle"
    run: int = 0
    seen: tuple[Operation, ...] = ()
    """The journal as this worker knows it; none before it has read it."""
    current: bool = False
    """Whether the epoch it knows is the run's."""
    level: bool = False
    """Whether it has seen the last event of the run."""
    looks: bool = False
    """It knows that it has not, and reads before it goes on."""
    under_way: int = -1
    """The write that it has begun itself, and its how manyth attempt that is."""
    attempt: int = 0
    happened: bool = False
    """Its effect has been had."""
    what: What = ""
    """The append that it has handed over and waits for, and for which operation it is."""
    about: int = -1
    lost: bool = False
    """It is in the log, but the answer was lost: this worker cannot know."""


IDLE = Worker()


class State(NamedTuple):
    runs: tuple[Run, ...]
    workers: tuple[Worker, ...]
    world: tuple[tuple[tuple[int, ...], ...], ...]
    """How often the effect of each attempt of each operation of each run has happened."""


class Step(NamedTuple):
    """One step: what it is, where it leads, whether it is a fault, and what is wrong about it in itself."""

    name: str
    state: State
    fault: bool = False
    wrong: str | None = None


def beginning(workers: int, runs: int, program: tuple[Kind, ...]) -> State:
    run = Run(tuple(Operation(kind) for kind in program))
    unseen = tuple((0,) * ATTEMPTS_MAX for _ in program)
    return State((run,) * runs, (IDLE,) * workers, (unseen,) * runs)


# ------------------------------------------------------------------------------------------ what must hold


def wrong_with(state: State) -> str | None:
    """What must never be the case."""
    for run, happened in zip(state.runs, state.world, strict=True):
        if run.ended > 1:
            return "a run has ended twice"
        if bool(run.ended) != (run.entry == ABSENT):
            return "a run has ended and has an entry, or has not and has none"
        if run.entry == WAITING and wish(run.operations)[0] != "park":
            return "a run waits although what it waits for has come: a wake-up was lost"
        for operation, times in zip(run.operations, happened, strict=True):
            if operation.closed > 1:
                return "two outcomes were recorded for one intent"
            if max(times) > 1:
                return "an effect without a key has happened twice for one intent"
            if any(times[operation.intents :]):
                return "an effect has happened without an intent"
    return None


def all_ended(state: State) -> bool:
    return all(run.ended for run in state.runs)


# --------------------------------------------------------------------------------------------- what a run is


@cache
def wish(operations: tuple[Operation, ...], *, repeats: bool = False) -> tuple[What, int]:
    """What code that knows this much wants appended next, and for which operation. Pure: so is a resume."""
    for number, operation in enumerate(operations):
        if operation.closed:
            continue
        if operation.outside:
            return ("again" if operation.outside[0] == "again" else "received"), number
        if operation.kind == "write":
            if operation.intents == 0:
                return "intent", number
            if not operation.doubt:
                return ("outcome" if repeats else "doubt"), number
        return "park", number
    return "end", -1


@cache
def after(operations: tuple[Operation, ...], what: What, about: int) -> tuple[Operation, ...]:
    """The facts when this has been appended."""
    if about < 0:
        return operations
    operation = operations[about]
    match what:
        case "intent":
            operation = operation._replace(intents=operation.intents + 1)
        case "outcome":
            operation = operation._replace(closed=operation.closed + 1, doubt=False)
        case "doubt":
            operation = operation._replace(doubt=True)
        case "received":
            operation = operation._replace(
                closed=operation.closed + 1, doubt=False, outside=operation.outside[1:]
            )
        case "again":
            operation = operation._replace(
                intents=operation.intents + 1, doubt=False, outside=operation.outside[1:]
            )
        case _:
            return operations
    return (*operations[:about], operation, *operations[about + 1 :])


def with_cause(operations: tuple[Operation, ...], about: int, cause: Cause) -> tuple[Operation, ...]:
    operation = operations[about]
    if operation.closed:  # Nobody will look at it any more.
        return operations
    operation = operation._replace(outside=(*operation.outside, cause))
    return (*operations[:about], operation, *operations[about + 1 :])


# ------------------------------------------------------------------------------------------ who may do what


def steps(state: State, rules: Rules) -> Iterator[Step]:
    """Everything that may happen next."""
    for number, run in enumerate(state.runs):
        yield from _person(state, rules, number, run)
    for number, worker in enumerate(state.workers):
        if worker.place == "idle":
            yield from _take(state, rules, number)
        else:
            yield _crash(state, number)
            yield Step("gives up", _set(state, number, IDLE), fault=True)
            yield from _go_on(state, rules, number, worker)
        yield from _let_go(state, rules, number, worker)


def _person(state: State, rules: Rules, number: int, run: Run) -> Iterator[Step]:
    """Somebody outside sends the signal, or settles a write in doubt."""
    if run.ended:
        return
    for about, operation in enumerate(run.operations):
        if operation.closed or operation.outside:
            continue
        if operation.kind == "wait":
            yield Step("somebody sends the signal", _tell(state, number, about, "signal", wakes=rules.wake))
        elif operation.doubt:
            told = _tell(state, number, about, "done", wakes=rules.wake)
            yield Step("somebody settles the write as done", told)
            if operation.intents < ATTEMPTS_MAX:
                told = _tell(state, number, about, "again", wakes=rules.wake)
                yield Step("somebody settles the write as to be made again", told)


def _tell(state: State, number: int, about: int, cause: Cause, *, wakes: bool) -> State:
    """An append from outside: a cause, and the run is woken in the same transaction."""
    run = state.runs[number]
    entry = READY if wakes and run.entry == WAITING else run.entry
    run = run._replace(operations=with_cause(run.operations, about, cause), entry=entry)
    return _appended(state, number, run)


def _take(state: State, rules: Rules, number: int) -> Iterator[Step]:
    """The queue gives a run: one that is ready, or whose worker's lease has run out."""
    for r, run in enumerate(state.runs):
        if run.entry == READY or (run.entry == ORPHANED and rules.leases_end):
            fault = False
        elif run.entry >= 0 and run.entry != number:
            fault = rules.leases_matter
        else:
            continue
        given = _with_entry(state, r, number)
        yield Step("is given a run", _set(given, number, Worker("given", r)), fault)
        yield Step("is given a run, and the answer is lost", given, fault=True)


def _let_go(state: State, rules: Rules, number: int, worker: Worker) -> Iterator[Step]:
    """It has a look at what it has claimed, and gives back what it knows nothing of."""
    if not rules.lets_go:
        return
    for r, run in enumerate(state.runs):
        if run.entry == number and (worker.place == "idle" or worker.run != r):
            yield Step("lets go of a run", _with_entry(state, r, READY))


def _crash(state: State, number: int) -> Step:
    """It dies, and a new one takes its place. What was on its way to the log either had arrived or never will."""
    runs = tuple(run._replace(entry=ORPHANED) if run.entry == number else run for run in state.runs)
    return Step("dies", _set(state._replace(runs=runs), number, IDLE), fault=True)


# ----------------------------------------------------------------------------------------- a worker at its work


def _go_on(state: State, rules: Rules, number: int, worker: Worker) -> Iterator[Step]:
    """The next thing that a worker does, and how it may miscarry."""
    run = state.runs[worker.run]
    if worker.place == "given":
        yield _read(state, number, worker, run)
    elif worker.lost:
        yield _repeat(state, rules, number, worker)
    elif worker.what == "report":
        told = _tell(state, worker.run, worker.about, "done", wakes=rules.late_report_wakes)
        yield Step("reports its write, late", _set(told, number, IDLE))
    elif worker.what:
        yield from _append(state, rules, number, worker, run)
    elif worker.looks:
        yield _look(state, rules, number, worker, run)
    else:
        yield _effect(state, number, worker)


def _read(state: State, number: int, worker: Worker, run: Run) -> Step:
    if run.ended:
        return Step("reads that the run has ended", _set(state, number, IDLE))
    worker = worker._replace(place="executing", seen=run.operations, current=True, level=True, what="claim")
    return Step("reads the journal", _set(state, number, worker))


def _look(state: State, rules: Rules, number: int, worker: Worker, run: Run) -> Step:
    worker = worker._replace(seen=run.operations, level=True, looks=False)
    return Step("reads what has come in between", _set(state, number, _decided(worker, rules)))


def _effect(state: State, number: int, worker: Worker) -> Step:
    """The effect itself. It may well be that the worker has lost its claim by now."""
    about = worker.under_way
    attempt = worker.attempt - 1
    happened = state.world[worker.run]
    times = happened[about]
    times = (*times[:attempt], min(2, times[attempt] + 1), *times[attempt + 1 :])
    happened = (*happened[:about], times, *happened[about + 1 :])
    world = (*state.world[: worker.run], happened, *state.world[worker.run + 1 :])
    worker = worker._replace(happened=True, what="outcome", about=about)
    return Step("has the effect", _set(state._replace(world=world), number, worker))


def _append(state: State, rules: Rules, number: int, worker: Worker, run: Run) -> Iterator[Step]:
    """Checks, events and changes of the queue, in one transaction; and the answer, which may be lost."""
    what = worker.what
    refusal = _refusal(rules, number, worker, run)
    if refusal == "moved":
        looking = worker._replace(what="", about=-1, looks=True)
        yield Step(f"is refused, as something has come: {what}", _set(state, number, looking))
        return
    if refusal is not None:
        yield Step(f"is fenced: {what}", _lost(state, number, worker))
        return
    wrong = None
    if not worker.current:
        wrong = "an append was accepted of a worker that had lost its claim"
    elif run.ended:
        wrong = "a worker has written to a run that had ended"
    elif what == "claim" and _somebody_holds(state, number, worker.run, run.entry):
        wrong = "a run was taken from a worker that had not lost its entry"
    entry = {"park": WAITING, "end": ABSENT}.get(what, run.entry)
    run = Run(after(run.operations, what, worker.about), entry, run.ended + (what == "end"))
    state = _appended(state, worker.run, run, by=number, claims=what == "claim")
    heard = _heard(worker, rules, gap=not worker.level)
    yield Step(f"appends: {what}", _set(state, number, heard), wrong=wrong)
    unheard = worker._replace(lost=True)
    yield Step(
        f"appends: {what}, and the answer is lost", _set(state, number, unheard), fault=True, wrong=wrong
    )


def _refusal(rules: Rules, number: int, worker: Worker, run: Run) -> Literal["fenced", "moved"] | None:
    if worker.what == "claim":
        # That the epoch is the one that was read is what a claim is: there are no rules without it.
        return "fenced" if not worker.current or (rules.hold and run.entry != number) else None
    if worker.what == "park" and rules.exact:
        if not worker.level:
            return "moved"
        return "fenced" if rules.names_epoch and not worker.current else None
    return "fenced" if rules.fence and not worker.current else None


def _somebody_holds(state: State, number: int, run: int, entry: int) -> bool:
    """Whether another executes the run, under the epoch there is, and has not lost its entry."""
    return any(
        other == entry != number
        and worker.run == run
        and worker.current
        and worker.place == "executing"
        and (worker.what != "claim" or worker.lost)
        for other, worker in enumerate(state.workers)
    )


def _repeat(state: State, rules: Rules, number: int, worker: Worker) -> Step:
    """Once more, with the ids it had: they are found, whatever has happened since."""
    if rules.ids:
        again = _heard(worker, rules, gap=True)
    else:
        again = worker._replace(lost=False)
    return Step(f"repeats, as it heard nothing: {worker.what}", _set(state, number, again))


def _heard(worker: Worker, rules: Rules, *, gap: bool) -> Worker:
    """A worker that knows that its append is durable, and whether others have written before it."""
    what, about = worker.what, worker.about
    if what in ("park", "end"):
        return IDLE
    worker = worker._replace(what="", about=-1, lost=False, seen=after(worker.seen, what, about), looks=gap)
    if what in ("intent", "again"):
        worker = _begun(worker, about)._replace(happened=worker.happened and not rules.barrier)
    elif what == "outcome":
        worker = worker._replace(under_way=-1, attempt=0, happened=False)
    return _decided(worker, rules)


def _decided(worker: Worker, rules: Rules) -> Worker:
    """A worker that has made up its mind what is next, and has handed it over where it is an append."""
    if worker.looks:
        return worker
    if worker.under_way >= 0:
        return worker._replace(what="outcome", about=worker.under_way) if worker.happened else worker
    what, about = wish(worker.seen, repeats=not rules.never_repeats)
    if what == "outcome" or (what == "intent" and not rules.barrier):
        return _begun(worker, about)
    return worker._replace(what=what, about=about)


def _begun(worker: Worker, about: int) -> Worker:
    return worker._replace(under_way=about, attempt=max(1, worker.seen[about].intents))


def _lost(state: State, number: int, worker: Worker) -> State:
    """It has lost its claim. What its last write came to it still may report, from outside."""
    if worker.happened:
        return _set(state, number, worker._replace(what="report", about=worker.under_way, looks=False))
    return _set(state, number, IDLE)


# ------------------------------------------------------------------------------------------- small changes


def _set(state: State, number: int, worker: Worker) -> State:
    workers = (*state.workers[:number], worker, *state.workers[number + 1 :])
    return State(state.runs, workers, state.world)


def _with_entry(state: State, number: int, entry: int) -> State:
    run = state.runs[number]._replace(entry=entry)
    return state._replace(runs=(*state.runs[:number], run, *state.runs[number + 1 :]))


def _appended(state: State, number: int, run: Run, *, by: int = -1, claims: bool = False) -> State:
    """Something stands in the run's stream that only its author knows of."""
    workers = tuple(
        worker._replace(level=False, current=worker.current and not claims)
        if worker.place == "executing" and worker.run == number and other != by
        else worker
        for other, worker in enumerate(state.workers)
    )
    runs = (*state.runs[:number], run, *state.runs[number + 1 :])
    return State(runs, workers, state.world)
