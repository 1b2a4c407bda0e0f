"""A worker executes what is queued, and gives back what it cannot end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import evrt
from evrt.errors import Conflict, Unavailable, UsageError
from evrt.events.run import ClaimReason, RunClaimed
from evrt.history import executable
from evrt.runtime.runner import Runner
from evrt.worker import executing
from evrt.worker import worker as worker_module
from evrt.worker.worker import Worker, working
from workers.waits import Ctx, types_of, until, until_entry, until_written


def quick(app: evrt.App, **options: object) -> Worker:
    return Worker(app, grace_seconds=0.0, **{"concurrency": 4, **options})  # type: ignore[arg-type]


async def test_what_is_queued_is_executed_and_leaves_the_queue(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def double(ctx: Ctx, number: int) -> int:
            return 2 * number

        queued = [await app.enqueue(double, number) for number in range(10)]
        async with working(quick(app)) as worker:
            results = [await each.result() for each in queued]
        assert [result.output for result in results] == [2 * number for number in range(10)]
        log = await app.log()
        assert await log.coordination.entries() == []
        assert (worker.figures.claimed, worker.figures.ended) == (10, 10)
        assert await types_of(log, queued[0].run_id) == [
            "run.requested",
            "run.claimed",
            "run.started",
            "run.succeeded",
        ]


async def test_no_more_than_its_concurrency_are_executed_at_once(url: str) -> None:
    async with evrt.App(url) as app:
        at_once: list[int] = []
        inside = 0

        @evrt.tool(effect="read")
        async def look() -> None:
            nonlocal inside
            inside += 1
            at_once.append(inside)
            await asyncio.sleep(0.002)
            inside -= 1

        @app.workflow
        async def visit(ctx: Ctx) -> None:
            await ctx.call(look)

        queued = [await app.enqueue(visit) for _ in range(20)]
        async with working(quick(app, concurrency=3)):
            for each in queued:
                await each.result()
        assert max(at_once) <= 3
        assert len(at_once) == 20


async def test_a_worker_takes_only_the_targets_it_is_told(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def mine(ctx: Ctx) -> str:
            return "mine"

        @app.workflow
        async def others(ctx: Ctx) -> str:
            return "others"

        left = await app.enqueue(others)
        taken = await app.enqueue(mine)
        async with working(quick(app, targets=["mine"])):
            assert (await taken.result()).output == "mine"
        log = await app.log()
        entry = await log.coordination.entry(left.run_id)
        assert entry is not None
        assert entry.state == "ready"


@pytest.mark.parametrize("concurrency", [0, -3, 1.5, True])
async def test_a_concurrency_that_cannot_be_is_refused(concurrency: object) -> None:
    with pytest.raises(UsageError, match="concurrency"):
        Worker(evrt.App("memory://"), concurrency=concurrency)  # type: ignore[arg-type]


async def test_targets_that_the_app_does_not_have_are_refused() -> None:
    app = evrt.App("memory://")

    @app.workflow
    async def known(ctx: Ctx) -> None: ...

    with pytest.raises(UsageError, match=r"no agent or workflow named guess\. It has: known"):
        Worker(app, targets=["guess", "known"])


async def test_a_worker_that_drains_hands_over_what_it_executes(url: str) -> None:
    async with evrt.App(url) as app:
        go_on = asyncio.Event()

        @evrt.tool(effect="read")
        async def wait() -> str:
            await go_on.wait()
            return "done"

        @app.workflow
        async def slow(ctx: Ctx) -> str:
            return str(await ctx.call(wait))

        log = await app.log()
        queued = await app.enqueue(slow)
        async with working(quick(app)):
            await until_written(log, queued.run_id, "tool_call.requested")
        entry = await until_entry(log, queued.run_id, "ready")
        assert entry.worker is None
        assert (await app.get(queued.run_id)).state.reason == "handover"
        assert await log.coordination.leases() == []
        go_on.set()
        async with working(quick(app)):
            assert (await queued.result()).output == "done"
        history = await app.get(queued.run_id)
        # To be handed over is no failed attempt.
        assert (history.journal.lost_claims, history.journal.failed_attempts) == (0, 0)
        assert (await app.replay(queued.run_id)).ok


async def test_a_worker_that_drains_lets_a_write_without_a_key_come_to_its_end(url: str) -> None:
    async with evrt.App(url) as app:
        go_on = asyncio.Event()
        written: list[str] = []

        @evrt.tool
        async def write() -> str:
            written.append("begun")
            await go_on.wait()
            return "written"

        @app.workflow
        async def twice(ctx: Ctx) -> list[str]:
            return [await ctx.call(write), await ctx.call(write)]

        log = await app.log()
        queued = await app.enqueue(twice)
        async with working(quick(app)) as worker:
            await until_written(log, queued.run_id, "tool_call.requested")
            executing = worker.running[queued.run_id]
            worker.drain()
            # Before it is told, its second call would begin as well.
            await until(lambda: executing._stop is not None)
            go_on.set()
            await until_entry(log, queued.run_id, "ready")
        assert "tool_call.in_doubt" not in await types_of(log, queued.run_id)
        async with working(quick(app)):
            assert (await queued.result()).output == ["written", "written"]
        assert written == ["begun", "begun"]


async def claim_and_die(app: evrt.App, run: str, *, reason: ClaimReason) -> None:
    """A worker claims a run in the queue and in its stream, and is never heard of again."""
    log = await app.log()
    worker = f"gone:1:{len(await log.read_stream(run))}"
    await log.coordination.renew(worker, seconds=0.01)
    while not await log.coordination.claim(worker, targets={"count": None}, limit=1):
        await asyncio.sleep(0.01)
        await log.coordination.renew(worker, seconds=0.01)
    history = await app.get(run)
    world = app.make_world(log, worker=worker)
    runner = Runner(world, app.target("count"), history.journal, requested=executable(history))
    before = len(history.events)
    task = asyncio.create_task(runner.run(reason))
    watch = log.watch()
    while (await log.head(run)).version == before:
        await watch.wait(0.01)
    task.cancel()
    await asyncio.wait([task])


async def test_a_run_whose_workers_are_lost_again_and_again_fails_after_three_attempts(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def count(ctx: Ctx) -> int:
            await asyncio.sleep(60)
            return 1

        queued = await app.enqueue(count)
        for reason in ("start", "takeover", "takeover"):
            await claim_and_die(app, queued.run_id, reason=reason)
        async with working(quick(app)):
            result = await queued.result()
        assert result.status == "failed"
        assert result.failure is not None
        assert result.failure.error_type == "worker_lost"
        log = await app.log()
        history = await app.get(queued.run_id)
        reasons = [e.event.reason for e in history.events if isinstance(e.event, RunClaimed)]
        assert reasons == ["start", "takeover", "takeover", "takeover"]
        assert await log.coordination.entries() == []


async def test_a_run_that_was_lost_is_taken_over_and_goes_on(url: str) -> None:
    async with evrt.App(url) as app:
        made: list[int] = []

        @evrt.tool(effect="read")
        async def look(number: int) -> int:
            made.append(number)
            if number == 2 and made.count(2) == 1:
                await asyncio.sleep(60)
            return number

        @app.workflow
        async def count(ctx: Ctx) -> int:
            return sum([await ctx.call(look, number=number) for number in (1, 2, 3)])

        queued = await app.enqueue(count)
        await work_and_die(app, lambda: 2 in made)
        async with working(quick(app)):
            assert (await queued.result()).output == 6
        assert made == [1, 2, 2, 3]
        assert (await app.replay(queued.run_id)).ok


async def work_and_die(app: evrt.App, holds: Callable[[], bool]) -> None:
    """A worker that is lost as soon as something holds, and its lease ends soon."""
    worker = Worker(app, lease_seconds=0.2)
    task = asyncio.create_task(worker.run())
    await until(holds)
    for each in worker.running.values():
        each.task.cancel()
    await asyncio.wait([each.task for each in worker.running.values()])
    worker.stop()
    await task


async def test_an_error_that_says_it_may_be_mended_is_attempted_again_after_a_wait_in_the_queue(
    url: str,
) -> None:
    async with evrt.App(url) as app:
        tries = 0

        @app.workflow(
            retry=evrt.Retry(3, base_seconds=0.01), on_error=lambda error: isinstance(error, OSError)
        )
        async def flaky(ctx: Ctx, error: str) -> int:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise OSError("away") if error == "os" else ValueError("never")
            return tries

        async with working(quick(app)):
            mended = await (await app.enqueue(flaky, "os")).result()
            assert (mended.status, mended.output) == ("succeeded", 3)
            tries = 0
            failed = await (await app.enqueue(flaky, "value")).result()
        assert failed.status == "failed"
        assert tries == 1
        types = await types_of(await app.log(), mended.run_id)
        assert types.count("run.retry_scheduled") == 2


async def test_attempts_end_with_the_third(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(retry=evrt.Retry(3, base_seconds=0.01), on_error=lambda error: True)
        async def never(ctx: Ctx) -> None:
            raise OSError("away")

        queued = await app.enqueue(never)
        async with working(quick(app)):
            assert (await queued.result()).status == "failed"
        types = await types_of(await app.log(), queued.run_id)
        assert types.count("run.claimed") == 3


async def test_a_run_of_a_target_that_nobody_knows_is_failed_once_it_is_old(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def there(ctx: Ctx) -> None: ...

        @app.workflow
        async def gone(ctx: Ctx) -> None: ...

        queued = await app.enqueue(gone)
        del app._targets["gone"]
        monkeypatch.setattr(executing, "UNKNOWN_SECONDS", 0.0)
        async with working(quick(app)):
            result = await queued.result()
        assert result.status == "failed"
        assert result.failure is not None
        assert result.failure.error_type == "unknown_target"
        assert "there" in result.failure.message


async def test_a_run_that_has_begun_is_not_failed_for_a_target_that_is_missing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> object:
            return await ctx.ask("Go on?")

        log = await app.log()
        queued = await app.enqueue(asks)
        async with working(quick(app)):
            await until_entry(log, queued.run_id, "waiting")
        target = app._targets.pop("asks")
        await app.answer(queued.run_id, "yes")
        monkeypatch.setattr(executing, "UNKNOWN_SECONDS", 0.1)
        monkeypatch.setattr(worker_module, "STRANGERS_SECONDS", 0.05)
        async with working(quick(app)):
            await until_entry(log, queued.run_id, "delayed")
        assert not (await app.get(queued.run_id)).state.ended
        app._targets["asks"] = target
        async with working(quick(app)):
            assert (await queued.result()).output == "yes"


async def test_a_worker_without_its_claim_appends_nothing(url: str) -> None:
    """The fence: whoever was taken for dead is refused, whatever it believes."""
    async with evrt.App(url) as app:
        go_on = asyncio.Event()

        @evrt.tool(effect="read")
        async def wait() -> str:
            await go_on.wait()
            return "late"

        @app.workflow
        async def slow(ctx: Ctx) -> str:
            return str(await ctx.call(wait))

        log = await app.log()
        queued = await app.enqueue(slow)
        worker = quick(app)
        async with working(worker):
            await until_written(log, queued.run_id, "tool_call.requested")
            history = await app.get(queued.run_id)
            from evrt.events.run import RunCancelled
            from evrt.orders import end_unclaimed

            await end_unclaimed(log, history, RunCancelled())
            go_on.set()
            await until(lambda: not worker.running)
        assert worker.figures.lost == 1
        assert (await types_of(log, queued.run_id))[-1] == "run.cancelled"


async def test_the_same_key_and_body_give_the_same_run_and_another_body_is_a_conflict(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def double(ctx: Ctx, number: int) -> int:
            return 2 * number

        first = await app.enqueue(double, 1, user="ada", idempotency_key="k")
        again = await app.enqueue(double, 1, user="ada", idempotency_key="k")
        other = await app.enqueue(double, 1, user="bob", idempotency_key="k")
        assert (first.new, again.new, other.new) == (True, False, True)
        assert first.run_id == again.run_id != other.run_id
        with pytest.raises(Conflict, match="another request"):
            await app.enqueue(double, 2, user="ada", idempotency_key="k")
        racing = await asyncio.gather(*(app.enqueue(double, 3, idempotency_key="r") for _ in range(20)))
        assert len({each.run_id for each in racing}) == 1
        assert sum(each.new for each in racing) == 1
        log = await app.log()
        assert len(await log.coordination.entries()) == 3


class CutOff(Worker):
    """A worker that finds no queue the first few times it looks."""

    looks_in_vain = 0

    async def _look(self) -> float:
        if self.looks_in_vain < 5:
            self.looks_in_vain += 1
            raise Unavailable("The log is away.")
        return await super()._look()


async def test_that_the_queue_cannot_be_looked_at_is_said_once_and_that_it_can_again(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def greet(ctx: Ctx) -> str:
            return "hello"

        queued = await app.enqueue(greet)
        async with working(CutOff(app, poll_seconds=0.001)) as worker:
            assert (await queued.result()).output == "hello"
        said = [record.getMessage() for record in caplog.records if record.name == "evrt.worker"]
        assert said == [
            f"{worker.id} cannot look at the queue: The log is away.",
            f"{worker.id} can look at the queue again.",
        ]
