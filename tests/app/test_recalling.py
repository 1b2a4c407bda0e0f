"""What a run is shown of its conversation: the newest messages, recorded once, and read from the log only as far as new."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

import evrt
from app.talking import Ctx, look_up, said, say, talking, text_of
from evrt.effects.contract import ModelRequest
from evrt.errors import InvalidInput, UnusableLog
from evrt.events.calls import ModelCallRequested
from evrt.events.conversation import ConversationRecalled
from evrt.folds.chats import Turn
from evrt.folds.recalling import choose, units_of
from evrt.log.contract import PAYLOAD_BYTES_MAX
from evrt.runtime.chats import Chats
from evrt.testing import ScriptedModel, call

CALLS = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}
RESULTS = [{"role": "tool", "tool_call_id": name, "content": name} for name in "ab"]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def test_a_run_sees_what_was_said_before_with_the_results_of_tools() -> None:
    """B20, S1.13, fault 63, fault 31: history is there by itself, tool calls keep results, "yes" twice stays twice."""
    async with talking("memory://") as app:
        shown = await say(app, "hello", "look", "yes", "yes", "so?")
        looked = ["u:look", "a:2 calls", "t:look-1 is a word", "t:look-2 is a word"]
        first = ["u:hello", "a:to u:hello: shown 1"]
        assert shown[:6] == first + looked
        assert shown[7::2] == ["u:yes", "u:yes"]
        assert shown == (await said(app))[:-2]


async def test_what_failed_is_not_shown_and_a_run_without_a_conversation_is_shown_nothing() -> None:
    """S1.13, B20."""
    async with talking("memory://") as app:
        await say(app, "hello", "fail")
        assert await say(app, "and now?") == ["u:hello", "a:to u:hello: shown 1"]
        alone = await app.run("chat", "hello")
        assert alone.output == []
        assert "conversation.recalled" not in [e.type for e in (await app.get(alone.run_id)).events]


@pytest.mark.parametrize(
    "messages_max, shown",
    [
        (0, []),
        (1, ["a:3"]),
        (2, ["u:3", "a:3"]),
        (3, ["u:3", "a:3"]),
        (4, ["u:3", "a:3"]),
        (5, ["a:2 calls", "t:a", "t:b", "u:3", "a:3"]),
        (6, ["u:2", "a:2 calls", "t:a", "t:b", "u:3", "a:3"]),
        (100, ["u:1", "a:1", "u:2", "a:2 calls", "t:a", "t:b", "u:3", "a:3"]),
    ],
)
def test_a_limit_leaves_out_the_oldest_and_parts_no_call_from_its_results(
    messages_max: int, shown: list[str]
) -> None:
    """B20: max_history_messages; fault 63."""
    turns = [
        Turn("run-3", 3, (user("3"), {"role": "assistant", "content": "3"})),
        Turn("run-2", 2, (user("2"), CALLS, *RESULTS)),
        Turn("run-1", 1, (user("1"), {"role": "assistant", "content": "1"})),
    ]
    chosen = choose(turns, messages_max=messages_max, bytes_max=10_000)
    assert text_of(chosen.messages) == shown
    assert chosen.omitted == 8 - len(shown)


@pytest.mark.parametrize(
    "messages, shown",
    [
        ([CALLS, RESULTS[1], RESULTS[0]], [CALLS, *RESULTS]),
        ([CALLS], []),
        ([CALLS, RESULTS[1]], [{**CALLS, "tool_calls": [{"id": "b"}]}, RESULTS[1]]),
        ([{**CALLS, "content": "Wait."}], [{"role": "assistant", "content": "Wait."}]),
        ([user("1"), RESULTS[0]], [user("1")]),
        ([CALLS, *RESULTS, CALLS, *RESULTS], [CALLS, *RESULTS, CALLS, *RESULTS]),
        ([CALLS, user("between"), *RESULTS], [CALLS, *RESULTS, user("between")]),
    ],
)
def test_every_call_is_shown_with_its_result_behind_it_or_not_at_all(messages: Any, shown: Any) -> None:
    """Fault 63: what a model would refuse is never in a prompt."""
    assert [message for unit in units_of(messages) for message in unit] == shown


async def test_more_than_an_event_can_hold_is_left_out_from_the_oldest_on() -> None:
    """B20."""
    app = evrt.App("memory://")

    @app.workflow
    async def recall(ctx: Ctx, text: str) -> list[object]:
        history = await ctx.history()
        return [next(str(message["content"])[0] for message in history) if history else "", history.omitted]

    async with app:
        for letter in "abcde":
            await app.run("recall", letter * 300_000, conversation="c")
        result = await app.run("recall", "f", conversation="c")
        assert result.output == ["c", 2]
        recalled = (await (await app.log()).read_stream(result.run_id))[3]
        assert recalled.type == "conversation.recalled"
        assert 900_000 < recalled.payload_length <= PAYLOAD_BYTES_MAX


async def test_a_model_call_refers_to_the_history_and_is_rebuilt_as_it_was_given() -> None:
    """B20: the bytes of what was said before are written once for a run, however often a model is given them."""
    model = ScriptedModel(lambda request: f"shown {len(request.messages)}")
    app = evrt.App("memory://", models={"m": model})

    @app.workflow
    async def chat(ctx: Ctx, text: str) -> str:
        history = await ctx.history()
        for _ in range(3):
            await ctx.model([{"role": "system", "content": "Be brief."}, *history, user(text)], model="m")
        changed = [*history, user("?")]
        if history:
            changed[0]["content"] = "something else"
        return (await ctx.model(changed, model="m", name="other")).text

    async with app:
        await app.run("chat", "needle " * 100, conversation="c")
        second = await app.run("chat", "hello", conversation="c")
        history = await app.get(second.run_id)
        asked = [e.event.operation for e in history.events if isinstance(e.event, ModelCallRequested)]
        given = [list(request.messages) for request in model.requests[-4:]]
        assert [history.request(operation)["messages"] for operation in asked] == given
        assert given[-1][0]["content"] == "something else"
        rows = await (await app.log()).read_stream(second.run_id)
        assert [row.type for row in rows if b"needle" in (row.payload or b"")] == ["conversation.recalled"]
        assert (await app.replay(second.run_id)).ok
        [at] = [row.position for row in rows if row.type == "conversation.recalled"]
        await (await app.log()).erase_payload(at)
        with pytest.raises(UnusableLog, match="erased"):
            (await app.get(second.run_id)).request(asked[0])


async def test_a_turn_reads_what_is_new_and_not_the_whole_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B20: by the rows that are read."""
    async with talking(f"sqlite:///{tmp_path}/evrt.db") as app:
        log = await app.log()
        counted: list[int] = []
        read = type(log).read

        async def counting(self: Any, **options: Any) -> Any:
            rows = await read(self, **options)
            counted[-1] += len(rows)
            return rows

        monkeypatch.setattr(type(log), "read", counting)
        for _ in range(25):
            counted.append(0)
            await say(app, "hello")
        assert set(counted[2:]) == {counted[2]}
        assert 0 < counted[2] <= 12


async def test_what_a_run_has_recalled_stays_whatever_is_said_meanwhile() -> None:
    """B20: on resume and replay the same is read, without the conversation."""
    app = evrt.App("memory://")

    @app.workflow
    async def twice(ctx: Ctx, text: str) -> list[list[str]]:
        before = text_of(await ctx.history())
        await ctx.say(f"{text}!")
        await ctx.ask("Go on?")
        return [before, text_of(await ctx.history())]

    async with app:
        first = await app.run("twice", "first", conversation="c")
        second = await app.run("twice", "second", conversation="c")
        await app.answer(first.run_id, "yes")
        # The older one sees nothing of the one that came later, which is at it still.
        assert (await app.resume(first.run_id)).output == [[], []]
        third = await app.run("twice", "third", conversation="c")
        await app.answer(second.run_id, "yes")
        heard = ["u:first", "a:first!"]
        assert (await app.resume(second.run_id)).output == [heard, heard]
        await app.answer(third.run_id, "yes")
        everything = [*heard, "u:second", "a:second!"]
        assert (await app.resume(third.run_id)).output == [everything, everything]
        assert (await app.replay(second.run_id)).ok
        await app.cancel((await app.run("twice", "fourth", conversation="c")).run_id)
        fifth = await app.run("twice", "fifth", conversation="c")
        [recalled] = [
            e.event for e in (await app.get(fifth.run_id)).events if isinstance(e.event, ConversationRecalled)
        ]
        assert text_of(recalled.messages) == [*everything, "u:third", "a:third!"]


async def test_a_call_of_a_run_that_is_still_at_it_is_not_shown() -> None:
    """B20, fault 63: what an older run has come to is seen, as far as a model takes it."""
    app = evrt.App("memory://", models={"m": ScriptedModel(lambda _: call("look_up", word="x"))})

    @app.workflow
    async def stuck(ctx: Ctx, text: str) -> list[str]:
        shown = text_of(await ctx.history())
        await ctx.model(text, model="m", tools=[look_up])
        await ctx.ask("Look it up?")
        return shown

    async with app:
        await app.run("stuck", "first", conversation="c")
        second = await app.run("stuck", "second", conversation="c")
        await app.answer(second.run_id, "no")
        assert (await app.resume(second.run_id)).output == ["u:first"]
        assert await said(app) == ["u:first", "a:1 calls", "u:second", "a:1 calls"]


async def test_it_is_told_whether_what_was_said_can_be_trusted() -> None:
    """B20: what a tool found, and whatever came of it, is untrusted for the runs after it as well."""
    app = talking("memory://")

    @app.workflow
    async def trust(ctx: Ctx, messages_max: int) -> list[str]:
        await ctx.history(messages_max)
        return list(ctx.untrusted)

    async def untrusted(messages_max: int, conversation: str) -> object:
        return (await app.run("trust", messages_max, conversation=conversation)).output

    async with app:
        await say(app, "hello", "clock")
        assert await untrusted(100, "c") == []
        await say(app, "look", "so?")
        assert await untrusted(2, "c") == [
            "history"
        ]  # Only the answer after it: that was shown what was found.
        assert await untrusted(100, "other") == []
        await say(app, "look", "hello", to="other")
        assert await untrusted(100, "other") == ["history"]


@pytest.mark.parametrize("messages_max", [-1, 10_001, 2.5, "5"])
async def test_a_limit_that_is_none_is_refused(messages_max: Any) -> None:
    """B20."""
    app = evrt.App("memory://")

    @app.workflow
    async def recall(ctx: Ctx) -> str:
        with pytest.raises(InvalidInput, match="0 to 10,000 messages"):
            await ctx.history(messages_max)
        return "refused"

    async with app:
        assert (await app.run("recall", conversation="c")).output == "refused"


async def test_what_a_process_holds_of_conversations_has_a_limit_that_changes_nothing(tmp_path: Path) -> None:
    """B20."""
    async with talking(f"sqlite:///{tmp_path}/evrt.db") as app:
        app._chats = small = Chats(bytes_max=1)
        for number in range(3):
            for name in ("a", "b"):
                assert len(await say(app, "hello", to=name)) == 2 * number
        assert len(small._held) == 1
        async with talking(app.url) as other:
            assert len(await say(other, "hello", to="a")) == 6
        assert len(await say(app, "hello", to="a")) == 8


async def test_a_large_settlement_is_recalled_whole() -> None:
    """Fault 63: what came from outside is a tool's result like any other."""

    @evrt.tool(timeout="20ms")
    async def pay(amount: int) -> str:
        """Pay somebody; nobody can tell in time whether that has happened."""
        await asyncio.sleep(60)
        return "paid"

    def script(request: ModelRequest) -> Any:
        return call("pay", amount=1) if request.messages[-1]["role"] == "user" else "paid"

    app = evrt.App("memory://", models={"m": ScriptedModel(script)})
    app.agent("payer", model="m", tools=[pay])

    @app.workflow
    async def recall(ctx: Ctx) -> int:
        return max(len(orjson.dumps(message)) for message in await ctx.history())

    async with app:
        waiting = await app.run("payer", "pay", conversation="c")
        assert waiting.reason == "in_doubt"
        await app.settle(waiting.run_id, result="x" * 5_000)
        await app.resume(waiting.run_id)
        longest = (await app.run("recall", conversation="c")).output
        assert isinstance(longest, int)
        assert longest > 5_000
