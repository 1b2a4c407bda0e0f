"""Turns: what each run took, as documents of the view ``turns`` and as the lines of a turn log.

A turn is a run in a conversation, or a run alone. Which turn of its conversation it is, counted from 0, follows from the
order in which the runs of the conversation were asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from evrt.projection import Document

CENTS_PER_DOLLAR = 100
MICROSECONDS_PER_MILLISECOND = 1_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Routing(BaseModel):
    """Why a tier was chosen, by which rule; ``wanted`` is the tier that it asked for, where another stood in for it."""

    model_config = ConfigDict(frozen=True)

    tier: str
    rule: str
    rationale: str
    wanted: str | None = None


class Turn(BaseModel):
    """What a run took so far. Times are microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    conversation: str | None = None
    """Ref of the conversation; None for a run alone."""
    target: str = ""
    status: str | None = None
    """How the run ended, None while it has not."""
    tier_used: str | None = None
    model_name: str | None = None
    """The model that the last step of the loop asked for."""
    provider: str | None = None
    prompt_tokens: int = 0
    """Of all attempts of all model calls, failed ones included as far as the provider counted; so are the next two."""
    completion_tokens: int = 0
    cost_usd: float | None = None
    tool_calls: int = 0
    skill_used: str | None = None
    """What the code said with ``ctx.emit("skill.used", {"name": …})``."""
    history_compacted: bool = False
    """Whether anything that a model was to be sent was summarised or shortened."""
    routing: Routing | None = None
    """Of the last call that was routed."""
    requested_at: int = 0
    started_at: int = 0
    ended_at: int | None = None


class TurnRecord(BaseModel):
    """A line of the turn log. ``timestamp`` is when the turn ended; ``latency_ms`` from its start until then, waits included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conversation_id: str | None
    """Your own id of the conversation, or its ref where that is not known any more; None for a run alone."""
    conversation_ref: str | None
    """The ref: what files are named by, for an id may be any text."""
    turn_index: int = Field(ge=0)
    run: str
    target: str
    status: str
    tier_used: str | None
    model_name: str | None
    provider: str | None
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    latency_ms: float = Field(ge=0)
    cost_cents: float | None
    """US cents; None where no cost is known."""
    tool_calls: int = Field(ge=0)
    skill_used: str | None
    history_compacted: bool
    timestamp: AwareDatetime
    routing_decision: Routing | None


def turn_records(
    documents: Iterable[Document[Turn]],
    names: Mapping[str, str | None] | None = None,
    *,
    counts: dict[str, int] | None = None,
) -> list[TurnRecord]:
    """The records of turns that have ended.

    ``documents`` have to be all turns of their conversations in the order in which they began, or the next of them: then
    ``counts`` is what was handed in with those before. ``names`` are your own ids by the refs of conversations.
    """
    counts = {} if counts is None else counts
    records: list[TurnRecord] = []
    for document in documents:
        index = counts.get(document.key, 0)
        counts[document.key] = index + 1
        if document.value.status is not None:
            name = (names or {}).get(document.value.conversation or "")
            records.append(_record(document, index, name))
    return records


def _record(document: Document[Turn], index: int, name: str | None) -> TurnRecord:
    turn = document.value
    ended_at = turn.ended_at or 0
    return TurnRecord(
        conversation_id=name or turn.conversation,
        conversation_ref=turn.conversation,
        turn_index=index,
        run=document.part,
        target=turn.target,
        status=turn.status or "",
        tier_used=turn.tier_used,
        model_name=turn.model_name,
        provider=turn.provider,
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        latency_ms=(ended_at - (turn.started_at or ended_at)) / MICROSECONDS_PER_MILLISECOND,
        cost_cents=None if turn.cost_usd is None else turn.cost_usd * CENTS_PER_DOLLAR,
        tool_calls=turn.tool_calls,
        skill_used=turn.skill_used,
        history_compacted=turn.history_compacted,
        timestamp=EPOCH + timedelta(microseconds=ended_at),
        routing_decision=turn.routing,
    )
