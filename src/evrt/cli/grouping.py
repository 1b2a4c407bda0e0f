"""Systems as a person defines and reads them."""

from __future__ import annotations

from typing import NamedTuple, cast

from evrt.cli.defining import defining, read_text
from evrt.cli.ordering import ordering
from evrt.cli.output import Cell, note, out, out_json, out_table, paint
from evrt.cli.place import Place
from evrt.cli.showing import out_fields, out_section
from evrt.cli.text import counted, words
from evrt.events import JsonObject, JsonValue
from evrt.folds.definitions import SystemDefinition


class Learnt(NamedTuple):
    """A text that all members are to know."""

    name: str
    file: str
    inject: str
    mode: str
    priority: int
    trusted: bool


async def list_systems(place: Place, *, as_json: bool) -> None:
    """Print the systems."""
    async with ordering(place) as app:
        systems = await app.systems.list()
        url = (await app.log()).url
    if as_json:
        out_json([_document(system) for system in systems])
    elif systems:
        rows = [
            [
                Cell(system.key, "bold"),
                Cell(str(len(system.members))),
                Cell(str(len(system.knowledge))),
                Cell(system.description or words(system.prefix)),
            ]
            for system in systems
        ]
        out_table(("SYSTEM", "MEMBERS", "KNOWLEDGE", "ABOUT"), rows)
    else:
        note(f"No systems are defined in {url} yet. `evrt systems define` defines one.")


async def show_system(place: Place, key: str, *, as_json: bool) -> None:
    """Print a system."""
    async with ordering(place) as app:
        system = await app.systems.get(key)
    if as_json:
        out_json(_document(system))
        return
    out(paint(system.key, "bold"))
    out_fields(
        [
            ("name", system.name if system.name != system.key else None),
            ("description", system.description or None),
            ("members", ", ".join(key for _, key in system.members) or "(none)"),
            ("prefix", "(erased)" if system.unreadable else system.prefix or None),
        ]
    )
    lines = [f"{name}  {_how(entry)}  {words(str(entry.get('text')))}" for name, entry in system.knowledge]
    out_section("knowledge", lines, "none in common")


async def define_system(
    place: Place,
    key: str,
    name: str | None,
    description: str | None,
    prefix: str | None,
    *,
    by: str | None,
    as_json: bool,
) -> None:
    """Define a system."""
    async with defining(place) as app:
        system = await app.systems.define(
            key, name=name, description=description or "", prefix=prefix or "", by=by
        )
    _tell(system, f"{key} is defined.", as_json=as_json)


async def revise_system(
    place: Place,
    key: str,
    name: str | None,
    description: str | None,
    prefix: str | None,
    *,
    by: str | None,
    as_json: bool,
) -> None:
    """Change what is given."""
    async with ordering(place) as app:
        system = await app.systems.revise(key, name=name, description=description, prefix=prefix, by=by)
    _tell(system, f"{key} is revised.", as_json=as_json)


async def change_members(
    place: Place, key: str, agent: str, *, taken_in: bool, by: str | None, as_json: bool
) -> None:
    """Take an agent in, or let it go."""
    async with ordering(place) as app:
        change = app.systems.add_member if taken_in else app.systems.remove_member
        system = await change(key, agent, by=by)
    _tell(system, f"{key} has {counted(len(system.members), 'member')} now.", as_json=as_json)


async def learn_text(place: Place, key: str, learnt: Learnt, *, by: str | None, as_json: bool) -> None:
    """Have all members know a text."""
    entry: dict[str, JsonValue] = {
        "name": learnt.name,
        "text": read_text(learnt.file),
        "file": "stdin" if learnt.file == "-" else learnt.file,
        "inject": learnt.inject,
        "mode": learnt.mode,
        "priority": learnt.priority,
    }
    if learnt.trusted:
        entry["trusted"] = True
    async with ordering(place) as app:
        system = await app.systems.set_knowledge(key, entry, by=by)
    _tell(system, f"The members of {key} know {learnt.name!r} now.", as_json=as_json)


async def forget_text(place: Place, key: str, name: str, *, by: str | None, as_json: bool) -> None:
    """Have a text known no more."""
    async with ordering(place) as app:
        system = await app.systems.remove_knowledge(key, name, by=by)
    _tell(system, f"The members of {key} know {name!r} no more.", as_json=as_json)


def _tell(system: SystemDefinition, text: str, *, as_json: bool) -> None:
    if as_json:
        out_json(_document(system))
    else:
        out(text)


def _document(system: SystemDefinition) -> JsonObject:
    return {
        "key": system.key,
        "name": system.name,
        "description": system.description,
        "prefix": system.prefix,
        "members": [key for _, key in system.members],
        "knowledge": cast(JsonValue, [entry for _, entry in system.knowledge]),
        "revision": system.version,
        "system": system.ref,
    }


def _how(entry: JsonObject) -> str:
    inject, mode = entry.get("inject", "knowledge"), entry.get("mode", "always")
    return f"{inject}, {mode}"
