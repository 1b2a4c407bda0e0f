"""Whatever is said, edited, asked again, forked and deleted: history and prompts are what a plain list says."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

import evrt
from app.talking import said, talking

EXAMPLES = 500 if os.environ.get("EVRT_SOAK") == "1" else 12


class Step(NamedTuple):
    """What is done, to one of the conversations there are, at one of its messages."""

    what: Literal["say", "edit", "retry", "fork", "delete", "fail"]
    where: int
    at: int
    text: str


@dataclass
class Turn:
    """Messages in short, and the conversations that they are read through."""

    text: str
    messages: list[str]
    through: tuple[str, ...] = ()


@dataclass
class Model:
    """Conversations as lists of turns."""

    turns: dict[str, list[Turn]] = field(default_factory=lambda: {"c0": []})
    made: int = 1

    def history(self, name: str) -> list[str]:
        return [message for turn in self.turns[name] for message in turn.messages]

    def say(self, name: str, text: str) -> None:
        shown = len(self.history(name)) + 1
        messages = [f"u:{text}"]
        if text.startswith("look"):
            messages += ["a:2 calls", f"t:{text}-1 is a word", f"t:{text}-2 is a word"]
            shown += 3
        messages.append(f"a:to {messages[-1]}: shown {shown}")
        self.turns[name].append(Turn(text, messages))

    def rewind(self, name: str, at: int) -> str:
        """Take back the turn of a message, and those after it; what was asked there."""
        for number, turn in enumerate(self.turns[name]):
            if at < len(turn.messages):
                del self.turns[name][number:]
                return turn.text
            at -= len(turn.messages)
        raise AssertionError(at)

    def fork(self, name: str, turns: int) -> str:
        new = f"c{self.made}"
        self.made += 1
        self.turns[new] = [
            Turn(turn.text, list(turn.messages), (name, *turn.through)) for turn in self.turns[name][:turns]
        ]
        return new

    def delete(self, name: str) -> None:
        del self.turns[name]
        for other, turns in self.turns.items():
            self.turns[other] = [turn for turn in turns if name not in turn.through]


async def do(app: evrt.App, model: Model, step: Step) -> None:
    """Do it to both, and compare what a run was shown."""
    if not model.turns:
        return
    name = sorted(model.turns)[step.where % len(model.turns)]
    history = model.history(name)
    shown = history
    output: object = None
    if step.what == "say" or not history:
        output = (await app.run("chat", step.text, conversation=name)).output
        model.say(name, step.text)
    elif step.what == "fail":
        await app.run("chat", "fail", conversation=name)
        return
    elif step.what == "fork":
        turns = step.at % (len(model.turns[name]) + 1)
        upto = sum(len(turn.messages) for turn in model.turns[name][:turns])
        await app.conversations.fork(name, upto, conversation=model.fork(name, turns))
        return
    elif step.what == "delete":
        await app.conversations.delete(name)
        model.delete(name)
        return
    else:
        at = step.at % len(history)
        text = model.rewind(name, at)
        shown = model.history(name)
        if step.what == "edit":
            run = await app.conversations.edit(name, len(shown), step.text)
            text = step.text
        else:
            run = await app.conversations.retry(name, at)
        output = (await run).output
        model.say(name, text)
    assert output == shown


@settings(max_examples=EXAMPLES)
@given(
    st.lists(
        st.builds(
            Step,
            st.sampled_from(["say", "say", "say", "edit", "retry", "fork", "delete", "fail"]),
            st.integers(0, 5),
            st.integers(0, 30),
            st.sampled_from(["yes", "yes", "no", "look"]),
        ),
        min_size=3,
        max_size=12,
    )
)
def test_history_and_prompts_are_what_a_plain_list_says(steps: list[Step]) -> None:
    """B19, B20, S1.13, fault 31, fault 63: and every run is replayed to the same."""

    async def check() -> None:
        model = Model()
        async with talking("memory://") as app:
            for step in steps:
                await do(app, model, step)
            for name in model.turns:
                log = await app.log()
                if await log.ref("conversation", name, create=False) is not None:
                    assert await said(app, name) == model.history(name)
            for run in (await (await app.log()).streams("run-"))[-3:]:
                history = await app.get(run)
                if history.journal.requested is not None and history.state.status == "succeeded":
                    assert (await app.replay(run)).ok

    asyncio.run(check())
