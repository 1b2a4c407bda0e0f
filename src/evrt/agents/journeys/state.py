"""A journey's state: a pydantic model that knows its step, and goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from evrt.events import JsonObject, JsonValue

Step = TypeVar("Step", bound=Enum)


class JourneyState(BaseModel, Generic[Step]):
    """Derive from it, name your enum of steps, and give every field a default.

        class Booking(evrt.JourneyState[Step]):
            step: Step = Step.WELCOME
            name: str = ""

    ``step`` is where the journey stands. ``is_complete`` is set when it comes to a terminal step; a tool may set it
    as well. What is kept is JSON: keys that are missing take their defaults, keys that are no longer known are passed
    over, so that a journey begun under an earlier version of the class goes on under this one.
    """

    model_config = ConfigDict(extra="ignore")

    step: Step
    is_complete: bool = False

    def to_dict(self) -> JsonObject:
        """The state as JSON, the same in every process: sets are in order."""
        # What is of a wrong type is found out when it is read again; pydantic would only warn of it here.
        python = self.model_dump(mode="python", warnings=False)
        ordered = _ordered(python, self.model_dump(mode="json", warnings=False))
        return cast(JsonObject, ordered)

    @classmethod
    def from_dict(cls, kept: Mapping[str, JsonValue]) -> Self:
        """The state that was kept. Raises pydantic's ValidationError where it does not fit the class."""
        return cls.model_validate(kept)

    def copied(self) -> Self:
        """A state of its own: what is done to it is not done to this one."""
        return self.model_copy(deep=True)


def _ordered(python: Any, jsonable: Any) -> Any:
    """JSON in which what was a set is sorted: its own order is another one in every process."""
    match python:
        case set() | frozenset():
            return sorted(jsonable, key=repr)
        case dict() if isinstance(jsonable, dict) and len(python) == len(jsonable):
            pairs = zip(python.values(), jsonable.items(), strict=True)
            return {key: _ordered(inner, value) for inner, (key, value) in pairs}
        case list() | tuple() if isinstance(jsonable, list) and len(python) == len(jsonable):
            return [_ordered(inner, value) for inner, value in zip(python, jsonable, strict=True)]
    return jsonable


def changes(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> JsonObject:
    """The keys whose values are others now. What the class does not know stays as it was."""
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
