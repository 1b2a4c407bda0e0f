"""Agents as data, as a person defines, reads, compares and carries them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from evrt.agents.config import config_of
from evrt.app import App
from evrt.cli.listing import when
from evrt.cli.ordering import ordering
from evrt.cli.output import Cell, note, out, out_json, out_table, paint
from evrt.cli.place import Place, default_url
from evrt.cli.showing import out_fields, out_section
from evrt.cli.text import counted, json_or_text, rfc3339
from evrt.definitions.carrying import Imported
from evrt.definitions.files import read_definitions, write_definitions
from evrt.definitions.lineage import revision_of
from evrt.errors import Denied, InvalidInput, NotFound, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.agents import GivenFormat
from evrt.folds.definitions import AgentDefinition, Revision, overlay

STDIN = "stdin.yaml"
"""What is read from stdin is called so in what is said of it."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is said of a revision on the command line."""

    file: str | None
    settings: tuple[str, ...]
    name: str | None
    description: str | None
    parent: str | None
    format: str | None
    draft: bool
    by: str | None
    no_parent: bool = False

    @property
    def known_format(self) -> GivenFormat | None:
        """Raises UsageError for one that there is not."""
        if self.format not in (None, "llama-stack"):
            raise UsageError(
                f"--format can be llama-stack, not {self.format!r}; without it the file is evrt's own."
            )
        if self.format is not None and self.file is None:
            raise UsageError("--format is for a --file.")
        return cast(GivenFormat | None, self.format)

    def config(self, before: JsonObject) -> JsonObject | None:
        """The configuration that is meant: that of the file, or the one before, with what is set; None to leave it."""
        if self.file is None and not self.settings:
            return None
        config = before if self.file is None else _config_from(self.file, evrts_own=self.format is None)
        for setting in self.settings:
            config = overlay(config, _setting(setting))
        return config


@asynccontextmanager
async def defining(place: Place) -> AsyncIterator[App]:
    """The app with its log, which is made where there is none; one without any code where none is named."""
    app = place.load_app_if_named() or App(place.url or default_url())
    async with app:
        yield app


# ------------------------------------------------------------------------------------------- reading


async def list_agents(place: Place, *, as_json: bool) -> None:
    """Print the agents."""
    async with ordering(place) as app:
        agents = await app.agents.list()
        url = (await app.log()).url
    if as_json:
        out_json([_document(agent) for agent in agents])
    elif agents:
        headings = ("AGENT", "STATUS", "ACTIVE", "REVISIONS", "PARENT", "CHANGED", "DESCRIPTION")
        out_table(headings, [_row(agent) for agent in agents])
    else:
        note(
            f"No agents are defined in {url} yet. `evrt agents define` and `evrt agents import` define some."
        )


async def show_agent(place: Place, key: str, number: int | None, *, effective: bool, as_json: bool) -> None:
    """Print an agent and one revision of it."""
    async with ordering(place) as app:
        agent = await app.agents.get(key)
        shown = number if number is not None else agent.active or agent.latest
        revision = revision_of(agent, shown)
        systems = [system.key for system in await app.systems.list() if system.ref in agent.systems]
        config: JsonValue = revision.config
        if effective:
            config = (await app.agents.effective_config(key, shown)).model_dump(mode="json")
    if as_json:
        out_json(
            _document(agent)
            | {
                "systems": cast(JsonValue, systems),
                "revision": _revision_document(revision) | {"config": config},
                "revisions": [_revision_document(one) for one in agent.revisions if one is not None],
            }
        )
        return
    out(paint(agent.key, "bold"))
    out_fields(
        [
            ("name", revision.name if revision.name != agent.key else None),
            ("description", revision.description or None),
            ("status", _status(agent)),
            ("parent", revision.parent),
            ("systems", ", ".join(systems) or None),
            ("forked from", agent.forked_from and f"{agent.forked_from}, revision {agent.forked_revision}"),
            ("spec", counted(len(agent.specs), "revision") if agent.specs else None),
        ]
    )
    out_section(
        "revisions", [paint(_line(agent, one)) for one in agent.revisions if one is not None], "all erased"
    )
    title = f"configuration of revision {shown}{', with what it inherits' if effective else ''}"
    text = write_definitions(config, as_json=False) if config else ""
    out_section(title, [paint(line) for line in text.splitlines()], "nothing is set")
    if revision.given_format is not None:
        note(f"It was given as an agent_config of {revision.given_format}; --json shows that as well.")


async def diff_revisions(place: Place, key: str, old: int, new: int | None, *, as_json: bool) -> int:
    """Print what two revisions differ in; 1 where they do, else 0."""
    async with ordering(place) as app:
        agent = await app.agents.get(key)
    numbers = (old, agent.latest if new is None else new)
    first, second = (
        write_definitions(_compared(revision_of(agent, number)), as_json=False).splitlines()
        for number in numbers
    )
    names = [f"{key}, revision {number}" for number in numbers]
    lines = list(difflib.unified_diff(first, second, names[0], names[1], lineterm=""))
    if as_json:
        out_json({"key": key, "old": numbers[0], "new": numbers[1], "diff": cast(JsonValue, lines)})
    elif lines:
        for line in lines:
            out(paint(line, {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")))
    else:
        note(f"Revisions {numbers[0]} and {numbers[1]} of {key} say the same.")
    return 1 if lines else 0


async def show_spec(place: Place, key: str, number: int | None, *, as_json: bool) -> None:
    """Print the text that says what an agent is meant to do."""
    async with ordering(place) as app:
        spec = await app.agents.spec(key, number)
    if as_json:
        out_json(
            {
                "key": key,
                "revision": spec.number,
                "text": spec.text,
                "time": rfc3339(spec.time),
                "by": spec.by,
            }
        )
    else:
        out(paint(spec.text.removesuffix("\n")))


async def export_agents(place: Place, keys: Collection[str] | None, *, as_json: bool) -> None:
    """Print agents and systems as a file."""
    async with ordering(place) as app:
        text = await app.agents.export_text(keys, as_json=as_json)
    out(paint(text.removesuffix("\n")))


# ------------------------------------------------------------------------------------------- writing


async def define_agent(place: Place, key: str, given: Given, *, as_json: bool) -> None:
    """Define an agent."""
    async with defining(place) as app:
        agent = await app.agents.define(
            key,
            given.config({}),
            name=given.name,
            description=given.description or "",
            parent=given.parent,
            format=given.known_format,
            draft=given.draft,
            by=given.by,
        )
    _tell(agent, f"{key} is defined", as_json=as_json)


async def revise_agent(
    place: Place, key: str, given: Given, *, if_revision: int | None, as_json: bool
) -> None:
    """Add a revision."""
    if given.parent is not None and given.no_parent:
        raise UsageError("Give the agent a --parent or --no-parent, not both.")
    async with ordering(place) as app:
        before = await app.agents.get(key)
        newest = revision_of(before, before.latest)
        parent = None if given.no_parent else given.parent if given.parent is not None else newest.parent
        agent = await app.agents.revise(
            key,
            given.config(newest.config),
            name=given.name,
            description=given.description,
            parent=parent,
            format=given.known_format,
            draft=given.draft,
            # What --set changes is what was read.
            if_revision=before.latest if if_revision is None and given.settings else if_revision,
            by=given.by,
        )
    _tell(agent, f"{key} has a new revision", as_json=as_json)


async def activate_revision(
    place: Place, key: str, number: int, *, if_revision: int | None, by: str | None, as_json: bool
) -> None:
    """Have new runs execute a revision."""
    async with ordering(place) as app:
        agent = await app.agents.activate(key, number, if_revision=if_revision, by=by)
    _tell(agent, f"{key} is activated", as_json=as_json)


async def restore_revision(
    place: Place,
    key: str,
    number: int,
    *,
    draft: bool,
    if_revision: int | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Make an older revision the newest."""
    async with ordering(place) as app:
        agent = await app.agents.restore(key, number, draft=draft, if_revision=if_revision, by=by)
    _tell(agent, f"{key} is again as in revision {number}", as_json=as_json)


async def fork_agent(
    place: Place,
    key: str,
    new_key: str,
    number: int | None,
    *,
    name: str | None,
    draft: bool,
    by: str | None,
    as_json: bool,
) -> None:
    """Define a copy of an agent."""
    async with ordering(place) as app:
        agent = await app.agents.fork(key, new_key, revision=number, name=name, draft=draft, by=by)
    _tell(
        agent, f"{new_key} is defined, a copy of {key} in revision {agent.forked_revision}", as_json=as_json
    )


async def retire_agent(place: Place, key: str, *, reason: str | None, by: str | None, as_json: bool) -> None:
    """Take on no new runs of an agent."""
    async with ordering(place) as app:
        agent = await app.agents.retire(key, reason=reason, by=by)
    _tell(agent, f"{key} takes no new runs", as_json=as_json)


async def set_spec(
    place: Place, key: str, file: str, *, if_revision: int | None, by: str | None, as_json: bool
) -> None:
    """Give an agent another spec."""
    text = read_text(file)
    async with ordering(place) as app:
        spec = await app.agents.set_spec(key, text, if_revision=if_revision, by=by)
    if as_json:
        out_json({"key": key, "revision": spec.number})
    else:
        out(f"The spec of {key} has revision {spec.number} now.")


async def import_file(place: Place, file: str, *, check_only: bool, by: str | None, as_json: bool) -> None:
    """Define and revise what a file says."""
    text = read_text(file)
    stdin = file == "-"
    async with defining(place) as app:
        imported = await app.agents.import_text(
            text,
            name=STDIN if stdin else file,
            folder=None if stdin else Path(file).parent,
            check_only=check_only,
            by=by,
        )
    if as_json:
        out_json(
            {
                "defined": cast(JsonValue, imported.defined),
                "revised": cast(JsonValue, imported.revised),
                "unchanged": cast(JsonValue, imported.unchanged),
                "written": not check_only,
            }
        )
        return
    for line in _imported_lines(imported):
        out(line)
    if check_only:
        note("Nothing has been written: this was a check.")


def _imported_lines(imported: Imported) -> list[str]:
    kinds = (("defined", imported.defined), ("revised", imported.revised), ("unchanged", imported.unchanged))
    return [f"{kind}: {', '.join(keys)}" for kind, keys in kinds if keys]


# ----------------------------------------------------------------------------------- what is given


def read_text(file: str) -> str:
    """The text of a file, or of stdin. Raises NotFound, Denied, UsageError, InvalidInput."""
    if file == "-" and sys.stdin is None:
        raise UsageError("This was to be read from stdin, which is closed.")
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode()
    except FileNotFoundError:
        raise NotFound(f"There is no file {file}.") from None
    except PermissionError:
        raise Denied(f"{file} cannot be read: this user has no permission to.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}.") from None


def _config_from(file: str, *, evrts_own: bool) -> JsonObject:
    """A configuration from a file. Raises InvalidInput with the line of each fault."""
    read = read_definitions(read_text(file), STDIN if file == "-" else file)
    if not isinstance(read.value, dict):
        raise InvalidInput(read.fault((), "a configuration is an object with an agent's settings"))
    if evrts_own:
        try:
            config_of(read.value)
        except ValidationError as error:
            raise InvalidInput("\n".join(read.faults((), error))) from None
    return read.value


def _setting(text: str) -> JsonObject:
    """``limits.tokens_max=5000`` as a configuration of that alone. Raises UsageError."""
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise UsageError(f"--set takes FIELD=VALUE, as in --set limits.tokens_max=5000; not {text!r}.")
    found: Any = json_or_text(value)
    for field in reversed(path.split(".")):
        found = {field: found}
    return cast(JsonObject, found)


# ------------------------------------------------------------------------------------ what is shown


def _tell(agent: AgentDefinition, what: str, *, as_json: bool) -> None:
    if as_json:
        out_json(_document(agent))
    else:
        out(f"{what}: {_status(agent)}.")


def _status(agent: AgentDefinition) -> str:
    if agent.retired:
        return f"retired, {counted(agent.latest, 'revision')}"
    if agent.active is None:
        return f"a draft, {counted(agent.latest, 'revision')}"
    return f"revision {agent.active} of {agent.latest} is active"


def _document(agent: AgentDefinition) -> JsonObject:
    newest = agent.revision(agent.active or agent.latest)
    return {
        "key": agent.key,
        "name": None if newest is None else newest.name,
        "description": None if newest is None else newest.description,
        "status": "retired" if agent.retired else "draft" if agent.active is None else "active",
        "active": agent.active,
        "latest": agent.latest,
        "parent": None if newest is None else newest.parent,
        "forked_from": agent.forked_from,
        "forked_revision": agent.forked_revision,
        "spec_revisions": len(agent.specs),
        "agent": agent.ref,
    }


def _revision_document(revision: Revision) -> JsonObject:
    return {
        "revision": revision.number,
        "name": revision.name,
        "description": revision.description,
        "parent": revision.parent,
        "config": revision.config,
        "restored_from": revision.restored_from,
        "given_format": revision.given_format,
        "given": revision.given,
        "time": rfc3339(revision.time),
        "by": revision.by,
    }


def _row(agent: AgentDefinition) -> list[Cell]:
    newest = agent.revision(agent.active or agent.latest)
    status = "retired" if agent.retired else "draft" if agent.active is None else "active"
    return [
        Cell(agent.key, "bold"),
        Cell(status, {"active": "green", "draft": "yellow"}.get(status, "dim")),
        Cell("" if agent.active is None else str(agent.active)),
        Cell(str(agent.latest)),
        Cell("" if newest is None else newest.parent or ""),
        Cell("" if newest is None else when(newest.time), "dim"),
        Cell("(erased)" if newest is None else newest.description),
    ]


def _line(agent: AgentDefinition, revision: Revision) -> str:
    said = [
        "active" if revision.number == agent.active else "",
        "draft" if revision.draft and revision.number != agent.active else "",
        f"as revision {revision.restored_from} was" if revision.restored_from is not None else "",
        f"by {revision.by}" if revision.by is not None else "",
    ]
    return "  ".join(filter(None, (str(revision.number), when(revision.time), ", ".join(filter(None, said)))))


def _compared(revision: Revision) -> JsonObject:
    """What of a revision is compared with another's."""
    own: Mapping[str, JsonValue] = {
        "name": revision.name,
        "description": revision.description,
        "parent": revision.parent,
    }
    return {**{name: value for name, value in own.items() if value}, **revision.config}
