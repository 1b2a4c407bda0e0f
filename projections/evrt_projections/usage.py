"""Usage: one document per model call with the tokens, cost and time of all its attempts, failed ones included.

Its key is the run, its part the model call's operation. Sums by model, by day, by user, by conversation and by agent
are sums over the documents that an index lists.

The cost is what evrt recorded when the call was made. ``usage(prices, name)`` makes the same projection with the costs
that a table of prices gives instead, under a name of its own, to be registered beside this one. The table is part of
what the projection is: another table is another variant, and the view is rebuilt with it as it is after any change of a
projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from hashlib import sha256

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope
from evrt.events.calls import Usage
from evrt.events.canonical import canonical
from evrt.folds.clip import clip_text
from evrt.folds.documents import changed, meta_text
from evrt.folds.operation import operation_in
from evrt.projection import Columns, Projection, Stream

PREFIX = "run-"
VERSION = 1
ATTEMPTS_MAX = 30
"""Most attempts that a document lists. The totals are of all."""
NAME_BYTES_MAX = 1_300
ENDS = frozenset({"model_call.completed", "model_call.failed"})
DAY_MICROSECONDS = 24 * 60 * 60 * 1_000_000
FIRST_DAY = date(1970, 1, 1).toordinal()


class Price(BaseModel):
    """What a model costs, in US dollars per million tokens."""

    model_config = ConfigDict(frozen=True)

    input: float
    output: float


class Attempt(BaseModel):
    """One attempt. ``error_type`` is that of its failure; the usage of a failed one is known where its provider said it."""

    model_config = ConfigDict(frozen=True)

    number: int
    time: int
    latency_ms: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    error_type: str | None = None


class ModelUsage(BaseModel):
    """A model call. Times are microseconds since 1970, UTC; ``day`` is that of its first event, such as ``2026-11-27``."""

    model_config = ConfigDict(frozen=True)

    model: str | None = None
    """The model that was asked for."""
    model_returned: str | None = None
    provider: str | None = None
    day: str = ""
    user: str | None = None
    conversation: str | None = None
    actor: str | None = None
    """``agent:NAME`` or ``workflow:NAME``."""
    began_at: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """None where no attempt's cost is known."""
    latency_ms: float = 0.0
    """Of all attempts together, the waits between them not counted."""
    attempts_count: int = 0
    attempts: tuple[Attempt, ...] = ()


NOTHING = ModelUsage()
NO_ATTEMPT = Attempt(number=0, time=0)


def usage(prices: Mapping[str, Price] | None = None, name: str = "usage") -> Projection[ModelUsage]:
    """The projection, with recorded costs or with those of a table.

        repriced = usage({"gpt-4o": Price(input=2.5, output=10)}, name="usage_at_list_price")
        app = evrt.App(projections=[repriced])

    ``prices`` has prices by the name of the model, as it was returned or as it was asked for. Calls of a model that is
    not in it keep the cost that was recorded.
    """
    table = dict(prices or {})

    def evolve(before: ModelUsage, envelope: Envelope) -> ModelUsage:
        change = {} if before.day else _beginning(envelope)
        if envelope.type in ENDS:
            change |= _attempt(before, envelope, table)
        elif before.model is None:
            change["model"] = clip_text(envelope.event.__dict__["model"], NAME_BYTES_MAX, envelope.position)
        return changed(before, change)

    return Projection[ModelUsage](
        name=name,
        version=VERSION,
        variant=_variant(table),
        document=ModelUsage,
        handles=ENDS | {"model_call.requested"},
        key=_key,
        source=Stream,
        initial=lambda key, part: NOTHING,
        evolve=evolve,
        part=operation_in,
        indexes=(("model", "day"), ("user", "day"), "day", "conversation", "actor"),
    )


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


def _variant(table: Mapping[str, Price]) -> str:
    """Another table is another view."""
    if not table:
        return ""
    named = canonical({model: [price.input, price.output] for model, price in table.items()})
    return sha256(named).hexdigest()


def _beginning(envelope: Envelope) -> dict[str, object]:
    correlation = envelope.correlation
    return {
        "day": _day(envelope.time // DAY_MICROSECONDS),
        "began_at": envelope.time,
        "user": meta_text(envelope.meta, "on_behalf_of"),
        "actor": meta_text(envelope.meta, "actor"),
        "conversation": correlation if correlation.startswith("conversation-") else None,
    }


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return date.fromordinal(FIRST_DAY + number).isoformat()


def _attempt(before: ModelUsage, envelope: Envelope, table: Mapping[str, Price]) -> dict[str, object]:
    fields = envelope.event.__dict__
    position = envelope.position
    used: Usage | None = fields["usage"]
    returned: str | None = fields.get("model_returned")
    cost_usd = _cost(used, table.get(returned or "") or table.get(before.model or ""))
    input_tokens = used.input_tokens if used else 0
    output_tokens = used.output_tokens if used else 0
    latency_ms: float = fields["latency_ms"]
    change: dict[str, object] = {
        "input_tokens": before.input_tokens + input_tokens,
        "output_tokens": before.output_tokens + output_tokens,
        "latency_ms": before.latency_ms + latency_ms,
        "attempts_count": before.attempts_count + 1,
    }
    if cost_usd is not None:
        change["cost_usd"] = (before.cost_usd or 0.0) + cost_usd
    if len(before.attempts) < ATTEMPTS_MAX:
        made: dict[str, object] = {
            "number": fields["attempt"],
            "time": envelope.time,
            "latency_ms": latency_ms,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost_usd": cost_usd,
        }
        if (failure := fields.get("failure")) is not None:
            made["error_type"] = clip_text(failure.error_type, NAME_BYTES_MAX, position)
        attempt = changed(NO_ATTEMPT, made)
        change["attempts"] = (*before.attempts, attempt)
    if returned is not None:
        change["model_returned"] = clip_text(returned, NAME_BYTES_MAX, position)
    if (provider := fields.get("provider")) is not None:
        change["provider"] = clip_text(provider, NAME_BYTES_MAX, position)
    return change


def _cost(used: Usage | None, price: Price | None) -> float | None:
    if used is None:
        return None
    if price is None:
        return used.cost_usd
    return (used.input_tokens * price.input + used.output_tokens * price.output) / 1_000_000


PROJECTION = usage()
