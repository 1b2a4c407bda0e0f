"""Identities of operations: a path of scopes, a name, an ordinal. And digests of arguments.

``search#2`` is the second search of a run's own scope; ``gather#1:0/search#1`` the first one in the
first branch of its first gather. The characters ``/ # : %`` of a name are percent-encoded.
"""

from __future__ import annotations

from asyncio import Task
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from evrt.events import JsonValue
from evrt.events.canonical import canonical

DIGEST_HEX = 32
"""Arguments need a check against change, not against an attacker: 128 bits keep events small."""


def digest_of(value: JsonValue) -> str:
    """First 128 bits of SHA-256 over the canonical JSON of a value, in hex."""
    return sha256(canonical(value)).hexdigest()[:DIGEST_HEX]


def escape(name: str) -> str:
    """A name as one part of an identity."""
    if name.isidentifier():
        return name
    return "".join(c if c not in "/#:%" else f"%{ord(c):02X}" for c in name)


@dataclass(slots=True, eq=False)
class Scope:
    """A region of a run's code that one asyncio task executes. ``path`` is empty or ends in a slash."""

    execution: object
    path: str
    task: Task[Any] | None
    parent: Scope | None = None
    ordinals: dict[str, int] = field(default_factory=dict)
    lost: bool = False
    """A branch that has lost its race, as the history knows, and has not been cut off yet."""

    def next(self, name: str) -> str:
        """The identity of the next operation of this name in this scope."""
        name = escape(name)
        ordinal = self.ordinals.get(name, 0) + 1
        self.ordinals[name] = ordinal
        return f"{self.path}{name}#{ordinal}"

    def is_ahead(self, identity: str) -> bool:
        """Whether this identity belongs to this scope, or to one below it, and has not been come to yet."""
        if not identity.startswith(self.path):
            return False
        part = identity[len(self.path) :].partition("/")[0].partition(":")[0]
        name, mark, ordinal = part.rpartition("#")
        return bool(mark) and int(ordinal) > self.ordinals.get(name, 0)


current_scope: ContextVar[Scope | None] = ContextVar("evrt_scope", default=None)
