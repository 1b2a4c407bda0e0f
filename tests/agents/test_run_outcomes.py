"""How a run ended is a status and never an exception, unless somebody prefers that; and everything of it is JSON."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, get_args

import pytest

import evrt
from evrt import Context
from evrt.errors import RunCancelled, RunFailed, StepLimitReached
from evrt.folds.run import RunState, Status
from evrt.folds.step_types import StepType, step_type
from evrt.testing import ScriptedModel, call
from evrt_projections.steps import Step


@evrt.tool(effect="read")
def look() -> str:
    """Looks."""
    return "seen"


def app_with(tmp_path: Path, script: Any) -> evrt.App:
    return evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}", models={"m": ScriptedModel(script)})


async def test_a_run_out_of_steps_is_returned_with_a_summary_and_raised_only_if_asked(tmp_path: Path) -> None:
    """S2.9, S2.10"""
    app = app_with(tmp_path, [call("look"), call("look"), "Half of it."])
    helper = app.agent("helper", model="m", tools=[look], model_turns_max=2)
    async with app:
        result = await app.run(helper, "Go.")
        assert (result.status, result.output) == ("step_limit", "Half of it.")
        with pytest.raises(StepLimitReached) as raised:
            result.unwrap()
        found = (raised.value.model_turns_max, raised.value.run, raised.value.summary, raised.value.limit)
        assert found == (2, result.run_id, "Half of it.", "model_turns")


async def test_which_limit_it_was_is_known_wherever_the_run_was_executed(tmp_path: Path) -> None:
    """S2.9, S2.10"""
    app = app_with(tmp_path, lambda request: "Enough." if not request.tools else call("look"))
    helper = app.agent("helper", model="m", tools=[look], limits=evrt.LoopLimits(tool_rounds_max=1))
    async with app:
        queued = await app.enqueue(helper, "Go.")
        await app.resume(queued.run_id)
        result = await queued.result()
        with pytest.raises(StepLimitReached) as raised:
            result.unwrap()
        assert (raised.value.limit, raised.value.model_turns_max) == ("tool_rounds", 10)


async def test_a_cancel_takes_effect_at_the_next_step_and_leaves_none_half_executed(tmp_path: Path) -> None:
    """S2.9, S2.10, S2.12"""
    begun, go_on = asyncio.Event(), asyncio.Event()
    finished: list[str] = []

    @evrt.tool(effect="write")
    async def transfer() -> str:
        """Moves money."""
        begun.set()
        await go_on.wait()
        finished.append("transferred")
        return "moved"

    app = app_with(tmp_path, [call("transfer"), "Never said."])
    helper = app.agent("helper", model="m", tools=[transfer])
    async with app:
        running = await app.start(helper, "Go.")
        await begun.wait()
        await app.cancel(running.run_id)
        go_on.set()
        result = await running
        assert result.status == "cancelled"
        with pytest.raises(RunCancelled) as raised:
            result.unwrap()
        assert raised.value.run == result.run_id
        types = [one.type for one in (await app.get(result.run_id)).events]
    assert finished == ["transferred"]
    assert "tool_call.completed" in types
    assert types.count("model_call.requested") == 1


async def test_a_cancel_during_the_last_step_is_a_cancel_and_no_step_limit(tmp_path: Path) -> None:
    """fault 42"""
    app = app_with(tmp_path, lambda request: call("stop") if request.tools else "A summary.")

    @evrt.tool(effect="read")
    async def stop() -> str:
        """Is cancelled while it is under way."""
        [run] = await (await app.log()).streams("run-")
        await app.cancel(run)
        return "stopped"

    helper = app.agent("helper", model="m", tools=[stop], model_turns_max=1)
    async with app:
        assert (await app.run(helper, "Go.")).status == "cancelled"


async def test_a_question_that_is_waited_for_can_be_cancelled(tmp_path: Path) -> None:
    """S2.12, fault 42"""
    app = app_with(tmp_path, [])

    @app.workflow
    async def asks(ctx: Context[Any]) -> Any:
        return await ctx.ask("Well?")

    async with app:
        waiting = await app.run(asks)
        assert waiting.status == "waiting"
        await app.cancel(waiting.run_id)
        assert (await app.get(waiting.run_id)).status == "cancelled"


@pytest.mark.parametrize(
    "error, error_type",
    [
        (evrt.ModelError("rate_limit", "429: slow down", retriable=False), "rate_limit"),
        (evrt.ModelError("bad_request", "The schema is wrong.", retriable=False), "bad_request"),
        (LookupError("of the model's own code"), "LookupError"),
    ],
)
async def test_other_errors_come_out_under_their_own_names(
    tmp_path: Path, error: Exception, error_type: str
) -> None:
    """S2.11"""
    app = app_with(tmp_path, [error])
    helper = app.agent("helper", model="m", retry=evrt.Retry(1))
    async with app:
        result = await app.run(helper, "Go.")
        assert result.status == "failed"
        events = (await app.get(result.run_id)).events
        [came] = [one.event.__dict__["failure"] for one in events if one.type == "model_call.failed"]
        assert came.error_type == error_type
        assert str(error) in came.message
        assert result.failure is not None
        assert result.failure.message.endswith(f"{error_type}: {came.message}")
        with pytest.raises(RunFailed, match=error_type):
            result.unwrap()


async def test_a_tool_that_an_agent_does_not_have_is_an_answer_to_the_model(tmp_path: Path) -> None:
    """S2.11"""
    app = app_with(tmp_path, [call("launch"), "I cannot."])
    helper = app.agent("helper", model="m", tools=[look])
    async with app:
        result = await app.run(helper, "Go.")
        assert result.output == "I cannot."
        failed = [
            one.event for one in (await app.get(result.run_id)).events if one.type == "tool_call.failed"
        ]
    assert [one.__dict__["failure"].error_type for one in failed] == ["unknown_tool"]


async def test_a_run_and_each_of_its_steps_are_json_and_kept_step_by_step(tmp_path: Path) -> None:
    """S2.8, B49"""
    app = app_with(tmp_path, [call("look"), "Done."])
    seen: list[list[str]] = []

    @evrt.tool(effect="read")
    async def look() -> str:
        """Looks at what has been kept of its own run."""
        [run] = await (await app.log()).streams("run-")
        views = await app.views()
        seen.append([one.value.status for one in await views.family("steps", run)])
        return "seen"

    helper = app.agent("helper", model="m", tools=[look])
    async with app:
        result = await app.run(helper, "Go.")
        state = (await app.get(result.run_id)).state
        steps = [one.value for one in await (await app.views()).family("steps", result.run_id)]
    assert seen == [["completed", "open"]], "The tool's own step is open, the model's before it is there."
    assert RunState.model_validate_json(state.model_dump_json()) == state
    assert [Step.model_validate_json(step.model_dump_json()) for step in steps] == steps
    assert json.loads(steps[0].model_dump_json())["status"] == "completed"
    kinds = sorted((step.began, step_type(step.intent or step.kind)) for step in steps)
    assert [kind for _, kind in kinds] == [
        StepType.INFERENCE,
        StepType.TOOL_EXECUTION,
        StepType.INFERENCE,
    ]


def test_the_statuses_of_a_run_are_these() -> None:
    """S2.8"""
    assert set(get_args(Status)) == {
        *("queued", "running", "waiting", "succeeded", "failed", "cancelled", "timed_out", "step_limit")
    }


@pytest.mark.parametrize(
    "event_type, wanted",
    [
        ("model_call.requested", "inference"),
        ("model_call.completed", "inference"),
        ("tool_call.requested", "tool_execution"),
        ("tool_call.settled", "tool_execution"),
        ("shield.evaluated", "shield_call"),
        ("memory.recalled", "memory_retrieval"),
        ("memory.written", None),
        ("question.asked", None),
        ("run.succeeded", None),
    ],
)
def test_a_step_is_of_one_of_four_types(event_type: str, wanted: str | None) -> None:
    """B49, S2.8"""
    assert step_type(event_type) == wanted
