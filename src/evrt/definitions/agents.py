"""``app.agents``: agents as data, defined, revised, activated, restored, forked, retired; and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evrt.agents.config import AgentConfig
from evrt.definitions import deciding
from evrt.definitions.carrying import Imported, carry_in, carry_out
from evrt.definitions.catalogue import Catalogue
from evrt.definitions.deciding import Body
from evrt.definitions.edits import Edit, edited
from evrt.definitions.files import read_definitions
from evrt.definitions.lineage import effective_of, line_of, revision_of
from evrt.definitions.llama_stack import config_of_llama_stack
from evrt.errors import InvalidInput, NotFound
from evrt.events.agents import GivenFormat
from evrt.folds.definitions import AgentDefinition, Spec
from evrt.seal import Redact, admit

T = TypeVar("T")

EFFECTIVE_MAX = 1_000
"""Effective configurations that are kept."""


NOT_GIVEN: Any = object()
"""Where None would say that there is to be none."""


class Owner(Protocol):
    """What agents as data need of the app that they are defined by."""

    redact: Redact

    @property
    def targets(self) -> Mapping[str, object]: ...
    def run_alone(self, work: Callable[[], Coroutine[Any, Any, T]], otherwise: str) -> T:
        """Do something on an event loop made for it, with the log opened for it."""
        ...


class Agents:
    """The agents that are defined in the app's log.

    An agent has a key of its own and numbered revisions, which never change. New runs execute the active one, and keep
    to it. ``by`` says who makes a change, as it is to be recorded. Every change raises Conflict where somebody else
    made one at the same time that it does not go together with, and what appending to the log raises.
    """

    def __init__(self, app: Owner, catalogue: Catalogue) -> None:
        self._app = app
        self._catalogue = catalogue
        self._effective: dict[tuple[tuple[str, int], ...], AgentConfig] = {}

    # Reading

    async def list(self) -> list[AgentDefinition]:
        """All of them, the oldest first."""
        return await self._catalogue.agents()

    async def keys(self) -> frozenset[str]:
        """Keys of all of them."""
        return await self._catalogue.agent_keys()

    async def get(self, key: str) -> AgentDefinition:
        """An agent with all of its revisions. Raises NotFound that lists those that there are."""
        return await self._catalogue.get_agent(key)

    async def effective_config(self, key: str, revision: int | None = None) -> AgentConfig:
        """What an agent's configuration comes to with all that it inherits; of the active revision unless one is named.

        It is kept by agent and revision, and the log is asked each time whether there is anything new. Raises NotFound
        (that lists the revisions there are), Conflict where none is active.
        """
        agent = await self.get(key)
        line = await line_of(agent, revision, self._catalogue.find_agent)
        place = tuple((ancestor.agent.ref, ancestor.revision.number) for ancestor in line)
        known = self._effective.get(place)
        if known is None:
            known = effective_of(line)
            if len(self._effective) >= EFFECTIVE_MAX:
                self._effective.clear()
            self._effective[place] = known
        return known

    def effective_config_sync(self, key: str, revision: int | None = None) -> AgentConfig:
        """``effective_config`` for code that is not async: opens the log, reads, closes it. Raises UsageError in a loop."""
        return self._app.run_alone(
            lambda: self.effective_config(key, revision),
            "effective_config_sync cannot be used where an event loop is running: await app.agents.effective_config(…) there.",
        )

    def refresh(self) -> None:
        """Drop what is kept of all definitions, so that the next look reads them from the log anew."""
        self._catalogue.forget()
        self._effective.clear()

    # Changing

    async def define(
        self,
        key: str,
        config: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        description: str = "",
        parent: str | None = None,
        format: GivenFormat | None = None,
        draft: bool = False,
        by: str | None = None,
    ) -> AgentDefinition:
        """Define an agent; this is its revision 1, and active at once unless it is a draft.

        ``config`` has the fields of ``evrt.agents.config.AgentConfig``; what it leaves out comes from the ``parent``,
        or is the default. With ``format="llama-stack"`` it is an agent_config of that, kept verbatim beside what it
        means here. Raises InvalidInput that names each fault, Conflict (the key is taken; inheritance in a circle, by its
        names), NotFound (no such parent).
        """
        body = self._body(name or key, description, config or {}, parent, format)

        async def decide(edit: Edit) -> AgentDefinition:
            return await deciding.define(edit, key, body, draft=draft, taken=self._app.targets)

        await edited(self._catalogue, self._shown(by), decide)
        return await self.get(key)

    async def revise(
        self,
        key: str,
        config: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        parent: str | None = NOT_GIVEN,
        format: GivenFormat | None = None,
        draft: bool = False,
        if_revision: int | None = None,
        by: str | None = None,
    ) -> AgentDefinition:
        """Add a revision, which is active at once unless it is a draft; what is not given is as in the newest one.

        ``config`` takes the place of the whole configuration. With ``if_revision`` only where that is the newest one
        still. Raises Conflict, InvalidInput, NotFound as ``define`` does.
        """

        async def decide(edit: Edit) -> AgentDefinition:
            before = await _existing(edit, self._catalogue, key)
            newest = Body.of(revision_of(before, before.latest))
            body = self._body(
                newest.name if name is None else name,
                newest.description if description is None else description,
                newest.config if config is None else config,
                newest.parent if parent is NOT_GIVEN else parent,
                format,
                newest if config is None else None,
            )
            return await deciding.revise(edit, before, body, draft=draft, if_revision=if_revision)

        await edited(self._catalogue, self._shown(by), decide)
        return await self.get(key)

    async def activate(
        self, key: str, revision: int, *, if_revision: int | None = None, by: str | None = None
    ) -> AgentDefinition:
        """Have new runs execute this revision; an agent that was retired comes back by it. Raises NotFound, Conflict."""

        async def decide(edit: Edit) -> AgentDefinition:
            before = await _existing(edit, self._catalogue, key)
            return await deciding.activate(edit, before, revision, if_revision=if_revision)

        await edited(self._catalogue, self._shown(by), decide)
        return await self.get(key)

    async def restore(
        self,
        key: str,
        revision: int,
        *,
        draft: bool = False,
        if_revision: int | None = None,
        by: str | None = None,
    ) -> AgentDefinition:
        """Make an older revision the newest, as a new one. Raises NotFound that lists those there are, Conflict."""

        async def decide(edit: Edit) -> AgentDefinition:
            before = await _existing(edit, self._catalogue, key)
            body = Body.of(revision_of(before, revision))
            return await deciding.revise(
                edit, before, body, draft=draft, if_revision=if_revision, restored_from=revision
            )

        await edited(self._catalogue, self._shown(by), decide)
        return await self.get(key)

    async def fork(
        self,
        key: str,
        new_key: str,
        *,
        revision: int | None = None,
        name: str | None = None,
        draft: bool = False,
        by: str | None = None,
    ) -> AgentDefinition:
        """Define a new agent that is as this one in a revision of it, the active one unless another is named.

        It inherits from the same parent; later changes of one are none of the other's. Raises NotFound, Conflict.
        """

        async def decide(edit: Edit) -> AgentDefinition:
            source = await _existing(edit, self._catalogue, key)
            found = revision_of(source, revision)
            body = Body.of(found)
            if name is not None:
                body = replace(body, name=str(self._shown(name)))
            return await deciding.define(
                edit, new_key, body, draft=draft, taken=self._app.targets, fork_of=found, source=key
            )

        await edited(self._catalogue, self._shown(by), decide)
        return await self.get(new_key)

    async def retire(self, key: str, *, reason: str | None = None, by: str | None = None) -> AgentDefinition:
        """Take on no new runs of an agent; those that there are go on. Raises NotFound."""

        async def decide(edit: Edit) -> AgentDefinition:
            return await deciding.retire(
                edit, await _existing(edit, self._catalogue, key), reason=self._shown(reason)
            )

        await edited(self._catalogue, self._shown(by), decide)
        return await self.get(key)

    # The spec: a document for people, beside the configuration

    async def spec(self, key: str, revision: int | None = None) -> Spec:
        """The text that says what an agent is meant to do; the newest unless a revision is named. Raises NotFound."""
        agent = await self.get(key)
        number = len(agent.specs) if revision is None else revision
        if not agent.specs:
            raise NotFound(f"Agent {key} has no spec yet.")
        found = agent.specs[number - 1] if 1 <= number <= len(agent.specs) else None
        if found is None:
            raise NotFound(
                f"The spec of agent {key} has revisions 1 to {len(agent.specs)}; there is no {number} to read."
            )
        return found

    async def set_spec(
        self, key: str, text: str, *, if_revision: int | None = None, by: str | None = None
    ) -> Spec:
        """Give an agent another spec; what it was before is kept. Raises NotFound, Conflict."""
        shown = str(admit(text, self._app.redact))

        async def decide(edit: Edit) -> AgentDefinition:
            before = await _existing(edit, self._catalogue, key)
            return deciding.set_spec(edit, before, shown, if_revision=if_revision)

        await edited(self._catalogue, self._shown(by), decide)
        return await self.spec(key)

    # Files

    async def import_text(
        self,
        text: str,
        *,
        name: str = "agents.yaml",
        folder: Path | None = None,
        check_only: bool = False,
        by: str | None = None,
    ) -> Imported:
        """Define and revise agents and systems as a file says: all of it, or nothing of it.

        ``text`` is YAML, or JSON where the ``name`` ends in .json; see ``evrt.definitions.carrying`` for what is in it.
        Files that knowledge is read from are in ``folder``; without one none are read. With ``check_only`` nothing is
        written. Raises InvalidInput that names file and line of each fault, Conflict, NotFound.
        """
        read = read_definitions(text, name)
        read = replace(read, value=admit(read.value, self._app.redact))

        async def decide(edit: Edit) -> Imported:
            return await carry_in(edit, read, folder=folder, taken=self._app.targets)

        return await edited(self._catalogue, self._shown(by), decide, dry=check_only)

    async def export_text(self, keys: Collection[str] | None = None, *, as_json: bool = False) -> str:
        """Agents with what they inherit from, and systems whose members are among them, as a file; else everything.

        Raises NotFound.
        """
        return await carry_out(self._catalogue, keys, as_json=as_json)

    # What is given

    def _body(
        self,
        name: str,
        description: str,
        config: Mapping[str, Any],
        parent: str | None,
        format: GivenFormat | None,
        newest: Body | None = None,
    ) -> Body:
        name, description = str(self._shown(name)), str(self._shown(description))
        if newest is not None:
            return Body(name, description, newest.config, parent, newest.given, newest.given_format)
        given = admit(config, self._app.redact)
        if not isinstance(given, dict):
            raise InvalidInput(
                f"The configuration of an agent is an object with its settings, not {given!r:.80}."
            )
        if format is None:
            return Body(name, description, deciding.checked(given, "The configuration"), parent)
        meant = deciding.checked(config_of_llama_stack(given), "The agent_config")
        return Body(name, description, meant, parent, given, format)

    def _shown(self, text: str | None) -> str | None:
        return None if text is None else str(admit(text, self._app.redact))


async def _existing(edit: Edit, catalogue: Catalogue, key: str) -> AgentDefinition:
    """An agent that there is. Raises NotFound, before its key is given a ref."""
    await catalogue.get_agent(key)
    return await edit.agent(key)
