"""Shields: functions of a registry that look at what goes to the model and at what comes from it.

A shield is given messages and says whether they pass, pass with a warning, or are blocked. What it says is recorded, so
a resume and a replay do not ask it again. A block ends the turn: its message is the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evrt.errors import UsageError
from evrt.events import JsonObject
from evrt.events.loop import ShieldEvaluated
from evrt.runtime.context import Context

BLOCKED = "I cannot help with that."
"""What the user is told where the shield itself says nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a shield says: ``pass``, ``warn`` or ``block``; ``message`` is what the user is told, or what the warning is."""

    verdict: Literal["pass", "warn", "block"] = "pass"
    message: str | None = None


Shield = Callable[
    [Sequence[JsonObject]], Verdict | bool | str | None | Awaitable[Verdict | bool | str | None]
]
"""Async or not. Beside a Verdict it may return True or None (pass), False (block), or a text: block, and tell the user that."""


async def evaluate(
    ctx: Context[Any],
    direction: Literal["input", "output"],
    names: Sequence[str],
    known: Mapping[str, Shield],
    messages: Sequence[JsonObject],
) -> tuple[str, str] | None:
    """Ask shields in their order; the name of the first that blocks with its message, or None.

    Raises UsageError for a shield that does not exist, StepFailed where one fails: what cannot be looked at does not pass.
    """
    for name in names:
        shield = known.get(name)
        if shield is None:
            have = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"There is no shield {name!r}. The app has: {have}. Register it: @app.shield({name!r})."
            )
        said = await ctx.step(f"shield:{name}", _asking(shield), list(messages), effect="read")
        verdict = Verdict(**said)
        ctx.record(
            ShieldEvaluated,
            direction=direction,
            shield=name,
            verdict=verdict.verdict,
            message=verdict.message,
        )
        if verdict.verdict == "block":
            return name, verdict.message or BLOCKED
    return None


def _asking(shield: Shield) -> Callable[[list[JsonObject]], Awaitable[dict[str, Any]]]:
    async def ask(messages: list[JsonObject]) -> dict[str, Any]:
        said = shield(messages)
        said = await said if isinstance(said, Awaitable) else said
        if isinstance(said, str):
            said = Verdict("block", said)
        elif not isinstance(said, Verdict):
            said = Verdict("block" if said is False else "pass")
        return {"verdict": said.verdict, "message": said.message}

    return ask
