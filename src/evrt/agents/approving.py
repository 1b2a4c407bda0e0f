"""Which of a model's tool calls a person has to approve, and the asking.

A model can be talked into anything by a text that it reads, and no check of the text finds that out reliably. So the
policy asks another thing: what may happen without a person, once a run has read something that its operator does not
answer for (``Context.untrusted``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from evrt.effects.tools import Tool
from evrt.errors import PayloadTooLarge, UsageError
from evrt.events import JsonObject
from evrt.events.run import Failure
from evrt.retry import Length, parse_length
from evrt.runtime.approvals import Approval
from evrt.runtime.context import Context, Gate
from evrt.runtime.waiting import TIMEOUT

When = Literal["never", "untrusted", "always"]
"""When leave is needed: not at all, once the run has read something untrusted, or for each call."""

MEMORY_WRITES = frozenset({"remember", "forget"})
"""Tools of the run that write memory. Beyond the conversation's own, other runs will read what they leave."""

OWN_SCOPE = "conversation"

DENIED = "denied"
"""Error type of a call that a person did not allow."""


@dataclass(frozen=True, slots=True)
class Approvals:
    """What an agent needs a person's leave for.

    writes
        for tools that write, and for ``remember`` and ``forget`` in the scopes of user and system.
    tools
        the same for single tools by their names, whatever their effect; it goes before ``writes``.
    expires
        how long leave is waited for ("2d", seconds); then it is denied.

    A tool with ``confirm=True`` needs leave for each call, whatever stands here.
    """

    writes: When = "untrusted"
    tools: Mapping[str, When] = field(default_factory=dict)
    expires: Length | None = None

    def __post_init__(self) -> None:
        """Raises UsageError, InvalidInput."""
        for when in (self.writes, *self.tools.values()):
            if when not in get_args(When):
                raise UsageError(f"Approvals: 'never', 'untrusted' or 'always', not {when!r}.")
        if self.expires is not None:
            parse_length(self.expires)

    def to_json(self) -> JsonObject:
        """As a run's request keeps it, for an agent that works for this one."""
        return {"writes": self.writes, "tools": dict(self.tools), "expires": self.expires}


NO_APPROVALS = Approvals(writes="never")
"""The policy of an agent that has none: leave is needed only where a tool itself says so."""


def policy_in(ctx: Context[Any], own: Approvals | None) -> Approvals | None:
    """An agent's own policy; else that of the agent it works for, so that nobody gets round one by asking another."""
    if own is not None or ctx.delegation is None or not isinstance(ctx.delegation.approvals, dict):
        return own
    return Approvals(**cast(dict[str, Any], ctx.delegation.approvals))


def needs_approval(
    policy: Approvals | None, tool: Tool, arguments: Mapping[str, object], untrusted: Sequence[str]
) -> bool:
    """Whether a person has to approve this call, in a run that has read from these untrusted sources."""
    if tool.confirm:
        return True
    when = _when(policy or NO_APPROVALS, tool, arguments)
    return when == "always" or (when == "untrusted" and bool(untrusted))


def _when(policy: Approvals, tool: Tool, arguments: Mapping[str, object]) -> When:
    if tool.name in policy.tools:
        return policy.tools[tool.name]
    if tool.client:
        return policy.writes  # Nobody knows what the client does with it.
    if tool.in_run:
        shared = tool.name in MEMORY_WRITES and arguments.get("scope") != OWN_SCOPE
        return policy.writes if shared else "never"
    return policy.writes if tool.effect == "write" else "never"


async def admit(
    ctx: Context[Any],
    policy: Approvals | None,
    tool: Tool,
    arguments: Mapping[str, object],
    tool_call_id: str | None = None,
    untrusted: Sequence[str] | None = None,
) -> Failure | None:
    """Ask for leave where it is needed; None where the call may be made, else what the model is told.

    The person sees the tool, its arguments, and where the untrusted content came from that the run had read by then:
    ``untrusted``, or what the run has read by now. For calls that are made at the same time it has to be given, as
    which of them comes first is not the same in a replay.
    The leave is for that very call: give ``ctx.call_digest(tool, arguments)`` to ``ctx.perform``.
    """
    if untrusted is None:
        untrusted = ctx.untrusted
    if not needs_approval(policy, tool, arguments, untrusted):
        return None
    details = {
        "tool": tool.name,
        "arguments": dict(arguments),
        "tool_call_id": tool_call_id,
        "untrusted": list(untrusted),
    }
    try:
        approval = await ctx.approve(
            f"tool call {tool.name}",
            details,
            timeout=None if policy is None else policy.expires,
            digest=ctx.call_digest(tool, arguments),
        )
    except PayloadTooLarge as error:
        return Failure(
            error_type=type(error).__name__,
            message=f"The call of {tool.name} needs a person's leave and is too large to be shown to one.",
        )
    return None if approval else denied(tool.name, approval)


def admitting(
    policy: Approvals | None,
) -> Gate:
    """``admit`` by one policy, as a loop wants it (``LoopSettings.admit``)."""

    async def by_policy(
        ctx: Context[Any],
        tool: Tool,
        arguments: Mapping[str, object],
        tool_call_id: str,
        untrusted: Sequence[str],
    ) -> Failure | None:
        return await admit(ctx, policy, tool, arguments, tool_call_id, untrusted)

    return by_policy


def denied(tool: str, approval: Approval) -> Failure:
    """What the model is told of a call that was not allowed."""
    if approval.by is None and approval.reason == TIMEOUT:
        why = "Nobody allowed it in time."
    else:
        why = f"The reason given: {approval.reason}" if approval.reason else "No reason was given."
    return Failure(
        error_type=DENIED,
        message=f"The call of {tool} needs a person's leave, which was denied. It was not made. {why} "
        "Do not try to bring it about in another way.",
    )
