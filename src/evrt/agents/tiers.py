"""Tiers of models: small, mid and frontier, by which code says how much a call is worth rather than which model it asks.

A tier that is not configured is stood in for by the first of small, mid and frontier that is. Models that a program
brings itself are made when they are first called, once, and closed by whoever made the tiers, not by the agents.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Self, get_args

from evrt.effects.contract import Model, ModelReply, ModelRequest, OnDelta
from evrt.errors import TierNotConfigured, UsageError
from evrt.events import JsonObject

Tier = Literal["small", "mid", "frontier"]
TIERS: tuple[Tier, ...] = get_args(Tier)
"""In the order in which they stand in for one that is not configured."""


@dataclass(frozen=True, slots=True)
class TierConfig:
    """What a tier is: a model as litellm names it, or as ``App(models=…)`` does, and parameters for its provider.

    ``make`` makes the model itself, where it is one of your own: it is called once, at the first call. What it makes is
    asked under the name ``model``.
    """

    model: str
    parameters: JsonObject = field(default_factory=dict)
    make: Callable[[], Model] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise UsageError(f"A tier's model is a name such as 'openai/gpt-4o', not {self.model!r}.")


class Chosen(NamedTuple):
    """The tier that a call goes to. ``wanted`` is the one that was asked for, where another stands in for it."""

    tier: Tier
    config: TierConfig
    wanted: Tier | None = None


class Tiers:
    """The tiers of an app: each a TierConfig, or a model's name, or None where there is no such tier.

        tiers = evrt.Tiers(small="openai/gpt-4o-mini", frontier=evrt.TierConfig("openai/gpt-4o", {"temperature": 0}))

    ``models`` is for ``App(models=…)`` where tiers make models of their own. Whoever makes the tiers closes them, with
    ``async with`` or ``aclose``: an agent that uses them does not.
    """

    def __init__(
        self,
        *,
        small: TierConfig | str | None = None,
        mid: TierConfig | str | None = None,
        frontier: TierConfig | str | None = None,
    ) -> None:
        given: dict[Tier, TierConfig | str | None] = {"small": small, "mid": mid, "frontier": frontier}
        self._configs: dict[Tier, TierConfig] = {
            tier: config if isinstance(config, TierConfig) else TierConfig(config)
            for tier, config in given.items()
            if config is not None
        }
        self._models: dict[str, _Lazy] = {}
        for config in self._configs.values():
            if config.make is not None:
                known = self._models.setdefault(config.model, _Lazy(config.make))
                if known.make is not config.make:
                    raise UsageError(
                        f"Two tiers make different models and both call theirs {config.model!r}: name one of them otherwise."
                    )

    @property
    def configured(self) -> tuple[Tier, ...]:
        """The tiers that there are."""
        return tuple(self._configs)

    @property
    def models(self) -> Mapping[str, Model]:
        """Models that tiers make, by their names: none of them is made by looking at this."""
        return dict(self._models)

    def choose(self, wanted: Tier) -> Chosen:
        """The tier asked for, or the first of small, mid and frontier. Raises TierNotConfigured, UsageError."""
        if wanted not in TIERS:
            raise UsageError(f"There is no tier {wanted!r}: a tier is 'small', 'mid' or 'frontier'.")
        if wanted in self._configs:
            return Chosen(wanted, self._configs[wanted])
        for tier in TIERS:
            if tier in self._configs:
                return Chosen(tier, self._configs[tier], wanted)
        raise TierNotConfigured(
            f"A model of the tier {wanted!r} was asked for, and no tier has a model. Give evrt.Tiers one, or set "
            "EVRT_TIER_SMALL, EVRT_TIER_MID or EVRT_TIER_FRONTIER to a model's name where evrt.tiers_from_env() is used."
        )

    async def aclose(self) -> None:
        """Close the models that have been made. The next call makes them anew. Idempotent."""
        for model in self._models.values():
            await model.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Lazy:
    """A model that is made when it is first called."""

    def __init__(self, make: Callable[[], Model]) -> None:
        self.make = make
        self._model: Model | None = None

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        """What the model replies. Raises ModelError, and what making the model raises."""
        if self._model is None:
            self._model = self.make()
        return await self._model.complete(request, on_delta)

    async def aclose(self) -> None:
        """Close the model, if it has been made and has anything to close."""
        model, self._model = self._model, None
        close = getattr(model, "aclose", None)
        if close is not None and inspect.isawaitable(closing := close()):
            await closing


def tiers_from_env(default: str | None = None, environ: Mapping[str, str] | None = None) -> Tiers:
    """Tiers as the environment names them: ``EVRT_TIER_SMALL=openai/gpt-4o-mini`` and so on.

    ``EVRT_TIER_SMALL_PARAMETERS`` is a JSON object for the provider. Where no tier is named, ``default`` is the model of
    all three; without it ``Tiers.choose`` raises TierNotConfigured. Raises UsageError for parameters that are no object.
    """
    environ = os.environ if environ is None else environ
    named = {
        "small": (environ.get("EVRT_TIER_SMALL"), environ.get("EVRT_TIER_SMALL_PARAMETERS")),
        "mid": (environ.get("EVRT_TIER_MID"), environ.get("EVRT_TIER_MID_PARAMETERS")),
        "frontier": (environ.get("EVRT_TIER_FRONTIER"), environ.get("EVRT_TIER_FRONTIER_PARAMETERS")),
    }
    found = {
        tier: TierConfig(model, _parameters(tier, parameters))
        for tier, (model, parameters) in named.items()
        if model
    }
    if not found and default is not None:
        found = dict.fromkeys(TIERS, TierConfig(default))
    return Tiers(**found)


def _parameters(tier: str, text: str | None) -> JsonObject:
    if not text:
        return {}
    try:
        parameters = json.loads(text)
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise UsageError(
            f"EVRT_TIER_{tier.upper()}_PARAMETERS has to be a JSON object such as "
            f'{{"temperature": 0}}; it is {text!r:.80}.'
        )
    return parameters
