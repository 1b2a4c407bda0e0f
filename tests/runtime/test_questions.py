"""Questions to a person: asked once, waited for across restarts, answered once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import evrt
from evrt.errors import Conflict, NotFound, UsageError
from runtime.logs import Ctx, until


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


async def test_a_question_parks_the_run_and_the_answer_lets_it_go_on(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def publish(ctx: Ctx) -> Any:
            return await ctx.ask("Publish?", options=["yes", "no"])

        run = await app.run(publish)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "question", ("ask#1",))
        with pytest.raises(evrt.errors.RunWaiting):
            run.unwrap()
        history = await app.get(run.run_id)
        assert (history.state.status, history.state.waiting_for) == ("waiting", ("ask#1",))
        assert history.events[-2].event.model_dump(exclude={"digest"}) == {
            "operation": "ask#1",
            "question": "Publish?",
            "options": ("yes", "no"),
            "due": None,
            "descriptions": None,
            "allow_free_form": True,
            "answer_schema": None,
            "tool": None,
            "arguments": None,
            "tool_call_id": None,
        }
        assert await app.answer(run.run_id, "yes", by="ann") == "ask#1"
        assert (await app.resume(run.run_id)).output == "yes"
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize("answer", ["text", None, 0, False, {"a": [1, None]}, "72 °F 🌡"])
async def test_an_answer_is_any_json(url: str, answer: Any) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return [await ctx.ask("What?")]

        run = await app.run(asks)
        await app.answer(run.run_id, answer)
        assert (await app.resume(run.run_id)).output == [answer]
        assert (await app.replay(run.run_id)).complete


async def test_the_first_answer_wins_and_a_second_one_is_refused(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("What?")

        run = await app.run(asks)
        results = await asyncio.gather(
            *(app.answer(run.run_id, n, operation="ask#1") for n in range(5)), return_exceptions=True
        )
        assert [type(result) for result in results].count(str) == 1
        refused = [result for result in results if isinstance(result, BaseException)]
        assert all(isinstance(error, Conflict) for error in refused)
        assert (await app.resume(run.run_id)).output == results.index("ask#1")
        with pytest.raises(Conflict, match="has ended"):
            await app.answer(run.run_id, "late")


async def test_of_two_open_questions_one_has_to_be_named(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> list[Any]:
            return await ctx.gather(ctx.ask("A?"), ctx.ask("B?"))

        run = await app.run(asks)
        a, b = "gather#1:0/ask#1", "gather#1:1/ask#1"
        assert run.waiting_for == (a, b)
        with pytest.raises(UsageError, match="waits for more than one question: name one of"):
            await app.answer(run.run_id, 1)
        with pytest.raises(NotFound, match="has no operation ask#9"):
            await app.answer(run.run_id, 1, operation="ask#9")
        await app.answer(run.run_id, "b", operation=b)
        parked = await app.resume(run.run_id)
        assert parked.waiting_for == (a,)
        with pytest.raises(Conflict, match="does not wait"):
            await app.answer(run.run_id, "again", operation=b)
        await app.answer(run.run_id, "a")
        run = await app.resume(run.run_id)
        assert run.output == ["a", "b"]
        assert (await app.replay(run.run_id)).complete


async def test_resuming_without_an_answer_parks_the_run_again(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("What?")

        run = await app.run(asks)
        again = await app.resume(run.run_id)
        assert (again.status, again.waiting_for) == ("waiting", ("ask#1",))
        types = [e.type for e in (await app.get(run.run_id)).events]
        assert types.count("question.asked") == 1


async def test_an_answer_that_comes_while_other_branches_run_is_taken_in_at_once(url: str) -> None:
    answered = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> None:
        await answered.wait()

    async with evrt.App(url) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[Any]:
            async def works() -> str:
                await ctx.call(hold)
                await ctx.call(look, 1)
                return "worked"

            return await ctx.gather(ctx.ask("What?"), works())

        running = await app.start(both)
        await until(app, "question.asked")
        await app.answer(running.run_id, "this")
        answered.set()
        run = await running
        assert run.output == ["this", "worked"]
        history = await app.get(run.run_id)
        assert "run.waiting" not in [e.type for e in history.events]
        assert history.state.epoch == 1
        assert (await app.replay(run.run_id)).complete


async def test_answers_to_several_questions_in_quick_succession_are_all_taken_in(url: str) -> None:
    answered = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> None:
        await answered.wait()

    async with evrt.App(url) as app:

        @app.workflow
        async def many(ctx: Ctx) -> list[Any]:
            async def works() -> str:
                await ctx.call(hold)
                for number in range(5):
                    await ctx.call(look, number)
                return "worked"

            return await ctx.gather(works(), *(ctx.ask(f"{n}?") for n in range(5)))

        running = await app.start(many)
        await until(app, "question.asked", 5)
        for number in range(5):
            await app.answer(running.run_id, number, operation=f"gather#1:{number + 1}/ask#1")
            answered.set()
        run = await running
        if run.status == "waiting":  # The last answers may have come after the last append.
            run = await app.resume(run.run_id)
        assert run.output == ["worked", 0, 1, 2, 3, 4]
        assert (await app.replay(run.run_id)).complete


async def test_an_answer_that_comes_while_the_run_is_being_parked_is_not_lost(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("What?")

        async def answer_at_once(run: str) -> None:
            await until(app, "question.asked")
            await app.answer(run, "now")

        running = await app.start(asks)
        result, _ = await asyncio.gather(running, answer_at_once(running.run_id))
        if result.status == "waiting":
            result = await app.resume(running.run_id)
        assert result.output == "now"


async def test_a_question_needs_a_text() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def mute(ctx: Ctx) -> None:
            await ctx.ask(" ")

        run = await app.run(mute)
        assert run.failure is not None
        assert run.failure.message == "A question needs a text."


async def test_there_is_no_answer_to_a_run_that_asked_nothing(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def fails(ctx: Ctx) -> None:
            raise ValueError("no")

        run = await app.run(fails)
        with pytest.raises(Conflict, match=r"has ended \(failed\)"):
            await app.answer(run.run_id, 1)
        with pytest.raises(Conflict, match="has ended"):
            await app.settle(run.run_id, result=1)
        with pytest.raises(NotFound):
            await app.answer("run-nobody", 1)
