"""A run is told step by step from its log alone: the same to everybody, from any point on, in any process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import evrt
from evrt import Context
from evrt.agents.run_events import RunEvent, RunEventType, Told, run_events
from evrt.events.loop import TierSelected
from evrt.testing import Reply, ScriptedModel, call, calls

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@evrt.tool(effect="read")
def weather(city: str) -> dict[str, Any]:
    """The weather in a city."""
    if city == "Atlantis":
        raise LookupError("No such city.")
    return {"city": city, "sunny": True}


@evrt.tool(effect="read")
def plot(city: str, files: int) -> dict[str, Any]:
    """A chart of the weather."""
    made = [{"path": f"{city}.png", "size_bytes": 9, "media_type": "image/png", "secret": 1}] * files
    return {"done": True, "produced_files": made}


def app_with(tmp_path: Path, script: Sequence[Reply], **more: Any) -> tuple[evrt.App, Any]:
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}", models={"script": ScriptedModel(script)})
    return app, app.agent("helper", model="script", tools=[weather, plot], **more)


def shapes(told: Sequence[Told]) -> list[tuple[str, int, dict[str, Any]]]:
    return [(one.event.type.value, one.event.step, one.event.data) for one in told]


async def all_told(app: evrt.App, run: str, after: tuple[int, int] = (0, 0)) -> list[Told]:
    return [one async for one in app.run_events(run, after=after)]


# ------------------------------------------------------------------------------------- one RunEvent


def test_a_run_event_is_frozen_and_has_no_other_fields() -> None:
    """S2.15"""
    event = RunEvent(type=RunEventType.THINKING, step=0, timestamp=NOON)
    assert set(RunEvent.model_fields) == {"type", "step", "data", "timestamp"}
    with pytest.raises(ValidationError):
        event.step = 1
    with pytest.raises(ValidationError, match="run_id"):
        RunEvent.model_validate({"type": "thinking", "step": 0, "timestamp": NOON, "run_id": "x"})


def test_a_time_without_a_zone_is_refused_and_any_other_becomes_utc() -> None:
    """S2.15"""
    with pytest.raises(ValidationError, match="timezone"):
        RunEvent(type=RunEventType.THINKING, step=0, timestamp=NOON.replace(tzinfo=None))
    there = NOON.astimezone(timezone(timedelta(hours=9)))
    event = RunEvent(type=RunEventType.THINKING, step=0, timestamp=there)
    assert (event.timestamp, event.timestamp.tzinfo) == (NOON, UTC)
    assert event.model_dump(mode="json") == {
        "type": "thinking",
        "step": 0,
        "data": {},
        "timestamp": "2026-11-28T12:00:00Z",
    }


@pytest.mark.parametrize(
    "wrong",
    [{"type": "pondering"}, {"step": -2}, {"data": {"x": object()}}, {"data": {"x": {1, 2}}}, {"data": [1]}],
)
def test_an_unknown_type_a_step_below_minus_one_and_data_that_is_no_json_are_refused(
    wrong: dict[str, Any],
) -> None:
    """S2.15, fault 39"""
    with pytest.raises(ValidationError):
        RunEvent.model_validate({"type": "thinking", "step": 0, "data": {}, "timestamp": NOON, **wrong})


# ----------------------------------------------------------------------------------- what is told


async def test_a_run_with_tools_is_told_in_these_words(tmp_path: Path) -> None:
    """S2.16, S2.17, S2.18, S2.19, S2.22, S2.24"""
    app, helper = app_with(
        tmp_path,
        [
            calls(call("weather", city="Turin"), call("weather", city="Atlantis"), text="Let me look."),
            call("plot", city="Turin", files=1),
            call("plot", city="Turin", files=0),
            "[FINAL] Sunny.",
        ],
    )
    async with app:
        result = await app.run(helper, "Umbrella?")
        told = await all_told(app, result.run_id)
    results = {"Turin": '{"city":"Turin","sunny":true}', "Atlantis": "No such city."}
    called = [
        {"name": "weather", "call_id": f"call_1_{number}", "args": {"city": city}}
        for number, city in enumerate(results)
    ]
    files = [{"path": "Turin.png", "size_bytes": 9, "media_type": "image/png"}]
    found = shapes(told)
    batch = found[4:6]
    assert sorted(batch, key=lambda one: one[2]["is_error"]) == [
        (
            "tool_result",
            0,
            {"tool_name": "weather", "is_error": city == "Atlantis", "content": results[city]},
        )
        for city in results
    ]
    assert found[:4] + found[6:] == [
        ("started", -1, {"task": "Umbrella?"}),
        ("thinking", 0, {}),
        ("reasoning", 0, {"content": "Let me look."}),
        ("tool_calling", 0, {"tool_names": "weather, weather", "tool_calls": called}),
        ("thinking", 1, {}),
        (
            "tool_calling",
            1,
            {
                "tool_names": "plot",
                "tool_calls": [
                    {"name": "plot", "call_id": "call_4_0", "args": {"city": "Turin", "files": 1}}
                ],
            },
        ),
        (
            "tool_result",
            1,
            {
                "tool_name": "plot",
                "is_error": False,
                "content": '{"done":true,"produced_files":[{"media_type":"image/png","path":"Turin.png","secret":1,"size_bytes":9}]}',
                "produced_files": files,
            },
        ),
        ("thinking", 2, {}),
        (
            "tool_calling",
            2,
            {
                "tool_names": "plot",
                "tool_calls": [
                    {"name": "plot", "call_id": "call_6_0", "args": {"city": "Turin", "files": 0}}
                ],
            },
        ),
        (
            "tool_result",
            2,
            {"tool_name": "plot", "is_error": False, "content": '{"done":true,"produced_files":[]}'},
        ),
        ("thinking", 3, {}),
        ("completed", 3, {"output": "Sunny."}),
        ("finished", 4, {"run_id": result.run_id, "status": "completed"}),
    ]


async def test_a_tier_is_told_of_and_a_text_that_the_loop_goes_on_after_was_reasoning(tmp_path: Path) -> None:
    """S2.16, S2.17"""
    app = evrt.App(
        f"sqlite:///{tmp_path / 'evrt.db'}", models={"script": ScriptedModel(["Hm.", "Notes.", "42"])}
    )

    @app.workflow
    async def think(ctx: Context[Any], task: str) -> str:
        ctx.record(TierSelected, tier="frontier", model="script", rule="first_step", rationale="It plans.")
        await ctx.model("Think.", model="script")
        await ctx.model("Sum up.", model="script", name="summary")
        return (await ctx.model("Say it.", model="script")).text

    async with app:
        result = await app.run(think, "What is it?")
        assert shapes(await all_told(app, result.run_id)) == [
            ("started", -1, {"task": "What is it?"}),
            ("tier", -1, {"tier": "frontier"}),
            ("thinking", 0, {}),
            ("reasoning", 0, {"content": "Hm."}),
            ("thinking", 1, {}),
            ("completed", 1, {"output": "42"}),
            ("finished", 2, {"run_id": result.run_id, "status": "completed"}),
        ]


@pytest.mark.parametrize(
    "options, data",
    [
        (None, {"question": "Publish?"}),
        (
            ["yes", "no", "later"],
            {
                "question": "Publish?",
                "options": [{"label": label, "description": ""} for label in ("yes", "no", "later")],
                "allow_free_form": True,
            },
        ),
    ],
)
async def test_a_question_is_told_with_its_options_and_its_answer_without_its_text(
    tmp_path: Path, options: list[str] | None, data: dict[str, Any]
) -> None:
    """S2.20, S2.21, fault 38"""
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}")

    @app.workflow
    async def publish(ctx: Context[Any]) -> str:
        return str(await ctx.ask("Publish?", options=options))

    heard: list[RunEvent] = []

    async def listen(event: RunEvent) -> None:
        heard.append(event)

    async with app:
        waiting = await app.run(publish, on_event=listen)
        assert [event.type for event in heard] == ["started", "asking_user"], (
            "A run that waits is told so far."
        )
        await app.answer(waiting.run_id, "yes", by="ann")
        await app.resume(waiting.run_id)
        told = await all_told(app, waiting.run_id)
    assert [one.event for one in told[:2]] == heard
    assert shapes(told) == [
        ("started", -1, {"task": ""}),
        ("asking_user", 0, data),
        ("user_responded", 0, {}),
        ("completed", 0, {"output": "yes"}),
        ("finished", 0, {"run_id": waiting.run_id, "status": "completed"}),
    ]
    assert told[2].answer == "yes", "Beyond the event, for whoever wants to replay: what was answered."


# ----------------------------------------------------------------------------------------- the ends


async def ended(app: evrt.App, target: Any, **how: Any) -> tuple[evrt.Result, list[tuple[str, int, Any]]]:
    result = await app.run(target, "Go.", **how)
    return result, shapes(await all_told(app, result.run_id))[-2:]


async def test_the_last_that_is_told_is_how_the_run_ended_and_that_it_did(tmp_path: Path) -> None:
    """S2.9, S2.22, S2.23, S2.24"""
    app, short = app_with(tmp_path, [call("weather", city="Rome"), "Half."], model_turns_max=1)

    @app.workflow
    async def breaks(ctx: Context[Any], task: str) -> None:
        raise LookupError("It is gone.")

    @app.workflow(timeout="10ms")
    async def dawdles(ctx: Context[Any], task: str) -> None:
        await asyncio.sleep(5)

    @app.workflow
    async def waits(ctx: Context[Any], task: str) -> None:
        await ctx.ask("Well?")

    async with app:
        result, last = await ended(app, short)
        assert last == [
            ("max_steps", 0, {"summary": "Half."}),
            ("finished", 1, {"run_id": result.run_id, "status": "max_steps_reached"}),
        ]
        result, last = await ended(app, breaks)
        assert last == [
            ("error", 0, {"message": "It is gone."}),
            ("finished", 0, {"run_id": result.run_id, "status": "error"}),
        ]
        result, last = await ended(app, dawdles)
        assert last == [
            ("error", 0, {"message": "The run took longer than 0.01 seconds."}),
            ("finished", 0, {"run_id": result.run_id, "status": "error"}),
        ]
        waiting = await app.run(waits, "Go.")
        await app.cancel(waiting.run_id)
        assert shapes(await all_told(app, waiting.run_id))[-2:] == [
            ("cancelled", 0, {}),
            ("finished", 0, {"run_id": waiting.run_id, "status": "cancelled"}),
        ]


# --------------------------------------------------------------------------------- on_event, cursors


async def test_on_event_hears_of_a_step_while_the_run_is_still_in_it(tmp_path: Path) -> None:
    """S2.14"""
    heard: list[RunEvent] = []
    asked = asyncio.Event()

    async def listen(event: RunEvent) -> None:
        heard.append(event)
        if event.type == RunEventType.TOOL_CALLING:
            asked.set()

    @evrt.tool(effect="read")
    async def patient() -> str:
        """Returns when somebody has heard of it."""
        await asked.wait()
        return "heard"

    app = evrt.App(
        f"sqlite:///{tmp_path / 'evrt.db'}", models={"script": ScriptedModel([call("patient"), "Done."])}
    )
    helper = app.agent("helper", model="script", tools=[patient])
    async with app:
        result = await app.run(helper, "Go.", on_event=listen)
        assert result.output == "Done."
        assert [event.type.value for event in heard] == [
            "started",
            "thinking",
            "tool_calling",
            "tool_result",
            "thinking",
            "completed",
            "finished",
        ]
        assert [one.event for one in await all_told(app, result.run_id)] == heard


async def test_an_error_of_on_event_does_not_end_the_run_and_is_raised_after_it(tmp_path: Path) -> None:
    """S2.14, S2.11"""
    app, helper = app_with(tmp_path, ["Done."])
    heard: list[RunEvent] = []

    async def listen(event: RunEvent) -> None:
        heard.append(event)
        raise LookupError("The window is closed.")

    async with app:
        with pytest.raises(LookupError, match="window"):
            await app.run(helper, "Go.", on_event=listen)
        [run] = await (await app.log()).streams("run-")
        assert (await app.get(run)).status == "succeeded"
    assert len(heard) == 1


async def test_who_comes_back_with_a_cursor_is_told_what_came_after_it(tmp_path: Path) -> None:
    """S2.14, fault 38, fault 40"""
    app, helper = app_with(tmp_path, [calls(call("weather", city="Rome"), text="So."), "Done."])
    async with app:
        result = await app.run(helper, "Go.")
        told = await all_told(app, result.run_id)
        history = (await app.get(result.run_id)).events
    cursors = [one.cursor for one in told]
    assert cursors == sorted(set(cursors)), (
        "A strictly rising sequence, two things told of one event included."
    )
    assert told == list(run_events(result.run_id, history))
    outputs = [one.model_output["content"] for one in told if one.model_output is not None]
    assert outputs == ["So.", "So."], "What a model said is there whole, beside what is told of it."
    other, _ = app_with(tmp_path, [])
    async with other:
        for seen, cursor in enumerate(cursors, start=1):
            assert await all_told(other, result.run_id, cursor) == told[seen:]


async def test_a_reader_elsewhere_is_told_of_a_run_as_it_goes_on(tmp_path: Path) -> None:
    """S2.14, fault 40"""
    app, helper = app_with(tmp_path, ["Done."])
    async with app:
        running = await app.start(helper, "Go.")
        two = await asyncio.gather(all_told(app, running.run_id), all_told(app, running.run_id))
        await running
    assert two[0] == two[1]
    assert two[0][-1].event.type == "finished"


async def test_a_run_that_nobody_knows_is_not_found(tmp_path: Path) -> None:
    """S2.14"""
    app, _ = app_with(tmp_path, [])
    async with app:
        with pytest.raises(evrt.NotFound):
            await all_told(app, "run-nobody")
