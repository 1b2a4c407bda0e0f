"""Patches between two JSON documents (RFC 6902): what a reader that has the one needs to have the other.

``diff`` writes ``add``, ``remove`` and ``replace`` only: every implementation knows them, and none of them depends on
what stands elsewhere in the document. A patch costs at most what the document would: where operations are longer than
the value that they change, the value is replaced as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from pydantic_core import to_json

from evrt.errors import InvalidInput
from evrt.events import JsonObject, JsonValue

Plain: TypeAlias = Any
"""What a parser of JSON gives: None, bool, int, float, str, list or dict."""

Operations: TypeAlias = list[JsonObject]

INDEX = re.compile(r"0|[1-9][0-9]*", re.ASCII)


def diff(before: Plain, after: Plain) -> Operations:
    """The operations that turn one document into the other; none where they are equal.

    Equal is meant as in a JSON text: 1, 1.0 and true are three values, and the order of an object's members is none.
    The operations are at most as long as the one that replaces the whole document.
    """
    return list(_between("", before, after))


def apply(document: Plain, operations: Iterable[Mapping[str, JsonValue]]) -> Plain:
    """The document after these operations. The one given stays as it is, and shares nothing with the answer.

    Raises InvalidInput where an operation is none of ``add``, ``remove`` and ``replace``, or finds nothing at its path:
    the patch is for another document.
    """
    # In a list, so that the document itself is in something, as everything within it is.
    root = [_copy(document)]
    for operation in operations:
        _apply(root, operation)
    return root[0]


def same(one: Plain, other: Plain) -> bool:
    """Whether both are the same JSON, which Python's 1 == 1.0 == True is not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            name in other and same(value, other[name]) for name, value in one.items()
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    # 0.0 equals -0.0, and both are written otherwise.
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


# ------------------------------------------------------------------------------------------ diff


def _between(path: str, before: Plain, after: Plain) -> Iterable[JsonObject]:
    whole = _put("replace", path, after)
    if isinstance(before, dict) and isinstance(after, dict):
        operations = [*_members(path, before, after)]
    elif isinstance(before, list) and isinstance(after, list):
        operations = [*_items(path, before, after)]
    else:
        return [] if same(before, after) else [whole]
    return operations if not operations or _bytes(operations) <= _bytes([whole]) else [whole]


def _members(path: str, before: dict[str, Plain], after: dict[str, Plain]) -> Iterator[JsonObject]:
    for name in before:
        if name not in after:
            yield {"op": "remove", "path": _below(path, name)}
    for name, value in after.items():
        if name in before:
            yield from _between(_below(path, name), before[name], value)
        else:
            yield _put("add", _below(path, name), value)


def _items(path: str, before: list[Plain], after: list[Plain]) -> Iterator[JsonObject]:
    """Item by item between a common beginning and a common end: the shortest patch would take the square of the time.

    A window over the last so many of something loses items at its beginning and gains others at its end, and item by
    item all of it would be another. So that is looked for first.
    """
    first = _alike(before, after)
    gone = _gone(before, after, first)
    for _ in range(gone):
        yield {"op": "remove", "path": f"{path}/{first}"}
    if gone:
        before = before[:first] + before[first + gone :]
        first = len(before)
    # The common end may reach into the common beginning: then there is nothing to pair in between.
    last = _alike(before[::-1], after[::-1])
    shared = min(len(before), len(after))
    paired = shared - last
    for index in range(first, paired):
        yield from _between(f"{path}/{index}", before[index], after[index])
    for _ in range(len(before) - shared):
        yield {"op": "remove", "path": f"{path}/{paired}"}
    for index in range(paired, len(after) - last):
        yield _put("add", f"{path}/{index}", after[index])


def _gone(before: list[Plain], after: list[Plain], first: int) -> int:
    """How many items were taken out from ``first`` on, if all that is left stands at the beginning of ``after``."""
    if not first < len(after):
        return 0
    for start in range(first, len(before)):
        if same(before[start], after[first]):
            left = before[start:]
            return start - first if same(left, after[first : first + len(left)]) else 0
    return 0


def _alike(one: list[Plain], other: list[Plain]) -> int:
    """Length of the common beginning."""
    shared = min(len(one), len(other))
    return next((index for index in range(shared) if not same(one[index], other[index])), shared)


def _put(op: str, path: str, value: Plain) -> JsonObject:
    return {"op": op, "path": path, "value": value}


def _below(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"


def _bytes(operations: Operations) -> int:
    return len(to_json(operations))


# ----------------------------------------------------------------------------------------- apply


def _apply(root: list[Plain], operation: Mapping[str, JsonValue]) -> None:
    op, path = operation.get("op"), operation.get("path")
    if (
        op not in ("add", "remove", "replace")
        or not isinstance(path, str)
        or not (path == "" or path.startswith("/"))
        or ("value" in operation) is (op == "remove")
        or (path, op) == ("", "remove")
    ):
        raise InvalidInput(
            f"{dict(operation)} cannot be applied: an operation has 'op' (add, remove or replace), 'path' and, unless it "
            "removes something from the document, 'value'."
        )
    inside: Plain = root
    at: Any = 0
    for token in path.split("/")[1:]:
        inside = inside[_place(inside, at, path)]
        at = token.replace("~1", "/").replace("~0", "~")
    if op == "remove":
        del inside[_place(inside, at, path)]
    elif op == "replace" or inside is root:
        inside[_place(inside, at, path)] = _copy(operation["value"])
    elif isinstance(inside, list):
        index = len(inside) if at == "-" else _place(inside, at, path, beyond=1)
        inside.insert(index, _copy(operation["value"]))
    elif isinstance(inside, dict):
        inside[at] = _copy(operation["value"])
    else:
        raise _elsewhere(path)


def _place(inside: Plain, at: Any, path: str, beyond: int = 0) -> Any:
    """The key, or the index, of what stands there; ``beyond`` the end of a list too, if that is 1."""
    if isinstance(inside, dict) and at in inside:
        return at
    if isinstance(inside, list) and INDEX.fullmatch(str(at)) and int(at) < len(inside) + beyond:
        return int(at)
    raise _elsewhere(path)


def _elsewhere(path: str) -> InvalidInput:
    return InvalidInput(f"The patch is for another document: this one has nothing at {path!r}.")


def _copy(value: Plain) -> Plain:
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
