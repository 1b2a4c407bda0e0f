"""A definition made into an agent that a run can execute: names become the tools that the app has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pydantic import ValidationError

from evrt.agents.agent import Agent
from evrt.agents.config import (
    TOOL_TIMEOUT_SECONDS,
    AgentConfig,
    ClientTool,
    KnowledgeEntry,
    SystemKnowledge,
    ToolEntry,
    knowledge_of,
)
from evrt.agents.knowledge import AgentSystem, Knowledge, MakeRetriever
from evrt.agents.limits import LoopLimits
from evrt.agents.output import Output
from evrt.agents.shields import Shield
from evrt.effects.tools import Tool, faults_text
from evrt.errors import NotFound
from evrt.folds.definitions import SystemDefinition
from evrt.requesting import Pin
from evrt.retry import parse_seconds

logger = logging.getLogger("evrt.definitions")


class Code(Protocol):
    """What an app has in code that definitions can name."""

    @property
    def tools(self) -> Mapping[str, Tool]: ...
    @property
    def toolgroups(self) -> Mapping[str, Sequence[Tool]]: ...
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
        limits=LoopLimits(**loop),
        output=None if config.output_schema is None else Output.of(config.output_schema),
        input_shields=config.input_shields,
        output_shields=config.output_shields,
        shields=code.shields,
        memory=config.remembers,
        system=system,
        knowledge=tuple(knowledge_from(entry) for entry in config.knowledge),
        make_retriever=code.make_retriever,
        require_tool_call=bool(tools) and config.tool_choice not in (None, "auto"),
        timeout_seconds=None if limits.timeout is None else parse_seconds(limits.timeout),
        parameters=config.parameters,
        pin=pin,
    )


def tools_of(key: str, config: AgentConfig, code: Code) -> tuple[Tool, ...]:
    """The tools that a configuration names; one that is named itself goes before the same one of a group."""
    found = {entry.name: _tool(key, entry, code) for entry in config.tools}
    named = {tool.name for tool in found.values()}
    groups = [
        _limited(tool, None)
        for group in config.toolgroups
        for tool in _group(key, group, code)
        if tool.name not in named
    ]
    return (*found.values(), *groups, *(_client_tool(tool) for tool in config.client_tools))


def _tool(key: str, entry: ToolEntry, code: Code) -> Tool:
    group, slash, name = entry.name.rpartition("/")
    known = {tool.name: tool for tool in _group(key, group, code)} if slash else code.tools
    tool = known.get(name)
    if tool is None:
        names = ", ".join(sorted(known)) or "none"
        where = f"The group {group!r} has" if slash else "It has"
        raise NotFound(
            f"Agent {key} names the tool {entry.name!r:.80}, which the app does not have. {where}: {names}."
        )
    confirm = tool.confirm if entry.confirm is None else entry.confirm
    return replace(_limited(tool, entry.timeout_seconds), confirm=confirm)


def _limited(tool: Tool, seconds: float | None) -> Tool:
    """A tool that somebody named by its name may not take for ever; one that is part of the run's code takes no time of its own."""
    if tool.in_run:
        return tool
    return replace(tool, timeout_seconds=seconds or tool.timeout_seconds or TOOL_TIMEOUT_SECONDS)


def _group(key: str, name: str, code: Code) -> Sequence[Tool]:
    group = code.toolgroups.get(name)
    if group is None:
        names = ", ".join(sorted(code.toolgroups)) or "none"
        raise NotFound(
            f"Agent {key} names the group of tools {name!r:.80}, which the app does not have. It has: {names}."
        )
    return group


def _client_tool(tool: ClientTool) -> Tool:
    async def wait_for_client(**arguments: object) -> None:
        raise NotImplementedError

    return Tool.from_schema(
        wait_for_client, name=tool.name, description=tool.description, parameters=tool.parameters, client=True
    )


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
