"""Tools: plain functions with a declared effect, a schema for the model and validated arguments."""

from __future__ import annotations

import asyncio
import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model

from evrt.effects.json_schema import JsonSchema
from evrt.errors import InvalidInput, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.calls import EffectKind
from evrt.log.blobs import NO_BLOBS, Blobs
from evrt.retry import NO_RETRY, Retry, parse_seconds

Deps = TypeVar("Deps")
F = TypeVar("F", bound=Callable[..., Any])
KeyFunction = Callable[..., str]

KEY_PARAMETER = "idempotency_key"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(slots=True)
class ToolContext(Generic[Deps]):
    """What a tool may know of the call it serves. Ask for it with a parameter annotated ``ToolContext``.

    ``idempotency_key`` is the same for every attempt of this call, also after a crash. ``blobs`` keeps what is
    too large for a result: write it there and return the reference.
    """

    run_id: str
    operation: str
    attempt: int
    idempotency_key: str | None
    deps: Deps
    blobs: Blobs = NO_BLOBS


class Given(BaseModel):
    """Arguments that were checked against a JSON schema."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """What a function's signature says of where it is called: with which context, with a key or not."""

    parameters: Mapping[str, inspect.Parameter]
    hints: dict[str, Any]
    context: str | None
    in_run: bool
    key: bool

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> _Place:
        hints = _hints(function, name)
        parameters = inspect.signature(function).parameters
        run = next((n for n in parameters if _is_run_context(hints.get(n))), None)
        call = next((n for n in parameters if _is_context(hints.get(n))), None)
        if run is not None and call is not None:
            raise UsageError(f"Tool {name} takes a Context or a ToolContext, not both.")
        return cls(parameters, hints, run or call, run is not None, KEY_PARAMETER in parameters)


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A registered tool. Made by ``evrt.tool`` or ``Tool.from_function``.

    ``takes_key`` says that a write takes an idempotency key, so that it may be repeated safely.
    """

    name: str
    description: str
    effect: EffectKind
    retry: Retry
    timeout_seconds: float | None
    arguments: type[BaseModel]
    takes_key: bool
    _function: Callable[..., Any]
    _key: KeyFunction | None
    _key_parameter: bool
    _context_parameter: str | None
    _result: TypeAdapter[Any] | None
    _schema: JsonObject
    _names: tuple[str, ...]
    _async: bool
    reconcile: Tool | None = None
    """What is asked about a write in doubt: a function of the same arguments that only reads."""
    in_run: bool = False
    """Whether it is part of the run's code: it works through the context, and what it does there is recorded by itself."""
    confirm: bool = False
    """Whether an agent may call it only with a person's leave for each call."""
    trusted: bool = False
    """Whether what it returns is as good as the operator's own word; else the run is distrusted once it has read that."""
    client: bool = False
    """Whether the client of the run executes it, so that the run waits for its result."""
    json_schema: JsonSchema | None = None
    """The schema of its arguments, where that is not made from a signature."""

    @classmethod
    def from_function(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        effect: EffectKind = "write",
        retry: Retry | None = None,
        timeout: str | float | None = None,
        key: KeyFunction | None = None,
        reconcile: Callable[..., Any] | None = None,
        confirm: bool = False,
        trusted: bool = False,
    ) -> Tool:
        """A tool from a plain function: its schema from the signature, its description from the docstring.

        effect
            ``pure`` or ``read`` may be run again after a crash; ``write`` (the default, the safe one)
            is never repeated unless it takes an idempotency key, which it does when ``key`` is given
            or when it has a parameter named ``idempotency_key``.
        key
            computes the key from the call's arguments (given by name); without it the key is the
            run and the operation.
        timeout
            seconds, or text such as ``"20s"``; None waits for ever.
        reconcile
            for a write without a key: a function, async or not, that is asked what came of a call in
            doubt. It takes arguments of the tool by name, as many as it needs, and a ``ToolContext`` if it
            has a parameter annotated so, and returns ``evrt.Completed(result)``, ``evrt.Failed(message)``,
            ``evrt.NotDone()`` (the call is made again) or ``evrt.Unknown()`` (a person is asked). It must only read.
        confirm
            an agent calls it only where a person has approved that very call.
        trusted
            what it returns is as good as your own word. Otherwise a run that has read it is distrusted: see
            ``Context.untrusted``.

        A function with a parameter annotated ``evrt.Context`` is part of the run's code (``in_run``): it is async,
        and what it does through the context is recorded by itself, so ``effect``, ``retry``, ``timeout``, ``key`` and
        ``reconcile`` are not for it.

        Raises UsageError when the function cannot be a tool.
        """
        tool_name = name or str(getattr(function, "__name__", ""))
        place = _Place.of(function, tool_name)
        if place.in_run:
            _check_in_run(tool_name, function, effect, (retry, timeout, key, reconcile))
            effect = "pure"
        takes_key = key is not None or place.key
        _check_declared(tool_name, effect, takes_key=takes_key, retry=retry)
        hints = place.hints
        hidden = {place.context, KEY_PARAMETER}
        returned = hints.get("return", Any)
        try:
            model = _arguments_model(tool_name, place.parameters, hints, hidden)
            result = None if returned is Any else TypeAdapter(returned)
        except PydanticUserError as error:
            raise UsageError(
                f"Tool {tool_name}: pydantic knows no schema for one of its types ({error.message}). Take types that "
                "JSON can hold: pydantic models, dataclasses, plain containers."
            ) from error
        text = description or inspect.getdoc(function) or ""
        return cls(
            name=tool_name,
            description=text,
            effect=effect,
            retry=retry or NO_RETRY,
            timeout_seconds=None if timeout is None else parse_seconds(timeout),
            arguments=model,
            takes_key=takes_key,
            _function=function,
            _key=key,
            _key_parameter=place.key,
            _context_parameter=place.context,
            _result=result,
            _schema=_openai_function(tool_name, text, model),
            _names=tuple(model.model_fields),
            _async=inspect.iscoroutinefunction(function),
            reconcile=None
            if reconcile is None
            else _reconciling(
                reconcile, tool_name, tuple(model.model_fields), unkeyed=effect == "write" and not takes_key
            ),
            in_run=place.in_run,
            confirm=confirm,
            trusted=trusted,
        )

    @classmethod
    def from_schema(
        cls,
        function: Callable[..., Any],
        *,
        name: str,
        description: str,
        parameters: JsonObject,
        effect: EffectKind = "write",
        retry: Retry | None = None,
        timeout: str | float | None = None,
        key: KeyFunction | None = None,
        confirm: bool = False,
        trusted: bool = False,
        client: bool = False,
    ) -> Tool:
        """A tool whose arguments have this JSON schema, an object's. They are checked, and given to the function by name.

        The function takes ``**arguments``, and first a ``Context`` or a ``ToolContext`` if it has a parameter annotated
        so. The rest is as for ``from_function``. Raises UsageError.
        """
        if not isinstance(parameters, dict) or parameters.get("type") != "object":
            raise UsageError(
                f'Tool {name}: the schema of its arguments has to be an object\'s, with "type": "object".'
            )
        schema = JsonSchema(parameters, of=f"tool {name}")
        place = _Place.of(function, name)
        if place.in_run:
            _check_in_run(name, function, effect, (retry, timeout, key))
            effect = "pure"
        takes_key = key is not None or place.key
        _check_declared(name, effect, takes_key=takes_key, retry=retry)
        properties = parameters.get("properties")
        shown: JsonObject = {"name": name, "description": description, "parameters": parameters}
        return cls(
            name=name,
            description=description,
            effect=effect,
            retry=retry or NO_RETRY,
            timeout_seconds=None if timeout is None else parse_seconds(timeout),
            arguments=Given,
            takes_key=takes_key,
            _function=function,
            _key=key,
            _key_parameter=place.key,
            _context_parameter=place.context,
            _result=None,
            _schema={"type": "function", "function": shown},
            _names=tuple(properties) if isinstance(properties, dict) else (),
            _async=inspect.iscoroutinefunction(function),
            in_run=place.in_run,
            confirm=confirm,
            trusted=trusted,
            client=client,
            json_schema=schema,
        )

    @property
    def repeatable(self) -> bool:
        """Whether a call that was cut off may be made again."""
        return self.effect != "write" or self.takes_key

    def to_openai_format(self) -> JsonObject:
        """The tool as chat-completions providers want it: a function with a JSON schema."""
        return self._schema

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Arguments of a Python call, by name. Raises InvalidInput."""
        if not args:
            return dict(kwargs)
        names = self._names
        if len(args) > len(names):
            raise InvalidInput(f"Tool {self.name} takes {len(names)} arguments, {len(args)} were given.")
        bound = dict(zip(names, args, strict=False))
        twice = bound.keys() & kwargs.keys()
        if twice:
            raise InvalidInput(f"Tool {self.name}: {', '.join(sorted(twice))} is given twice.")
        return {**bound, **kwargs}

    def validate(self, arguments: Mapping[str, object]) -> BaseModel:
        """Arguments checked against the signature, or the schema. Raises InvalidInput that names each fault."""
        if self.json_schema is not None:
            faults = self.json_schema.faults(dict(arguments))  # type: ignore[arg-type]  # JSON, where it comes from a model
            if faults is not None:
                raise InvalidInput(f"The arguments of {self.name} are not valid. {faults}.")
            return Given(values=dict(arguments))
        try:
            checked: BaseModel = self.arguments.__pydantic_validator__.validate_python(arguments)
            return checked
        except ValidationError as error:
            raise InvalidInput(
                f"The arguments of {self.name} are not valid. {faults_text(error, 'arguments')}."
            ) from error

    def key_for(self, arguments: BaseModel, default: str) -> str:
        """The idempotency key of a call of a tool that takes one. Raises InvalidInput."""
        if self._key is None:
            return default
        key = self._key(**_by_name(arguments))
        if not isinstance(key, str | int) or key == "":
            raise InvalidInput(
                f"The key function of tool {self.name} gave {key!r:.80}; a key is a text or a number."
            )
        return str(key)

    async def __call__(self, arguments: BaseModel, context: Any) -> Any:
        """Call the function with a ``ToolContext``, or the run's context where it is ``in_run``; a sync one runs in a thread. Whatever it raises comes through."""
        given = _by_name(arguments)
        if self._context_parameter is not None:
            given[self._context_parameter] = context
        if self._key_parameter:
            given[KEY_PARAMETER] = context.idempotency_key
        if self._async:
            return await self._function(**given)
        result = await asyncio.to_thread(self._function, **given)
        return await result if isinstance(result, Awaitable) else result

    def result_from(self, value: JsonValue) -> Any:
        """A recorded result as the type the function declares. Raises pydantic's ValidationError."""
        return value if self._result is None else self._result.validator.validate_python(value)

    def result_to_json(self, value: Any) -> Any:
        """A returned value as JSON-able Python, by the declared type where there is one."""
        if self._result is None:
            return value
        return self._result.serializer.to_python(value, mode="json", warnings=False)


def _reconciling(
    function: Callable[..., Any], name: str, arguments: tuple[str, ...], *, unkeyed: bool
) -> Tool:
    """The reconcile function of a tool, as a tool that reads. Raises UsageError."""
    if not unkeyed:
        raise UsageError(
            f"Tool {name}: reconcile= is for writes without an idempotency key. Nothing else is ever in doubt: it is "
            "made again. Drop reconcile=."
        )
    if not callable(function):
        raise UsageError(f"Tool {name}: reconcile= takes a function, not {function!r:.80}.")
    reconcile = Tool.from_function(function, name=f"reconcile_{name}"[:64], effect="read")
    others = [one for one in reconcile.arguments.model_fields if one not in arguments]
    if others:
        raise UsageError(
            f"Tool {name}: its reconcile function wants {', '.join(others)}, and is given the arguments of the tool, "
            f"which are {', '.join(arguments) or 'none'}. A parameter annotated ToolContext tells of the call."
        )
    return reconcile


def faults_text(error: ValidationError, whole: str) -> str:
    """What pydantic found, fault by fault, each with the place it was found at; ``whole`` names the top."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or whole}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False)
    )


def _openai_function(name: str, description: str, arguments: type[BaseModel]) -> JsonObject:
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _by_name(arguments: BaseModel) -> dict[str, Any]:
    return dict(arguments.values if isinstance(arguments, Given) else arguments.__dict__)


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(
            f"Tool {name}: its type annotations cannot be read ({error}). Import the names they use "
            "where the function is defined, at module level."
        ) from error


def _is_context(hint: Any) -> bool:
    """``ToolContext``, with or without its parameter, and as an optional one too."""
    return (
        get_origin(hint) is ToolContext or hint is ToolContext or any(map(_is_context, _alternatives(hint)))
    )


def _is_run_context(hint: Any) -> bool:
    """``Context``, with or without its parameter. It is known by a mark, as it lies above this layer."""
    return getattr(get_origin(hint) or hint, "is_run_context", False) is True


def _check_in_run(name: str, function: Callable[..., Any], effect: str, others: tuple[object, ...]) -> None:
    """Raises UsageError where a tool that is part of the run's code is declared as an effect."""
    if effect == "read" or any(other is not None for other in others):
        raise UsageError(
            f"Tool {name} takes the run's Context, so it is part of the run's code, and what it does through the context "
            "is recorded by itself: drop effect=, retry=, timeout=, key= and reconcile=, or take a ToolContext."
        )
    if not inspect.iscoroutinefunction(function):
        raise UsageError(f"Tool {name} takes the run's Context, so it must be an `async def` function.")


def _check_declared(name: str, effect: str, *, takes_key: bool, retry: Retry | None) -> None:
    """Raises UsageError where name, effect and retry cannot be a tool's."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a tool: take 1 to 64 letters, digits, _ or -, a letter first."
        )
    if effect not in ("pure", "read", "write"):
        raise UsageError(f"Tool {name}: effect must be 'pure', 'read' or 'write', not {effect!r}.")
    if effect == "write" and not takes_key and retry is not None and retry.attempts_max > 1:
        raise UsageError(
            f"Tool {name} is a write without an idempotency key, so it can never be retried. "
            f"Give it a parameter `{KEY_PARAMETER}: str` that its service understands, or drop retry=."
        )


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else ()


def _arguments_model(
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    hints: Mapping[str, Any],
    hidden: set[str | None],
) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in parameters.values():
        if parameter.name in hidden:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise UsageError(
                f"Tool {name}: parameter {parameter.name} must be an ordinary named one, "
                "so that a schema can be made for the model."
            )
        if parameter.name.startswith("_") or parameter.name == "model_config":
            raise UsageError(f"Tool {name}: a parameter cannot be named {parameter.name}; rename it.")
        default = ... if parameter.default is parameter.empty else parameter.default
        hint = hints.get(parameter.name, Any)
        fields[parameter.name] = (hint, default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    with warnings.catch_warnings():
        # A parameter may be called schema, json or copy: nobody uses the methods of that name here.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
        return cast(type[BaseModel], create_model(name, __config__=config, **fields))


@overload
def tool(function: F, /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: EffectKind = "write",
    retry: Retry | None = None,
    timeout: str | float | None = None,
    key: KeyFunction | None = None,
    reconcile: Callable[..., Any] | None = None,
    confirm: bool = False,
    trusted: bool = False,
) -> Callable[[F], Tool]: ...
def tool(function: Any = None, /, **options: Any) -> Any:
    """Make a function a tool: ``@evrt.tool`` or ``@evrt.tool(effect="read", timeout="20s")``.

    Options are those of ``Tool.from_function``.
    """
    if function is not None:
        return Tool.from_function(function)
    return lambda inner: Tool.from_function(inner, **options)
