"""YAML and JSON as files of definitions have them: values, and the line that each of them stands on.

Both are read as the values that JSON has, by the rules of YAML 1.2: ``yes`` is a text and 2026-11-28 is one too.
What could be meant in two ways is refused (a key given twice, a tag), and so is what grows when it is read: aliases
are expanded as far as NODES_MAX values in all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from evrt.errors import InvalidInput
from evrt.events import JsonObject, JsonValue

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Most bytes that a file of definitions may have."""

NODES_MAX = 100_000
"""Most values in a file, those that aliases repeat counted as often as they stand for."""

ALIASES_MAX = 1_000
DEPTH_MAX = 64
"""Levels of nesting."""

Path = tuple[str | int, ...]
"""Where a value is: the keys and places on the way to it."""

TAG = "tag:yaml.org,2002:"
RESOLVERS = {
    "null": (r"(?:~|null|Null|NULL|)", [*"~nN", ""]),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
}
"""Plain scalars of YAML 1.2 that are no texts, with the characters that they begin with."""

NUMBER_DIGITS_MAX = 40
ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")
"""Of a character in a text of JSON."""


class _Loader(yaml.CSafeLoader):
    """Resolves scalars as YAML 1.2 does. Only its nodes are used: it constructs nothing."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (the class attribute of the library)


class _Dumper(yaml.CSafeDumper):
    """Writes texts so that the loader reads them as texts."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: object) -> bool:
        """A value that stands in two places is written twice."""
        return True


def _text_node(dumper: Any, text: str) -> Any:
    # Prompts are read by people; a block scalar cannot hold control characters, nor blanks where a line ends.
    block = "\n" in text and text.replace("\n", "").isprintable() and not re.search(r"(?m)^\s|[ ]$", text)
    return dumper.represent_scalar(f"{TAG}str", text, style="|" if block else None)


for _kind, (_pattern, _first) in RESOLVERS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{TAG}{_kind}", re.compile(rf"^(?:{_pattern})$"), _first)
_Dumper.add_representer(str, _text_node)


@dataclass(frozen=True)
class Read:
    """What a file holds, and where. ``name`` is what it is called in what is said of it."""

    name: str
    value: JsonValue
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of a value, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: Path, text: str) -> str:
        """What is wrong with the value at a path, behind its file and line."""
        return f"{self.name}:{self.line(path)}: {text}"

    def faults(self, path: Path, error: ValidationError) -> list[str]:
        """What pydantic found in the value at a path, each behind its file and line."""
        found: dict[str, None] = {}
        for fault in error.errors(include_url=False, include_context=False):
            said = fault["type"] in ("missing", "extra_forbidden")
            # What pydantic adds of its own, as which of several types it tried, is on no line.
            at = tuple(
                part
                for number, part in enumerate(fault["loc"], start=1)
                if (*path, *fault["loc"][:number]) in self.lines or (said and number == len(fault["loc"]))
            )
            shown = ".".join(map(str, at))
            text = (
                UNKNOWN_FIELD
                if fault["type"] == "extra_forbidden"
                else fault["msg"].removeprefix("Value error, ")
            )
            found[self.fault((*path, *at), f"{shown}: {text}" if shown else text)] = None
        return list(found)


UNKNOWN_FIELD = "there is no such field"


def read_definitions(text: str, name: str) -> Read:
    """A file's values and their lines; JSON where its name ends in .json, else YAML. Raises InvalidInput."""
    if len(text.encode("utf-8", "surrogatepass")) > FILE_BYTES_MAX:
        raise InvalidInput(
            f"{name} has more than {FILE_BYTES_MAX:,} bytes: a file of definitions may not. Split it, or leave out "
            "knowledge that can be given to an agent later."
        )
    if not name.endswith(".json"):
        return _Reading(name).read(text)
    value = _json(text, name)
    return Read(name, value, _lines_of_json(text, value))


def _json(text: str, name: str) -> JsonValue:
    def pairs(found: list[tuple[str, JsonValue]]) -> JsonObject:
        known = dict(found)
        if len(known) < len(found):
            keys = [key for key, _ in found]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InvalidInput(f"{name}: the key {twice!r:.80} is given twice in one object.")
        return known

    def constant(word: str) -> NoReturn:
        raise InvalidInput(f"{name}: {word} is not JSON.")

    try:
        value: JsonValue = json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{name}:{error.lineno}: this is not JSON: {error.msg}.") from None
    except (RecursionError, ValueError):
        raise InvalidInput(
            f"{name}: this cannot be read: it nests too deep, or has too long a number."
        ) from None
    if _depth(value) > DEPTH_MAX:
        raise InvalidInput(f"{name}: this nests more than {DEPTH_MAX} deep.")
    return value


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is too large a number")
    return number


def _depth(value: JsonValue) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_depth, inner), default=-1) + 1


def _lines_of_json(text: str, value: JsonValue) -> dict[Path, int]:
    """The lines of values that JSON has read, by way of YAML, which is nearly all of JSON; none where it is not."""
    # What is no plain character stands inside of texts, where it does not matter here, but for tabs between values.
    plain = ESCAPE.sub("__", text).replace("\t", " ").replace("\r", " ")
    plain = "".join(char if char == "\n" or " " <= char <= "~" else "_" for char in plain)
    lines: dict[Path, int] = {}

    def walk(node: Any, value: JsonValue, path: Path) -> None:
        lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(value, dict):
            for (key_node, inner), (key, below) in zip(node.value, value.items(), strict=True):
                lines[(*path, key)] = key_node.start_mark.line + 1
                walk(inner, below, (*path, key))
        elif isinstance(value, list):
            for place, (inner, below) in enumerate(zip(node.value, value, strict=True)):
                walk(inner, below, (*path, place))

    with suppress(yaml.YAMLError, ValueError):  # A key of more than 1,024 characters, say.
        walk(yaml.compose(plain, Loader=_Loader), value, ())
    return lines


class _Reading:
    """One reading of a text as YAML."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: dict[Path, int] = {}
        self._nodes = 0

    def read(self, text: str) -> Read:
        try:
            self._check_size(text)
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(filter(None, (error.context, error.problem)))
            raise InvalidInput(
                f"{self._name}:{mark.line + 1 if mark else 1}: this is not YAML: {what}."
            ) from None
        except yaml.YAMLError as error:
            raise InvalidInput(f"{self._name}: this is not YAML: {' '.join(str(error).split())}.") from None
        value = None if node is None else self._value(node, ())
        return Read(self._name, value, self._lines)

    def _check_size(self, text: str) -> None:
        """Before nodes are made of it: events come one by one, however deep they nest."""
        depth = aliases = documents = 0
        for event in yaml.parse(text, Loader=_Loader):
            match event:
                case yaml.CollectionStartEvent():
                    depth += 1
                    if depth > DEPTH_MAX:
                        raise self._refusal(event, f"this nests more than {DEPTH_MAX} deep")
                case yaml.CollectionEndEvent():
                    depth -= 1
                case yaml.AliasEvent():
                    aliases += 1
                    if aliases > ALIASES_MAX:
                        raise self._refusal(event, f"there are more than {ALIASES_MAX:,} aliases")
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise self._refusal(event, "a second document begins here, and a file has one")

    def _refusal(self, at: Any, text: str) -> InvalidInput:
        return InvalidInput(f"{self._name}:{at.start_mark.line + 1}: {text}.")

    def _value(self, node: Any, path: Path) -> JsonValue:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self._refusal(node, f"with its aliases written out this has more than {NODES_MAX:,} values")
        if len(path) > DEPTH_MAX:  # An alias for what it stands in.
            raise self._refusal(node, f"this nests more than {DEPTH_MAX} deep")
        self._lines.setdefault(path, node.start_mark.line + 1)
        kind = node.tag.removeprefix(TAG)
        match node:
            case yaml.MappingNode() if kind == "map":
                return self._object(node, path)
            case yaml.SequenceNode() if kind == "seq":
                return [self._value(inner, (*path, place)) for place, inner in enumerate(node.value)]
            case yaml.ScalarNode() if kind == "str" or kind in RESOLVERS:
                return self._scalar(node, kind)
        raise self._refusal(node, f"{node.tag!r:.80} is a tag, and definitions have none")

    def _object(self, node: Any, path: Path) -> JsonObject:
        found: JsonObject = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._refusal(key_node, "a key is a text")
            key = key_node.value
            if key in found:
                raise self._refusal(key_node, f"the key {key!r:.80} is given twice")
            self._lines[(*path, key)] = key_node.start_mark.line + 1
            found[key] = self._value(value_node, (*path, key))
        return found

    def _scalar(self, node: Any, kind: str) -> JsonValue:
        text: str = node.value
        if kind in ("int", "float") and len(text) > NUMBER_DIGITS_MAX:
            raise self._refusal(node, "this number has too many digits")
        match kind:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float" if math.isfinite(float(text)):
                return float(text)
            case "float":
                raise self._refusal(node, "this number is too large")
            case _:
                return text


def write_definitions(value: JsonValue, *, as_json: bool) -> str:
    """A value as YAML, or as indented JSON, that ``read_definitions`` reads as the same."""
    if as_json:
        return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    written: str = yaml.dump(
        value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100, default_flow_style=False
    )
    return written
