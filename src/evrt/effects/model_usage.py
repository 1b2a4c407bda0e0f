"""What a model call used up, as far as the provider said so: tokens, and their price by litellm's list.

Also for calls that failed: a stream that was cut, a reply without a message and an error may all have been
paid for. What nobody said is not estimated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import orjson
from pydantic import BaseModel

from evrt.events.calls import Usage

TOKENS_MAX = 2**53 - 1
"""The largest integer that every reader of JSON takes for itself. A count beyond it is no count."""

ERROR_BYTES_MAX = 1_000_000
"""An error page longer than this is not searched for usage."""


def usage_of_reply(litellm: Any, model: str, answer: Any, said: Iterable[Any]) -> Usage:
    """The usage of a whole reply: litellm's sum, unless it only estimates (``said``: what the provider sent)."""
    counts = _counts(said)
    if counts is None:
        return Usage()
    return _usage(counts, _cost_usd(litellm, model, answer, counts))


def usage_of_failure(litellm: Any, model: str, said: Iterable[Any]) -> Usage | None:
    """The usage of a call that failed, from what the provider had sent by then; None where it said nothing."""
    said = list(said)
    counts = _counts(said)
    if counts is None:
        return None
    details: Any = next((one for one in reversed(said) if _field(one, "prompt_tokens_details")), None)
    try:
        usage = litellm.Usage(
            prompt_tokens=counts[0],
            completion_tokens=counts[1],
            total_tokens=sum(counts),
            # The share that came from the provider's cache is cheaper.
            prompt_tokens_details=_field(details, "prompt_tokens_details"),
        )
        answer = litellm.ModelResponse(model=model, usage=usage)
    except Exception:  # noqa: BLE001  # Whatever a provider that fails puts into the details.
        return _usage(counts, None)
    return _usage(counts, _cost_usd(litellm, model, answer, counts))


def usages_in(chunks: Iterable[Any]) -> list[Any]:
    """What was said of usage in a reply or in the chunks of a stream, in order."""
    said = (_field(chunk, "usage") for chunk in chunks)
    return [usage for usage in said if usage is not None]


def usages_in_errors(causes: Sequence[BaseException]) -> list[Any]:
    """What an error's body says of usage: beside the error, or in it."""
    bodies = [_body(cause) for cause in causes]
    found = chain.from_iterable(
        (_field(body, "usage"), _field(_field(body, "error"), "usage")) for body in bodies
    )
    return [usage for usage in found if isinstance(usage, dict)][:1]


def _body(error: BaseException) -> Any:
    """The JSON that came with an error, from the response or as OpenAI's client has read it."""
    try:
        content = getattr(error, "response").content  # noqa: B009  # Only some errors have one.
        if 0 < len(content) <= ERROR_BYTES_MAX:
            return orjson.loads(content)
    except Exception:  # noqa: BLE001  # No response, one that was not read, or one that is not JSON.
        pass
    return getattr(error, "body", None)


def _counts(said: Iterable[Any]) -> tuple[int, int] | None:
    """Tokens in and out: the last of each that is not zero, as a stream may count up, or say each once."""
    tokens_in = tokens_out = None
    for usage in said:
        tokens_in = _tokens(_field(usage, "prompt_tokens")) or tokens_in
        tokens_out = _tokens(_field(usage, "completion_tokens")) or tokens_out
    return (tokens_in or 0, tokens_out or 0) if tokens_in or tokens_out else None


def _tokens(value: Any) -> int | None:
    """A count that can be one: whole, not negative, within reach."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TOKENS_MAX:
        return None
    return value


def _cost_usd(litellm: Any, model: str, answer: Any, counts: tuple[int, int]) -> float | None:
    usage = getattr(answer, "usage", None)
    if (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)) != counts:
        return None  # litellm would price what could not be counted.
    if _negative(usage):
        return (
            None  # And multiply whatever it is given: less than nothing from the cache makes the rest dearer.
        )
    try:
        cost_usd = float(litellm.completion_cost(completion_response=answer, model=model))
    except Exception:  # noqa: BLE001  # A price that is not known must not cost the reply.
        return None
    return cost_usd if math.isfinite(cost_usd) and cost_usd >= 0 else None


def _negative(value: Any) -> bool:
    """Whether there is a number below zero anywhere in a usage."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        return any(_negative(inner) for inner in value.values())
    return isinstance(value, int | float) and value < 0


def _usage(counts: tuple[int, int], cost_usd: float | None) -> Usage:
    return Usage(input_tokens=counts[0], output_tokens=counts[1], cost_usd=cost_usd)


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
