"""Looking at every state that a model can come to, breadth first, so that what is found is the shortest way there."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from model.protocol import IDLE, Rules, State, Step, all_ended, steps, wrong_with


class Found(NamedTuple):
    """What a search came to. ``way`` leads to what is wrong, step by step; it is empty where nothing is."""

    states: int
    steps: int
    wrong: str | None = None
    way: tuple[str, ...] = ()

    def __str__(self) -> str:
        figures = f"{self.states:,} states, {self.steps:,} steps"
        if self.wrong is None:
            return f"{figures}: nothing is wrong"
        return "\n".join([f"{figures}: {self.wrong}", *(f"  {step}" for step in self.way)])


def search(begin: State, rules: Rules) -> Found:
    """Every state and step: is there a wrong one, and can every run still end from everywhere, without a fault?"""
    begin = same_for_all(begin)
    numbers = {begin: 0}
    states = [begin]
    came_from = array("l", [-1])
    forward = Edges()
    made = 0
    for number, state in enumerate(states):  # It grows as it is walked along.
        for step in steps(state, rules):
            made += 1
            then = same_for_all(step.state)
            to = numbers.get(then)
            if to is None:
                to = numbers[then] = len(states)
                states.append(then)
                came_from.append(number)
                wrong = step.wrong or wrong_with(then)
            else:
                wrong = step.wrong
            if wrong is not None:
                return Found(len(states), made, wrong, _way(states, came_from, rules, number, step))
            if not step.fault:
                forward.add(number, to)
    stuck = forward.first_that_cannot_reach(
        len(states), [n for n, state in enumerate(states) if all_ended(state)]
    )
    if stuck is None:
        return Found(len(states), made)
    way = _way(states, came_from, rules, stuck, None)
    return Found(len(states), made, "a run can never end again, though nothing more goes wrong", way)


class Edges:
    """Steps from state to state, as two long rows of numbers."""

    def __init__(self) -> None:
        self._from = array("l")
        self._to = array("l")

    def add(self, one: int, other: int) -> None:
        self._from.append(one)
        self._to.append(other)

    def first_that_cannot_reach(self, states: int, goals: list[int]) -> int | None:
        """The first state from which none of the goals can be reached."""
        into: list[list[int]] = [[] for _ in range(states)]
        for one, other in zip(self._from, self._to, strict=True):
            into[other].append(one)
        reaching = bytearray(states)
        for goal in goals:
            reaching[goal] = 1
        todo = goals
        while todo:
            for one in into[todo.pop()]:
                if not reaching[one]:
                    reaching[one] = 1
                    todo.append(one)
        first = reaching.find(0)
        return None if first < 0 else first


def same_for_all(state: State) -> State:
    """The one state that stands for all that differ only in which worker has which number."""
    entries = [run.entry for run in state.runs]
    order = sorted(
        range(len(state.workers)),
        key=lambda number: (state.workers[number], [entry == number for entry in entries]),
    )
    if order == list(range(len(order))):
        return state
    place = {number: at for at, number in enumerate(order)}
    runs = tuple(run._replace(entry=place.get(run.entry, run.entry)) for run in state.runs)
    return State(runs, tuple(state.workers[number] for number in order), state.world)


def _way(
    states: list[State], came_from: array[int], rules: Rules, last: int, step: Step | None
) -> tuple[str, ...]:
    """How one gets there: each step, and what the workers then are at."""
    numbers = [last]
    while came_from[numbers[-1]] >= 0:
        numbers.append(came_from[numbers[-1]])
    numbers.reverse()
    told: list[str] = []
    for before, then in pairwise(numbers):
        one = next(s for s in steps(states[before], rules) if same_for_all(s.state) == states[then])
        told.append(_told(one))
    if step is not None:
        told.append(_told(step))
    return tuple(told)


def _told(step: Step) -> str:
    return f"{step.name:<44} {' | '.join(_shown(step.state))}"


def _shown(state: State) -> Iterator[str]:
    names = {-1: "ready", -2: "waiting", -3: "gone", -4: "orphaned"}
    for run in state.runs:
        yield f"entry {names.get(run.entry, f'of worker {run.entry}')}"
    for worker in state.workers:
        if worker == IDLE:
            yield "idle"
        else:
            lost = "" if worker.current or worker.place == "given" else ", has lost it"
            doing = f", {worker.what}{' (no answer)' if worker.lost else ''}" if worker.what else ""
            yield f"{worker.place} run {worker.run}{doing}{lost}"
