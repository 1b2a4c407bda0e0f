"""The model of each call of a loop by tiers: the router asked, its choice recorded where it changes.

A turn of a conversation is routed once, by what the user said; a task of its own is routed step by step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evrt.agents.routing import Route, Router, TurnFacts, route_step, route_turn
from evrt.agents.tiers import Tier, Tiers
from evrt.agents.tokens import text_content
from evrt.events import JsonObject
from evrt.events.loop import TierSelected
from evrt.runtime.context import Context


@dataclass(slots=True)
class TierChoice:
    """Chooses the model of each call of one run. ``facts`` are those of a turn of a conversation, None for a task.

    ``reasoned`` is set by the loop where the step before only reasoned. A model that whoever asked for the run wants
    goes before every tier.
    """

    tiers: Tiers
    router: Router = route_turn
    facts: TurnFacts | None = None
    pin: Tier | None = None
    parameters: JsonObject = field(default_factory=dict)
    """Of the agent; those of a tier go before them."""
    reasoned: bool = False
    _last: tuple[str, str] | None = None

    def __call__(self, ctx: Context[Any], step: int) -> tuple[str | None, JsonObject]:
        """The model of a step, counted from 0, and its parameters. Raises TierNotConfigured."""
        if ctx.model_asked is not None:
            return ctx.model_asked, dict(self.parameters)
        route = self.route(step)
        chosen = self.tiers.choose(route.tier)
        if self._last != (chosen.tier, route.rule):
            self._last = (chosen.tier, route.rule)
            ctx.record(
                TierSelected,
                tier=chosen.tier,
                model=chosen.config.model,
                rule=route.rule,
                rationale=route.rationale,
                wanted=chosen.wanted,
            )
        self.reasoned = False
        return chosen.config.model, {**self.parameters, **chosen.config.parameters}

    def route(self, step: int) -> Route:
        """What the router says of a step."""
        if self.facts is not None:
            return self.router(self.facts)
        return route_step(step, after_reasoning=self.reasoned, pin=self.pin)

    def small(self) -> tuple[str | None, JsonObject]:
        """The model for summaries: that of the small tier. Raises TierNotConfigured."""
        config = self.tiers.choose("small").config
        return config.model, dict(config.parameters)

    def to_state(self) -> JsonObject:
        """What a long run goes on with."""
        return {
            "last": list(self._last) if self._last else None,
            "reasoned": self.reasoned,
            "facts": None if self.facts is None else asdict(self.facts),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``to_state``; of no state nothing."""
        if not state:
            return
        last, facts = state.get("last"), state.get("facts")
        self._last = None if last is None else (last[0], last[1])
        self.reasoned = bool(state.get("reasoned"))
        self.facts = None if facts is None else TurnFacts(**facts)


def facts_of(
    messages: Sequence[JsonObject], history: Sequence[JsonObject] = (), *, pin: Tier | None = None
) -> TurnFacts:
    """The facts of a turn: how many the history has before it, and what the user says last."""
    said = [text_content(one.get("content")) for one in messages if one.get("role") == "user"]
    turn = sum(one.get("role") == "user" for one in history)
    return TurnFacts(turn=turn, text=said[-1] if said else "", pin=pin)
