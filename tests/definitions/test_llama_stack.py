"""An agent_config of llama-stack is taken as it is, comes back as it was, and means what it can mean here."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evrt
from definitions.apps import app_with, system_prompt
from evrt.agents.config import config_of
from evrt.definitions.llama_stack import config_of_llama_stack
from evrt.errors import InvalidInput, NotFound
from evrt.events import JsonObject

SEED: JsonObject = {
    "sampling_params": {
        "strategy": {"type": "greedy"},
        "max_tokens": 0,
        "repetition_penalty": 1,
    },
    "input_shields": ["string"],
    "output_shields": ["string"],
    "toolgroups": ["string"],
    "client_tools": [
        {
            "name": "string",
            "description": "string",
            "parameters": [
                {
                    "name": "string",
                    "parameter_type": "string",
                    "description": "string",
                    "required": True,
                    "default": None,
                }
            ],
            "metadata": {"property1": None, "property2": None},
        }
    ],
    "tool_choice": "auto",
    "tool_prompt_format": "json",
    "tool_config": {
        "tool_choice": "auto",
        "tool_prompt_format": "json",
        "system_message_behavior": "append",
    },
    "max_infer_iters": 10,
    "model": "string",
    "instructions": "string",
    "enable_session_persistence": False,
    "response_format": {"type": "json_schema", "json_schema": {"property1": None, "property2": None}},
}
"""A request as the page of its API shows it: every field, with values that mean nothing."""


def config(**more: Any) -> JsonObject:
    """A small agent_config."""
    return {"model": "m", "instructions": "Be brief.", **more}


async def test_an_agent_config_comes_back_as_it_was_given() -> None:
    """S3.3, S3.4, S3.5, S3.6, S3.7, S3.8, fault 54: verbatim, with what is not known and what means nothing."""
    app, _ = app_with("memory://")
    odd = {**SEED, "name": "72°F", "x": {"deep": [1.0, 1, None, {"y": "é"}]}}
    async with app:
        for key, given_config in (("seed", SEED), ("odd", odd)):
            asked = copy.deepcopy(given_config)
            await app.agents.define(key, given_config, format="llama-stack")
            app.agents.refresh()
            revision = (await app.agents.get(key)).revision(1)
            assert revision is not None
            assert revision.given == asked
            assert repr(revision.given) == repr(asked)
            assert revision.given_format == "llama-stack"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["x", "metadata", "é", "safety"]), JSON))
def test_whatever_else_is_in_it_comes_back_too(more: JsonObject) -> None:
    """S3.3: unknown keys are carried."""

    async def come_back() -> None:
        app, _ = app_with("memory://", redact=None)
        async with app:
            await app.agents.define("a", config(**more), format="llama-stack")
            revision = (await app.agents.get("a")).revision(1)
            assert revision is not None
            assert repr(revision.given) == repr(config(**more))

    asyncio.run(come_back())


@pytest.mark.parametrize(
    "more, field, meant",
    [
        ({}, "model", "m"),
        ({}, "instructions", "Be brief."),
        ({}, "parameters", {}),
        ({"sampling_params": {"strategy": {"type": "greedy"}}}, "parameters", {"temperature": 0}),
        (
            {
                "sampling_params": {
                    "strategy": {"type": "top_p", "temperature": 0.7, "top_p": 0.9},
                    "max_tokens": 9,
                }
            },
            "parameters",
            {"temperature": 0.7, "top_p": 0.9, "max_tokens": 9},
        ),
        (
            {"sampling_params": {"strategy": {"type": "top_k", "top_k": 5}, "repetition_penalty": 1.1}},
            "parameters",
            {"top_k": 5, "repetition_penalty": 1.1},
        ),
        (
            {"sampling_params": {"strategy": {"type": "greedy"}, "max_tokens": 0, "repetition_penalty": 1}},
            "parameters",
            {"temperature": 0},
        ),
        ({"input_shields": ["a", "a", "b"]}, "input_shields", ("a", "b")),
        ({"output_shields": ["a"]}, "output_shields", ("a",)),
        ({"toolgroups": ["web", {"name": "mcp", "args": {"x": 1}}, "a/b"]}, "toolgroups", ("web", "mcp")),
        ({"tool_choice": "required"}, "tool_choice", "required"),
        ({"tool_choice": "required", "tool_config": {"tool_choice": "none"}}, "tool_choice", "none"),
        ({"tool_choice": "auto"}, "tool_choice", None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"type": "object"}}},
            "output_schema",
            {"type": "object"},
        ),
    ],
)
def test_each_field_means_what_it_can_mean_here(more: JsonObject, field: str, meant: object) -> None:
    """S3.3, S3.4, S3.5, S3.6, S3.7: the mapping, field by field."""
    assert getattr(config_of(config_of_llama_stack(config(**more))), field) == meant


def test_tools_of_a_group_are_named_with_it() -> None:
    """S3.5, B51: ``group/tool``."""
    found = config_of(config_of_llama_stack(config(toolgroups=["web", "outdoors/weather"])))
    assert [tool.name for tool in found.tools] == ["outdoors/weather"]


@pytest.mark.parametrize("given_iterations, turns", [(None, 10), (0, 10), (-1, 10), (3, 3)])
def test_iterations_are_the_turns_of_the_model(given_iterations: int | None, turns: int) -> None:
    """S3.7: max_infer_iters, 10 where nothing is said or nothing can be meant."""
    assert config_of(config_of_llama_stack(config())).limits.model_turns_max == 10
    found = config_of(config_of_llama_stack(config(max_infer_iters=given_iterations)))
    assert found.limits.model_turns_max == turns


def test_client_tools_have_their_parameters_as_a_json_schema() -> None:
    """S3.5, B59: name, description, parameters with type, description, required and default; metadata."""
    tool = {
        "name": "pick",
        "description": "Pick one.",
        "parameters": [
            {
                "name": "colour",
                "parameter_type": "str",
                "description": "Which.",
                "required": True,
                "default": None,
            },
            {"name": "count", "parameter_type": "int", "description": "", "required": False, "default": 1},
            {"name": "odd", "parameter_type": "matrix", "description": "", "required": False},
        ],
        "metadata": {"a": 1},
    }
    [found] = config_of(config_of_llama_stack(config(client_tools=[tool, tool]))).client_tools
    assert (found.name, found.description, found.metadata) == ("pick", "Pick one.", {"a": 1})
    assert found.parameters == {
        "type": "object",
        "properties": {
            "colour": {"type": "string", "description": "Which."},
            "count": {"type": "integer", "default": 1},
            "odd": {},
        },
        "required": ["colour"],
    }


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"instructions": "x"}, "model: Field required"),
        (config(input_shields="string"), "input_shields: Input should be a valid list"),
        (config(sampling_params=[]), "sampling_params"),
        (config(max_infer_iters="many"), "max_infer_iters: Input should be a valid integer"),
        (config(client_tools=[{}]), "client_tools.0.name: Field required"),
    ],
)
async def test_what_has_the_wrong_type_is_refused_with_its_place(wrong: JsonObject, text: str) -> None:
    """Fault 54: types are checked, as the original does."""
    app, _ = app_with("memory://")
    async with app:
        with pytest.raises(InvalidInput, match=text):
            await app.agents.define("a", wrong, format="llama-stack")


async def test_what_is_not_there_fails_at_the_turn_by_its_name() -> None:
    """S3.4, S3.5, fault 54: a shield or a group of tools of the name "string"."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("seed", SEED, format="llama-stack")
        with pytest.raises(NotFound, match="names the group of tools 'string'"):
            await app.run("seed", "hi")
        await app.agents.define("shielded", config(input_shields=["string"]), format="llama-stack")
        run = await app.run("shielded", "hi")
        assert run.failure is not None
        assert "There is no shield 'string'" in run.failure.message


async def test_an_agent_config_runs() -> None:
    """S3.3, S3.8: instructions and parameters reach the model; every turn is kept whatever is said of persistence."""
    app, model = app_with("memory://")
    given_config = config(
        sampling_params={"strategy": {"type": "top_p", "temperature": 0.5, "top_p": 0.9}, "max_tokens": 50},
        toolgroups=["outdoors"],
        enable_session_persistence=False,
    )
    async with app:
        await app.agents.define("a", given_config, format="llama-stack")
        run = await app.run("a", "hi", conversation="c1")
        assert run.output == "Yes."
        assert system_prompt(model) == "Be brief."
        assert model.requests[-1].parameters == {"temperature": 0.5, "top_p": 0.9, "max_tokens": 50}
        assert (await app.message_history("c1"))[-1] == {"role": "assistant", "content": "Yes."}
        await app.agents.revise(
            "a", config(tool_choice="none", toolgroups=["outdoors"]), format="llama-stack"
        )
        await app.run("a", "hi")
        assert not model.requests[-1].tools


async def test_a_llama_stack_agent_that_is_restored_or_forked_keeps_what_was_given() -> None:
    """B4, S3.3: what was given goes with the revision."""
    app, _ = app_with("memory://")
    async with app:
        await app.agents.define("a", SEED, format="llama-stack")
        await app.agents.revise("a", {"model": "m"})
        restored = (await app.agents.restore("a", 1)).revision(3)
        forked = (await app.agents.fork("a", "b")).revision(1)
        assert restored is not None
        assert forked is not None
        assert restored.given == forked.given == SEED
        assert isinstance(app, evrt.App)
