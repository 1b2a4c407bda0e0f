"""The loop of an agent: its limits, its guards, its answers, and what it tells of itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import evrt
from evrt import App, Context, Result, tool
from evrt.agents.hooks import all_of, logging_hooks
from evrt.effects.contract import ModelReply, ModelRequest
from evrt.events import JsonObject, JsonValue
from evrt.events.calls import Usage
from evrt.events.loop import ShieldEvaluated
from evrt.events.run import GuardApplied, RunStepLimitReached
from evrt.testing import ScriptedModel, call, calls

tried: list[str] = []


@tool(effect="read")
def look(place: str) -> str:
    """Look at a place."""
    tried.append(place)
    if place.startswith("no"):
        raise LookupError(f"nothing at {place}")
    return f"{len(tried)} things at {place}"


@tool(effect="read")
def done(answer: str) -> str:
    return f"done: {answer}"


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture
def app(tmp_path: Path) -> App:
    tried.clear()
    return App(f"sqlite:///{tmp_path / 'evrt.db'}")


async def guards_of(app: App, result: Result) -> list[tuple[str, str]]:
    events = (await app.get(result.run_id)).events
    return [(e.event.guard, e.event.message) for e in events if isinstance(e.event, GuardApplied)]


async def run_of(
    app: App, script: Any, *, tools: Sequence[evrt.Tool] = (look,), input: Any = "Go.", **options: Any
) -> tuple[Result, ScriptedModel, list[str]]:
    """A run of an agent with this script, whose replay is the same; with the names of the guards that stepped in."""
    model = app.models["script"] = ScriptedModel(script)
    app.agent("agent", model="script", tools=tools, **options)
    result = await app.run("agent", input)
    asked = len(model.requests)
    report = await app.replay(result.run_id)
    assert report.ok, report
    assert len(model.requests) == asked
    return result, model, [guard for guard, _ in await guards_of(app, result)]


def counting(tokens: int = 10, cost: float | None = None) -> Callable[[ModelRequest], Any]:
    """A model that looks at another place each time, and sums up where it has no tools."""

    def reply(request: ModelRequest) -> Any:
        if not request.tools:
            return "That is how far I got."
        made: JsonValue = [
            {
                "id": f"c{len(request.messages)}",
                "type": "function",
                "function": {"name": "look", "arguments": f'{{"place": "p{len(request.messages)}"}}'},
            }
        ]
        message: JsonObject = {"role": "assistant", "content": None, "tool_calls": made}
        return ModelReply(message, usage=Usage(input_tokens=tokens, output_tokens=1, cost_usd=cost))

    return reply


@pytest.mark.parametrize(
    "limits, limit, turns",
    [
        ({}, None, 10),
        ({"model_turns_max": 3}, None, 3),
        ({"tool_rounds_max": 2}, "tool_rounds", 2),
        ({"tokens_max": 40}, "tokens", 4),
        ({"cost_usd_max": 0.5}, "cost", 2),
        ({"wall_clock": 0.000001}, "wall_clock", 0),
    ],
)
async def test_each_limit_is_an_outcome_of_its_own_with_a_summary(
    app: App, limits: Any, limit: str | None, turns: int
) -> None:
    """S2.9, B29, B42: limits are statuses, with a summary by the model."""
    async with app:
        result, model, guards = await run_of(app, counting(cost=0.25), limits=evrt.LoopLimits(**limits))
        assert (result.status, result.output) == ("step_limit", "That is how far I got.")
        ended = (await app.get(result.run_id)).events[-1].event
        assert isinstance(ended, RunStepLimitReached)
        assert ended.limit == limit
        assert len(model.requests) == turns + 1
        assert guards == [limit or "model_turns"]
        assert model.requests[-1].tools == []
        with pytest.raises(evrt.StepLimitReached):
            result.unwrap()


async def test_a_summary_that_fails_leaves_none_and_the_outcome_the_same(app: App) -> None:
    def reply(request: ModelRequest) -> Any:
        return counting()(request) if request.tools else evrt.ModelError("down", "gone", retriable=False)

    async with app:
        result, _, _ = await run_of(app, reply, model_turns_max=2)
        assert (result.status, result.output) == ("step_limit", None)


async def test_the_same_tool_that_does_not_exist_gets_a_word_of_its_own_the_second_time(app: App) -> None:
    """B41"""
    async with app:
        result, model, guards = await run_of(app, [call("jump"), call("jump"), "I cannot."])
        assert result.output == "I cannot."
        assert guards == ["unknown_tool"]
        nudge = model.requests[2].messages[-1]
        assert nudge["role"] == "user"
        assert str(nudge["content"]).startswith(
            "There is no tool 'jump', and there will be none. The tools you can call are: look."
        )


async def test_a_call_that_failed_is_not_made_again_with_the_same_arguments(app: App) -> None:
    """B38"""
    async with app:
        script = [
            call("look", place="nowhere"),
            call("look", place="nowhere"),
            call("look", place="here"),
            "ok",
        ]
        result, model, guards = await run_of(app, script)
        assert (result.output, tried) == ("ok", ["nowhere", "here"])
        assert guards == ["repeated_failure"]
        refused = str(model.requests[2].messages[-1]["content"])
        assert (
            "You called look with exactly these arguments before, and it failed: nothing at nowhere"
            in refused
        )


async def test_three_turns_of_errors_in_a_row_end_the_run(app: App) -> None:
    """B25"""

    def reply(request: ModelRequest) -> Any:
        if not request.tools:
            return "Nothing is anywhere."
        return call("look", place=f"nowhere {len(request.messages)}")

    async with app:
        result, _, guards = await run_of(app, reply)
        assert (result.status, result.output, len(tried)) == ("step_limit", "Nothing is anywhere.", 3)
        assert guards == ["tool_errors"]


async def test_a_success_between_errors_begins_the_count_anew(app: App) -> None:
    """B25"""
    places = ["no1", "no2", "p", "no3", "no4", "q"]
    async with app:
        result, _, guards = await run_of(app, [*(call("look", place=place) for place in places), "ok"])
        assert (result.output, guards) == ("ok", [])


async def test_a_call_that_was_cut_off_is_not_made_and_its_model_told_why(app: App) -> None:
    """B43"""
    cut: JsonObject = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"place": "he'}},
            {"id": "b", "type": "function", "function": {"name": "look", "arguments": '{"place": "here"}'}},
        ],
    }
    async with app:
        result, model, guards = await run_of(app, [ModelReply(cut, finish_reason="length"), "ok"])
        assert (result.output, tried, guards) == ("ok", ["here"], ["cut_off"])
        told = [
            str(message["content"]) for message in model.requests[1].messages if message["role"] == "tool"
        ]
        assert "Your reply was cut off" in told[0]
        assert "things at here" in told[1]


async def test_going_round_in_circles_is_noticed(app: App) -> None:
    """B8"""
    steady = evrt.Tool.from_function(lambda: "the same", name="steady", effect="read")
    async with app:
        result, model, guards = await run_of(
            app, [*(call("steady") for _ in range(3)), "Enough."], tools=[steady]
        )
        assert (result.output, guards) == ("Enough.", ["stuck"])
        assert "You are repeating yourself" in str(model.requests[3].messages[-1]["content"])


async def test_a_tool_whose_result_changes_is_no_circle(app: App) -> None:
    """B8"""
    async with app:
        _, _, guards = await run_of(app, [*(call("look", place="here") for _ in range(5)), "ok"])
        assert guards == []


async def test_calls_without_an_id_of_their_own_get_one(app: App) -> None:
    """fault 62: a fallback id never collides."""
    wished: Any = {"type": "function", "function": {"name": "look", "arguments": '{"place": "here"}'}}
    mixed: JsonObject = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {**wished, "id": "x"},
            {**wished, "id": "x"},
            wished,
            "junk",
            {"id": 7, "function": None},
        ],
    }
    async with app:
        result, model, guards = await run_of(app, [mixed, "ok"])
        assert result.output == "ok"
        assert guards[0] == "tool_calls_mended"
        sent: Any = model.requests[1].messages
        ids = [made["id"] for made in sent[1]["tool_calls"]]
        assert len(set(ids)) == 5
        assert [message["tool_call_id"] for message in sent[2:7]] == ids
        assert tried == ["here"] * 3


async def test_an_answer_fits_its_type_or_is_asked_for_again(app: App) -> None:
    """S3.7: structured output."""
    script = ["It is warm.", '{"city": "Turin"}', '```json\n{"city": "Turin", "degrees": 26}\n```']
    async with app:
        result, model, guards = await run_of(app, script, output=Weather)
        assert result.output == {"city": "Turin", "degrees": 26}
        assert guards == ["output_repair", "output_repair"]
        assert "degrees: Field required" in str(model.requests[2].messages[-1]["content"])
        wanted: Any = model.requests[0].parameters["response_format"]
        assert wanted["json_schema"]["name"] == "Weather"


async def test_an_answer_that_never_fits_fails_the_run_with_what_is_wrong(app: App) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with app:
        result, model, _ = await run_of(app, lambda request: '{"n": "one"}', output=schema)
        assert result.status == "failed"
        assert result.failure is not None
        assert "also after 2 repairs" in result.failure.message
        assert "n: 'one' is not of type 'integer'" in result.failure.message
        assert len(model.requests) == 3


async def test_a_shield_that_blocks_ends_the_turn_with_its_own_words(app: App) -> None:
    """S3.4, B50"""
    asked: list[str] = []

    @app.shield("polite")
    async def polite(messages: Sequence[JsonObject]) -> str | None:
        asked.append(str(messages[-1]["content"]))
        return "Please be polite." if "damn" in asked[-1] else None

    @app.shield("short")
    def short(messages: Sequence[JsonObject]) -> bool:
        return len(str(messages[-1]["content"])) < 20

    @app.shield("watch")
    def watch(messages: Sequence[JsonObject]) -> evrt.Verdict:
        return evrt.Verdict("warn", "seen")

    options: Any = {"input_shields": ["watch", "polite"], "output_shields": ["short"]}
    async with app:
        model = app.models["script"] = ScriptedModel(lambda r: "x" * len(str(r.messages[-1]["content"])))
        app.agent("agent", model="script", **options)
        rude = await app.run("agent", "damn")
        assert (rude.status, rude.output, model.requests) == ("succeeded", "Please be polite.", [])
        assert (await app.run("agent", "hello")).output == "xxxxx"
        wordy = await app.run("agent", "w" * 30)
        assert wordy.output == "I cannot help with that."
        events = (await app.get(wordy.run_id)).events
        seen = [e.event for e in events if isinstance(e.event, ShieldEvaluated)]
        assert [(s.direction, s.shield, s.verdict) for s in seen] == [
            ("input", "watch", "warn"),
            ("input", "polite", "pass"),
            ("output", "short", "block"),
        ]
        before = len(asked)
        assert (await app.replay(wordy.run_id)).ok
        assert len(asked) == before


async def test_a_shield_that_does_not_exist_fails_the_turn_by_its_name(app: App) -> None:
    """fault 54"""
    async with app:
        result, model, _ = await run_of(app, ["never"], input_shields=["string"])
        assert result.failure is not None
        assert "There is no shield 'string'. The app has: none." in result.failure.message
        assert model.requests == []


async def test_a_terminal_tool_ends_the_run_with_its_result(app: App) -> None:
    """B56, fault 64"""
    async with app:
        result, model, _ = await run_of(
            app,
            [call("look", place="here"), call("done", answer="42")],
            tools=[look, done],
            terminal_tools=["done"],
        )
        assert (result.output, len(model.requests)) == ("done: 42", 2)


async def test_text_does_not_end_a_run_that_has_to_call_a_tool(app: App) -> None:
    """B56"""
    async with app:
        result, _, guards = await run_of(
            app, ["Hello!", call("look", place="here"), "Now then."], require_tool_call=True
        )
        assert (result.output, guards) == ("Now then.", ["tool_call_wanted"])


async def test_text_never_ends_a_run_where_only_tools_do(app: App) -> None:
    """B56"""
    async with app:
        result, _, guards = await run_of(
            app,
            ["Hello!", call("look", place="here"), "Well?", call("done", answer="1")],
            tools=[look, done],
            terminal_tools=["done"],
            stop_on_text=False,
        )
        assert (result.output, guards) == ("done: 1", ["tool_call_wanted"] * 2)


async def test_a_loop_says_why_it_stopped_and_what_was_said(app: App) -> None:
    """B56: stopped_reason."""
    app.models["script"] = ScriptedModel([call("done", answer="1"), call("look", place="x"), "Bye."])

    @app.workflow
    async def twice(ctx: Context[Any]) -> list[Any]:
        def settings(**more: Any) -> evrt.LoopSettings:
            return evrt.LoopSettings(
                name="inner",
                tools=lambda: [look, done],
                choose_model=lambda ctx, turn: ("script", {}),
                **more,
            )

        messages: Any = [{"role": "user", "content": "Go."}]
        first = await evrt.Loop(ctx, settings(terminal_tools={"done"})).run(messages)
        second = await evrt.Loop(ctx, settings()).run(messages, [{"role": "user", "content": "Before."}])
        return [first.stopped, second.stopped, [message["role"] for message in second.messages]]

    async with app:
        result = await app.run(twice)
        assert result.output == [
            "terminal_tool:done",
            "text_response",
            ["user", "user", "assistant", "tool", "assistant"],
        ]
        assert (await app.replay(result.run_id)).ok


async def test_hooks_are_told_once_and_not_on_replay(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """S4.15, B58"""
    told: list[tuple[Any, ...]] = []

    def hook(name: str) -> Any:
        async def tell(*args: Any) -> None:
            told.append((name, *args))

        return tell

    async def broken(*args: Any) -> None:
        raise RuntimeError("a hook of somebody's")

    names = ("on_iteration_start", "on_tool_start", "on_tool_end", "on_complete")
    hooks = all_of(
        evrt.Hooks(on_iteration_start=broken),
        evrt.Hooks(**{name: hook(name) for name in names}),
        logging_hooks(),
    )
    async with app:
        with caplog.at_level(logging.INFO, "evrt.agents"):
            await run_of(app, [call("look", place="here"), call("look", place="no"), "ok"], hooks=hooks)
    assert told == [
        ("on_iteration_start", 1),
        ("on_tool_start", "look", '{"place":"here"}'),
        ("on_tool_end", "look", "1 things at here"),
        ("on_iteration_start", 2),
        ("on_tool_start", "look", '{"place":"no"}'),
        ("on_tool_end", "look", "nothing at no"),
        ("on_iteration_start", 3),
        ("on_complete", "ok"),
    ]
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("tool look begins") == 2
    assert sum("on_iteration_start failed" in line for line in lines) == 3
    assert not any("here" in line for line in lines)


async def test_more_calls_than_a_turn_may_have_are_refused(app: App) -> None:
    many = calls(*(call("look", place=f"p{number}") for number in range(70)))
    async with app:
        result, _, guards = await run_of(app, [many, "ok"])
        assert (result.output, len(tried), guards) == ("ok", 64, ["too_many_calls"] * 6)


async def test_a_long_loop_goes_on_in_chapters_and_its_requests_can_be_rebuilt(app: App) -> None:
    turns = 205

    def reply(request: ModelRequest) -> Any:
        asked = sum(message["role"] == "assistant" for message in request.messages)
        return call("look", place=f"p{asked}") if asked < turns - 1 else f"{asked} turns before this"

    model = app.models["script"] = ScriptedModel(reply)
    app.agent(
        "agent",
        model="script",
        tools=[look],
        instructions="Look.",
        limits=evrt.LoopLimits(model_turns_max=1_000),
    )
    async with app:
        result = await app.run("agent", "Everywhere.")
        assert result.output == f"{turns - 1} turns before this"
        run = await app.get(result.run_id)
        continued = [e for e in run.events if e.type == "run.continued"]
        assert len(continued) == 2
        assert len(tried) == turns - 1
        assert (await app.replay(result.run_id)).ok
        last = [e.event.operation for e in run.events if e.type == "model_call.requested"][-1]  # type: ignore[attr-defined]
        assert run.request(last)["messages"] == list(model.requests[-1].messages)
        sizes = [len(str(e.event.model_dump())) for e in run.events if e.type == "model_call.requested"]
        assert max(sizes[10:100] + sizes[110:200]) < 3_000
