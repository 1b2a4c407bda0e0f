"""How many system prompts a second can be made of 150 memories, and what does a turn of a run pay for one?

Fifty memories of the user, fifty shared by a system, fifty of the conversation. The baseline joins as many lines and
looks at none of them. "block" makes the text, with its headings, titles and escapes, of items that are at hand; its goal
is 1 ms, a thousand a second. "turn, unchanged" is what the loop of an agent does before every call of a model: ask the
three memory streams of a log in a file what is new, find nothing, note that, make the text; "turn, one new" has one of the
memories set before each, which is one more append. "first turn" folds the streams, at the begin of a run.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import evrt
from evrt.agents.memory_block import block_of, memory_block
from evrt.folds.memory import MemoryItem
from harness import Bench, Case, Ratio

EACH = 50
KEYS = [f"user.preferences.topic_{number}" for number in range(EACH)]
WHOSE: tuple[Any, ...] = ({"user": "ann"}, {"user": "ann", "system": "office"}, {"conversation": "c1"})
SCOPES: tuple[Any, ...] = ("user", "system", "conversation")


def value(number: int) -> str:
    return f"what somebody said about topic {number}, in a sentence of usual length"


ITEMS = [MemoryItem(key, value(number), 1, 0, scope) for scope in SCOPES for number, key in enumerate(KEYS)]


def repeated(work: Callable[[], object], seconds: float) -> float:
    """How often in a second it can be done."""
    count, begun = 0, time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        work()
        count += 1
    return count / took


def join() -> str:
    return "\n".join(f"- **{item.key}**: {item.value}" for item in ITEMS)


class Office:
    """A log in a file whose agents remember."""

    def __init__(self, folder: Path) -> None:
        self._url = f"sqlite:///{folder}/evrt.db"
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        async with evrt.App(self._url) as app:
            for whose in WHOSE:
                values = {key: value(number) for number, key in enumerate(KEYS)}
                await app.memory.set_many(values, **whose)

    def turns(self, *, changing: bool, seconds: float) -> float:
        async def code(ctx: evrt.Context[Any]) -> float:
            await memory_block(ctx)
            count, begun = 0, time.perf_counter()
            while (took := time.perf_counter() - begun) < seconds:
                if changing:
                    await ctx.memory.set(KEYS[count % EACH], value(count))
                assert len(await memory_block(ctx)) > EACH
                count += 1
            return count / took

        return asyncio.run(self._run(code))

    def first_turns(self, seconds: float) -> float:
        async def code(ctx: evrt.Context[Any]) -> float:
            begun = time.perf_counter()
            await memory_block(ctx)
            return time.perf_counter() - begun

        async def several() -> float:
            took = [await self._run(code) for _ in range(max(2, int(seconds * 20)))]
            return len(took) / sum(took)

        return asyncio.run(several())

    async def _run(self, code: Callable[..., Any]) -> float:
        async with aclosing(evrt.App(self._url)) as app:
            app.workflow(name="code")(code)
            object.__setattr__(app.target("code"), "system", "office")  # As an agent has it.
            result = await app.run("code", user="ann", conversation="c1")
            return float(result.unwrap())


def main() -> None:
    bench = Bench(__doc__, "prompts/s")
    with tempfile.TemporaryDirectory() as folder:
        office = Office(Path(folder))
        bench.run(
            cases=[
                Case("join", lambda seconds: repeated(join, seconds)),
                Case("block", lambda seconds: repeated(lambda: block_of(ITEMS), seconds)),
                Case("turn, unchanged", lambda seconds: office.turns(changing=False, seconds=seconds)),
                Case("turn, one new", lambda seconds: office.turns(changing=True, seconds=seconds)),
                Case("first turn", office.first_turns),
            ],
            ratios=[
                Ratio("block", "join"),
                Ratio("turn, unchanged", "join"),
                Ratio("turn, unchanged", "block"),
                Ratio("turn, one new", "block"),
            ],
        )


if __name__ == "__main__":
    main()
