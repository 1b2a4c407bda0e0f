"""What was said in a conversation, in the app: all runs, in order, whole, now or as of a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import evrt
from evrt.errors import InvalidInput, NotFound
from evrt.testing import ScriptedModel, call

LONG = "word " * 40_000


@evrt.tool(effect="read")
async def look_up(word: str) -> str:
    """A word in the dictionary."""
    return LONG


def reply(request: Any) -> Any:
    if request.messages[-1]["content"] == "fail":
        raise KeyError("no such thing")
    if request.messages[-1]["role"] == "user":
        return call("look_up", word="word")
    return f"{len(request.messages)} messages"


@pytest.fixture(params=["file", "memory"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> evrt.App:
    url = f"sqlite:///{tmp_path}/evrt.db" if request.param == "file" else "memory://"
    app = evrt.App(url, models={"m": ScriptedModel(reply)})
    app.agent("desk", model="m", tools=[look_up])
    return app


def roles(messages: list[Any]) -> list[str]:
    return [message["role"] for message in messages]


async def test_the_history_of_a_conversation_is_all_that_was_said_whole_and_in_order(app: evrt.App) -> None:
    async with app:
        first = await app.run("desk", "hello", conversation="c")
        await app.run("desk", "fail", conversation="c")
        await app.run("desk", "hello", conversation="other")
        second = await app.run("desk", "hello", conversation="c")
        messages = await app.message_history("c")
        # Run by run as the runs themselves tell it, and what was said twice is there twice.
        assert messages == (await app.get(first.run_id)).messages + (await app.get(second.run_id)).messages
        assert roles(messages) == ["user", "assistant", "tool", "assistant"] * 2
        assert messages[2]["content"] == LONG  # type: ignore[call-overload,index]
        everything = await app.message_history("c", include_failed_runs=True)
        assert [message["content"] for message in everything[4:6]] == ["fail", "hello"]  # type: ignore[call-overload,index]
        ref = (await app.get(first.run_id)).state.conversation
        assert ref is not None
        assert await app.message_history(ref) == messages


async def test_the_history_is_there_as_of_a_moment(app: evrt.App) -> None:
    async with app:
        first = await app.run("desk", "hello", conversation="c")
        position = await (await app.log()).position()
        messages = await app.message_history("c")
        await app.run("desk", "hello", conversation="c")
        assert await app.message_history("c", as_of=position) == messages
        assert await app.message_history("c", as_of=f"{first.run_id}@1") == messages[:1]
        assert await app.last_assistant_message("c", as_of=f"{first.run_id}@1") is None


async def test_the_last_message_of_an_assistant_is_one_that_says_something(app: evrt.App) -> None:
    async with app:
        run = await app.run("desk", "hello", conversation="c")
        assert await app.last_assistant_message("c") == {"role": "assistant", "content": "3 messages"}
        called = next(e for e in (await app.get(run.run_id)).events if e.type == "model_call.completed")
        assert roles(await app.message_history("c", as_of=called.position)) == ["user", "assistant"]
        assert await app.last_assistant_message("c", as_of=called.position) is None  # It only calls a tool.


async def test_a_conversation_or_moment_that_there_is_not_is_told(app: evrt.App) -> None:
    async with app:
        await app.run("desk", "hello", conversation="c")
        with pytest.raises(NotFound, match="There is no conversation 'd'"):
            await app.message_history("d")
        with pytest.raises(NotFound, match="there is no position 9999"):
            await app.last_assistant_message("c", as_of=9_999)
        with pytest.raises(InvalidInput, match="names no moment"):
            await app.message_history("c", as_of="soon")
