"""Toolgroups: tools under one name, which an agent or a single run names instead of each of them.

``group`` stands for all tools of a group, ``group/tool`` for one of them. Where a group's tools are only known by asking
somebody (an MCP server), that is asked once in each run, and recorded, so that a replay asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from evrt.effects.tools import Tool
from evrt.errors import NotFound, UsageError
from evrt.runtime.context import Context


class ToolSource(Protocol):
    """What a group of tools is: its name, and its tools as one run has them."""

    @property
    def name(self) -> str: ...

    @property
    def known(self) -> Mapping[str, Tool]:
        """The tools that are known without asking anybody, by the names that ``group/tool`` takes."""
        ...

    def check(self, tool: str) -> None:
        """Raises NotFound, with a list of what there is, where the group can have no such tool."""
        ...

    async def tools(self, ctx: Context[Any]) -> Mapping[str, Tool]:
        """All of its tools, by the names that ``group/tool`` takes. What it asks of others goes through the context."""
        ...

    async def aclose(self) -> None:
        """Give up what it holds; it may be used again. Idempotent."""
        ...


Choice: TypeAlias = Tool | str
"""A tool, a ``group``, or one tool of a group as ``group/tool``."""


class ToolGroup:
    """Tools of your own under one name: ``app.toolgroup(ToolGroup("files", [read, write]))``."""

    def __init__(self, name: str, tools: Sequence[Tool]) -> None:
        """Raises UsageError for two tools of one name, or a name with a ``/`` in it."""
        self.name = check_group_name(name)
        self._tools = {tool.name: tool for tool in tools}
        if len(self._tools) < len(tools):
            names = [tool.name for tool in tools]
            twice = sorted({one for one in names if names.count(one) > 1})
            raise UsageError(
                f"Toolgroup {name} has {', '.join(twice)} twice: give each tool a name of its own."
            )

    @property
    def known(self) -> Mapping[str, Tool]:
        return self._tools

    def check(self, tool: str) -> None:
        if tool not in self._tools:
            raise no_such_tool(self.name, tool, self._tools)

    async def tools(self, ctx: Context[Any]) -> Mapping[str, Tool]:
        return self._tools

    async def aclose(self) -> None:
        """There is nothing to give up."""


class ToolGroups(Mapping[str, ToolSource]):
    """The toolgroups of an app, by name."""

    def __init__(self) -> None:
        self._groups: dict[str, ToolSource] = {}

    def add(self, group: ToolSource) -> None:
        """Raises UsageError where the name is taken."""
        if group.name in self._groups:
            raise UsageError(f"Two toolgroups are named {group.name!r}: rename one of them.")
        self._groups[group.name] = group

    def __getitem__(self, name: str) -> ToolSource:
        return self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def check_group_name(name: str) -> str:
    """Raises UsageError for what cannot name a group."""
    if not isinstance(name, str) or not name.strip() or "/" in name or not name.isprintable():
        raise UsageError(f"A toolgroup's name is a text without a /, not {name!r:.80}.")
    return name


def no_such_tool(group: str, tool: str, known: Mapping[str, object] | Sequence[str]) -> NotFound:
    """What to raise for a tool that a group does not have."""
    return NotFound(
        f"Toolgroup {group} has no tool {tool!r:.80}. It has: {', '.join(sorted(known)) or 'none'}."
    )


def check_choices(choices: Sequence[Choice], groups: Mapping[str, ToolSource]) -> None:
    """See that what is named exists, once. Raises NotFound with a list of what there is, UsageError for what is named twice.

    That two of the tools have one name shows here as far as they are known without asking anybody.
    """
    named = [choice for choice in choices if isinstance(choice, str)]
    whole = {choice for choice in named if "/" not in choice}
    seen: set[str] = set()
    for choice in named:
        group, slash, tool = choice.partition("/")
        source = _group(groups, group)
        if slash:
            source.check(tool)
        if choice in seen or (slash and group in whole):
            raise UsageError(f"The tools name {choice} twice: once is enough.")
        seen.add(choice)
    _check_names(_known(choices, groups))


async def resolve(
    ctx: Context[Any], choices: Sequence[Choice], groups: Mapping[str, ToolSource]
) -> tuple[Tool, ...]:
    """The tools of one run, in the order in which they are named: once for each run, as this may ask others.

    What the run was asked for with (``ctx.toolgroups``) takes the place of the groups among the choices. Raises
    NotFound, UsageError, and StepFailed where somebody who was asked could not tell.
    """
    if ctx.toolgroups is not None:
        choices = [*(choice for choice in choices if isinstance(choice, Tool)), *ctx.toolgroups]
    check_choices(choices, groups)
    tools: list[Tool] = []
    asked: dict[str, Mapping[str, Tool]] = {}
    for choice in choices:
        if isinstance(choice, Tool):
            tools.append(choice)
            continue
        group, slash, name = choice.partition("/")
        if group not in asked:
            asked[group] = await _group(groups, group).tools(ctx)
        found = asked[group]
        if not slash:
            tools.extend(found.values())
        elif name in found:
            tools.append(found[name])
        else:
            raise no_such_tool(group, name, found)
    _check_names(tools)
    return tuple(tools)


def _group(groups: Mapping[str, ToolSource], name: str) -> ToolSource:
    """Raises NotFound that lists what there is."""
    if name not in groups:
        known = ", ".join(sorted(groups)) or "none"
        raise NotFound(f"The app has no toolgroup {name!r:.80}. It has: {known}.")
    return groups[name]


def _known(choices: Sequence[Choice], groups: Mapping[str, ToolSource]) -> list[Tool]:
    tools: list[Tool] = []
    for choice in choices:
        if isinstance(choice, Tool):
            tools.append(choice)
            continue
        group, slash, name = choice.partition("/")
        known = groups[group].known
        tools += [known[name]] if slash and name in known else [] if slash else known.values()
    return tools


def _check_names(tools: Sequence[Tool]) -> None:
    names = [tool.name for tool in tools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"Two of the tools are named {', '.join(twice)}, and a model could not tell them apart: choose fewer, or "
            "rename one."
        )
