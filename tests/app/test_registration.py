"""Names are how the log finds code again, so what is registered is checked at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import evrt
from evrt.errors import InvalidInput, NotFound, UsageError

Ctx = evrt.Context[Any]


@evrt.tool(effect="read")
async def look(number: int) -> int:
    """Looks."""
    return number


def test_a_name_can_be_taken_once() -> None:
    app = evrt.App("memory://")
    app.agent("helper", model="m")
    with pytest.raises(UsageError, match="The name 'helper' is registered twice"):
        app.agent("helper", model="m")
    with pytest.raises(UsageError, match="registered twice"):

        @app.workflow(name="helper")
        async def other(ctx: Ctx) -> None: ...

    assert list(app.targets) == ["helper"]


def test_two_different_tools_cannot_have_one_name() -> None:
    app = evrt.App("memory://")
    app.agent("one", tools=[look])
    app.agent("two", tools=[look])
    namesake = evrt.tool(effect="read", name="look")(look._function)
    with pytest.raises(UsageError, match="Two different tools are named 'look'"):
        app.agent("three", tools=[namesake])
    assert list(app.targets) == ["one", "two"]


def test_a_workflow_is_an_async_function_of_the_context() -> None:
    app = evrt.App("memory://")

    def sync(ctx: Ctx) -> None: ...

    async def bare() -> None: ...

    async def unknown(ctx: Ctx, given: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    async def lock(ctx: Ctx, given: threading.Thread) -> None: ...

    for function, text in (
        (sync, "must be an `async def` function"),
        (bare, "must take the context as its first parameter"),
        (unknown, "its type annotations cannot be used"),
        (lock, "its type annotations cannot be used"),
    ):
        with pytest.raises(UsageError, match=text):
            app.workflow(function)  # type: ignore[arg-type]
    assert not app.targets


def test_a_tool_is_described_by_its_signature_and_docstring() -> None:
    @evrt.tool(effect="read")
    async def weather(city: str, days: int = 1, context: evrt.ToolContext[Any] | None = None) -> str:
        """The weather in a city."""
        return city

    @evrt.tool
    def book(city: str, idempotency_key: str, context: evrt.ToolContext[Any]) -> str:
        return city

    assert book.to_openai_format() == {
        "type": "function",
        "function": {
            "name": "book",
            "description": "",
            "parameters": {
                "additionalProperties": False,
                "properties": {"city": {"title": "City", "type": "string"}},
                "required": ["city"],
                "type": "object",
            },
        },
    }
    assert list(weather.arguments.model_fields) == ["city", "days"]  # The context is nothing a model gives.
    assert weather.description == "The weather in a city."
    assert (book.effect, book.takes_key, book.repeatable) == ("write", True, True)


@pytest.mark.parametrize("name", ["", "two words", "9lives", "x" * 65, "ünïcode", "a/b"])
def test_a_tool_s_name_is_one_that_every_provider_takes(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a tool"):
        evrt.tool(name=name or " ")(look._function)


def test_a_tool_s_function_has_ordinary_parameters() -> None:
    async def many(*numbers: int) -> None: ...

    async def more(**numbers: int) -> None: ...

    async def first(number: int, /) -> None: ...

    async def private(_number: int) -> None: ...

    async def lock(thread: threading.Thread) -> None: ...

    async def locked() -> threading.Thread:
        return threading.current_thread()

    async def unknown(given: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    for function in (many, more, first, private, lock, locked, unknown):
        with pytest.raises(UsageError, match=f"Tool {function.__name__}: "):
            evrt.tool(effect="read")(function)
    with pytest.raises(UsageError, match="effect must be 'pure', 'read' or 'write'"):
        evrt.tool(effect="delete")(many)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["schema", "json", "copy", "validate", "model_fields"])
def test_a_parameter_may_be_called_what_pydantic_s_methods_are_called(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"async def call({name}: int) -> int: return {name}", namespace)
    tool = evrt.tool(effect="read")(namespace["call"])
    assert tool.validate({name: 3}).__dict__ == {name: 3}
    evrt.App("memory://").workflow(name="w")(_with_parameters(name))


def _with_parameters(name: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(f"async def flow(ctx, {name}: int, other: int) -> int: return {name}", namespace)
    return namespace["flow"]


async def test_an_unknown_target_is_named_with_those_there_are() -> None:
    async with evrt.App("memory://") as app:
        with pytest.raises(NotFound, match=r"no agent or workflow 'helper'. It has: none\."):
            await app.run("helper")

        @app.workflow
        async def known(ctx: Ctx) -> None: ...

        with pytest.raises(NotFound, match=r"It has: known\."):
            await app.run("helper")
        with pytest.raises(NotFound, match="'stranger'"):
            await app.run(evrt.Agent(name="stranger", model="m"))


async def test_an_input_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def one(ctx: Ctx, number: int) -> int:
            return number

        @app.workflow
        async def two(ctx: Ctx, number: int, text: str = "x") -> str:
            return text * number

        @app.workflow
        async def none(ctx: Ctx) -> None: ...

        for target, given, text in (
            (one, "many", r"The input does not fit workflow one. input: Input should be a valid integer"),
            (two, {"text": 1}, r"number: Field required; text: Input should be a valid string"),
            (two, 3, "does not fit workflow two"),
            (none, "something", "Workflow none takes no input."),
            (one, object(), "cannot be recorded as JSON"),
        ):
            with pytest.raises(InvalidInput, match=text):
                await app.run(target, given, user="ann", conversation="c")
        assert await (await app.log()).position() == 0
        assert (await app.run(two, {"number": 2})).output == "xx"
        assert (await app.run(one, "3")).output == 3


async def test_workflows_are_still_functions() -> None:
    app = evrt.App("memory://")

    @app.workflow
    async def double(ctx: Ctx, number: int) -> int:
        """Doubles."""
        return 2 * number

    assert double.__doc__ == "Doubles."
    assert await double(None, 2) == 4


@pytest.mark.parametrize(
    "given, said",
    [
        ({"approval": "always"}, "did you mean 'approvals'"),
        ({"knowlege": []}, "did you mean 'knowledge'"),
        ({"model_turn_max": 3}, "did you mean 'model_turns_max'"),
        ({"instruction": "x"}, "did you mean 'instructions'"),
        ({"temperature": object()}, "would go to the model's provider, and is not JSON"),
    ],
)
def test_a_misspelt_argument_of_an_agent_is_not_the_provider_s(given: Any, said: str) -> None:
    with pytest.raises(evrt.UsageError, match=said):
        evrt.App("memory://").agent("a", model="m", **given)


def test_what_is_the_provider_s_goes_to_it() -> None:
    parameters: Any = {"temperature": 0, "top_p": 1, "max_tokens": 5, "seed": 1, "tool_choice": "auto"}
    parameters |= {
        "response_format": {"type": "json_object"},
        "frequency_penalty": 0.5,
        "parallel_tool_calls": False,
    }
    parameters |= {
        "reasoning_effort": "low",
        "max_completion_tokens": 9,
        "logit_bias": {},
        "stop": ["x"],
        "n": 1,
    }
    assert evrt.App("memory://").agent("a", model="m", **parameters).parameters == parameters
