"""Every operation of the context is recorded once, and read back on resume and on replay."""

from __future__ import annotations

import dataclasses
import logging
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

import evrt
from evrt.events.calls import ValueRecorded
from evrt.events.run import CheckpointSaved, ErrorReported, MessageProduced, RunEmitted
from runtime.logs import Ctx, watch


class Colour(Enum):
    RED = "red"


class Claim(BaseModel):
    day: date
    amount: Decimal


@dataclasses.dataclass
class Place:
    name: str
    at: tuple[float, float]


TYPED: list[Any] = [
    Claim(day=date(2026, 1, 31), amount=Decimal("12.30")),
    Place("Turin", (45.07, 7.69)),
    datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),
    Decimal("0.1"),
    timedelta(days=2, seconds=3),
    UUID(int=7),
    Colour.RED,
    (1, "two"),
    {"one", "two"},
    {1: Decimal(1)},
    [Claim(day=date(2026, 1, 31), amount=Decimal(1))],
    b"bytes",
    None,
    "text",
    1.5,
]


def declared(value: Any) -> Any:
    """The type that a function returning this value declares."""
    if isinstance(value, tuple):
        return tuple[int, str]
    if isinstance(value, set):
        return set[str]
    if isinstance(value, dict):
        return dict[int, Decimal]
    if isinstance(value, list):
        return list[Claim]
    return type(value)


@pytest.mark.parametrize("value", TYPED, ids=lambda value: type(value).__name__)
async def test_results_come_back_as_the_declared_type_live_on_resume_and_on_replay(value: Any) -> None:
    seen: list[Any] = []

    async def give() -> Any:
        return value

    give.__annotations__["return"] = declared(value)
    fetch = evrt.tool(effect="read", name="fetch")(give)
    async with evrt.App("memory://") as app:

        @app.workflow
        async def twice(ctx: Ctx) -> None:
            seen.append(await ctx.call(fetch))
            seen.append(await ctx.step("give", give))
            await ctx.ask("Go on?")

        run = await app.run(twice)
        await app.answer(run.run_id, "yes")
        assert (await app.resume(run.run_id)).status == "succeeded"
        assert (await app.replay(run.run_id)).complete
    assert seen == [value] * 6
    assert {type(one) for one in seen} == {type(value)}


async def test_results_without_a_declared_type_are_plain_json_live_as_on_replay() -> None:
    seen: list[Any] = []
    async with evrt.App("memory://") as app:

        @app.workflow
        async def plain(ctx: Ctx) -> None:
            seen.append(await ctx.step("point", lambda: Place("Rome", (1, 2))))

        run = await app.run(plain)
        await app.replay(run.run_id)
    assert seen == [{"name": "Rome", "at": [1, 2]}] * 2


async def test_a_result_that_is_not_of_the_declared_type_is_a_failure() -> None:
    @evrt.tool(effect="read")
    async def count() -> int:
        return "many"  # type: ignore[return-value]

    async with evrt.App("memory://") as app:

        @app.workflow
        async def counts(ctx: Ctx) -> str:
            with pytest.raises(evrt.ToolFailed, match="cannot be recorded"):
                await ctx.call(count)
            with pytest.raises(evrt.StepFailed, match="cannot be recorded"):
                await ctx.step("count", wrong)
            return "told"

        run = await app.run(counts)
        assert run.output == "told"
        assert (await app.replay(run.run_id)).complete


def wrong() -> int:
    return "many"  # type: ignore[return-value]


async def test_clock_ids_and_chance_are_recorded_and_the_same_again(url: str) -> None:
    seen: list[tuple[datetime, UUID, float]] = []
    async with evrt.App(url) as app:

        @app.workflow
        async def chancy(ctx: Ctx) -> None:
            seen.append((ctx.now(), ctx.uuid(), ctx.random()))
            await ctx.ask("Again?")

        run = await app.run(chancy)
        await app.answer(run.run_id, "yes")
        await app.resume(run.run_id)
        assert (await app.replay(run.run_id)).complete
        history = await app.get(run.run_id)
    assert len(set(seen)) == 1
    now, identifier, number = seen[0]
    assert now.tzinfo is UTC
    assert identifier.version == 4
    assert 0 <= number < 1
    kinds = [e.event.kind for e in history.events if isinstance(e.event, ValueRecorded)]
    assert kinds == ["now", "uuid", "random"]


async def test_what_readers_are_told_is_recorded_once(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def talk(ctx: Ctx) -> None:
            await ctx.emit("progress", {"done": 1})
            await ctx.say("Half of it is done.")
            await ctx.report_error("One page is missing.", {"page": 3})
            await ctx.checkpoint(Place("Turin", (1, 2)), name="half")
            await ctx.ask("Go on?")

        run = await app.run(talk)
        await app.answer(run.run_id, "yes")
        await app.resume(run.run_id)
        assert (await app.replay(run.run_id)).complete
        history = await app.get(run.run_id)
    told = [e.event for e in history.events if e.event.type in TOLD]
    assert told == [
        RunEmitted(operation="emit#1", name="progress", payload={"done": 1}),
        MessageProduced(operation="say#1", role="assistant", content="Half of it is done."),
        ErrorReported(operation="report_error#1", message="One page is missing.", details={"page": 3}),
        CheckpointSaved(operation="checkpoint#1", name="half", state={"name": "Turin", "at": [1, 2]}),
    ]
    assert history.state.state == {"name": "Turin", "at": [1, 2]}
    assert history.messages[-1] == {"role": "assistant", "content": "Half of it is done."}
    assert history.at(history.version_of("{half}")).state.state == {"name": "Turin", "at": [1, 2]}


TOLD = {"run.emitted", "message.produced", "error.reported", "checkpoint.saved"}


async def test_an_error_that_was_reported_does_not_end_the_run() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def careful(ctx: Ctx) -> str:
            await ctx.report_error("Never mind.")
            return "done"

        assert (await app.run(careful)).output == "done"


async def test_the_log_is_silent_on_replay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "evrt.run")
    async with evrt.App("memory://") as app:

        @app.workflow
        async def chatty(ctx: Ctx) -> None:
            ctx.log("begins", size=3)
            await ctx.step("one", lambda: 1)
            ctx.log("ends")

        run = await app.run(chatty)
        assert [record.message for record in caplog.records] == ["begins", "ends"]
        assert caplog.records[0].__dict__["fields"] == {"size": 3}
        await app.replay(run.run_id)
    assert len(caplog.records) == 2


async def test_the_context_knows_its_run_its_input_and_what_the_app_gave_it(url: str) -> None:
    seen: dict[str, Any] = {}
    async with evrt.App(url, deps={"db": 1}) as app:

        @app.workflow
        async def known(ctx: evrt.Context[dict[str, int]], question: str) -> None:
            seen.update(
                run=ctx.run_id,
                input=ctx.input,
                messages=ctx.input_messages,
                deps=ctx.deps,
                user=ctx.user,
                conversation=ctx.conversation,
                target=ctx.target,
                replaying=ctx.replaying,
            )

        run = await app.run(known, "Why?", user="ann", conversation="c1")
        log = await app.log()
        assert seen == {
            "run": run.run_id,
            "input": "Why?",
            "messages": [{"role": "user", "content": "Why?"}],
            "deps": {"db": 1},
            "user": await log.ref("user", "ann", create=False),
            "conversation": await log.ref("conversation", "c1", create=False),
            "target": "known",
            "replaying": False,
        }
        await app.replay(run.run_id)
        assert seen["replaying"] is True


async def test_calling_what_is_neither_tool_nor_agent_is_refused() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def mistaken(ctx: Ctx) -> None:
            await ctx.call(len, "abc")  # type: ignore[arg-type]

        run = await app.run(mistaken)
    assert run.failure is not None
    assert (
        run.failure.message
        == "ctx.call takes a tool, an agent or a workflow, not builtin_function_or_method."
    )


async def test_workflows_call_workflows_with_one_input_or_with_arguments_by_name() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def double(ctx: Ctx, number: int) -> Any:
            return await ctx.step("double", lambda n: 2 * n, number)

        @app.workflow
        async def add(ctx: Ctx, one: int, other: int = 5) -> int:
            return one + other

        @app.workflow
        async def both(ctx: Ctx) -> list[int]:
            return [await ctx.call(double, 2), await ctx.call(double, 3), await ctx.call(add, one=1)]

        run = await app.run(both)
        assert run.output == [4, 6, 6]
        history = await app.get(run.run_id)
        assert list(history.journal.operations) == ["double#1/double#1", "double#2/double#1"]
        assert (await app.replay(run.run_id)).complete


async def test_each_operation_is_written_once_however_often_the_run_is_resumed(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def patient(ctx: Ctx) -> list[Any]:
            first = await ctx.step("one", lambda: 1)
            return [first, await ctx.ask("A?"), await ctx.ask("B?")]

        run = await app.run(patient)
        for answer in ("a", "b"):
            await app.answer(run.run_id, answer)
            run = await app.resume(run.run_id)
        assert run.output == [1, "a", "b"]
        history = await app.get(run.run_id)
        identities = [
            getattr(e.event, "operation", None) for e in history.events if e.type == "step.completed"
        ]
        assert identities == ["one#1"]
        assert [e.type for e in history.events if e.type.startswith("run.")] == [
            "run.requested",
            "run.claimed",
            "run.started",
            "run.waiting",
            "run.claimed",
            "run.waiting",
            "run.claimed",
            "run.succeeded",
        ]


async def test_thousands_of_notes_in_a_row_are_no_problem() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def eager(ctx: Ctx) -> None:
            for number in range(12_000):
                await ctx.emit("n", number)

        watched = await watch(app)
        run = await app.run(eager)
        assert run.status == "succeeded"
        assert max(len(request.drafts) for request in watched.appends) <= 1_000
        assert len((await app.get(run.run_id)).events) == 12_004


async def test_arguments_given_as_sets_are_recognised_again(url: str) -> None:
    """Their order differs between processes; that of what is recorded must not."""

    @evrt.tool(effect="read")
    async def tagged(tags: set[str]) -> int:
        return len(tags)

    async with evrt.App(url) as app:

        @app.workflow
        async def tag(ctx: Ctx) -> Any:
            return await ctx.call(tagged, tags={"b", "c", "a"})

        run = await app.run(tag)
        requested = (await app.get(run.run_id)).journal.operations["tagged#1"].intent
    assert requested is not None
    assert requested.event.model_dump()["arguments"] == {"tags": ["a", "b", "c"]}
