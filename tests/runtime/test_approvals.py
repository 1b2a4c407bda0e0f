"""Approvals, and questions with a time: granted, denied, or over; and who was told that he has been heard, has been."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import evrt
from evrt.errors import Conflict, NotFound, UsageError
from evrt.events import Event
from evrt.events.calls import ApprovalDecided, ApprovalRequested, QuestionExpired
from evrt.log import Append, Appended
from evrt.log.contract import Landing
from runtime.clocks import DAY, HOUR, Clocked, as_worker, clocked, taken
from runtime.logs import Ctx, cut_off, put, watch


async def found(app: evrt.App, run: str, *types: type[Event]) -> list[Event]:
    return [e.event for e in (await app.get(run)).events if isinstance(e.event, types)]


@pytest.mark.parametrize("approved", [True, False])
async def test_a_person_grants_or_denies_and_the_code_learns_why(url: str, approved: bool) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def sends(ctx: Ctx) -> Any:
            approval = await ctx.approve("Send 5 €", {"to": "Ann"})
            return [approval.approved, bool(approval), approval.reason, approval.by]

        run = await app.run(sends)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "approval", ("approve#1",))
        [asked] = await found(app, run.run_id, ApprovalRequested)
        assert asked.model_dump(exclude={"digest", "shown_digest"}) == {
            "operation": "approve#1",
            "action": "Send 5 €",
            "details": {"to": "Ann"},
            "due": None,
        }
        assert await app.decide(run.run_id, approved, by="ben", reason="as ever") == "approve#1"
        run = await app.resume(run.run_id)
        assert run.output == [approved, approved, "as ever", "ben"]
        assert (await app.replay(run.run_id)).complete


async def test_the_first_decision_counts_and_a_second_one_is_refused(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def sends(ctx: Ctx) -> Any:
            return await ctx.approve("Send")

        run = await app.run(sends)
        decided = await asyncio.gather(
            *(app.decide(run.run_id, n % 2 == 0, operation="approve#1") for n in range(4)),
            return_exceptions=True,
        )
        assert [type(one) for one in decided].count(str) == 1
        assert [type(one) for one in decided].count(Conflict) == 3
        run = await app.resume(run.run_id)
        first = next(number for number, one in enumerate(decided) if isinstance(one, str))
        assert run.output == {"approved": first % 2 == 0, "reason": None, "by": None}
        with pytest.raises(Conflict, match="has ended"):
            await app.decide(run.run_id, True)


async def test_of_two_that_are_open_one_has_to_be_named(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def sends(ctx: Ctx) -> Any:
            both = await ctx.gather(ctx.approve("A"), ctx.approve("B"), ctx.ask("C?"))
            return [bool(one) for one in both]

        run = await app.run(sends)
        assert run.reason == "approval"
        with pytest.raises(UsageError, match="more than one approval: name one of"):
            await app.decide(run.run_id, True)
        with pytest.raises(NotFound, match="has no operation approve#9"):
            await app.decide(run.run_id, True, operation="approve#9")
        with pytest.raises(Conflict, match="does not wait"):
            await app.decide(run.run_id, True, operation="gather#1:2/ask#1")
        await app.decide(run.run_id, True, operation="gather#1:1/approve#1")
        await app.decide(run.run_id, False)
        await app.answer(run.run_id, "c")
        run = await app.resume(run.run_id)
        assert run.output == [False, True, True]
        assert (await app.replay(run.run_id)).complete


async def test_when_the_time_is_over_it_is_denied_by_the_run_itself(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)
        as_worker(app)

        @app.workflow
        async def sends(ctx: Ctx) -> Any:
            return await ctx.approve("Send", timeout="2h")

        run = await app.run(sends)
        assert log.parks[-1].due is not None
        log.ahead_seconds = 2 * HOUR
        run = await taken(app, run.run_id)
        assert run.output == {"approved": False, "reason": "timeout", "by": None}
        [decided] = await found(app, run.run_id, ApprovalDecided)
        assert decided.model_dump() == {
            "operation": "approve#1",
            "approved": False,
            "reason": "timeout",
            "by": None,
            "shown_digest": None,
        }
        assert (await app.replay(run.run_id)).complete


async def test_a_question_that_nobody_answers_in_time_expires(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            try:
                return await ctx.ask("Well?", timeout="2d")
            except evrt.TimedOut as error:
                return str(error)

        run = await app.run(asks)
        assert run.reason == "question"
        log.ahead_seconds = 2 * DAY
        run = await app.resume(run.run_id)
        assert run.output == "ask#1 failed: timeout: Nobody answered in the time that was given."
        [expired] = await found(app, run.run_id, QuestionExpired)
        assert expired.model_dump(exclude={"latency_ms"}) == {"operation": "ask#1", "cause": "timeout"}
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize("asks_first", [True, False])
async def test_what_comes_when_the_time_is_over_is_refused(url: str, asks_first: bool) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            if asks_first:
                try:
                    await ctx.ask("Well?", timeout="1h")
                except evrt.TimedOut:
                    return await ctx.ask("And now?")
            await ctx.approve("Go", timeout="1h")
            return await ctx.ask("And now?")

        run = await app.run(asks)
        log.ahead_seconds = HOUR
        run = await app.resume(run.run_id)
        assert run.waiting_for == ("ask#2" if asks_first else "ask#1",)
        late = (
            app.answer(run.run_id, "late", operation="ask#1")
            if asks_first
            else app.decide(run.run_id, True, operation="approve#1")
        )
        with pytest.raises(Conflict, match="does not wait"):
            await late


async def test_who_decides_before_the_time_is_over_is_heard_however_late_the_run_looks(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return [bool(await ctx.approve("Go", timeout="1h")), await ctx.ask("Well?", timeout="1h")]

        run = await app.run(asks)
        await app.decide(run.run_id, True)
        log.ahead_seconds = 2 * HOUR
        run = await app.resume(run.run_id)
        await app.answer(run.run_id, "well")
        log.ahead_seconds = 4 * HOUR
        run = await app.resume(run.run_id)
        assert run.output == [True, "well"]
        assert (await app.replay(run.run_id)).complete


class Held(Clocked):
    """A log in which somebody else is faster than the append that says that the time is over."""

    def __init__(self, log: Any) -> None:
        super().__init__(log)
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    def append(self, request: Append) -> Landing[Appended]:
        types = self.types_of(request)
        is_end = "question.expired" in types or ("approval.decided" in types and "input.received" in types)
        if self.meanwhile is None or not is_end:
            return super().append(request)
        landing: Landing[Appended] = Landing()
        self.task = asyncio.get_running_loop().create_task(self._append(request, landing, self.meanwhile()))
        self.meanwhile = None
        return landing

    async def _append(
        self, request: Append, landing: Landing[Appended], meanwhile: Awaitable[object]
    ) -> None:
        await meanwhile
        try:
            landing.set_result(await super().append(request))
        except evrt.EvrtError as error:
            landing.set_exception(error)


@pytest.mark.parametrize("kind", ["question", "approval"])
async def test_who_is_told_that_his_word_is_accepted_has_been_heard(url: str, kind: str) -> None:
    """It comes between the moment at which the run finds its time over, and the append that says so."""
    async with evrt.App(url) as app:
        log = Held(await app.log())
        put(app, log)

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            if kind == "approval":
                return bool(await ctx.approve("Go", timeout="1h"))
            return await ctx.ask("Well?", timeout="1h")

        run = await app.run(asks)

        async def say() -> None:
            await (app.decide(run.run_id, True) if kind == "approval" else app.answer(run.run_id, True))

        log.meanwhile = say
        log.ahead_seconds = HOUR
        run = await app.resume(run.run_id)
        assert run.output is True
        assert "input.received" in [e.type for e in (await app.get(run.run_id)).events]
        assert (await app.replay(run.run_id)).complete


async def test_an_approval_that_the_code_cuts_off_is_refused_afterwards(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def sends(ctx: Ctx) -> Any:
            won = await ctx.race(ctx.approve("Send"), ctx.wait_for_signal("never mind"))
            return [won.branch, await ctx.ask("And now?")]

        run = await app.run(sends)
        await app.signal(run.run_id, "never mind")
        run = await app.resume(run.run_id)
        cut = (await app.get(run.run_id)).journal.operations["race#1:0/approve#1"].outcome
        assert cut is not None
        assert cut.type == "wait.cancelled"
        with pytest.raises(Conflict, match="does not wait"):
            await app.decide(run.run_id, True, operation="race#1:0/approve#1")
        await app.answer(run.run_id, "on")
        run = await app.resume(run.run_id)
        assert run.output == [1, "on"]
        assert (await app.replay(run.run_id)).complete


async def test_another_action_or_time_is_a_divergence(url: str) -> None:
    given: dict[str, Any] = {"details": None}
    async with evrt.App(url) as app:

        @app.workflow
        async def sends(ctx: Ctx) -> Any:
            return bool(await ctx.approve("Send", **given))

        run = await app.run(sends)
        await app.decide(run.run_id, True)
        run = await app.resume(run.run_id)
        for changed in ({"details": 1}, {"timeout": "1h"}):
            given = changed
            report = await app.replay(run.run_id)
            assert report.divergence is not None
            assert report.divergence.operation == "approve#1"


async def test_an_approval_needs_a_text() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def mute(ctx: Ctx) -> None:
            await ctx.approve(" ")

        run = await app.run(mute)
        assert run.failure is not None
        assert run.failure.message == "An approval needs a text that says for what."


async def test_killed_after_any_append_a_run_is_decided_on_once() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def sends(ctx: Ctx) -> Any:
            first = await ctx.approve("A", timeout="1h")
            second = await ctx.approve("B", timeout="1ms")
            try:
                third = await ctx.ask("C?", timeout="1ms")
            except evrt.TimedOut:
                third = "nothing"
            return [bool(first), bool(second), third]

        async def to_the_end(run: str) -> evrt.Result:
            while True:
                result = await app.resume(run)
                if result.status != "waiting":
                    return result
                if "approve#1" in result.waiting_for:
                    await app.decide(run, True)

        log = await watch(app)
        run = await to_the_end((await app.run(sends)).run_id)
        assert run.output == [True, False, "nothing"]
        digest = (await app.get(run.run_id)).digest
        for position in log.boundaries[:-1]:
            put(app, await cut_off(log, position))
            assert (await app.replay(run.run_id)).ok
            resumed = await to_the_end(run.run_id)
            assert (resumed.output, (await app.get(run.run_id)).digest) == (run.output, digest)
            assert (await app.replay(run.run_id)).complete
        put(app, log)
