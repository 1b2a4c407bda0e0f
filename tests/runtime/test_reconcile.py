"""A tool's own reconcile function is asked what came of a write in doubt, before a person is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

import evrt
from evrt.errors import UsageError
from evrt.events.calls import ToolCallInDoubt, ToolCallSettled, ToolCallUnreconciled
from evrt.history import load_run
from runtime.logs import Ctx, cut_off, put, watch


@dataclass
class Bank:
    """What really happened: payments by the operation that made them; and what it is asked about them."""

    payments: dict[str, int] = field(default_factory=dict)
    made: int = 0
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    fails: int = 0
    loses: int = 0
    hangs: bool = True

    async def pay(self, context: evrt.ToolContext[Bank], amount: int) -> str:
        self.made += 1
        if self.made > self.loses:
            self.payments[context.operation] = amount
        if self.hangs:
            await asyncio.Event().wait()
        return f"paid {amount}"


async def look_up(amount: int, context: evrt.ToolContext[Bank]) -> evrt.Completed | evrt.NotDone:
    bank = context.deps
    bank.asked.append((context.operation, amount, context.attempt))
    if len(bank.asked) <= bank.fails:
        raise ConnectionError("The bank does not answer.")
    if context.operation in bank.payments:
        return evrt.Completed(f"paid {amount}")
    bank.hangs = False
    return evrt.NotDone()


def saying(*findings: Any) -> Callable[..., Any]:
    """A reconcile function that says these one after another, and the last one for ever."""
    left = list(findings)

    async def say(amount: int) -> Any:
        return left.pop(0) if len(left) > 1 else left[0]

    return say


def paying(reconcile: Callable[..., Any], timeout: float | None = 0.02) -> evrt.Tool:
    @evrt.tool(reconcile=reconcile, timeout=timeout)
    async def pay(amount: int, context: evrt.ToolContext[Bank], memo: str = "") -> str:
        return await context.deps.pay(context, amount)

    return pay


def buying(url: str, bank: Bank, tool: evrt.Tool) -> evrt.App:
    app = evrt.App(url, deps=bank)

    @app.workflow
    async def buy(ctx: Ctx) -> str:
        try:
            return str(await ctx.call(tool, 3))
        except evrt.ToolFailed as error:
            return f"{error.error_type}: {error.message}"

    return app


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evrt.runtime.reconciling.RECONCILE_RETRY", evrt.Retry(3, base_seconds=0.0))


async def events(app: evrt.App, run: str, *types: type) -> list[Any]:
    return [e.event for e in (await app.get(run)).events if isinstance(e.event, types)]


async def test_a_write_that_times_out_and_happened_is_settled_by_its_own_function(url: str) -> None:
    bank = Bank()
    async with buying(url, bank, paying(look_up)) as app:
        run = await app.run("buy")
        assert run.output == "paid 3"
        assert bank.made == 1
        assert bank.asked == [("pay#1", 3, 1)]
        settled = (await events(app, run.run_id, ToolCallSettled))[0]
        assert (settled.outcome, settled.result, settled.by) == ("completed", "paid 3", "reconcile")
        types = [e.type for e in (await app.get(run.run_id)).events]
        assert types[-5:] == [
            "tool_call.requested",
            "tool_call.in_doubt",
            "tool_call.settled",
            "input.received",
            "run.succeeded",
        ]


async def test_a_replay_does_not_ask_again(url: str) -> None:
    bank = Bank()
    async with buying(url, bank, paying(look_up)) as app:
        run = await app.run("buy")
        bank.asked.clear()
        (await watch(app)).sealed = True
        assert (await app.replay(run.run_id)).complete
        assert bank.asked == []


async def test_a_write_that_did_not_happen_is_made_again(url: str) -> None:
    bank = Bank(loses=1)
    async with buying(url, bank, paying(look_up)) as app:
        run = await app.run("buy")
        assert run.output == "paid 3"
        assert bank.made == 2
        assert (await app.replay(run.run_id)).complete


async def test_a_write_made_again_is_looked_up_anew_when_it_is_in_doubt_again(url: str) -> None:
    """What the run itself has written about the first doubt is no word on the second."""
    bank = Bank()
    async with buying(url, bank, paying(saying(evrt.NotDone(), evrt.Completed("paid at last")))) as app:
        run = await app.run("buy")
        assert run.output == "paid at last"
        assert bank.made == 2
        assert len(await events(app, run.run_id, ToolCallInDoubt)) == 2
        assert (await app.replay(run.run_id)).complete


async def test_a_write_that_failed_is_an_error_for_the_code(url: str) -> None:
    tool = paying(saying(evrt.Failed("that is too much", "refused")))
    async with buying(url, Bank(), tool) as app:
        run = await app.run("buy")
        assert run.output == "refused: that is too much"
        assert (await app.replay(run.run_id)).complete


async def test_where_it_cannot_be_told_a_person_is_asked_and_the_function_again_at_a_resume(url: str) -> None:
    answers: list[Any] = [evrt.Unknown(), evrt.Unknown(), evrt.Completed("paid after all")]
    async with buying(url, Bank(), paying(saying(*answers))) as app:
        run = await app.run("buy")
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "in_doubt", ("pay#1",))
        assert [event.failure for event in await events(app, run.run_id, ToolCallUnreconciled)] == [None]
        run = await app.resume(run.run_id)
        assert (run.status, run.reason) == ("waiting", "in_doubt")
        run = await app.resume(run.run_id)
        assert run.output == "paid after all"
        assert len(await events(app, run.run_id, ToolCallInDoubt)) == 1
        assert (await app.replay(run.run_id)).complete


async def test_a_persons_word_counts_where_the_function_cannot_tell(url: str) -> None:
    asked: list[int] = []

    async def shrug(amount: int) -> evrt.Unknown:
        asked.append(amount)
        return evrt.Unknown()

    async with buying(url, Bank(), paying(shrug)) as app:
        run = await app.run("buy")
        await app.settle(run.run_id, result="it arrived", by="ann")
        run = await app.resume(run.run_id)
        assert run.output == "it arrived"
        assert asked == [3]
        assert (await app.replay(run.run_id)).complete


async def test_a_function_that_raises_is_asked_again_and_each_try_is_recorded(url: str) -> None:
    bank = Bank(fails=2)
    async with buying(url, bank, paying(look_up)) as app:
        run = await app.run("buy")
        assert run.output == "paid 3"
        tries = await events(app, run.run_id, ToolCallUnreconciled)
        assert [(t.failure.error_type, t.attempt, t.final) for t in tries] == [
            ("ConnectionError", 1, False),
            ("ConnectionError", 2, False),
        ]
        assert (await app.replay(run.run_id)).complete


async def test_a_function_that_goes_on_raising_leaves_it_to_a_person(url: str) -> None:
    bank = Bank(fails=9)
    async with buying(url, bank, paying(look_up)) as app:
        run = await app.run("buy")
        assert (run.status, run.reason) == ("waiting", "in_doubt")
        assert len(bank.asked) == 3
        assert [t.final for t in await events(app, run.run_id, ToolCallUnreconciled)] == [False, False, True]


async def test_a_function_has_the_time_that_its_tool_has(url: str) -> None:
    async def ponder(amount: int) -> None:
        await asyncio.Event().wait()

    async with buying(url, Bank(), paying(ponder)) as app:
        run = await app.run("buy")
        assert run.reason == "in_doubt"
        last = (await events(app, run.run_id, ToolCallUnreconciled))[-1]
        assert last.failure.message == "The reconcile function gave no answer within 0.02 s."


@pytest.mark.parametrize(
    "returned,text",
    [
        (
            "ok",
            (
                "The reconcile function of tool pay returned 'ok'. It has to return one of evrt.Completed(result), "
                "evrt.Failed(message), evrt.NotDone() and evrt.Unknown()."
            ),
        ),
        (None, "The reconcile function of tool pay returned None. It has to return"),
        (evrt.Completed, "returned <class 'evrt.effects.reconcile.Completed'>"),
        (evrt.Completed(7), "says that the tool returned 7, which it cannot have"),
        (evrt.Completed(object()), "which it cannot have"),
    ],
    ids=["a text", "nothing", "a class", "another type", "no JSON"],
)
async def test_what_is_no_finding_is_recorded_in_clear_words_and_left_to_a_person(
    url: str, returned: Any, text: str
) -> None:
    async with buying(url, Bank(), paying(saying(returned))) as app:
        run = await app.run("buy")
        assert run.reason == "in_doubt"
        tries = await events(app, run.run_id, ToolCallUnreconciled)
        assert len(tries) == 1
        assert text in tries[0].failure.message
        assert tries[0].final


async def test_a_write_is_made_again_three_times_at_most_by_the_functions_word(url: str) -> None:
    bank = Bank()
    async with buying(url, bank, paying(saying(evrt.NotDone()))) as app:
        run = await app.run("buy")
        assert (run.status, run.reason) == ("waiting", "in_doubt")
        assert bank.made == 3
        last = (await events(app, run.run_id, ToolCallUnreconciled))[-1]
        assert last.failure.message.startswith("It did not happen in 3 attempts")


async def test_after_a_crash_the_function_is_asked(url: str) -> None:
    bank = Bank(hangs=False)
    async with buying(url, bank, paying(look_up)) as app:
        run = await app.run("buy")
        log = await app.log()
        position = next(row.position for row in await log.read() if row.type == "tool_call.requested")
        for happened in (True, False):
            put(app, await cut_off(log, position))
            bank.payments = {"pay#1": 3} if happened else {}
            bank.made = 0
            resumed = await app.resume(run.run_id)
            assert resumed.output == "paid 3"
            assert bank.made == (0 if happened else 1)
            assert (await app.get(run.run_id)).digest == (await load_run(log, run.run_id)).digest
            assert (await app.replay(run.run_id)).complete
        await log.aclose()


async def test_killed_at_any_boundary_of_reconciling_the_run_ends_the_same(url: str) -> None:
    bank = Bank(loses=1, fails=1)
    async with buying(url, bank, paying(look_up)) as app:
        watched = await watch(app)
        run = await app.run("buy")
        whole = await app.get(run.run_id)
        log = await app.log()
        for position in watched.boundaries[:-1]:
            put(app, await cut_off(log, position))
            made = bank.made
            assert (await app.replay(run.run_id)).ok
            assert (await app.resume(run.run_id)).output == "paid 3"
            assert bank.made - made <= 1
            assert (await app.get(run.run_id)).digest == whole.digest
        await log.aclose()


@pytest.mark.parametrize("loses,seen", [(0, ["paid 3"]), (1, [])], ids=["happened", "did not happen"])
async def test_a_write_that_lost_its_race_is_looked_up_and_the_run_goes_on_by_itself(
    url: str, loses: int, seen: list[str]
) -> None:
    bank = Bank(loses=loses)
    pay = paying(look_up, timeout=None)

    @evrt.tool(effect="read")
    async def quick() -> str:
        await asyncio.sleep(0.01)
        return "quick"

    async with evrt.App(url, deps=bank) as app:

        @app.workflow
        async def races(ctx: Ctx) -> list[Any]:
            paid: list[str] = []

            async def pays() -> None:
                paid.append(await ctx.call(pay, 3))

            return [*await ctx.race(pays(), ctx.call(quick)), *paid]

        run = await app.run(races)
        assert run.output == [1, "quick", *seen]
        assert bank.made == 1
        assert (await app.replay(run.run_id)).complete


async def test_a_person_who_is_faster_than_the_function_has_the_last_word(url: str) -> None:
    async with evrt.App(url, deps=Bank()) as app:

        async def slow(amount: int, context: evrt.ToolContext[Bank]) -> evrt.Completed:
            await app.settle(context.run_id, result="by a person")
            return evrt.Completed("by the function")

        pay = paying(slow)

        @app.workflow
        async def buy(ctx: Ctx) -> str:
            return str(await ctx.call(pay, 3))

        run = await app.run(buy)
        assert run.output == "by a person"
        assert len(await events(app, run.run_id, ToolCallSettled)) == 1
        assert (await app.replay(run.run_id)).complete


async def test_a_function_need_not_be_async(url: str) -> None:
    bank = Bank(hangs=False)
    tool = paying(lambda amount: evrt.Completed(f"paid {amount}, as the books say"), timeout=None)
    async with buying(url, bank, tool) as app:
        run = await app.run("buy")
        log = await app.log()
        position = next(row.position for row in await log.read() if row.type == "tool_call.requested")
        put(app, await cut_off(log, position))
        assert (await app.resume(run.run_id)).output == "paid 3, as the books say"
        await log.aclose()


def test_only_a_write_without_a_key_takes_a_reconcile_function() -> None:
    with pytest.raises(UsageError, match="reconcile= is for writes without an idempotency key"):
        evrt.tool(effect="read", reconcile=look_up)(_write)
    with pytest.raises(UsageError, match="Nothing else is ever in doubt"):
        evrt.tool(key=str, reconcile=look_up)(_write)
    with pytest.raises(UsageError, match="takes a function, not 7"):
        evrt.tool(reconcile=cast(Any, 7))(_write)
    with pytest.raises(
        UsageError, match="wants receipt, and is given the arguments of the tool, which are amount"
    ):
        evrt.tool(reconcile=_receipt)(_write)


def _write(amount: int) -> None: ...
def _receipt(receipt: str) -> None: ...
