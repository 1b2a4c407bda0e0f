"""Agents and systems carried in and out as files: all of a file or nothing of it, in one append.

    agents:
      support:
        parent: base
        instructions: Be kind.
        limits: {model_turns_max: 5}
    systems:
      desk:
        prefix: You work at the desk.
        members: [support]

What is there already and says the same stays as it is; what says something else becomes a new revision. What is
exported reads as the same definitions again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as Folder
from typing import Any

import orjson
from pydantic import Field, ValidationError

from evrt.agents.config import AgentConfig, Name, Part, SystemKnowledge
from evrt.definitions import deciding
from evrt.definitions.catalogue import Catalogue
from evrt.definitions.deciding import Body
from evrt.definitions.edits import Edit, check_key
from evrt.definitions.files import Path, Read, write_definitions
from evrt.definitions.lineage import revision_of
from evrt.definitions.llama_stack import config_of_llama_stack
from evrt.errors import EvrtError, InvalidInput, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.agents import GivenFormat
from evrt.folds.definitions import AgentDefinition, Revision, SystemDefinition

Fields = dict[str, Any]
"""What JSON calls an object, once it has been checked."""
Parts = dict[str, Fields]

FILE_READ_BYTES_MAX = 512 * 1024
"""Of a file that knowledge is read from."""

OWN = ("name", "description", "parent", "spec", "draft", "retired", "agent_config")
"""Fields of an agent in a file that are not of its configuration."""


class AgentInFile(AgentConfig):
    """An agent as a file has it: its configuration, and what else it is."""

    name: str | None = None
    description: str = ""
    parent: Name | None = None
    spec: str | None = None
    draft: bool = False
    retired: bool = False
    agent_config: dict[str, Any] | None = None
    """In place of a configuration: one of llama-stack, verbatim."""


class SystemInFile(Part):
    """A system as a file has it, whole: members and knowledge that it does not list are taken out."""

    name: str | None = None
    description: str = ""
    prefix: str = ""
    members: tuple[Name, ...] = ()
    knowledge: tuple[SystemKnowledge, ...] = ()


class Whole(Part):
    """A file of definitions. What its parts are is checked one by one, for the sake of the lines."""

    agents: Parts = Field(default_factory=dict)
    systems: Parts = Field(default_factory=dict)


@dataclass(slots=True)
class Imported:
    """What became of the agents and systems of a file, by their keys."""

    defined: list[str] = field(default_factory=list)
    revised: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


# ----------------------------------------------------------------------------------------------- in


async def carry_in(edit: Edit, read: Read, *, folder: Folder | None, taken: Collection[str]) -> Imported:
    """Decide all that a file says. Raises InvalidInput with file and line for each fault, Conflict, NotFound.

    ``folder`` is where files are that knowledge is to be read from, and must be in; without it none are.
    """
    whole = _checked(read, folder)
    if not whole.agents and not whole.systems:
        raise UsageError(
            f"{read.name}: There is nothing in it. Agents stand below `agents:`, systems below `systems:`."
        )
    imported = Imported()
    for key in _parents_first(read, whole.agents):
        with _at(read, ("agents", key)):
            _note(imported, key, *await _carry_agent(edit, key, whole.agents[key], taken))
    for key, system in whole.systems.items():
        with _at(read, ("systems", key)):
            _note(imported, key, *await _carry_system(edit, key, system))
    return imported


@contextmanager
def _at(read: Read, path: Path) -> Iterator[None]:
    """What is refused in here is refused at this place of the file."""
    try:
        yield
    except EvrtError as error:
        raise type(error)(read.fault(path, str(error))) from error


def _checked(read: Read, folder: Folder | None) -> Whole:
    """The file's value with the texts of files in it. Raises InvalidInput that lists every fault, a line each."""
    value = {} if read.value is None else read.value
    try:
        whole = Whole.model_validate_json(orjson.dumps(value))
    except ValidationError as error:
        raise InvalidInput("\n".join(read.faults((), error))) from None
    except TypeError as error:
        raise InvalidInput(f"{read.name}: this cannot be recorded as JSON: {error}.") from None
    faults: list[str] = []
    kinds: tuple[tuple[str, type[Part], Parts], ...] = (
        ("agents", AgentInFile, whole.agents),
        ("systems", SystemInFile, whole.systems),
    )
    for kind, model, parts in kinds:
        for key, part in parts.items():
            path: Path = (kind, key)
            try:
                check_key(kind.removesuffix("s"), key)
                model.model_validate_json(orjson.dumps(part))
                _read_files(read, path, part, folder)
                if kind == "agents":
                    _check_one_kind(part)
            except ValidationError as error:
                faults += read.faults(path, error)
            except InvalidInput as error:
                text = str(error)
                faults.append(text if text.startswith(f"{read.name}:") else read.fault(path, text))
    if faults:
        raise InvalidInput("\n".join(faults))
    return whole


def _check_one_kind(agent: Fields) -> None:
    settings = [name for name in agent if name not in OWN]
    if agent.get("agent_config") is not None and settings:
        raise InvalidInput(
            f"An agent has an agent_config or settings of its own, not both: {', '.join(settings)} can go into extra."
        )


def _read_files(read: Read, path: Path, part: Fields, folder: Folder | None) -> None:
    """Put the texts of files beside their names, in place. Raises InvalidInput."""
    for place, entry in enumerate(part.get("knowledge", ())):
        name = entry.get("file")
        if name is None or entry.get("text") is not None:
            continue
        at: Path = (*path, "knowledge", place, "file")
        if folder is None:
            raise InvalidInput(read.fault(at, f"{name}: files are not read here; give the text as well"))
        file = (folder / name).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise InvalidInput(read.fault(at, f"{name}: it lies outside of the folder that this file is in"))
        try:
            if file.stat().st_size > FILE_READ_BYTES_MAX:
                raise InvalidInput(read.fault(at, f"{name}: it has more than {FILE_READ_BYTES_MAX:,} bytes"))
            entry["text"] = file.read_text("utf-8")
        except OSError as error:
            raise InvalidInput(read.fault(at, f"{name}: it cannot be read: {error.strerror}")) from None
        except UnicodeDecodeError:
            raise InvalidInput(read.fault(at, f"{name}: it is not text in UTF-8")) from None


def _parents_first(read: Read, agents: Parts) -> list[str]:
    """Keys in an order in which every parent in the file stands before its children. Raises InvalidInput for a circle."""
    ordered: dict[str, None] = {}

    def visit(key: str, below: tuple[str, ...]) -> None:
        if key in below:
            line = " → ".join([*below[below.index(key) :], key])
            raise InvalidInput(read.fault(("agents", key), f"inheritance would go round in a circle: {line}"))
        parent = agents[key].get("parent")
        if isinstance(parent, str) and parent in agents and parent not in ordered:
            visit(parent, (*below, key))
        ordered[key] = None

    for key in agents:
        if key not in ordered:
            visit(key, ())
    return list(ordered)


def _note(imported: Imported, key: str, before: int, changed: bool) -> None:
    kinds = imported.unchanged if not changed else imported.revised if before else imported.defined
    kinds.append(key)


async def _carry_agent(edit: Edit, key: str, given: Fields, taken: Collection[str]) -> tuple[int, bool]:
    agent = before = await edit.agent(key)
    body, draft = _body_of(key, given), given.get("draft") is True
    if not agent.version:
        agent = await deciding.define(edit, key, body, draft=draft, taken=taken)
    elif (current := _current(agent)) is None or Body.of(current) != body or draft != (agent.active is None):
        if agent.retired:
            agent = await deciding.activate(edit, agent, _number(agent), if_revision=None)
        agent = await deciding.revise(edit, agent, body, draft=draft, if_revision=None)
    spec = given.get("spec")
    newest = agent.specs[-1] if agent.specs else None
    if spec is not None and (newest is None or newest.text != spec):
        agent = deciding.set_spec(edit, agent, spec, if_revision=None)
    if given.get("retired") is True:
        agent = await deciding.retire(edit, agent, reason=None)
    elif agent.retired:
        agent = await deciding.activate(edit, agent, _number(agent), if_revision=None)
    return before.version, agent.version != before.version


def _body_of(key: str, given: Fields) -> Body:
    config = {name: value for name, value in given.items() if name not in OWN}
    verbatim = given.get("agent_config")
    given_format: GivenFormat | None = None
    if verbatim is not None:
        config = deciding.checked(config_of_llama_stack(verbatim), "The agent_config")
        given_format = "llama-stack"
    return Body(
        given.get("name") or key,
        given.get("description", ""),
        config,
        given.get("parent"),
        verbatim,
        given_format,
    )


def _number(agent: AgentDefinition) -> int:
    return agent.active or agent.latest


def _current(agent: AgentDefinition) -> Revision | None:
    """The revision that counts: the active one, or the newest of drafts."""
    return agent.revision(_number(agent))


async def _carry_system(edit: Edit, key: str, given: Fields) -> tuple[int, bool]:
    system = before = await edit.system(key)
    texts = {
        "name": given.get("name") or key,
        "description": given.get("description", ""),
        "prefix": given.get("prefix", ""),
    }
    if system.version:
        system = deciding.revise_system(edit, system, texts)
    else:
        system = await deciding.define_system(edit, key, **texts)
    listed: list[str] = given.get("members", [])
    for member in listed:
        agent = await edit.agent(member)
        if not agent.version:
            raise InvalidInput(f"its member {member!r} is defined neither in the file nor in the log")
        system = deciding.add_member(edit, system, agent)
    for _, member in system.members:
        if member not in listed:
            system = deciding.remove_member(edit, system, await edit.agent(member))
    entries: list[JsonObject] = given.get("knowledge", [])
    for entry in entries:
        system = deciding.set_knowledge(edit, system, entry)
    for name, _ in system.knowledge:
        if name not in [entry["name"] for entry in entries]:
            system = deciding.remove_knowledge(edit, system, name)
    return before.version, system.version != before.version


# ---------------------------------------------------------------------------------------------- out


async def carry_out(catalogue: Catalogue, keys: Collection[str] | None, *, as_json: bool) -> str:
    """Agents with all that they inherit from, and systems whose members are all among them; without keys, everything.

    Raises NotFound.
    """
    known = {agent.key: agent for agent in await catalogue.agents()}
    wanted = dict.fromkeys(known if keys is None else [(await catalogue.get_agent(key)).key for key in keys])
    for key in list(wanted):
        while key in known and (current := _current(known[key])) is not None and current.parent in known:
            key = current.parent
            if key in wanted:
                break
            wanted[key] = None
    agents = {key: _agent_out(known[key]) for key in known if key in wanted}
    systems = {
        system.key: _system_out(system)
        for system in await catalogue.systems()
        if keys is None or (system.members and all(member in wanted for _, member in system.members))
    }
    return write_definitions(_filled({"agents": agents, "systems": systems}), as_json=as_json)


def _agent_out(agent: AgentDefinition) -> JsonObject:
    current = _current(agent)
    if current is None:
        current = revision_of(agent, _number(agent))  # Which says that it has been erased.
    spec = agent.specs[-1] if agent.specs else None
    own: JsonObject = {
        "name": None if current.name == agent.key else current.name,
        "description": current.description,
        "parent": current.parent,
        "draft": agent.active is None,
        "retired": agent.retired,
    }
    settings = current.config if current.given_format is None else {"agent_config": current.given}
    return {**_filled(own), **settings, **({} if spec is None else {"spec": spec.text})}


def _system_out(system: SystemDefinition) -> JsonObject:
    knowledge: list[JsonValue] = [entry for _, entry in system.knowledge]
    return _filled(
        {
            "name": None if system.name == system.key else system.name,
            "description": system.description,
            "prefix": system.prefix,
            "members": [key for _, key in system.members],
            "knowledge": knowledge,
        }
    )


def _filled(fields: Mapping[str, JsonValue]) -> JsonObject:
    """Fields without those that say nothing."""
    return {name: value for name, value in fields.items() if value not in (None, False, "", [], {})}
