"""What may be done to definitions, decided over an edit: each function checks one change and adds its event.

A change that cannot be is refused before anything is written: a revision that is not there, a circle of inheritance,
a configuration that does not fit, a version that somebody else has moved on from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from evrt.agents.config import KnowledgeEntry, SystemKnowledge, config_of, knowledge_of
from evrt.definitions.edits import Edit
from evrt.definitions.lineage import effective_of, line_of, revision_of
from evrt.effects.tools import faults_text
from evrt.errors import Conflict, InvalidInput, NotFound
from evrt.events import JsonObject, JsonValue
from evrt.events import agents as a
from evrt.folds.definitions import AgentDefinition, Revision, SystemDefinition


@dataclass(frozen=True, slots=True)
class Body:
    """What one revision of an agent is to be. ``config`` has been checked; ``given`` is what it was made from, if anything."""

    name: str
    description: str
    config: JsonObject
    parent: str | None
    given: JsonValue = None
    given_format: a.GivenFormat | None = None

    @classmethod
    def of(cls, revision: Revision) -> Body:
        """That of a revision."""
        return cls(
            revision.name,
            revision.description,
            revision.config,
            revision.parent,
            revision.given,
            revision.given_format,
        )


def checked(config: JsonObject, what: str) -> JsonObject:
    """A configuration as it was given. Raises InvalidInput that names each fault."""
    try:
        read = config_of(config)
    except ValidationError as error:
        raise InvalidInput(f"{what} is not valid. {faults_text(error, 'config')}.") from error
    for entry in read.knowledge:
        check_read(entry)
    return config


def check_read(entry: KnowledgeEntry) -> None:
    """Raises InvalidInput for knowledge that is in a file still: a log cannot know what that will say."""
    if entry.text is None:
        raise InvalidInput(
            f"The knowledge {entry.name!r} names the file {entry.file!r:.200} and has no text. Files are read where a file of "
            "definitions is imported; here, give the text as well."
        )


async def define(
    edit: Edit,
    key: str,
    body: Body,
    *,
    draft: bool,
    taken: Collection[str],
    fork_of: Revision | None = None,
    source: str | None = None,
) -> AgentDefinition:
    """A new agent. Raises Conflict where there is one, or the app has code of that name."""
    if key in taken:
        raise Conflict(
            f"The app has an agent or workflow in code that is named {key!r}, and code goes before data: take another key."
        )
    before = await edit.agent(key, new=True)
    if before.version:
        raise Conflict(f"Agent {key} has been defined already, up to revision {before.latest}: revise it.")
    after = edit.of_agent(
        before,
        a.AgentDefined(
            key=key,
            name=body.name,
            description=body.description,
            config=body.config,
            parent=body.parent,
            forked_from=source,
            forked_revision=None if fork_of is None else fork_of.number,
            given=body.given,
            given_format=body.given_format,
            draft=draft,
            by=edit.by,
        ),
    )
    await check_line(edit, after, after.latest)
    return after


async def revise(
    edit: Edit,
    before: AgentDefinition,
    body: Body,
    *,
    draft: bool,
    if_revision: int | None,
    restored_from: int | None = None,
) -> AgentDefinition:
    """One revision more."""
    check_unmoved(before, if_revision)
    _check_not_retired(before)
    after = edit.of_agent(
        before,
        a.AgentRevised(
            revision=before.latest + 1,
            name=body.name,
            description=body.description,
            config=body.config,
            parent=body.parent,
            restored_from=restored_from,
            given=body.given,
            given_format=body.given_format,
            draft=draft,
            by=edit.by,
        ),
    )
    await check_line(edit, after, after.latest)
    return after


async def activate(
    edit: Edit, before: AgentDefinition, number: int, *, if_revision: int | None
) -> AgentDefinition:
    """Have new runs execute this revision."""
    check_unmoved(before, if_revision)
    revision_of(before, number)
    if before.active == number and not before.retired:
        return before
    after = edit.of_agent(before, a.AgentActivated(revision=number, by=edit.by))
    await check_line(edit, after, number)
    return after


async def retire(edit: Edit, before: AgentDefinition, *, reason: str | None) -> AgentDefinition:
    """Take on no new runs."""
    if before.retired:
        return before
    return edit.of_agent(before, a.AgentRetired(reason=reason, by=edit.by))


def set_spec(edit: Edit, before: AgentDefinition, text: str, *, if_revision: int | None) -> AgentDefinition:
    """Another text that says what the agent is meant to do."""
    number = len(before.specs)
    if if_revision is not None and if_revision != number:
        raise Conflict(
            f"The spec of agent {before.key} is at revision {number}, not at {if_revision}: read it again."
        )
    return edit.of_agent(before, a.AgentSpecSet(revision=number + 1, text=text, by=edit.by))


async def check_line(edit: Edit, agent: AgentDefinition, number: int) -> None:
    """Raises Conflict, NotFound where a revision could not inherit what it is to inherit."""

    async def find(key: str) -> AgentDefinition | None:
        found = await edit.agent(key)
        return found if found.version else None

    effective_of(await line_of(agent, number, find))


def check_unmoved(agent: AgentDefinition, if_revision: int | None) -> None:
    """Raises Conflict where the newest revision is not the one that was expected."""
    if if_revision is not None and if_revision != agent.latest:
        raise Conflict(
            f"Agent {agent.key} is at revision {agent.latest}, not at {if_revision}: read it again."
        )


def _check_not_retired(agent: AgentDefinition) -> None:
    if agent.retired:
        raise Conflict(f"Agent {agent.key} has been retired: activate one of its revisions first.")


# ------------------------------------------------------------------------------------------- systems


async def define_system(
    edit: Edit, key: str, *, name: str, description: str, prefix: str
) -> SystemDefinition:
    """A new system. Raises Conflict where there is one."""
    before = await edit.system(key, new=True)
    if before.version:
        raise Conflict(f"System {key} has been defined already: revise it.")
    return edit.of_system(
        before, a.SystemDefined(key=key, name=name, description=description, prefix=prefix, by=edit.by)
    )


def revise_system(
    edit: Edit, before: SystemDefinition, changes: Mapping[str, str | None]
) -> SystemDefinition:
    """Another name, description or prefix; what is None stays."""
    now = {"name": before.name, "description": before.description, "prefix": before.prefix}
    then = now | {field: value for field, value in changes.items() if value is not None}
    return before if then == now else edit.of_system(before, a.SystemRevised(**then, by=edit.by))


def add_member(edit: Edit, before: SystemDefinition, agent: AgentDefinition) -> SystemDefinition:
    """Take an agent in; nothing where it is in already."""
    if agent.ref in dict(before.members):
        return before
    return edit.of_system(before, a.SystemMemberAdded(agent=agent.ref, key=agent.key, by=edit.by))


def remove_member(edit: Edit, before: SystemDefinition, agent: AgentDefinition) -> SystemDefinition:
    """Let an agent go. Raises NotFound where it is not in."""
    if agent.ref not in dict(before.members):
        members = ", ".join(key for _, key in before.members) or "none"
        raise NotFound(f"Agent {agent.key} is not in system {before.key}. Its members: {members}.")
    return edit.of_system(before, a.SystemMemberRemoved(agent=agent.ref, key=agent.key, by=edit.by))


def set_knowledge(edit: Edit, before: SystemDefinition, entry: JsonObject) -> SystemDefinition:
    """What all members are to know, under its name. Raises InvalidInput."""
    try:
        known: SystemKnowledge = knowledge_of(entry)
    except ValidationError as error:
        raise InvalidInput(f"The knowledge is not valid. {faults_text(error, 'knowledge')}.") from error
    check_read(known)
    if dict(before.knowledge).get(known.name) == entry:
        return before
    return edit.of_system(before, a.SystemKnowledgeSet(name=known.name, knowledge=entry, by=edit.by))


def remove_knowledge(edit: Edit, before: SystemDefinition, name: str) -> SystemDefinition:
    """Have it known no more. Raises NotFound where it is not."""
    if name not in dict(before.knowledge):
        names = ", ".join(known for known, _ in before.knowledge) or "nothing"
        raise NotFound(f"System {before.key} knows nothing under the name {name!r:.80}. It knows: {names}.")
    return edit.of_system(before, a.SystemKnowledgeSet(name=name, by=edit.by))
