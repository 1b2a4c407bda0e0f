"""Structured output: an answer that has to fit a pydantic type or a JSON schema, and is asked for again where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from evrt.effects.json_schema import JsonSchema
from evrt.effects.tools import faults_text
from evrt.errors import InvalidInput, UsageError
from evrt.events import JsonObject, JsonValue

REPAIRS_MAX = 2
"""How often the model is told what is wrong with its answer, and asked again."""


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What an agent's answer has to be. ``of`` a pydantic type, or anything that pydantic takes as one, or a JSON schema."""

    schema: JsonObject
    repairs_max: int
    _adapter: TypeAdapter[Any] | None
    _checker: JsonSchema | None

    @classmethod
    def of(cls, wanted: Any, *, repairs_max: int = REPAIRS_MAX) -> Output:
        """Raises UsageError where it is neither."""
        if isinstance(wanted, Output):
            return wanted
        if isinstance(wanted, dict):
            return cls(wanted, repairs_max, None, JsonSchema(wanted, of="an agent's output", formats=True))
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(wanted)
            return cls(adapter.json_schema(), repairs_max, adapter, None)
        except PydanticUserError as error:
            raise UsageError(f"pydantic knows no schema of {wanted!r:.100} ({error.message}).") from error

    @property
    def response_format(self) -> JsonObject:
        """What providers take as ``response_format``."""
        title = str(self.schema.get("title", "answer"))
        name = (
            "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in title)[:64] or "answer"
        )
        return {"type": "json_schema", "json_schema": {"name": name, "schema": self.schema}}

    def read(self, text: str) -> JsonValue:
        """An answer as plain JSON, checked. Raises InvalidInput that says what is wrong, for the model to read."""
        try:
            value: JsonValue = orjson.loads(_bare(text))
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"Your answer is not JSON: {error}.") from error
        if self._checker is not None:
            faults = self._checker.faults(value)
            if faults is not None:
                raise InvalidInput(f"Your answer does not fit. {faults}.")
            return value
        assert self._adapter is not None
        try:
            read = self._adapter.validate_json(_bare(text), strict=True)
        except ValidationError as error:
            raise InvalidInput(f"Your answer does not fit. {faults_text(error, 'the answer')}.") from error
        plain: JsonValue = self._adapter.dump_python(read, mode="json")
        return plain


def repair(fault: InvalidInput) -> str:
    """What the model is told about an answer that does not fit."""
    return f"{fault} Answer again with nothing but JSON that fits the schema."


def _bare(text: str) -> str:
    """The JSON of an answer in a fence, as many models write it."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        first, _, rest = text[3:-3].partition("\n")
        text = rest if first.strip().isalnum() or not first.strip() else text[3:-3]
    return text
