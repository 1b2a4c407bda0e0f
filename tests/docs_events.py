"""Writes docs/events.md from the registered event types: ``python tests/docs_events.py``."""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from evrt.events import EVENT_TYPES, Event
from evrt.events.calls import Usage
from evrt.events.run import TERMINAL, Delegation, Failure
from evrt.folds.journal import CONTROL, INTENTS, OUTCOMES, OUTSIDE, SIGNALLED

PAGE = Path(__file__).parent.parent / "docs" / "events.md"
PARTS: tuple[type[BaseModel], ...] = (Delegation, Failure, Usage)
"""Models that stand inside events."""

JOURNEYS = "`journey-…`"
STREAMS = {
    "agent": "`agent-…`",
    "system": "`system-…`",
    "conversation.recalled": "`run-…`",
    "conversation": "`conversation-…`",
    "memory.set": "`memory-user-…`, `memory-system-…`, `memory-conversation-…`",
    "memory.forgotten": "`memory-user-…`, `memory-system-…`, `memory-conversation-…`",
    "journey.started": JOURNEYS,
    "journey.step_changed": JOURNEYS,
    "journey.routed": JOURNEYS,
    "journey.ended": JOURNEYS,
}

HEAD = """\
# Events

Every event type that this version writes, with its fields. This page is generated from the registered
types by `python tests/docs_events.py`; a test fails when it is out of date.

Names of types and of fields are never changed. A later version may add types and optional fields. A type that
this program does not know is kept and shown as `Unknown`, never dropped.

How to read the tables:

- **JSON** is any JSON value. A field that is `null` is left out of the payload.
- **operation** is the [identity of an operation](glossary.md#operation), such as `search#2`.
- **digest** is the first 128 bits of SHA-256 over the canonical JSON of what the operation was given. A resume
  or a replay compares it.
- *volatile* fields differ between two runs in which the same happened: times, ids, attempts, clock and random
  values. They are left out of a [history's digest](glossary.md#history-digest).

An event's place in the log (position, time, stream, version, meta …) is not part of its payload: see
[the log format](log-format.md).

In meta, evrt writes `epoch` (of the claim under which an event was written), `actor` (`agent:NAME`,
`workflow:NAME`, `person`, `outside`, or `late worker`), `on_behalf_of` (the ref of the run's user), `run` (in memory
and journey streams: the run that wrote), and `schema` (the version of the payload's shape, left out while it is 1).
"""


def render() -> str:
    """The whole page."""
    # Tests register types of their own in the same process.
    ours = {name: cls for name, cls in EVENT_TYPES.items() if cls.__module__.startswith("evrt.")}
    contents = [f"- [`{name}`](#{name.replace('.', '')}): {_role(name)}" for name in ours]
    sections = [_section(name, cls) for name, cls in ours.items()]
    parts = [_part(cls) for cls in PARTS]
    return "\n".join([HEAD, *contents, "", *sections, "## Parts of events", "", *parts]).rstrip() + "\n"


def _section(name: str, cls: type[Event]) -> str:
    stream = STREAMS.get(name) or STREAMS.get(name.partition(".")[0]) or "`run-…`"
    version = "" if cls.class_version == 1 else f" Its shape has version {cls.class_version}."
    return f"## {name}\n\n{_text(cls)}\n\nStream: {stream}. Role: {_role(name)}.{version}\n\n{_table(cls, cls.volatile)}"


def _part(cls: type[BaseModel]) -> str:
    return f"### {cls.__name__}\n\n{_text(cls)}\n\n{_table(cls, frozenset())}"


def _role(name: str) -> str:
    """What the event is to a journal."""
    if name in TERMINAL:
        return "end of a run"
    if name in INTENTS:
        return "intent"
    if name in OUTSIDE or name in CONTROL or name == SIGNALLED:
        return "written from outside the run"
    if name in OUTCOMES:
        return "outcome"
    return "outcome when final" if name.endswith(".failed") else "fact"


def _text(cls: type[BaseModel]) -> str:
    return (inspect.getdoc(cls) or "").replace("``", "`")


def _table(cls: type[BaseModel], volatile: frozenset[str]) -> str:
    if not cls.model_fields:
        return "It has no fields.\n"
    rows = [
        f"| `{name}` | {type_of(field.annotation)} | {default_of(field)} | {'volatile' if name in volatile else ''} |"
        for name, field in cls.model_fields.items()
    ]
    return "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows, ""])


def default_of(field: FieldInfo) -> str:
    if field.is_required() or field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "all defaults"
    plain = {None: "null", True: "true", False: "false", (): "[]"}
    known = plain.get(field.default) if isinstance(field.default, bool | tuple | None) else None
    return f"`{known or field.default}`"


def type_of(annotation: Any) -> str:
    """An annotation as JSON readers call it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(type_of(argument) for argument in arguments)
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in arguments)
    if origin is tuple:
        return f"list of {type_of(arguments[0])}"
    if origin is dict:
        return "JSON object"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}
    return names.get(annotation, "JSON")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
