"""What does a turn of an agent's loop cost beyond its durable calls, at the beginning of a run and after 1,000 turns?

A turn is one call of a model, which calls one tool, and that call; model and tool return at once. "by hand" makes the same
two durable calls in a plain loop over the context, with nothing of an agent around it; what "the loop" takes beyond that
is the loop's own. Both write to a log in memory, where no sync hides what they cost; the goal is 0.5 ms, and no growth.
With --peers the same run is made with pydantic-ai and the OpenAI Agents SDK, in virtual environments made for it once: they
record nothing, and their figures are whole turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evrt
from evrt.effects.contract import ModelReply, ModelRequest
from evrt.events import JsonObject, JsonValue

TURNS = 1_000
WINDOW = 100
GOAL_MS = 0.5
LOOPS = Path(__file__).parent / "loops"
VENVS = Path(__file__).parent / "against" / ".venvs"
PEERS = ("pydantic_ai", "openai_agents")


@evrt.tool(effect="read")
async def look(number: int) -> int:
    """Give back what was given."""
    return number


class Calls:
    """A model that calls the tool so often, and marks the time of each request."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.marks: list[float] = []

    async def complete(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        self.marks.append(time.perf_counter())
        number = len(self.marks)
        if number > self.turns:
            return ModelReply({"role": "assistant", "content": "done"})
        function: JsonObject = {"name": "look", "arguments": f'{{"number": {number}}}'}
        call: JsonValue = {"id": f"c{number}", "type": "function", "function": function}
        return ModelReply({"role": "assistant", "content": None, "tool_calls": [call]})


async def measure(target: str, turns: int, window: int) -> tuple[float, float]:
    """Milliseconds per turn in the first and in the last window of one run."""
    model = Calls(turns)
    app = evrt.App("memory://", models={"m": model})
    app.agent(
        "loop", model="m", tools=[look], limits=evrt.LoopLimits(model_turns_max=turns + 2), timeout=None
    )

    @app.workflow(name="by hand", timeout=None)
    async def by_hand(ctx: evrt.Context[None]) -> str:
        transcript = ctx.transcript()
        transcript.add("user", "go")
        while True:
            reply = await ctx.model(transcript, model="m", tools=[look])
            transcript.add_reply(reply)
            if not reply.tool_calls:
                return reply.text
            for call in reply.tool_calls:
                transcript.add_result(await ctx.perform(call, [look]))

    async with app:
        result = await app.run(target, "go" if target == "loop" else None)
        assert result.output == "done", result
    marks = model.marks
    return 1_000 * (marks[window] - marks[0]) / window, 1_000 * (marks[-1] - marks[-1 - window]) / window


def peer(name: str) -> Callable[[int, int], tuple[float, float]]:
    folder = VENVS / f"loop-{name}"
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
        command = [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "-q",
            "-r",
            str(LOOPS / f"{name}.txt"),
        ]
        subprocess.run(command, check=True)

    def sample(turns: int, window: int) -> tuple[float, float]:
        command = [str(folder / "bin" / "python"), str(LOOPS / f"with_{name}.py"), str(turns), str(window)]
        first, last = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return first, last

    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it still run?")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--peers", action="store_true", help="the same with pydantic-ai and OpenAI Agents")
    given = parser.parse_args()
    turns, window, rounds = (60, 20, 2) if given.quick else (TURNS, WINDOW, 5)
    cases: dict[str, Callable[[int, int], tuple[float, float]]] = {
        name: lambda turns, window, name=name: asyncio.run(measure(name, turns, window))  # type: ignore[misc]
        for name in ("by hand", "loop")
    }
    cases |= {name: peer(name) for name in PEERS if given.peers}
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(rounds):
        order = list(cases) if number % 2 == 0 else list(reversed(cases))
        for name in order:
            samples[name].append(cases[name](turns, window))
            print(f"round {number + 1}: {name} {samples[name][-1]}", file=sys.stderr)
    figures = {
        name: [rounded(statistics.median(column)) for column in zip(*found, strict=True)]
        for name, found in samples.items()
    }
    beyond = [
        rounded(
            statistics.median(
                loop[at] - hand[at] for loop, hand in zip(samples["loop"], samples["by hand"], strict=True)
            )
        )
        for at in (0, 1)
    ]
    if given.json:
        print(
            json.dumps({"ms_per_turn": figures, "loop_beyond_ms": beyond, "turns": turns, "rounds": rounds})
        )
        return
    print(
        f"milliseconds per turn, median of {rounds} rounds, in the first and the last {window} of {turns} turns"
    )
    for name, (first, last) in figures.items():
        print(f"  {name:<16}{first:>10.3f}{last:>10.3f}")
    print(f"  {'the loop beyond':<16}{beyond[0]:>10.3f}{beyond[1]:>10.3f}   goal {GOAL_MS}, flat")


def rounded(value: float) -> float:
    return round(value, 4)


if __name__ == "__main__":
    main()
