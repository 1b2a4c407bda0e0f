"""Workflows: a user's own async function over the context, with typed input and output."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError, create_model

from evrt.effects.tools import faults_text
from evrt.errors import InvalidInput, UsageError
from evrt.events import JsonValue
from evrt.events.run import Kind
from evrt.limits import PLAIN, RunPolicy
from evrt.requesting import Pin
from evrt.retry import RUN_RETRY, Retry
from evrt.runtime.context import Context


class Workflow:
    """An async function whose first parameter is the context. Made by ``@app.workflow``.

    With one more parameter the run's input is its value; with several, the input is an object of them.
    """

    kind: Kind = "workflow"
    pin: Pin | None = None

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        *,
        name: str,
        timeout_seconds: float | None,
        retry: Retry = RUN_RETRY,
        policy: RunPolicy = PLAIN,
    ) -> None:
        self.name = name
        self.retry = retry
        self.policy = policy
        self.timeout_seconds = timeout_seconds
        self.model_turns_max: int | None = None
        self._function = function
        if not inspect.iscoroutinefunction(function):
            raise UsageError(
                f"Workflow {name} must be an `async def` function with the context as first parameter."
            )
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise UsageError(f"Workflow {name} must take the context as its first parameter.")
        self._names = [parameter.name for parameter in parameters[1:]]
        try:
            hints = get_type_hints(function, include_extras=True)
            self._single = TypeAdapter(hints.get(self._names[0], Any)) if len(self._names) == 1 else None
            self._several = _model(name, parameters[1:], hints) if len(self._names) > 1 else None
            returned = hints.get("return", Any)
            self._output = None if returned is Any else TypeAdapter(returned)
        except (NameError, TypeError, PydanticUserError) as error:
            raise UsageError(
                f"Workflow {name}: its type annotations cannot be used ({error}). Import the names they use where the "
                "function is defined, at module level, and take types that JSON can hold."
            ) from error
        self.__doc__ = function.__doc__

    def check_input(self, value: JsonValue) -> JsonValue:
        """Raises InvalidInput when the input does not fit the function's parameters."""
        self._arguments(value)
        return value

    async def execute(self, ctx: Context[Any], input: JsonValue) -> Any:
        """Run the function; returns what it returns, as JSON-able Python by its declared type."""
        result = await self._function(ctx, **self._arguments(input))
        return (
            result if self._output is None else self._output.dump_python(result, mode="json", warnings=False)
        )

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as plain Python."""
        return await self._function(*args, **kwargs)

    def _arguments(self, value: JsonValue) -> dict[str, Any]:
        try:
            if self._single is not None:
                return {self._names[0]: self._single.validate_python(value)}
            if self._several is not None:
                model = self._several.model_validate(value)
                return {name: getattr(model, name) for name in self._names}
        except ValidationError as error:
            raise InvalidInput(
                f"The input does not fit workflow {self.name}. {faults_text(error, 'input')}."
            ) from error
        if value is not None:
            raise InvalidInput(f"Workflow {self.name} takes no input.")
        return {}


def _model(name: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default) for p in parameters
    }
    with warnings.catch_warnings():
        # A parameter may be called schema, json or copy: nobody uses the methods of that name here.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
        return create_model(name, **fields)
