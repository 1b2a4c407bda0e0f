"""Children: runs that a run starts, executed for themselves, whose ends come to it from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import evrt
from evrt.agents.workflow import Workflow
from evrt.events.run import ChildEnded, ChildStarted, RunRequested, WaitCancelled
from evrt.log.contract import PAYLOAD_BYTES_MAX
from evrt.testing import ScriptedModel, call
from evrt.worker.worker import Worker, working
from runtime.logs import Ctx, ended, run_off, same_after_every_crash, watch, work_off


def family(app: evrt.App) -> None:
    """A worker that doubles, one that fails, one that asks a worker in its turn, and those who start them."""

    @app.workflow
    async def double(ctx: Ctx, number: int) -> int:
        return 2 * int(await ctx.step("number", int, number))

    @app.workflow
    async def broken(ctx: Ctx) -> None:
        raise ValueError("no luck")

    @app.workflow
    async def quadruple(ctx: Ctx, number: int) -> int:
        return int(await ctx.child(double, await ctx.child("double", number)))

    @app.workflow
    async def fan_out(ctx: Ctx, count: int) -> list[int]:
        return await ctx.gather(*(ctx.child(double, number) for number in range(count)))

    @app.workflow
    async def parent(ctx: Ctx) -> list[Any]:
        first = await ctx.start_child(double, 1)
        seen: list[Any] = [await ctx.child(quadruple, 5), first.target]
        try:
            await ctx.child("broken")
        except evrt.ChildFailed as error:
            seen += [error.operation, error.error_type, error.message, error.status]
        return [*seen, await first, await first]


async def children_of(app: evrt.App, run: str) -> list[str]:
    return [
        event.event.child for event in (await app.get(run)).events if isinstance(event.event, ChildStarted)
    ]


async def test_a_parent_waits_for_its_children_and_gets_what_they_came_to(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)
        run = await app.run("parent")
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "child", ("quadruple#1",))
        await work_off(app)
        result = await ended(app, run.run_id)
        assert result.output == [20, "double", "broken#1", "ValueError", "no luck", "failed", 2, 2]
        history = await app.get(run.run_id)
        assert list(history.journal.operations) == ["double#1", "quadruple#1", "broken#1"]
        assert (await app.replay(run.run_id)).complete
        for child in await children_of(app, run.run_id):
            assert (await app.replay(child)).complete


async def test_whatever_was_cut_off_the_family_comes_to_the_same(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)
        watched = await watch(app)
        run = await run_off(app, "parent")
        await same_after_every_crash(app, watched, run.run_id)


@pytest.mark.parametrize("count", [1, 300, pytest.param(2_000, marks=pytest.mark.soak)])
async def test_children_started_at_once_are_one_append(count: int) -> None:
    async with evrt.App("memory://") as app:
        family(app)
        watched = await watch(app)
        run = await app.run("fan_out", count)
        starts = [types for types in watched.types if "child.started" in types]
        # Two events each, and an append carries a thousand.
        assert len(starts) == -(-2 * count // 1_000)
        assert sum(types.count("child.started") for types in starts) == count
        assert sum(types.count("run.requested") for types in starts) == count
        assert len(watched.appends) == len(starts) + 2  # That it begins, and that it waits.
        queued = [append.beside for append in watched.appends if append.beside]
        assert sum(len(beside) for beside in queued if beside[0].__class__.__name__ == "Enqueue") == count
        await work_off(app)
        assert (await ended(app, run.run_id)).output == [2 * number for number in range(count)]


async def test_a_child_is_queued_with_its_start_and_leaves_the_queue_with_its_end(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def urgent(ctx: Ctx) -> Any:
            return await ctx.child("double", 1, priority=7)

        run = await app.run(urgent)
        [child] = await children_of(app, run.run_id)
        queue = (await app.log()).coordination
        entry = await queue.entry(child)
        assert entry is not None
        assert (entry.state, entry.target, entry.priority, entry.lane) == ("ready", "double", 7, None)
        await app.resume(child)
        assert await queue.entry(child) is None


async def test_a_child_knows_whose_it_is(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)
        run = await run_off(app, "parent", user="ann", conversation="c1")
        whole = await app.get(run.run_id)
        [_, child, _] = await children_of(app, run.run_id)
        history = await app.get(child)
        requested = history.events[0]
        assert isinstance(requested.event, RunRequested)
        assert (requested.event.parent, requested.event.operation_of_parent) == (run.run_id, "quadruple#1")
        assert (requested.event.user, requested.event.conversation) == (whole.state.user, None)
        assert {event.correlation for event in history.events} == {whole.events[0].correlation}
        assert {(e.meta["root"], e.meta["parent"]) for e in history.events if "epoch" in e.meta} == {
            (run.run_id, run.run_id)
        }
        [grandchild, _] = await children_of(app, child)
        first = (await app.get(grandchild)).events[0]
        assert (first.meta["root"], first.meta["parent"]) == (run.run_id, child)
        assert "epoch" not in first.meta


async def test_a_child_with_a_conversation_of_its_own_belongs_to_that(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def writes_to(ctx: Ctx) -> Any:
            own = await ctx.child("double", 1, conversation="c2")
            return [own, await ctx.child("double", 2, conversation="c1")]

        run = await app.run(writes_to, conversation="c1")
        log = await app.log()
        [child] = await children_of(app, run.run_id)
        entry = await log.coordination.entry(child)
        assert entry is not None
        assert entry.lane == await log.ref("conversation", "c2", create=False)
        await app.resume(child)
        assert {event.correlation for event in (await app.get(child)).events} == {entry.lane}
        await app.resume(run.run_id)
        [_, second] = await children_of(app, run.run_id)
        entry = await log.coordination.entry(second)
        assert entry is not None
        assert entry.lane is None  # Behind its parent it would wait for ever.
        await work_off(app)
        assert (await ended(app, run.run_id)).output == [2, 4]
        whole = await app.get(run.run_id)
        assert {event.correlation for event in whole.events} == {whole.events[0].correlation}
        assert (await app.replay(run.run_id)).complete
        [one, two] = [await app.get(child) for child in (child, second)]
        assert one.state.conversation == entry.lane or one.state.conversation != two.state.conversation


async def test_each_way_to_end_badly_is_told(url: str) -> None:
    models = {"looping": ScriptedModel(lambda request: call("look") if request.tools else "It is far.")}
    async with evrt.App(url, models=models) as app:
        family(app)

        @evrt.tool(effect="read")
        async def look() -> int:
            return 1

        app.agent("looper", model="looping", tools=[look], model_turns_max=1)

        @app.workflow(timeout="20ms")
        async def slow(ctx: Ctx) -> None:
            await asyncio.Event().wait()

        @app.workflow
        async def tries(ctx: Ctx, target: str) -> list[Any]:
            try:
                return [await ctx.child(target, "x" if target == "looper" else None)]
            except evrt.ChildFailed as error:
                return [error.status, error.error_type, error.message, error.child.startswith("run-")]

        outputs = {}
        for target in ("slow", "looper", "broken"):
            run = await run_off(app, "tries", target)
            outputs[target] = run.output
            assert (await app.replay(run.run_id)).complete
        assert outputs == {
            "slow": ["timed_out", "timeout", "It took longer than its time-out of 0.02 s.", True],
            "looper": ["step_limit", "step_limit", "It used up its 1 model turns without an answer.", True],
            "broken": ["failed", "ValueError", "no luck", True],
        }


async def test_that_a_child_was_cancelled_is_no_cancellation_of_its_parent(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def tries(ctx: Ctx) -> list[Any]:
            try:
                return [await ctx.child("double", 1)]
            except evrt.ChildFailed as error:
                return [error.status, error.error_type, error.message]

        run = await app.run(tries)
        [child] = await children_of(app, run.run_id)
        assert await app.cancel(child, reason="changed my mind") == "cancelled"
        result = await app.resume(run.run_id)
        assert result.output == ["cancelled", "cancelled", "changed my mind"]
        assert (await app.replay(run.run_id)).complete


async def test_a_failed_child_fails_a_parent_that_does_not_catch_it_and_is_not_made_again(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def trusting(ctx: Ctx) -> None:
            await ctx.child("broken")

        run = await run_off(app, "trusting")
        assert run.status == "failed"
        assert run.failure is not None
        assert run.failure.error_type == "ChildFailed"
        assert len(await children_of(app, run.run_id)) == 1
        assert (await app.replay(run.run_id)).complete


async def test_what_cannot_be_started_is_refused_at_the_call_and_leaves_nothing(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        async def double(ctx: Ctx, number: int) -> int:
            return number

        stranger = Workflow(double, name="double", timeout_seconds=None)

        @app.workflow
        async def mistaken(ctx: Ctx) -> list[str]:
            errors: list[str] = []
            for target, given, more in (
                ("nobody", None, {}),
                (stranger, 1, {}),
                ("double", "x", {}),
                ("double", 1, {"priority": 99_999}),
                ("broken", "y" * PAYLOAD_BYTES_MAX, {}),
            ):
                try:
                    await ctx.start_child(target, given, **more)  # type: ignore[arg-type]
                except evrt.EvrtError as error:
                    errors.append(type(error).__name__)
            return errors

        run = await app.run(mistaken)
        assert run.output == ["NotFound", "UsageError", "InvalidInput", "UsageError", "InvalidInput"]
        assert await (await app.log()).streams("run-") == [run.run_id]
        assert (await app.replay(run.run_id)).complete


async def test_a_child_that_nobody_awaits_goes_on_when_its_parent_has_ended(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def detaches(ctx: Ctx) -> str:
            return (await ctx.start_child("double", 3)).run

        run = await app.run(detaches)
        assert run.status == "succeeded"
        assert (await app.resume(run.output)).output == 6
        history = await app.get(run.run_id)
        assert history.events[-1].type == "child.ended"
        assert (history.status, history.state.output) == ("succeeded", run.output)
        assert history.digest == history.at(len(history.events) - 1).digest
        assert (await app.replay(run.run_id)).complete


async def test_a_wait_that_is_cut_off_leaves_the_child_as_it_is(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def impatient(ctx: Ctx) -> list[Any]:
            child = await ctx.start_child("double", 4)

            async def waits() -> list[Any]:
                seen: list[Any] = []
                for _ in range(2):
                    try:
                        async with asyncio.timeout(0.02):
                            seen.append(await child)
                    except TimeoutError:
                        seen.append("not yet")
                return seen

            # As long as something else is under way the run is not parked, and its own time-outs count.
            seen, _ = await ctx.gather(waits(), ctx.step("busy", asyncio.sleep, 0.2))
            return [*seen, await child, await child]

        run = await app.run(impatient)
        assert (run.reason, run.waiting_for) == ("child", ("double#1",))
        await work_off(app)
        assert (await ended(app, run.run_id)).output == ["not yet", "not yet", 8, 8]
        history = await app.get(run.run_id)
        left = [event.event for event in history.events if isinstance(event.event, WaitCancelled)]
        assert [event.operation for event in left] == ["double#1/wait#1", "double#1/wait#2"]
        report = await app.replay(run.run_id)
        assert report.complete, report.divergence


async def test_a_child_that_loses_a_race_goes_on_and_the_race_replays(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def races(ctx: Ctx) -> list[Any]:
            won = await ctx.race(ctx.child("double", 4), ctx.step("soon", asyncio.sleep, 0.01, "soon"))
            return [won.branch, won.result]

        watched = await watch(app)
        run = await run_off(app, "races")
        assert run.output == [1, "soon"]
        [child] = await children_of(app, run.run_id)
        assert (await ended(app, child)).output == 8
        assert (await app.replay(run.run_id)).complete
        for_good = await app.get(run.run_id)
        assert "race#1:0/double#1/wait#1" in for_good.journal.operations
        await same_after_every_crash(app, watched, run.run_id)


async def test_children_can_be_awaited_in_branches_and_each_in_one_place_at_a_time(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)

        @app.workflow
        async def shares(ctx: Ctx) -> list[Any]:
            mine = [await ctx.start_child("double", number) for number in range(3)]

            async def second() -> str:
                try:
                    return str(await mine[0])
                except evrt.UsageError as error:
                    return str(error)

            return [*await ctx.gather(*mine, second())]

        run = await run_off(app, "shares")
        assert run.output[:3] == [0, 2, 4]
        assert "one place at a time" in run.output[3]
        assert (await app.replay(run.run_id)).complete


async def test_an_output_that_has_no_room_beside_its_story_is_read_from_the_child(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def large(ctx: Ctx) -> str:
            return "x" * (PAYLOAD_BYTES_MAX - 40)

        @app.workflow
        async def asks_for_it(ctx: Ctx) -> list[int]:
            parts = await ctx.gather(ctx.child(large), ctx.child(large))
            return [len(part) for part in parts]

        run = await run_off(app, "asks_for_it")
        assert run.output == [PAYLOAD_BYTES_MAX - 40] * 2
        history = await app.get(run.run_id)
        [one, two] = [event.event for event in history.events if isinstance(event.event, ChildEnded)]
        assert (one.elsewhere, one.output, two.elsewhere) == (True, None, True)
        assert (await app.replay(run.run_id)).complete


async def test_a_parent_that_asks_for_another_child_than_it_did_is_parked_as_diverged(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)
        given: list[Any] = ["double", 1]

        @app.workflow
        async def changes(ctx: Ctx) -> Any:
            return await ctx.child(*given)

        run = await app.run(changes)
        for wrong in (["double", 2], ["quadruple", 1]):
            given[:] = wrong
            assert (await app.resume(run.run_id)).reason == "diverged"
        given[:] = ["double", 1]
        assert (await app.resume(run.run_id)).reason == "child"
        await work_off(app)
        assert (await ended(app, run.run_id)).output == 2


async def test_workers_execute_a_family_and_claim_its_parent_no_oftener_than_something_came(url: str) -> None:
    async with evrt.App(url) as app:
        family(app)
        asked = await app.enqueue("fan_out", 20)
        nested = await app.enqueue("parent")
        async with working(Worker(app, poll_seconds=0.05)):
            assert (await asked.result()).output == [2 * number for number in range(20)]
            assert (await nested.result()).output[-2:] == [2, 2]
        history = await app.get(asked.run_id)
        claims = [event.type for event in history.events].count("run.claimed")
        assert 2 <= claims <= 21
        assert await (await app.log()).coordination.counts() == {}
        for run in (asked.run_id, nested.run_id):
            assert (await app.replay(run)).complete
