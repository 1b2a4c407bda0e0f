"""Tools that are part of the run's code, tools with a JSON schema, and whom a run trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evrt import App, Context, Tool, ToolContext, UsageError, tool
from evrt.testing import ScriptedModel, call, calls

made: list[str] = []


@tool(effect="read")
def price(item: str) -> int:
    made.append(item)
    return len(item)


@tool
async def total(ctx: Context[Any], items: list[str]) -> int:
    """The price of all of them."""
    prices = await ctx.gather(*(ctx.call(price, item) for item in items))
    if not await ctx.ask(f"Pay {sum(prices)}?"):
        raise ValueError("nobody wants to pay")
    return sum(prices)


SCHEMA: Any = {
    "type": "object",
    "properties": {"item": {"type": "string", "maxLength": 5}, "count": {"type": "integer", "minimum": 1}},
    "required": ["item"],
    "additionalProperties": False,
}


def order(**arguments: Any) -> str:
    return f"{arguments.get('count', 1)} x {arguments['item']}"


@pytest.fixture
def app(tmp_path: Path) -> App:
    made.clear()
    return App(f"sqlite:///{tmp_path / 'evrt.db'}")


async def test_what_a_tool_does_in_the_run_is_recorded_by_itself_and_not_done_again(app: App) -> None:
    app.models["script"] = ScriptedModel(
        lambda request: (
            f"It is {request.messages[-1]['content']}."
            if request.messages[-1]["role"] == "tool"
            else call("total", items=["pear", "fig"])
        )
    )
    app.agent("buyer", model="script", tools=[total])
    async with app:
        parked = await app.run("buyer", "How much?")
        assert parked.waiting_for == ("total#1/ask#1",)
        await app.answer(parked.run_id, True)
        ended = await app.resume(parked.run_id)
        assert ended.output == "It is 7."
        assert sorted(made) == ["fig", "pear"]
        events = (await app.get(parked.run_id)).events
        operations = [getattr(e.event, "operation", "") for e in events if e.type.startswith("tool_call.")]
        assert operations[0] == operations[-1] == "total#1"
        assert {"total#1/gather#1:0/price#1", "total#1/gather#1:1/price#1"} < set(operations)
        assert (await app.replay(parked.run_id)).ok
        assert sorted(made) == ["fig", "pear"]


async def test_a_failure_inside_is_an_outcome_for_the_model_and_replays(app: App) -> None:
    app.models["script"] = ScriptedModel(lambda r: str(r.messages[-1]["content"])[:80])

    @app.workflow
    async def pays(ctx: Context[Any]) -> list[str]:
        wished: Any = {"id": "1", "function": {"name": "total", "arguments": '{"items": ["fig"]}'}}
        outcome = await ctx.perform(wished, [total])
        wrong = await ctx.perform({**wished, "function": {"name": "total", "arguments": "{}"}}, [total])
        return [outcome.value.error_type, outcome.value.message, wrong.value.error_type]

    async with app:
        parked = await app.run(pays)
        await app.answer(parked.run_id, False)
        ended = await app.resume(parked.run_id)
        assert ended.output == ["ValueError", "nobody wants to pay", "invalid_arguments"]
        assert (await app.replay(parked.run_id)).ok


async def test_several_of_them_at_once_keep_their_own_operations(app: App) -> None:
    app.models["script"] = ScriptedModel(
        lambda request: (
            "done"
            if request.messages[-1]["role"] == "tool"
            else calls(call("total", items=["a"]), call("total", items=["bb"]))
        )
    )
    app.agent("buyer", model="script", tools=[total])
    async with app:
        parked = await app.run("buyer", "Both.")
        assert set(parked.waiting_for) == {"gather#1:0/total#1/ask#1", "gather#1:1/total#1/ask#1"}
        for operation in parked.waiting_for:
            await app.answer(parked.run_id, True, operation=operation)
        assert (await app.resume(parked.run_id)).output == "done"
        assert (await app.replay(parked.run_id)).ok


async def test_it_is_called_from_code_like_any_other(app: App) -> None:
    @app.workflow
    async def pays(ctx: Context[Any]) -> int:
        result: int = await ctx.call(total, items=["fig"])
        return result

    async with app:
        parked = await app.run(pays)
        await app.answer(parked.run_id, True)
        assert (await app.resume(parked.run_id)).output == 3


async def test_a_schema_checks_what_the_function_is_given(app: App) -> None:
    ordering = Tool.from_schema(order, name="order", description="Orders.", parameters=SCHEMA, effect="pure")

    @app.workflow
    async def orders(ctx: Context[Any]) -> list[Any]:
        texts = ['{"item": "fig", "count": 2}', '{"item": "cherry", "count": 0, "note": ""}', "{}"]
        wished: list[Any] = [{"id": "1", "function": {"name": "order", "arguments": text}} for text in texts]
        outcomes = [await ctx.perform(one, [ordering]) for one in wished]
        return [outcome.value if not outcome.is_error else outcome.value.message for outcome in outcomes]

    async with app:
        good, bad, missing = (await app.run(orders)).output
    assert good == "2 x fig"
    assert bad.startswith("The arguments of order are not valid. ")
    assert "count: 0 is less than the minimum of 1" in bad
    assert "item: 'cherry' is too long" in bad
    assert "'note' was unexpected" in bad
    assert missing == "The arguments of order are not valid. the value: 'item' is a required property."
    assert ordering.to_openai_format()["function"] == {
        "name": "order",
        "description": "Orders.",
        "parameters": SCHEMA,
    }


@pytest.mark.parametrize(
    "schema, said",
    [
        ({"type": "string"}, "has to be an object's"),
        ({"type": "object", "properties": {"a": {"type": "nothing"}}}, "is none, at properties.a.type"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Tool.from_schema(order, name="order", description="", parameters=schema)


async def test_a_reference_out_of_the_schema_fetches_nothing(app: App) -> None:
    schema: Any = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}}
    made_of_it = Tool.from_schema(order, name="order", description="", parameters=schema, effect="pure")
    with pytest.raises(UsageError, match="which it does not hold"):
        made_of_it.validate({"a": 1})


def test_a_tool_in_the_run_declares_no_effect_of_its_own() -> None:
    async def mixed(ctx: Context[Any], call: ToolContext[Any]) -> None: ...

    def still(ctx: Context[Any]) -> None: ...

    with pytest.raises(UsageError, match="not both"):
        Tool.from_function(mixed)
    with pytest.raises(UsageError, match="async def"):
        Tool.from_function(still)
    with pytest.raises(UsageError, match="part of the run's code"):
        Tool.from_function(total._function, timeout="3s")
    assert total.in_run
    assert list(total.to_openai_format()["function"]["parameters"]["properties"]) == ["items"]  # type: ignore[index,call-overload,arg-type]


async def test_a_run_that_has_read_what_a_tool_returned_is_not_trusted(app: App) -> None:
    sure = Tool.from_function(price._function, name="sure", effect="read", trusted=True)

    @app.workflow
    async def reads(ctx: Context[Any]) -> list[Any]:
        before = list(ctx.untrusted)
        await ctx.call(sure, "fig")
        between = list(ctx.untrusted)
        await ctx.call(price, "fig")
        await ctx.call(price, "fig")
        ctx.distrust("elsewhere")
        return [before, between, list(ctx.untrusted)]

    async with app:
        ended = await app.run(reads)
        assert ended.output == [[], [], ["tool:price", "elsewhere"]]
        assert (await app.replay(ended.run_id)).ok
