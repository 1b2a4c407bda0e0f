"""An agent_config of llama-stack as a configuration of an agent here. What was given is kept verbatim beside it.

The original checks types and nothing more: a shield of the name "string" and max_tokens of 0 are taken, and come back as
they were given. So here what cannot mean anything is left out of the configuration, and what names something that is
not there (a shield, a group of tools) fails when a run is to use it, by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evrt.effects.tools import faults_text
from evrt.errors import InvalidInput
from evrt.events import JsonObject, JsonValue

MAX_INFER_ITERS = 10

JSON_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})
PYTHON_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
"""What clients written in Python call types of parameters."""


class _Given(BaseModel):
    """Fields of a type, and whatever else there is."""

    model_config = ConfigDict(frozen=True, extra="allow")


class _Parameter(_Given):
    name: str
    parameter_type: str = "string"
    description: str = ""
    required: bool = True
    default: Any = None


class _ClientTool(_Given):
    name: str
    description: str = ""
    parameters: list[_Parameter] = []
    metadata: dict[str, Any] | None = None


class _Strategy(_Given):
    type: str = "greedy"
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


class _Sampling(_Given):
    strategy: _Strategy = _Strategy()
    max_tokens: int | None = None
    repetition_penalty: float | None = None
    stop: list[str] | None = None


class _ToolConfig(_Given):
    tool_choice: str | None = None
    tool_prompt_format: str | None = None
    system_message_behavior: str | None = None


class _ResponseFormat(_Given):
    type: str
    json_schema: dict[str, Any] | None = None


class _ToolGroup(_Given):
    name: str
    args: dict[str, Any] = {}


class _AgentConfig(_Given):
    model: str
    instructions: str = ""
    name: str | None = None
    sampling_params: _Sampling | None = None
    input_shields: list[str] | None = None
    output_shields: list[str] | None = None
    toolgroups: list[str | _ToolGroup] | None = None
    client_tools: list[_ClientTool] | None = None
    tool_choice: str | None = None
    tool_prompt_format: str | None = None
    tool_config: _ToolConfig | None = None
    max_infer_iters: int | None = MAX_INFER_ITERS
    response_format: _ResponseFormat | None = None
    enable_session_persistence: bool | None = False


def config_of_llama_stack(given: JsonObject) -> JsonObject:
    """The configuration that an agent_config means here. Raises InvalidInput where a field has the wrong type."""
    try:
        config = _AgentConfig.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(f"The agent_config is not valid. {faults_text(error, 'agent_config')}.") from error
    groups = [group if isinstance(group, str) else group.name for group in config.toolgroups or ()]
    meant: JsonObject = {
        "model": config.model,
        "instructions": config.instructions,
        "parameters": _parameters(config.sampling_params),
        "input_shields": _names(config.input_shields),
        "output_shields": _names(config.output_shields),
        "toolgroups": _names(group for group in groups if "/" not in group),
        "tools": _names(group for group in groups if "/" in group),
        "client_tools": [
            _client_tool(tool) for tool in _unique(config.client_tools or [], lambda tool: tool.name)
        ],
        "tool_choice": _tool_choice(config),
        "limits": _limits(config.max_infer_iters),
        "output_schema": _output_schema(config.response_format),
        "memory_enabled": False,  # Its agents know no memory tools: none are offered that nobody asked for.
    }
    return {field: value for field, value in meant.items() if value not in (None, "", [], {})}


def _parameters(sampling: _Sampling | None) -> JsonObject:
    """What a provider takes of sampling_params; 0 tokens and a penalty of 1 are how the original says nothing."""
    if sampling is None:
        return {}
    strategy = sampling.strategy
    found: JsonObject = (
        {"temperature": 0} if strategy.type == "greedy" else {"temperature": strategy.temperature}
    )
    if strategy.type == "top_p":
        found["top_p"] = strategy.top_p
    if strategy.type == "top_k":
        found["top_k"] = strategy.top_k
    found["max_tokens"] = sampling.max_tokens if (sampling.max_tokens or 0) > 0 else None
    penalty = sampling.repetition_penalty
    found["repetition_penalty"] = None if penalty == 1 else penalty
    found["stop"] = sampling.stop or None
    return {name: value for name, value in found.items() if value is not None}


def _client_tool(tool: _ClientTool) -> JsonObject:
    properties: dict[str, JsonValue] = {}
    for parameter in tool.parameters:
        kind = PYTHON_TYPES.get(parameter.parameter_type, parameter.parameter_type)
        schema: dict[str, JsonValue] = {"type": kind} if kind in JSON_TYPES else {}
        if parameter.description:
            schema["description"] = parameter.description
        if parameter.default is not None:
            schema["default"] = parameter.default
        properties[parameter.name] = schema
    required = [parameter.name for parameter in tool.parameters if parameter.required]
    schema = {"type": "object", "properties": properties, "required": list(dict.fromkeys(required))}
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": schema,
        "metadata": tool.metadata or {},
    }


def _tool_choice(config: _AgentConfig) -> str | None:
    """The newer of the two places where it can be said goes before the older."""
    newer = config.tool_config.tool_choice if config.tool_config is not None else None
    chosen = newer or config.tool_choice
    return None if chosen == "auto" else chosen


def _limits(iterations: int | None) -> JsonObject:
    return {"model_turns_max": iterations if (iterations or 0) > 0 else MAX_INFER_ITERS}


def _output_schema(format: _ResponseFormat | None) -> JsonObject | None:
    if format is None or format.type != "json_schema":
        return None
    return format.json_schema


def _names(names: Any) -> list[JsonValue]:
    return [name for name in _unique(list(names or ()), lambda name: name) if name]


def _unique(things: list[Any], name: Callable[[Any], str]) -> list[Any]:
    """The first of each name: configurations of ours have each once."""
    known: dict[str, Any] = {}
    for thing in things:
        known.setdefault(name(thing), thing)
    return list(known.values())
