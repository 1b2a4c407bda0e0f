"""Races: the first to come to an end wins, for good; the others are cut off, and what that came to is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import evrt
from evrt.events.calls import ModelCallFailed, RaceWon, ToolCallFailed, ToolCallInDoubt
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx, cut_off, put, until, watch


@dataclass
class Yard:
    """What the tools act on: how long each takes, in milliseconds (None: for ever), and what was begun."""

    milliseconds: dict[str, int | None] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    async def go(self, name: str) -> str:
        self.begun.append(name)
        takes = self.milliseconds.get(name, 0)
        if takes is None:
            await asyncio.Event().wait()
        elif takes:
            await asyncio.sleep(takes / 1000)
        return f"{name} is there"


@evrt.tool(effect="read")
async def fetch(name: str, context: evrt.ToolContext[Yard]) -> str:
    return await context.deps.go(name)


@evrt.tool(effect="read")
async def refuse(name: str, context: evrt.ToolContext[Yard]) -> str:
    await context.deps.go(name)
    raise ValueError(f"no {name}")


@evrt.tool
async def book(name: str, idempotency_key: str, context: evrt.ToolContext[Yard]) -> str:
    return await context.deps.go(name)


@evrt.tool
async def pay(name: str, context: evrt.ToolContext[Yard]) -> str:
    return await context.deps.go(name)


def yard(**milliseconds: int | None) -> Yard:
    return Yard(milliseconds)


async def outcomes(app: evrt.App, run: str) -> dict[str, str]:
    """What every operation came to: the type of its outcome, and of failures the error's."""
    found = {}
    for identity, known in (await app.get(run)).journal.operations.items():
        event = known.outcome.event if known.outcome is not None else None
        failed = isinstance(event, ToolCallFailed | ModelCallFailed)
        found[identity] = event.failure.error_type if failed else event.type if event else "open"  # type: ignore[union-attr]
    return found


async def test_the_first_to_come_to_an_end_wins_and_the_others_are_cut_off(url: str) -> None:
    async with evrt.App(url, deps=yard(hare=2, tortoise=None, snail=None)) as app:

        @app.workflow
        async def run_for_it(ctx: Ctx) -> list[Any]:
            won = await ctx.race(
                ctx.call(fetch, "tortoise"), ctx.call(fetch, "hare"), ctx.call(book, "snail")
            )
            branch, result = won
            return [branch, result, won.branch, won.result]

        run = await app.run(run_for_it)
        assert run.output == [1, "hare is there"] * 2
        assert await outcomes(app, run.run_id) == {
            "race#1:0/fetch#1": "cancelled",
            "race#1:1/fetch#1": "tool_call.completed",
            "race#1:2/book#1": "cancelled",
            "race#1": "race.won",
        }
        history = await app.get(run.run_id)
        assert [e.event.model_dump() for e in history.events if isinstance(e.event, RaceWon)] == [
            {"operation": "race#1", "winner": 1, "branches": 3}
        ]
        assert (await app.replay(run.run_id)).complete


async def test_an_error_that_comes_first_wins_too_and_is_raised(url: str) -> None:
    async with evrt.App(url, deps=yard(slow=None)) as app:

        @app.workflow
        async def unlucky(ctx: Ctx) -> str:
            try:
                await ctx.race(ctx.call(fetch, "slow"), ctx.call(refuse, "luck"))
            except evrt.ToolFailed as error:
                return f"{error.operation}: {error.message}"
            return "no error"

        run = await app.run(unlucky)
        assert run.output == "race#1:1/refuse#1: no luck"
        assert (await app.replay(run.run_id)).complete


async def test_a_race_against_a_step_that_sleeps_is_a_time_out(url: str) -> None:
    async with evrt.App(url, deps=yard(slow=None, quick=0)) as app:

        async def within(ctx: Ctx, work: Awaitable[Any]) -> Any:
            won = await ctx.race(work, ctx.step("time-out", asyncio.sleep, 0.05))
            return won.result if won.branch == 0 else "too late"

        @app.workflow
        async def patient(ctx: Ctx) -> list[Any]:
            return [
                await within(ctx, ctx.call(fetch, "quick")),
                await within(ctx, ctx.call(fetch, "slow")),
                await within(ctx, ctx.ask("Well?")),
            ]

        run = await app.run(patient)
        assert run.output == ["quick is there", "too late", "too late"]
        assert (await app.replay(run.run_id)).complete


async def test_the_first_of_two_people_answers(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def either(ctx: Ctx) -> list[Any]:
            return list(await ctx.race(ctx.ask("Ann?"), ctx.ask("Ben?")))

        run = await app.run(either)
        assert run.waiting_for == ("race#1:0/ask#1", "race#1:1/ask#1")
        await app.answer(run.run_id, "me", operation="race#1:1/ask#1")
        run = await app.resume(run.run_id)
        assert run.output == [1, "me"]
        assert (await outcomes(app, run.run_id))["race#1:0/ask#1"] == "question.expired"
        assert (await app.replay(run.run_id)).complete


# Who won stays so


async def killed_after(app: evrt.App, run: str, type_: str) -> None:
    """As if the process had been killed when this event had become durable."""
    log = await app.log()
    position = next(row.position for row in await log.read() if row.type == type_ and row.stream == run)
    put(app, await cut_off(log, position))
    await log.aclose()


async def test_whoever_won_wins_again_on_a_resume_though_another_is_faster_now(url: str) -> None:
    ways = yard(left=1, right=None)
    async with evrt.App(url, deps=ways) as app:

        @app.workflow
        async def choose(ctx: Ctx) -> list[Any]:
            return list(await ctx.race(ctx.call(fetch, "left"), ctx.call(fetch, "right")))

        run = await app.run(choose)
        await killed_after(app, run.run_id, "race.won")
        ways.milliseconds = {"left": None, "right": 0}
        ways.begun.clear()
        assert (await app.replay(run.run_id)).ok
        resumed = await app.resume(run.run_id)
        assert resumed.output == [0, "left is there"]
        assert ways.begun == []
        assert (await outcomes(app, run.run_id))["race#1:1/fetch#1"] == "cancelled"
        assert (await app.replay(run.run_id)).complete


async def test_as_long_as_nobody_has_won_another_may_win_after_a_crash(url: str) -> None:
    ways = yard(left=1, right=None)
    async with evrt.App(url, deps=ways) as app:

        @app.workflow
        async def choose(ctx: Ctx) -> list[Any]:
            return list(await ctx.race(ctx.call(fetch, "left"), ctx.call(fetch, "right")))

        run = await app.run(choose)
        await killed_after(app, run.run_id, "tool_call.requested")
        ways.milliseconds = {"left": None, "right": 0}
        assert (await app.replay(run.run_id)).ok
        resumed = await app.resume(run.run_id)
        assert resumed.output == [1, "right is there"]
        assert (await app.replay(run.run_id)).complete


async def test_what_won_by_a_sleep_of_its_own_wins_on_replay_whatever_the_clock_does(url: str) -> None:
    """The loser gets further on the replay than it did, and must begin nothing there."""
    sleeps = [0.0, 0.2]
    ways = Yard()
    async with evrt.App(url, deps=ways) as app:

        @app.workflow
        async def sleepy(ctx: Ctx) -> list[Any]:
            async def nap(number: int) -> Any:
                await asyncio.sleep(sleeps[number])
                return await ctx.call(fetch, str(number)) if number else "slept"

            return [*await ctx.race(nap(0), nap(1)), await ctx.call(fetch, "after")]

        run = await app.run(sleepy)
        assert run.output == [0, "slept", "after is there"]
        sleeps[:] = [0.05, 0.0]
        ways.begun.clear()
        assert (await app.replay(run.run_id)).complete
        await killed_after(app, run.run_id, "race.won")
        resumed = await app.resume(run.run_id)
        assert resumed.output == run.output
        assert ways.begun == ["after"]
        assert (await app.replay(run.run_id)).complete


async def test_a_loser_that_needs_nothing_of_the_run_wins_on_no_replay_either(url: str) -> None:
    """Nothing holds it back: it may well be the first to end, and does not count."""
    sleeps = [0.0, 0.2]
    async with evrt.App(url, deps=Yard()) as app:

        @app.workflow
        async def sleepy(ctx: Ctx) -> list[Any]:
            async def nap(number: int) -> str:
                await asyncio.sleep(sleeps[number])
                return f"slept {number}"

            return [*await ctx.race(nap(0), nap(1)), await ctx.call(fetch, "after")]

        run = await app.run(sleepy)
        assert run.output == [0, "slept 0", "after is there"]
        sleeps[:] = [0.05, 0.0]
        assert (await app.replay(run.run_id)).complete
        await killed_after(app, run.run_id, "race.won")
        assert (await app.resume(run.run_id)).output == run.output


@pytest.mark.parametrize("turns", range(12))
async def test_no_branch_of_a_loser_goes_on_when_the_race_is_decided(url: str, turns: int) -> None:
    """At each turn of the loop that the race takes."""
    async with evrt.App(url, deps=yard(never=None)) as app:

        @app.workflow
        async def close(ctx: Ctx) -> int:
            async def late() -> Any:
                for _ in range(turns):
                    await asyncio.sleep(0)
                return await ctx.call(fetch, "never")

            async def at_once() -> str:
                return "at once"

            return (await ctx.race(ctx.gather(late(), late()), at_once())).branch

        run = await app.run(close)
        assert run.output == 1
        types = [envelope.type for envelope in (await app.get(run.run_id)).events]
        assert "tool_call.requested" not in types[types.index("race.won") :]
        assert (await app.replay(run.run_id)).complete


async def test_a_race_that_was_cut_off_is_not_decided_on_replay_whatever_the_clock_does(url: str) -> None:
    sleeps = [0.0, 0.2]
    async with evrt.App(url, deps=yard(never=None)) as app:

        @app.workflow
        async def sleepy(ctx: Ctx) -> list[Any]:
            async def nap(number: int) -> str:
                await asyncio.sleep(sleeps[number])
                return "slept"

            async def inner() -> None:
                await ctx.race(nap(1), ctx.call(fetch, "never"), ctx.call(book, "never"))

            return [*await ctx.race(nap(0), inner()), await ctx.call(fetch, "after")]

        run = await app.run(sleepy)
        assert run.output == [0, "slept", "after is there"]
        sleeps[:] = [0.05, 0.0]
        assert (await app.replay(run.run_id)).complete
        await killed_after(app, run.run_id, "race.won")
        assert (await app.resume(run.run_id)).output == run.output
        assert (await app.replay(run.run_id)).complete


async def test_a_loser_that_gets_further_than_it_did_records_nothing(url: str) -> None:
    """Or a replay by the first clock would find in its history what the code does not do then."""
    sleeps = [0.0, 0.2]
    async with evrt.App(url, deps=Yard()) as app:

        @app.workflow
        async def sleepy(ctx: Ctx) -> list[Any]:
            async def nap(number: int) -> str:
                await asyncio.sleep(sleeps[number])
                if number:
                    await ctx.emit("awake", ctx.random())
                    await asyncio.sleep(3_600)
                return "slept"

            return [*await ctx.race(nap(0), nap(1)), await ctx.call(fetch, "after")]

        run = await app.run(sleepy)
        sleeps[:] = [0.05, 0.0]
        assert (await app.replay(run.run_id)).complete
        await killed_after(app, run.run_id, "race.won")
        assert (await app.resume(run.run_id)).output == run.output
        assert "run.emitted" not in [e.type for e in (await app.get(run.run_id)).events]
        sleeps[:] = [0.0, 0.2]
        assert (await app.replay(run.run_id)).complete


SLEEPERS: dict[str, Callable[[Ctx, evrt.Tool], Awaitable[Any]]] = {
    "a read": lambda ctx, hang: ctx.call(hang),
    "a write without a key": lambda ctx, hang: ctx.call(hang),
    "branches": lambda ctx, hang: ctx.gather(ctx.call(hang), ctx.call(book, "never")),
}


@pytest.mark.parametrize("name", SLEEPERS)
async def test_a_loser_comes_again_to_what_it_had_begun_after_a_sleep_of_its_own(name: str) -> None:
    """On a replay, and on a resume, the race is decided while it is still asleep."""
    begun = asyncio.Event()

    @evrt.tool(effect="write" if name == "a write without a key" else "read")
    async def hang() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    app = evrt.App("memory://", deps=yard(never=None))

    @app.workflow
    async def late(ctx: Ctx) -> list[Any]:
        async def sleeper() -> Any:
            await asyncio.sleep(0.03)
            return await SLEEPERS[name](ctx, hang)

        won = await ctx.race(sleeper(), ctx.step("see", begun.wait))
        return [*won, await ctx.call(fetch, "after")]

    async def to_its_end(run: evrt.Result) -> evrt.Result:
        while run.status == "waiting":
            assert run.reason == "in_doubt"
            await app.settle(run.run_id, error="It never came.")
            run = await app.resume(run.run_id)
        return run

    watched = await watch(app)
    run = await to_its_end(await app.run(late))
    assert run.output == [1, True, "after is there"]
    log = await app.log()
    for position in watched.boundaries[1:]:
        put(app, await cut_off(log, position))
        assert (await app.replay(run.run_id)).ok
        if (await app.get(run.run_id)).state.ended:
            break
        assert (await to_its_end(await app.resume(run.run_id))).output == run.output
        assert (await app.replay(run.run_id)).complete
    await log.aclose()


async def test_code_with_another_number_of_branches_diverges(url: str) -> None:
    number = [3]
    async with evrt.App(url, deps=Yard()) as app:

        @app.workflow
        async def crowd(ctx: Ctx) -> int:
            return (await ctx.race(*(ctx.call(fetch, str(n)) for n in range(number[0])))).branch

        run = await app.run(crowd)
        number[0] = 2
        report = await app.replay(run.run_id)
        assert "the history has a race of 3 there (event" in str(report.divergence)
        assert "the code one of 2" in str(report.divergence)


# Writes that lose


@pytest.fixture
def lost_write(url: str) -> evrt.App:
    """An app whose workflow races a write without a key, which takes for ever, against a read."""
    app = evrt.App(url, deps=yard(bill=None, quick=2))

    @app.workflow
    async def races(ctx: Ctx) -> list[Any]:
        async def pays() -> str:
            seen.append(await ctx.call(pay, "bill"))
            return str(await ctx.call(fetch, "receipt"))

        seen: list[str] = []
        won = await ctx.race(pays(), ctx.call(fetch, "quick"))
        return [*won, *seen]

    return app


async def test_a_write_without_a_key_that_loses_is_in_doubt_and_the_run_waits(lost_write: evrt.App) -> None:
    async with lost_write as app:
        run = await app.run("races")
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "in_doubt", ("race#1:0/pay#1",))
        history = await app.get(run.run_id)
        assert [e.event.cause for e in history.events if isinstance(e.event, ToolCallInDoubt)] == [
            "cancelled"
        ]
        assert (await app.replay(run.run_id)).ok
        again = await app.resume(run.run_id)
        assert (again.status, again.waiting_for) == ("waiting", ("race#1:0/pay#1",))
        assert [e.type for e in (await app.get(run.run_id)).events].count("race.won") == 1


@pytest.mark.parametrize(
    "word,outcome,seen",
    [
        ({"result": "it was paid"}, "tool_call.settled", ["it was paid"]),
        ({"error": "the bank says no"}, "tool_call.settled", []),
        ({"again": True}, "cancelled", []),
    ],
    ids=["happened", "failed", "did not happen"],
)
async def test_once_settled_the_run_goes_on_with_its_winner_and_makes_nothing_again(
    lost_write: evrt.App, word: dict[str, Any], outcome: str, seen: list[str]
) -> None:
    """A write that lost and did not happen is not wanted any more."""
    async with lost_write as app:
        run = await app.run("races")
        await app.settle(run.run_id, **word)
        run = await app.resume(run.run_id)
        assert run.output == [1, "quick is there", *seen]
        found = await outcomes(app, run.run_id)
        assert found["race#1:0/pay#1"] == outcome
        assert "race#1:0/fetch#1" not in found or found["race#1:0/fetch#1"] == "cancelled"
        assert app.deps.begun == ["bill", "quick"]
        assert (await app.replay(run.run_id)).complete


async def test_other_branches_go_on_while_a_lost_write_waits_and_it_may_be_settled_meanwhile(
    url: str,
) -> None:
    go_on = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> str:
        await go_on.wait()
        return "held"

    async with evrt.App(url, deps=yard(bill=None)) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[Any]:
            async def waits() -> list[Any]:
                return [await ctx.call(hold), await ctx.call(fetch, "more")]

            race = ctx.race(ctx.call(pay, "bill"), ctx.call(fetch, "quick"))
            return await ctx.gather(race, waits())

        running = await app.start(both)
        await until(app, "tool_call.in_doubt")
        await app.settle(running.run_id, again=True)
        go_on.set()
        assert (await running).output == [[1, "quick is there"], ["held", "more is there"]]
        assert app.deps.begun.count("bill") == 1
        assert (await app.replay(running.run_id)).complete


# What the losers do


async def test_a_loser_may_tidy_up_with_operations_and_the_race_waits_for_it(url: str) -> None:
    async with evrt.App(url, deps=yard(slow=None, broom=2)) as app:

        @app.workflow
        async def tidy(ctx: Ctx) -> list[Any]:
            order: list[str] = []

            async def untidy() -> None:
                try:
                    await ctx.call(fetch, "slow")
                finally:
                    order.append(await ctx.call(fetch, "broom"))
                    raise RuntimeError("What a loser raises is dropped.")

            won = await ctx.race(untidy(), ctx.call(fetch, "quick"))
            return [*order, won.branch]

        run = await app.run(tidy)
        assert run.output == ["broom is there", 1]
        assert (await app.replay(run.run_id)).complete
        for type_ in ("race.won", "tool_call.failed"):
            await killed_after(app, run.run_id, type_)
            assert (await app.resume(run.run_id)).output == run.output
            assert (await app.replay(run.run_id)).complete


THEN: dict[str, Callable[[Ctx], Awaitable[Any]]] = {
    "a call": lambda ctx: ctx.call(pay, "third"),
    "branches": lambda ctx: ctx.gather(ctx.call(pay, "third"), ctx.race(ctx.call(pay, "fourth"))),
    "an agent": lambda ctx: ctx.call(SCOUT, "third"),
}


@pytest.mark.parametrize("then", THEN.values(), ids=THEN)
async def test_a_loser_that_had_its_outcome_already_keeps_it_and_is_cut_off_at_its_next_operation(
    url: str, then: Callable[[Ctx], Awaitable[Any]]
) -> None:
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def together(name: str) -> str:
        if name == "first":
            gate.set()
        await gate.wait()
        return name

    async with evrt.App(url, deps=Yard(), models={"m": ScriptedModel(["never"])}) as app:

        @app.workflow
        async def close(ctx: Ctx) -> list[Any]:
            seen: list[str] = []

            async def goes_on() -> str:
                seen.append(await ctx.call(together, name="second"))
                return str(await then(ctx))

            won = await ctx.race(goes_on(), ctx.call(together, name="first"))
            return [*won, *seen]

        run = await app.run(close)
        assert run.output == [1, "first", "second"]
        found = await outcomes(app, run.run_id)
        assert found.pop("race#1:0/together#1") == "tool_call.completed"
        assert {outcome for identity, outcome in found.items() if identity.startswith("race#1:0/")} == {
            "cancelled"
        }
        assert app.deps.begun == []
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize("turns", range(12))
async def test_a_loser_that_is_cut_off_before_it_began_is_recorded_as_cut_off(url: str, turns: int) -> None:
    """At each turn of the loop that the race takes, so also between the making of a branch and its beginning."""
    reached: list[int] = []
    async with evrt.App(url, deps=yard(never=None)) as app:

        @app.workflow
        async def close(ctx: Ctx) -> list[Any]:
            async def late() -> Any:
                for _ in range(turns):
                    await asyncio.sleep(0)
                reached.append(turns)
                return await ctx.gather(ctx.call(fetch, "never"), ctx.call(fetch, "never"))

            async def at_once() -> str:
                return "at once"

            won = await ctx.race(late(), at_once())
            return [*won, await ctx.call(fetch, "after")]

        run = await app.run(close)
        assert run.output == [1, "at once", "after is there"]
        found = await outcomes(app, run.run_id)
        lost = [outcome for identity, outcome in found.items() if identity.startswith("race#1:0/")]
        assert lost == ["cancelled"] * 2 * len(reached)
        assert (await app.replay(run.run_id)).complete


async def test_what_others_learn_while_losers_are_cut_off_comes_in_the_same_order_on_replay(url: str) -> None:
    """The other call has its result at the moment at which the race is decided."""
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def opens() -> str:
        gate.set()
        return "opened"

    @evrt.tool(effect="read")
    async def waits() -> str:
        await gate.wait()
        return "waited"

    async with evrt.App(url, deps=yard(slow=None)) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[str]:
            seen: list[str] = []

            async def races() -> None:
                await ctx.race(ctx.call(fetch, "slow"), ctx.call(opens))
                seen.append("raced")

            async def other() -> None:
                seen.append(await ctx.call(waits))

            await ctx.gather(other(), races())
            return seen

        run = await app.run(both)
        assert sorted(run.output) == ["raced", "waited"]
        assert (await app.replay(run.run_id)).complete


async def test_a_time_out_around_a_race_cuts_all_of_it_off(url: str) -> None:
    async with evrt.App(url, deps=yard(one=None, two=None)) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> list[str]:
            seen = []
            try:
                async with asyncio.timeout(0.03):
                    await ctx.race(ctx.call(fetch, "one"), ctx.race(ctx.call(fetch, "two"), ctx.ask("Well?")))
            except TimeoutError:
                seen.append("too late")
            return [*seen, await ctx.call(fetch, "after")]

        run = await app.run(impatient)
        assert run.output == ["too late", "after is there"]
        found = await outcomes(app, run.run_id)
        assert found["race#1:1/race#1:1/ask#1"] == "question.expired"
        assert "race#1" not in found
        assert (await app.replay(run.run_id)).complete


async def test_races_cannot_be_empty_nor_take_what_runs_already() -> None:
    async with evrt.App("memory://", deps=Yard()) as app:

        @app.workflow
        async def empty(ctx: Ctx) -> None:
            await ctx.race()

        @app.workflow
        async def running(ctx: Ctx) -> None:
            task = asyncio.create_task(asyncio.sleep(0))
            try:
                await ctx.race(task)
            finally:
                await task

        failures = [(await app.run(flow)).failure for flow in (empty, running)]
        assert [failure.message for failure in failures if failure is not None] == [
            "ctx.race needs at least one thing to do: nobody can win a race without branches.",
            "ctx.race takes coroutines that have not started, not tasks or futures.",
        ]


# Killed at every boundary


def script(request: Any) -> Any:
    if request.messages[-1]["role"] == "tool":
        return "Found."
    return call("fetch", name=str(request.messages[-1]["content"]))


SCOUT: evrt.Agent = evrt.Agent(name="scout", model="m", tools=(fetch, book))


async def plain(ctx: Ctx) -> list[Any]:
    won = await ctx.race(ctx.call(book, "never"), ctx.call(fetch, "a"), ctx.call(fetch, "never"))
    return [*won, await ctx.call(book, "b")]


async def nested(ctx: Ctx) -> list[Any]:
    async def inner(name: str) -> Any:
        await ctx.call(fetch, name)
        return await ctx.race(ctx.call(fetch, "never"), ctx.call(book, "quick"))

    won = await ctx.race(inner("a"), inner("never"), ctx.race(ctx.call(fetch, "never"), ctx.ask("Who?")))
    return [won.branch, won.result.result]


async def inside_gather(ctx: Ctx) -> list[Any]:
    async def one(name: str) -> Any:
        won = await ctx.race(ctx.call(fetch, "never"), ctx.call(book, name))
        return [won.branch, await ctx.call(fetch, name)]

    async def other() -> Any:
        return [await ctx.step("s", lambda: 1), await ctx.call(fetch, "c"), await ctx.call(book, "d")]

    return await ctx.gather(one("a"), one("b"), other())


async def gather_inside(ctx: Ctx) -> list[Any]:
    async def many(*names: str) -> Any:
        return await ctx.gather(*(ctx.call(fetch, name) for name in names))

    return list(await ctx.race(many("a", "never"), many("b", "c")))


async def agents(ctx: Ctx) -> list[Any]:
    won = await ctx.race(
        ctx.call(SCOUT, "never"), ctx.call(SCOUT, "gold"), ctx.model("Hello?", model="silent")
    )
    return [*won, (await ctx.model("And now?", model="m2")).text]


async def failing(ctx: Ctx) -> str:
    try:
        await ctx.race(ctx.call(book, "never"), ctx.call(refuse, "luck"))
    except evrt.ToolFailed:
        return str(await ctx.call(fetch, "a"))
    return "never"


async def silent(request: Any) -> str:
    await asyncio.Event().wait()
    return ""


Program = Callable[[Ctx], Awaitable[Any]]
PROGRAMS: list[Program] = [plain, nested, inside_gather, gather_inside, agents, failing]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
async def test_killed_at_any_boundary_a_race_ends_as_if_nothing_had_been(program: Program) -> None:
    models = {
        "m": ScriptedModel(script),
        "m2": ScriptedModel(lambda request: "Now."),
        "silent": ScriptedModel(silent),
    }
    app = evrt.App("memory://", deps=yard(never=None, quick=1), models=models)
    app.workflow(name="program")(program)
    watched = await watch(app)
    run = await app.run("program")
    assert run.status == "succeeded"
    whole = await app.get(run.run_id)
    assert (await app.replay(run.run_id)).complete
    log = await app.log()
    for position in watched.boundaries[:-1]:
        put(app, await cut_off(log, position))
        assert (await app.replay(run.run_id)).ok
        resumed = await app.resume(run.run_id)
        assert (resumed.status, resumed.output) == (run.status, run.output)
        assert (await app.get(run.run_id)).digest == whole.digest
        assert (await app.replay(run.run_id)).complete
    await log.aclose()
