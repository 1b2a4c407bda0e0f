"""Finding what a run executes, as methods of an app: code goes before what is defined as data in the app's log."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from evrt.definitions.agents import Agents
from evrt.definitions.catalogue import Catalogue
from evrt.definitions.resolving import Resolving
from evrt.definitions.systems import Systems
from evrt.errors import UsageError
from evrt.events.run import RunRequested
from evrt.log import Log
from evrt.log.address import MEMORY_URL, is_postgres, parse_url
from evrt.registry import Registry, Target
from evrt.seal import Redact

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choices:
    """What is said of a run besides its target and its input: see ``App.start``."""

    model: str | None = None
    revision: int | None = None
    system: str | None = None
    toolgroups: Sequence[str] | None = None


NO_CHOICES = Choices()


class Finding(Registry):
    """Agents and workflows in code, and agents in the log. An app has both.

    ``agents``: the agents that are defined as data. ``systems``: groups of them, with what they know in common.
    """

    redact: Redact
    _log: Log | None = None

    def __init__(self) -> None:
        super().__init__()
        self._catalogue = Catalogue(self.log)
        self._resolving = Resolving(self._catalogue, self)
        self.agents = Agents(self, self._catalogue)
        self.systems = Systems(self, self._catalogue)

    @property
    @abstractmethod
    def url(self) -> str: ...
    @abstractmethod
    async def log(self, *, read_only: bool = False) -> Log: ...

    @abstractmethod
    def run_alone(self, work: Callable[[], Coroutine[Any, Any, T]], otherwise: str) -> T: ...

    async def pinned(self, requested: RunRequested) -> Target:
        """What a run executes that was asked for: of an agent defined as data, the revision that it keeps to.

        Raises NotFound, also for a tool that the agent names and this app does not have.
        """
        if requested.agent is not None:
            return await self._resolving.pinned(requested)
        code = self.target(requested.target)
        if requested.system is None or requested.defined_at is None:
            return code
        return await self._resolving.pinned_in_system(code, requested)

    def defined_keys(self) -> frozenset[str]:
        """Keys of the agents that are defined as data, for code that is not async; to look for them makes no log."""
        if not self._may_be_defined():
            return frozenset()
        return self.run_alone(
            self.agents.keys,
            "defined_keys cannot be used where an event loop is running: await app.agents.keys() there.",
        )

    async def _target_of_new_run(self, name: str, choices: Choices) -> Target:
        """What a new run executes. Raises NotFound, UsageError, Conflict."""
        code = self.targets.get(name)
        if choices.revision is not None and type(choices.revision) is not int:
            raise UsageError(f"A revision is a whole number, such as 3; not {choices.revision!r:.80}.")
        if code is None:
            return await self._find_defined(name, None, choices)
        if choices.revision is not None:
            raise UsageError(f"{name} is in the app's code, which has no revisions: leave out revision=.")
        if choices.model is not None and code.kind == "workflow":
            raise UsageError(
                f"{name} is a workflow, whose code says which models it calls: leave out model=."
            )
        return code if choices.system is None else await self._resolving.in_system(code, choices.system)

    async def _find_defined(self, name: str, within: str | None, choices: Choices = NO_CHOICES) -> Target:
        """An agent that is defined as data, for a new run. Raises NotFound where there is none."""
        if not self._may_be_defined():
            return self.target(name)
        found = await self._resolving.newest(
            name, revision=choices.revision, system=choices.system, within=within
        )
        if found is not None:
            return found
        if name in self.targets:
            return self.target(name)
        raise self.no_target(name, await self.agents.keys())

    def _may_be_defined(self) -> bool:
        """Whether there is a log that could hold definitions: to look for one makes none."""
        if self._log is not None or is_postgres(self.url):
            return True
        path = None if self.url == MEMORY_URL else parse_url(self.url)
        return path is not None and os.path.exists(path)
