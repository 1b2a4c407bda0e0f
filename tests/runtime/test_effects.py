"""The table of effects: what happens to a call that fails, times out, is cancelled, or is cut off by a crash."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

import evrt
from evrt.errors import Conflict, InvalidInput, UsageError
from evrt.events.calls import ToolCallFailed, ToolCallInDoubt, ToolCallRequested
from evrt.log import Log
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx, Watched, cut_off, put, until, watch

SOON = evrt.Retry(3, base_seconds=0.0)


@dataclass
class Shop:
    """What the tools act on: how often, with which keys, and how they are to behave."""

    keys: list[str | None] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    fails: int = 0
    hangs: int = 0

    async def serve(self, context: evrt.ToolContext[Shop]) -> str:
        self.keys.append(context.idempotency_key)
        self.attempts.append(context.attempt)
        if len(self.keys) <= self.fails:
            raise OSError(f"attempt {context.attempt} failed")
        if len(self.keys) <= self.hangs:
            await asyncio.Event().wait()
        return "served"


@evrt.tool(effect="read", retry=SOON, timeout=0.01)
async def read(context: evrt.ToolContext[Shop]) -> str:
    return await context.deps.serve(context)


@evrt.tool(retry=SOON, timeout=0.01)
async def keyed(idempotency_key: str, context: evrt.ToolContext[Shop]) -> str:
    assert idempotency_key == context.idempotency_key
    return await context.deps.serve(context)


@evrt.tool(timeout=0.01)
async def unkeyed(context: evrt.ToolContext[Shop]) -> str:
    return await context.deps.serve(context)


async def calling(url: str, tool: evrt.Tool, shop: Shop) -> tuple[evrt.App, evrt.Result]:
    """An app whose workflow calls the tool once and tells what it saw, and what came of running it."""
    app = evrt.App(url, deps=shop)

    @app.workflow
    async def buy(ctx: Ctx) -> str:
        try:
            return str(await ctx.call(tool))
        except evrt.ToolFailed as error:
            return f"{error.operation} {error.error_type}: {error.message}"

    return app, await app.run(buy)


@pytest.mark.parametrize("tool", [read, keyed], ids=["read", "keyed"])
async def test_what_may_be_repeated_is_tried_again_after_errors(url: str, tool: evrt.Tool) -> None:
    shop = Shop(fails=2)
    app, run = await calling(url, tool, shop)
    async with app:
        assert run.output == "served"
        assert shop.attempts == [1, 2, 3]
        assert (await app.replay(run.run_id)).complete
        assert len(shop.attempts) == 3


@pytest.mark.parametrize("tool", [read, keyed], ids=["read", "keyed"])
async def test_after_the_last_attempt_the_code_sees_the_error(url: str, tool: evrt.Tool) -> None:
    shop = Shop(fails=9)
    app, run = await calling(url, tool, shop)
    async with app:
        assert run.output == f"{tool.name}#1 OSError: attempt 3 failed"
        failures = [
            e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ToolCallFailed)
        ]
        assert [failure.final for failure in failures] == [False, False, True]
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize("tool", [read, keyed], ids=["read", "keyed"])
async def test_what_may_be_repeated_is_tried_again_after_a_time_out(url: str, tool: evrt.Tool) -> None:
    shop = Shop(hangs=2)
    app, run = await calling(url, tool, shop)
    async with app:
        assert run.output == "served"
        assert shop.attempts == [1, 2, 3]
        failures = [
            e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ToolCallFailed)
        ]
        assert [failure.failure.message for failure in failures] == ["No answer within 0.01 s."] * 2
        assert (await app.replay(run.run_id)).complete


async def test_a_key_stays_the_same_over_attempts_and_resumes(url: str) -> None:
    shop = Shop(fails=2)
    app, run = await calling(url, keyed, shop)
    async with app:
        assert shop.keys == [f"{run.run_id}:keyed#1"] * 3
        log = await app.log()
        position = next(r.position for r in await log.read() if r.type == "tool_call.failed")
        put(app, await cut_off(log, position))
        shop.fails = 0
        assert (await app.resume(run.run_id)).output == "served"
        assert set(shop.keys) == {f"{run.run_id}:keyed#1"}
        assert shop.attempts == [1, 2, 3, 2]
        await log.aclose()


async def test_a_write_without_a_key_that_raises_has_failed_and_is_not_repeated(url: str) -> None:
    shop = Shop(fails=1)
    app, run = await calling(url, unkeyed, shop)
    async with app:
        assert run.output == "unkeyed#1 OSError: attempt 1 failed"
        assert shop.attempts == [1]
        assert (await app.replay(run.run_id)).complete


def test_a_write_without_a_key_cannot_ask_for_retries() -> None:
    with pytest.raises(UsageError, match="can never be retried"):
        evrt.tool(retry=SOON)(unkeyed._function)


async def in_doubt(url: str) -> tuple[evrt.App, evrt.Result, Shop]:
    """A run whose write without a key has timed out."""
    shop = Shop(hangs=1)
    app, run = await calling(url, unkeyed, shop)
    assert (run.status, run.reason, run.waiting_for) == ("waiting", "in_doubt", ("unkeyed#1",))
    history = await app.get(run.run_id)
    assert [e.event.cause for e in history.events if isinstance(e.event, ToolCallInDoubt)] == ["timeout"]
    return app, run, shop


async def test_a_write_without_a_key_that_times_out_is_in_doubt_and_settled_with_its_result(url: str) -> None:
    app, run, shop = await in_doubt(url)
    async with app:
        assert await app.settle(run.run_id, result="it arrived", by="ann") == "unkeyed#1"
        run = await app.resume(run.run_id)
        assert run.output == "it arrived"
        assert shop.attempts == [1]
        assert (await app.replay(run.run_id)).complete


async def test_a_write_in_doubt_may_be_settled_as_failed(url: str) -> None:
    app, run, shop = await in_doubt(url)
    async with app:
        await app.settle(run.run_id, "unkeyed#1", error="the bank says no")
        run = await app.resume(run.run_id)
        assert run.output == "unkeyed#1 settled: the bank says no"
        assert shop.attempts == [1]
        assert (await app.replay(run.run_id)).complete


async def test_a_write_in_doubt_that_never_happened_is_made_again(url: str) -> None:
    app, run, shop = await in_doubt(url)
    async with app:
        await app.settle(run.run_id, again=True)
        run = await app.resume(run.run_id)
        assert run.output == "served"
        assert shop.attempts == [1, 2]
        intents = [
            e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ToolCallRequested)
        ]
        assert [intent.attempt for intent in intents] == [1, 2]
        assert (await app.replay(run.run_id)).complete


async def test_a_write_made_again_may_end_in_doubt_again(url: str) -> None:
    app, run, shop = await in_doubt(url)
    async with app:
        shop.hangs = 2
        await app.settle(run.run_id, again=True)
        run = await app.resume(run.run_id)
        assert (run.status, run.reason) == ("waiting", "in_doubt")
        await app.settle(run.run_id, result="at last")
        run = await app.resume(run.run_id)
        assert run.output == "at last"
        assert shop.attempts == [1, 2]
        assert (await app.replay(run.run_id)).complete


async def test_resuming_while_in_doubt_waits_on_and_makes_nothing(url: str) -> None:
    app, run, shop = await in_doubt(url)
    async with app:
        again = await app.resume(run.run_id)
        assert (again.status, again.reason) == ("waiting", "in_doubt")
        assert shop.attempts == [1]
        types = [e.type for e in (await app.get(run.run_id)).events]
        assert types.count("tool_call.in_doubt") == 1


async def test_a_settlement_is_one_of_three_and_is_given_once(url: str) -> None:
    app, run, _ = await in_doubt(url)
    async with app:
        with pytest.raises(UsageError, match="exactly one of them"):
            await app.settle(run.run_id, result=1, again=True)
        with pytest.raises(UsageError, match="exactly one of them"):
            await app.settle(run.run_id, result=1, error="both")
        await app.settle(run.run_id, result=1)
        with pytest.raises(Conflict, match="has no write in doubt"):
            await app.settle(run.run_id, result=2)
        with pytest.raises(Conflict, match="does not wait"):
            await app.settle(run.run_id, "unkeyed#1", result=2)


async def test_a_write_in_doubt_is_settled_while_other_branches_run(url: str) -> None:
    shop = Shop(hangs=1)
    go_on = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> None:
        await go_on.wait()

    async with evrt.App(url, deps=shop) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[Any]:
            async def works() -> str:
                await ctx.call(hold)
                return "worked"

            return await ctx.gather(ctx.call(unkeyed), works())

        running = await app.start(both)
        await until(app, "tool_call.in_doubt")
        await app.settle(running.run_id, result="it arrived")
        go_on.set()
        assert (await running).output == ["it arrived", "worked"]
        assert (await app.replay(running.run_id)).complete


# Crashes: the log is cut off between intent and outcome.


async def killed_after_the_intent(url: str, tool: evrt.Tool, shop: Shop) -> tuple[evrt.App, str, Log]:
    app, run = await calling(url, tool, shop)
    log = await app.log()
    position = next(row.position for row in await log.read() if row.type == "tool_call.requested")
    put(app, await cut_off(log, position))
    shop.keys.clear()
    shop.attempts.clear()
    return app, run.run_id, log


@pytest.mark.parametrize("tool", [read, keyed], ids=["read", "keyed"])
async def test_after_a_crash_what_may_be_repeated_is_made_again(url: str, tool: evrt.Tool) -> None:
    shop = Shop()
    app, run, before = await killed_after_the_intent(url, tool, shop)
    async with app:
        assert (await app.resume(run)).output == "served"
        assert shop.attempts == [1]
        assert shop.keys == [None if tool is read else f"{run}:keyed#1"]
    await before.aclose()


async def test_after_a_crash_a_write_without_a_key_is_in_doubt(url: str) -> None:
    shop = Shop()
    app, run, before = await killed_after_the_intent(url, unkeyed, shop)
    async with app:
        parked = await app.resume(run)
        assert (parked.status, parked.reason, parked.waiting_for) == ("waiting", "in_doubt", ("unkeyed#1",))
        history = await app.get(run)
        assert [e.event.cause for e in history.events if isinstance(e.event, ToolCallInDoubt)] == ["crash"]
        assert shop.attempts == []
        await app.settle(run, result="it arrived")
        assert (await app.resume(run)).output == "it arrived"
        assert (await app.replay(run)).complete
    await before.aclose()


async def test_what_was_declared_when_the_call_was_made_counts_after_a_crash(url: str) -> None:
    """A deploy that calls a write a read must not make it happen twice."""
    shop = Shop()
    app, run, before = await killed_after_the_intent(url, unkeyed, shop)
    async with app:
        redeclared = evrt.tool(effect="read", name="unkeyed")(unkeyed._function)
        other = put(evrt.App("memory://", deps=shop), await app.log())

        @other.workflow
        async def buy(ctx: Ctx) -> str:
            return str(await ctx.call(redeclared))

        parked = await other.resume(run)
        assert (parked.status, parked.reason) == ("waiting", "in_doubt")
        assert shop.attempts == []
    await before.aclose()


async def test_settled_or_not_interrupted_at_all_gives_the_same_digest(url: str) -> None:
    shop = Shop()
    app, run = await calling(url, unkeyed, shop)
    whole = (await app.get(run.run_id)).digest
    async with app:
        log = await app.log()
        position = next(row.position for row in await log.read() if row.type == "tool_call.requested")
        digests = []
        for result in ("served", "something else"):
            put(app, await cut_off(log, position))
            await app.resume(run.run_id)
            await app.settle(run.run_id, result=result)
            await app.resume(run.run_id)
            digests.append((await app.get(run.run_id)).digest)
        assert digests[0] == whole
        assert digests[1] != whole
        await log.aclose()


# Keys


async def test_a_tool_makes_its_own_key_from_its_arguments(url: str) -> None:
    shop = Shop()

    @evrt.tool(key=lambda claim, note: f"claim-{claim}")
    async def decide(claim: int, note: str, context: evrt.ToolContext[Shop]) -> str:
        return await context.deps.serve(context)

    async with evrt.App(url, deps=shop) as app:

        @app.workflow
        async def decides(ctx: Ctx) -> None:
            await ctx.call(decide, 7, note="fine")
            await ctx.call(decide, note="fine", claim=8)

        run = await app.run(decides)
        assert shop.keys == ["claim-7", "claim-8"]
        intents = [
            e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ToolCallRequested)
        ]
        assert [(intent.effect, intent.key) for intent in intents] == [
            ("write", "claim-7"),
            ("write", "claim-8"),
        ]


@pytest.mark.parametrize(
    "key, text",
    [
        (lambda claim: None, "gave None; a key is a text or a number"),
        (lambda claim: "", "gave ''; a key is a text or a number"),
        (lambda claim: claim["id"], "No idempotency key could be made."),
        (lambda: "no argument", "No idempotency key could be made."),
    ],
    ids=["none", "empty", "raises", "signature"],
)
async def test_a_call_without_a_usable_key_is_not_made(key: Any, text: str) -> None:
    """A key that is always the same would make the service drop every call but the first."""
    made: list[int] = []

    @evrt.tool(key=key)
    async def decide(claim: int) -> None:
        made.append(claim)

    async with evrt.App("memory://") as app:

        @app.workflow
        async def decides(ctx: Ctx) -> str:
            with pytest.raises(evrt.ToolFailed) as failed:
                await ctx.call(decide, 7)
            return failed.value.message

        run = await app.run(decides)
        assert text in run.output
        assert made == []
        assert (await app.replay(run.run_id)).complete


# Threads


async def test_sync_tools_run_in_threads_and_may_take_their_time(url: str) -> None:
    """Two of them meet at a barrier: neither blocks the loop or the other."""
    meeting = threading.Barrier(2)

    @evrt.tool(effect="read")
    def meet(number: int) -> int:
        meeting.wait(timeout=30)
        return number

    async with evrt.App(url) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[Any]:
            return await ctx.gather(ctx.call(meet, 1), ctx.call(meet, 2))

        run = await app.run(both)
        assert run.output == [1, 2]
        assert (await app.replay(run.run_id)).complete


async def test_a_sync_tool_that_times_out_is_given_up_on() -> None:
    finish = threading.Event()

    @evrt.tool(effect="read", timeout=0.01)
    def slow() -> None:
        finish.wait(timeout=30)

    async with evrt.App("memory://") as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> str:
            with pytest.raises(evrt.ToolFailed) as failed:
                await ctx.call(slow)
            return failed.value.error_type

        run = await app.run(impatient)
        finish.set()
        assert run.output == "timeout"


async def test_a_tool_that_raises_cancelled_by_itself_has_failed_like_any_other(url: str) -> None:
    """Nobody cancelled the run; a replay must not wait for somebody to do so."""

    @evrt.tool(effect="read")
    async def odd() -> None:
        raise asyncio.CancelledError

    async with evrt.App(url) as app:

        @app.workflow
        async def tells(ctx: Ctx) -> list[str]:
            texts = []
            for work in (ctx.call(odd), ctx.step("odd", odd._function)):
                with pytest.raises(evrt.errors.OperationFailed) as failed:
                    await work
                texts.append(failed.value.error_type)
            return texts

        run = await app.run(tells)
        assert run.output == ["CancelledError"] * 2
        assert (await app.replay(run.run_id)).complete


async def test_a_late_report_is_kept_only_until_the_outcome_is_durable(url: str) -> None:
    """A long run must not hold every result of every write."""
    async with evrt.App(url, deps=Shop()) as app:
        held: list[int] = []

        @app.workflow
        async def buys(ctx: Ctx) -> None:
            for _ in range(20):
                await ctx.call(unkeyed)
                held.append(len(ctx._execution.late))

        assert (await app.run(buys)).status == "succeeded"
        assert max(held) <= 2


async def test_the_append_of_a_failed_attempt_is_the_intent_of_the_next(url: str) -> None:
    shop = Shop(fails=1)
    app = evrt.App(url, deps=shop)
    async with app:

        @app.workflow
        async def buy(ctx: Ctx) -> None:
            await ctx.call(read)

        watched: Watched = await watch(app)
        await app.run(buy)
        assert watched.types[1:] == [["tool_call.failed"], ["tool_call.completed", "run.succeeded"]]


@evrt.tool(timeout="20ms")
async def count(things: int) -> int:
    """A write that takes longer than it may, and would return a number."""
    await asyncio.sleep(60)
    return things


async def test_a_settlement_that_does_not_fit_the_tool_leaves_the_write_in_doubt(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def counting(ctx: evrt.Context[None]) -> int:
            return int(await ctx.call(count, things=3)) + 1

        run = await app.run(counting)
        await app.settle(run.run_id, result="three")
        again = await app.resume(run.run_id)
        assert (again.status, again.reason) == ("waiting", "in_doubt")
        await app.settle(run.run_id, result=3)
        assert (await app.resume(run.run_id)).unwrap() == 4
        assert (await app.replay(run.run_id)).ok


async def test_a_settlement_that_no_tool_of_an_agent_could_have_returned_is_refused(url: str) -> None:
    model = ScriptedModel([call("count", things=3), "Counted."])
    async with evrt.App(url, models={"script": model}) as app:
        run = await app.run(app.agent("counter", model="script", tools=[count]), "Count.")
        with pytest.raises(InvalidInput, match="count cannot have returned 'three'"):
            await app.settle(run.run_id, result="three")
        with pytest.raises(UsageError, match="exactly one"):
            await app.settle(run.run_id)
        await app.settle(run.run_id, result=3)
        assert (await app.resume(run.run_id)).output == "Counted."


async def test_a_write_made_again_and_cut_off_again_is_in_doubt_again(url: str) -> None:
    @evrt.tool(timeout="20ms")
    async def vanish(thing: str) -> str:
        await asyncio.sleep(60)
        return thing

    async with evrt.App(url) as app:

        @app.workflow
        async def vanishing(ctx: evrt.Context[None]) -> str:
            return str(await ctx.call(vanish, thing="hat"))

        run = await app.run(vanishing)
        await app.settle(run.run_id, again=True)
        history = await app.get(run.run_id)
        observed = [*history.events]
        await app.resume(run.run_id)
        history = await app.get(run.run_id)
        kinds = [event.type for event in history.events[len(observed) :]]
        second = kinds.index("tool_call.requested")
        # Between the second request and its doubt nobody waits for a word about the first.
        between = history.at(len(observed) + second + 1)
        assert between.journal.waiting_for_settlement() == []
        assert kinds.count("tool_call.in_doubt") == 1
        assert [o.identity for o in history.journal.waiting_for_settlement()] == ["vanish#1"]


@pytest.mark.parametrize("effect, keyed", [("write", False), ("write", True), ("read", False)])
async def test_a_tool_that_cannot_tell_whether_its_write_happened_is_in_doubt_and_no_other(
    url: str, effect: Any, keyed: bool
) -> None:
    tries: list[int] = []

    async def wire(amount: int) -> str:
        tries.append(amount)
        if len(tries) == 1:
            raise evrt.OutcomeUnknown("the line broke")
        return "wired"

    async def wire_once(amount: int, idempotency_key: str) -> str:
        return await wire(amount)

    repeatable = keyed or effect == "read"
    made = evrt.Tool.from_function(
        wire_once if keyed else wire, name="wire", effect=effect, retry=SOON if repeatable else None
    )
    async with evrt.App(url) as app:

        @app.workflow
        async def pays(ctx: Ctx) -> str:
            return str(await ctx.call(made, amount=3))

        run = await app.run(pays)
        if repeatable:
            assert (run.output, tries) == ("wired", [3, 3])
            return
        assert (run.reason, run.waiting_for, tries) == ("in_doubt", ("wire#1",), [3])
        doubts = [e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ToolCallInDoubt)]
        assert [doubt.cause for doubt in doubts] == ["the line broke"]
        await app.settle(run.run_id, again=True)
        assert (await app.resume(run.run_id)).output == "wired"
        assert (await app.replay(run.run_id)).complete
