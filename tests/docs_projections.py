"""Writes docs/projections.md from the built-in projections: ``python tests/docs_projections.py``."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs_events import default_of, type_of
from evrt.events.run import Failure
from evrt.folds.operation import Outcome
from evrt.folds.turns import Routing
from evrt.projection import AnyProjection
from evrt_projections import (
    agents,
    audit,
    conversations,
    journeys,
    memory,
    messages,
    questions,
    runs,
    steps,
    systems,
    turns,
    usage,
)

PAGE = Path(__file__).parent.parent / "docs" / "projections.md"
BUILT_IN: tuple[AnyProjection, ...] = tuple(
    module.PROJECTION
    for module in (
        runs,
        steps,
        conversations,
        messages,
        memory,
        journeys,
        agents,
        systems,
        usage,
        turns,
        questions,
        audit,
    )
)
PARTS: tuple[type[BaseModel], ...] = (
    Outcome,
    conversations.Resource,
    agents.Revised,
    usage.Attempt,
    Routing,
    audit.Followed,
    Failure,
)
"""Models that stand inside documents."""

HEAD = """\
# Projections

A projection is a named pure fold: events go in one after another, documents come out. What is kept of it is a
*view*, which can be thrown away and made again from the log. These come with evrt, each a file in
`projections/evrt_projections` and written as you would write yours:
[writing a projection](writing-a-projection.md).

This page is generated from their code by `python tests/docs_projections.py`; a test fails when it is out of date.

- A document is found by its **key** and its **part**. Where one key has one document, its part is the empty text.
- A field that is as its default says is left out of the stored JSON.
- Times are microseconds since 1970, UTC. A **position** is an event's place in the log.
- **JSON** is any JSON value. A document has at most 65,536 bytes (`evrt.projection.DOCUMENT_BYTES_MAX`), an event may
  have a value of 1 MiB. What is too long is cut, and what stands in its place is
  `{"$clipped": {"bytes": 350001, "begins": "…", "position": 17}}`: its size as JSON, its beginning, and the event
  that has it whole (`evrt.folds.clip.clip`). Values that nest more than 100 deep are cut too. A text that has to stay
  a text ends in a note that says the same.
- An event that was erased, or that this program does not know, changes what its type alone tells and nothing else.
- **Listed by** are the fields that a list of documents can be narrowed by without reading them all.
"""


def render() -> str:
    """The whole page."""
    contents = [
        f"- [`{projection.name}`](#{projection.name}): {_summary(projection)}" for projection in BUILT_IN
    ]
    sections = [_section(projection) for projection in BUILT_IN]
    parts = [f"### {cls.__name__}\n\n{plain(inspect.getdoc(cls) or '')}\n\n{table(cls)}" for cls in PARTS]
    return "\n".join([HEAD, *contents, "", *sections, "## Parts of documents", "", *parts]).rstrip() + "\n"


def _module_text(projection: AnyProjection) -> str:
    module = sys.modules[f"evrt_projections.{projection.name}"]
    return plain(inspect.getdoc(module) or "").partition(":")[2].strip()


def _summary(projection: AnyProjection) -> str:
    return _module_text(projection).partition("\n\n")[0].rstrip(".").replace("\n", " ")


def _section(projection: AnyProjection) -> str:
    text = _module_text(projection)
    events = ", ".join(f"`{name}`" for name in sorted(projection.handles))
    indexes = ", ".join(" and ".join(f"`{field}`" for field in index) for index in projection.index_fields)
    return "\n".join(
        [
            f"## {projection.name}",
            "",
            text[:1].upper() + text[1:],
            "",
            f"Events: {'all of a run' if events == '`*`' else events}.",
            "",
            f"Listed by: {indexes}.",
            "",
            plain(inspect.getdoc(projection.document) or ""),
            "",
            table(projection.document),
        ]
    )


def table(cls: type[BaseModel]) -> str:
    """A model's fields, those that it begins with first."""
    said = field_texts(cls)
    rows = [
        f"| `{name}` | {type_of(field.annotation)} | {_default(field)} | {said.get(name, '')} |"
        for name, field in cls.model_fields.items()
    ]
    return "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    return '`""`' if field.default == "" else default_of(field)


def field_texts(cls: type[Any]) -> dict[str, str]:
    """What stands under a model's fields in its source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        [made] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(made, ast.ClassDef)
        for field, text in zip(made.body, made.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = text.value if isinstance(text, ast.Expr) else None
                if isinstance(said, ast.Constant) and isinstance(said.value, str):
                    found[field.target.id] = plain(" ".join(said.value.split()))
    return found


def plain(text: str) -> str:
    """A docstring as Markdown."""
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
