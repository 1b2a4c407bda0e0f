"""Schemas of tools, put together parameter by parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, TypedDict

from evrt.errors import UsageError
from evrt.events import JsonObject, JsonValue

JsonType = Literal["string", "integer", "number", "boolean", "array", "object", "null"]
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")


class Schema(TypedDict):
    """What ``Tool.from_schema`` takes, beside the function."""

    name: str
    description: str
    parameters: JsonObject


class ToolSchema:
    """A tool's name, description and parameters: ``Tool.from_schema(function, **ToolSchema("book").build())``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._description = ""
        self._properties: dict[str, JsonValue] = {}
        self._required: list[str] = []

    def description(self, text: str) -> Self:
        """What the tool does, for the model."""
        self._description = text
        return self

    def param(
        self,
        name: str,
        type: JsonType,
        description: str = "",
        *,
        required: bool = True,
        enum: Sequence[JsonValue] | None = None,
        items: JsonObject | None = None,
        **more: JsonValue,
    ) -> Self:
        """A parameter. ``default=…`` makes it one that may be left out; further keywords are of JSON Schema.

        ``enum``: the values it may have; ``items``: what an array consists of. Raises UsageError for a parameter that
        is there already, a type that JSON Schema does not have, or ``items`` of what is no array.
        """
        if name in self._properties:
            raise UsageError(f"The schema of {self._name} has a parameter {name} already.")
        if type not in TYPES:
            raise UsageError(
                f"{type!r} is no type of a parameter. JSON Schema has {', '.join(TYPES[:-1])} and {TYPES[-1]}."
            )
        if items is not None and type != "array":
            raise UsageError(
                f"The parameter {name} of {self._name} has items, but is no array: it is {type!r}."
            )
        made: dict[str, JsonValue] = {"type": type}
        if description:
            made["description"] = description
        if enum is not None:
            made["enum"] = list(enum)
        if items is not None:
            made["items"] = items
        self._properties[name] = {**made, **more}
        if required and "default" not in more:
            self._required.append(name)
        return self

    def build(self) -> Schema:
        """The whole, as keywords of ``Tool.from_schema``."""
        parameters: JsonObject = {
            "type": "object",
            "properties": dict(self._properties),
            "required": list(self._required),
            "additionalProperties": False,
        }
        return Schema(name=self._name, description=self._description, parameters=parameters)
