"""A definition made into an agent that a run can execute: names become the tools that the app has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Protocol

from pydantic import ValidationError

from evrt.agents.agent import Agent
from evrt.agents.approving import Approvals
from evrt.agents.client_tools import client_tool
from evrt.agents.compaction import Compaction
from evrt.agents.config import (
    TOOL_TIMEOUT_SECONDS,
    AgentConfig,
    ClientTool,
    KnowledgeEntry,
    SystemKnowledge,
    TierEntry,
    TiersEntry,
    ToolEntry,
    knowledge_of,
)
from evrt.agents.knowledge import AgentSystem, Knowledge, MakeRetriever
from evrt.agents.limits import LoopLimits
from evrt.agents.output import Output
from evrt.agents.questions import Questions
from evrt.agents.shields import Shield
from evrt.agents.sub_agents import SubAgent
from evrt.agents.tiers import TierConfig, Tiers
from evrt.agents.toolgroups import Choice, ToolSource
from evrt.effects.tools import Tool, faults_text
from evrt.errors import NotFound
from evrt.folds.definitions import SystemDefinition
from evrt.requesting import Pin
from evrt.retry import parse_seconds
from evrt.runtime.context import Context

logger = logging.getLogger("evrt.definitions")


class Code(Protocol):
    """What an app has in code that definitions can name."""

    @property
    def tools(self) -> Mapping[str, Tool]: ...
    @property
    def toolgroups(self) -> Mapping[str, ToolSource]: ...
    @property
    def shields(self) -> Mapping[str, Shield]: ...
    @property
    def make_retriever(self) -> MakeRetriever: ...


def agent_of(key: str, config: AgentConfig, system: AgentSystem | None, pin: Pin, code: Code) -> Agent:
    """The agent of a configuration. Raises NotFound for a tool or a group of tools that the app does not have, by its name."""
    limits = config.limits
    loop = limits.model_dump(exclude={"timeout"})
    tools = () if config.tool_choice == "none" else tools_of(key, config, code)
    return Agent(
        name=key,
        model=config.model,
        instructions=config.instructions,
        tools=tools,
        groups=groups_of(config, tools, code),
        limits=LoopLimits(**loop),
        output=None if config.output_schema is None else Output.of(config.output_schema),
        input_shields=config.input_shields,
        output_shields=config.output_shields,
        shields=code.shields,
        memory=config.remembers,
        system=system,
        knowledge=tuple(knowledge_from(entry) for entry in config.knowledge),
        make_retriever=code.make_retriever,
        sub_agents=[SubAgent(**one.model_dump()) for one in config.sub_agents],
        approvals=None if config.approvals is None else Approvals(**config.approvals.model_dump()),
        questions=None if config.questions is None else Questions(**config.questions.model_dump()),
        tiers=None if config.tiers is None else _tiers(config.tiers),
        tier=config.tier,
        compaction=None if config.compaction is None else Compaction(config.compaction.budget),
        history_messages_max=config.history_messages_max,
        terminal_tools=config.terminal_tools,
        require_tool_call=bool(tools) and config.tool_choice not in (None, "auto"),
        timeout_seconds=None if limits.timeout is None else parse_seconds(limits.timeout),
        parameters=config.parameters,
        pin=pin,
    )


def _tiers(entry: TiersEntry) -> Tiers:
    def tier(one: TierEntry | None) -> TierConfig | None:
        return None if one is None else TierConfig(one.model, one.parameters)

    return Tiers(small=tier(entry.small), mid=tier(entry.mid), frontier=tier(entry.frontier))


def tools_of(key: str, config: AgentConfig, code: Code) -> tuple[Choice, ...]:
    """The tools that a configuration names, and the groups by their names, as ``groups_of`` has them."""
    found = [_tool(key, entry, code) for entry in config.tools]
    for group in config.toolgroups:
        _group(key, group, code)
    whole = {f"{group}/" for group in config.toolgroups}
    single = [one for one in found if not (isinstance(one, str) and f"{one.partition('/')[0]}/" in whole)]
    return (*single, *config.toolgroups, *(_client_tool(tool) for tool in config.client_tools))


def groups_of(config: AgentConfig, tools: Sequence[Choice], code: Code) -> dict[str, ToolSource]:
    """The groups of the app as this agent has them: a tool that it names itself goes before the same one of a group."""
    named = {tool.name for tool in tools if isinstance(tool, Tool)}
    return {
        name: _Limited(group, named, {entry.name: entry for entry in config.tools})
        for name, group in code.toolgroups.items()
    }


class _Limited:
    """A group whose tools may not take for ever, or as the agent's entry for one of them says."""

    def __init__(self, group: ToolSource, without: Set[str], entries: Mapping[str, ToolEntry]) -> None:
        self.name = group.name
        self._group = group
        self._without = without
        self._entries = entries

    @property
    def known(self) -> Mapping[str, Tool]:
        return self._changed(self._group.known)

    def check(self, tool: str) -> None:
        self._group.check(tool)

    async def tools(self, ctx: Context[Any]) -> Mapping[str, Tool]:
        return self._changed(await self._group.tools(ctx))

    async def aclose(self) -> None:
        """It is the app that closes the group."""

    def _changed(self, tools: Mapping[str, Tool]) -> Mapping[str, Tool]:
        return {
            name: _as_entered(tool, self._entries.get(f"{self.name}/{name}"))
            for name, tool in tools.items()
            if tool.name not in self._without
        }


def _tool(key: str, entry: ToolEntry, code: Code) -> Choice:
    """The tool of an entry; its name where it is one of a group that has to be asked for its tools."""
    group, slash, name = entry.name.rpartition("/")
    known = _group(key, group, code).known if slash else code.tools
    if slash and not known:
        _group(key, group, code).check(name)
        return entry.name
    tool = known.get(name)
    if tool is None:
        names = ", ".join(sorted(known)) or "none"
        where = f"The group {group!r} has" if slash else "It has"
        raise NotFound(
            f"Agent {key} names the tool {entry.name!r:.80}, which the app does not have. {where}: {names}."
        )
    return _as_entered(tool, entry)


def _as_entered(tool: Tool, entry: ToolEntry | None) -> Tool:
    if entry is None:
        return _limited(tool, None)
    confirm = tool.confirm if entry.confirm is None else entry.confirm
    return replace(_limited(tool, entry.timeout_seconds), confirm=confirm)


def _limited(tool: Tool, seconds: float | None) -> Tool:
    """A tool that somebody named by its name may not take for ever; one that is part of the run's code takes no time of its own."""
    if tool.in_run:
        return tool
    return replace(tool, timeout_seconds=seconds or tool.timeout_seconds or TOOL_TIMEOUT_SECONDS)


def _group(key: str, name: str, code: Code) -> ToolSource:
    if name not in code.toolgroups:
        names = ", ".join(sorted(code.toolgroups)) or "none"
        raise NotFound(
            f"Agent {key} names the group of tools {name!r:.80}, which the app does not have. It has: {names}."
        )
    return code.toolgroups[name]


def _client_tool(tool: ClientTool) -> Tool:
    return client_tool(tool.name, tool.description, tool.parameters)


def knowledge_from(entry: KnowledgeEntry) -> Knowledge:
    """A piece of knowledge as the prompt takes it."""
    return Knowledge(
        name=entry.name,
        text=entry.text or "",
        mode=entry.mode,
        top_k=entry.top_k,
        threshold=entry.threshold,
        trusted=entry.is_trusted,
        inject=entry.inject if isinstance(entry, SystemKnowledge) else "knowledge",
        priority=entry.priority if isinstance(entry, SystemKnowledge) else 0,
    )


def system_of(system: SystemDefinition) -> AgentSystem:
    """A system as a run works in it. What of it cannot be read is missing, with a warning, and the run goes on without it."""
    if system.unreadable:
        logger.warning("What system %s says before the prompts of its members has been erased.", system.ref)
    known: list[Knowledge] = []
    for name, entry in system.knowledge:
        try:
            known.append(knowledge_from(knowledge_of(entry)))
        except ValidationError as error:
            logger.warning(
                "What system %s knows as %r cannot be read by this version of evrt, and is left out: %s",
                system.key,
                name,
                faults_text(error, "knowledge"),
            )
    return AgentSystem(system.ref, system.key, system.version, system.prefix, tuple(known))
