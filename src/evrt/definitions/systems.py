"""``app.systems``: groups of agents with a common prefix to their prompts and common knowledge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evrt.definitions import deciding
from evrt.definitions.agents import Owner
from evrt.definitions.catalogue import Catalogue
from evrt.definitions.edits import Edit, edited
from evrt.errors import InvalidInput
from evrt.folds.definitions import SystemDefinition
from evrt.seal import admit


class Systems:
    """The systems that are defined in the app's log. An agent may be in several; a run is in one of them, or in none.

    ``by`` says who makes a change, as it is to be recorded.
    """

    def __init__(self, app: Owner, catalogue: Catalogue) -> None:
        self._app = app
        self._catalogue = catalogue

    async def list(self) -> list[SystemDefinition]:
        """All of them, the oldest first."""
        return await self._catalogue.systems()

    async def get(self, key: str) -> SystemDefinition:
        """A system with its members and its knowledge. Raises NotFound that lists those that there are."""
        return await self._catalogue.get_system(key)

    async def define(
        self,
        key: str,
        *,
        name: str | None = None,
        description: str = "",
        prefix: str = "",
        by: str | None = None,
    ) -> SystemDefinition:
        """Define a system. ``prefix`` stands before the prompts of its members. Raises Conflict, InvalidInput."""

        async def decide(edit: Edit) -> None:
            texts = {"name": name or key, "description": description, "prefix": prefix}
            await deciding.define_system(
                edit, key, **{field: self._shown(text) for field, text in texts.items()}
            )

        await edited(self._catalogue, self._by(by), decide)
        return await self.get(key)

    async def revise(
        self,
        key: str,
        *,
        name: str | None = None,
        description: str | None = None,
        prefix: str | None = None,
        by: str | None = None,
    ) -> SystemDefinition:
        """Change what is given. Raises NotFound, Conflict."""
        given = {"name": name, "description": description, "prefix": prefix}
        changes = {field: None if text is None else self._shown(text) for field, text in given.items()}

        async def decide(edit: Edit) -> None:
            await self.get(key)
            deciding.revise_system(edit, await edit.system(key), changes)

        await edited(self._catalogue, self._by(by), decide)
        return await self.get(key)

    async def add_member(self, key: str, agent: str, *, by: str | None = None) -> SystemDefinition:
        """Take an agent in that is defined in the log. Raises NotFound."""

        async def decide(edit: Edit) -> None:
            await self.get(key)
            await self._catalogue.get_agent(agent)
            deciding.add_member(edit, await edit.system(key), await edit.agent(agent))

        await edited(self._catalogue, self._by(by), decide)
        return await self.get(key)

    async def remove_member(self, key: str, agent: str, *, by: str | None = None) -> SystemDefinition:
        """Let an agent go. Raises NotFound, also where it is not in."""

        async def decide(edit: Edit) -> None:
            await self.get(key)
            await self._catalogue.get_agent(agent)
            deciding.remove_member(edit, await edit.system(key), await edit.agent(agent))

        await edited(self._catalogue, self._by(by), decide)
        return await self.get(key)

    async def set_knowledge(
        self, key: str, entry: Mapping[str, Any], *, by: str | None = None
    ) -> SystemDefinition:
        """Have all members know this: the fields of ``evrt.agents.config.SystemKnowledge``. Raises NotFound, InvalidInput."""
        given = admit(entry, self._app.redact)
        if not isinstance(given, dict):
            raise InvalidInput(f"Knowledge is an object with a name and a text, not {given!r:.80}.")

        async def decide(edit: Edit) -> None:
            await self.get(key)
            deciding.set_knowledge(edit, await edit.system(key), given)

        await edited(self._catalogue, self._by(by), decide)
        return await self.get(key)

    async def remove_knowledge(self, key: str, name: str, *, by: str | None = None) -> SystemDefinition:
        """Have what was set under this name known no more. Raises NotFound."""

        async def decide(edit: Edit) -> None:
            await self.get(key)
            deciding.remove_knowledge(edit, await edit.system(key), name)

        await edited(self._catalogue, self._by(by), decide)
        return await self.get(key)

    def _shown(self, text: str) -> str:
        return str(admit(text, self._app.redact))

    def _by(self, by: str | None) -> str | None:
        return None if by is None else self._shown(by)
