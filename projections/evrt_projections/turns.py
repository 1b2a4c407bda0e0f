"""Turns: one document per run with what it took: tier, model, tokens, cost, tool calls, and when.

Its key is the conversation's ref, for a run without one the run itself; its part is the run. What a run has others do
for it, in runs of their own, is not its turn. ``evrt.folds.turns`` makes the lines of a turn log of such documents.
"""

from __future__ import annotations

from evrt.events import Envelope
from evrt.events.calls import Usage
from evrt.events.run import TERMINAL
from evrt.folds.clip import clip_text
from evrt.folds.documents import changed, is_aside
from evrt.folds.run import ERASED
from evrt.folds.turns import Routing, Turn
from evrt.projection import Columns, Correlation, Projection

PREFIX = "run-"
CONVERSATION = "conversation-"
NAME_BYTES_MAX = 1_300
STEP_CALL = "model"
"""Name of the model calls that are steps of the loop; those for summaries and the like have others."""
SKILL_USED = "skill.used"
"""Name of what code emits to say which skill it used."""

NOTHING = Turn()


def _key(columns: Columns) -> str | None:
    return columns.correlation if columns.stream.startswith(PREFIX) and not is_aside(columns.meta) else None


def _part(envelope: Envelope) -> str | None:
    return envelope.stream


def _evolve(before: Turn, envelope: Envelope) -> Turn:
    if before.status is not None:
        return before  # What comes after the end belongs to no turn.
    fields = envelope.event.__dict__
    change: dict[str, object] = {} if before.requested_at else _beginning(envelope)
    match envelope.type:
        case "run.requested":
            change["target"] = _name(fields.get("target"), envelope.position) or ""
        case "run.started":
            change["started_at"] = before.started_at or envelope.time
        case "tier.selected":
            change |= _routed(fields, envelope.position)
        case "model_call.requested":
            if before.model_name is None or _is_step(fields.get("operation")):
                change["model_name"] = _name(fields.get("model"), envelope.position) or before.model_name
        case "model_call.completed" | "model_call.failed":
            change |= _used(before, fields, envelope.position)
        case "tool_call.requested":
            change["tool_calls"] = before.tool_calls + (fields.get("attempt", 1) == 1)
        case "context.compacted":
            change["history_compacted"] = True
        case "run.emitted":
            if fields.get("name") == SKILL_USED and isinstance(said := fields.get("payload"), dict):
                change["skill_used"] = _name(said.get("name"), envelope.position) or before.skill_used
        case type if type in TERMINAL:
            change |= {"status": ERASED[type], "ended_at": envelope.time}
    return changed(before, change)


def _beginning(envelope: Envelope) -> dict[str, object]:
    correlation = envelope.correlation
    return {
        "requested_at": envelope.time,
        "conversation": correlation if correlation.startswith(CONVERSATION) else None,
    }


def _routed(fields: dict[str, object], position: int) -> dict[str, object]:
    tier = _name(fields.get("tier"), position)
    if tier is None:
        return {}
    routing = Routing(
        tier=tier,
        rule=_name(fields.get("rule"), position) or "",
        rationale=_name(fields.get("rationale"), position) or "",
        wanted=_name(fields.get("wanted"), position),
    )
    return {"tier_used": tier, "routing": routing}


def _used(before: Turn, fields: dict[str, object], position: int) -> dict[str, object]:
    usage = fields.get("usage")
    change: dict[str, object] = {}
    if isinstance(usage, Usage):
        change["prompt_tokens"] = before.prompt_tokens + usage.input_tokens
        change["completion_tokens"] = before.completion_tokens + usage.output_tokens
        if usage.cost_usd is not None:
            change["cost_usd"] = (before.cost_usd or 0.0) + usage.cost_usd
    if (provider := _name(fields.get("provider"), position)) is not None:
        change["provider"] = provider
    return change


def _is_step(operation: object) -> bool:
    return isinstance(operation, str) and operation.rpartition("/")[2].partition("#")[0] == STEP_CALL


def _name(text: object, position: int) -> str | None:
    return clip_text(text, NAME_BYTES_MAX, position) if isinstance(text, str) else None


PROJECTION = Projection[Turn](
    name="turns",
    version=1,
    document=Turn,
    handles=TERMINAL
    | {
        "run.requested",
        "run.started",
        "run.emitted",
        "tier.selected",
        "model_call.requested",
        "model_call.completed",
        "model_call.failed",
        "tool_call.requested",
        "context.compacted",
    },
    key=_key,
    source=Correlation,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    part=_part,
    indexes=("conversation", "requested_at", "status", "tier_used"),
)
