"""Memory set right from the command line: ``evrt memory set`` and ``forget``."""

from __future__ import annotations

from typing import NamedTuple

from evrt.cli.ordering import ordering
from evrt.cli.output import out, out_json
from evrt.cli.place import Place
from evrt.cli.remembering import Scope
from evrt.cli.text import json_or_text
from evrt.errors import NotFound
from evrt.memory import Whose


class Said(NamedTuple):
    """What is said beside key and value."""

    expires: str | None
    source: str | None
    by: str | None
    if_version: int | None


async def set_value(place: Place, scope: Scope, key: str, value: str, said: Said, *, as_json: bool) -> None:
    """Set a key of a memory, which may be a new one."""
    scope.check()
    async with ordering(place) as app:
        version = await app.memory.set(
            key,
            json_or_text(value),
            expires=said.expires,
            source=said.source,
            by=said.by,
            if_version=said.if_version,
            **_whose(scope),
        )
    if as_json:
        out_json({"key": key, "version": version})
    else:
        out(f"{key!r} of {scope} is set.")


async def forget_key(place: Place, scope: Scope, key: str, said: Said, *, as_json: bool) -> None:
    """Forget a key of a memory. Raises NotFound where it has no value."""
    scope.check()
    async with ordering(place) as app:
        existed = await app.memory.forget(key, by=said.by, if_version=said.if_version, **_whose(scope))
    if not existed:
        raise NotFound(f"There is no {key!r} in the memory of {scope}, so there is nothing to forget.")
    if as_json:
        out_json({"key": key, "forgotten": True})
    else:
        out(f"{key!r} of {scope} is forgotten.")


def _whose(scope: Scope) -> Whose:
    return {"user": scope.user, "conversation": scope.conversation, "system": scope.system}
