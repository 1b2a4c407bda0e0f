"""How far an agent may go in one run before it has to stop: turns, rounds, tokens, money, time, errors."""

from __future__ import annotations

from dataclasses import dataclass, fields

from evrt.errors import UsageError
from evrt.events.calls import Usage
from evrt.events.run import StepLimit
from evrt.retry import Length, parse_seconds

MODEL_TURNS_MAX = 10
TOOL_ERRORS_MAX = 3
TOOL_CALLS_PER_TURN_MAX = 64


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Limits of one run of an agent. A run that has used one up ends as ``step_limit``, with a summary where there can be one.

    ``model_turns_max``: calls of the model. ``tool_rounds_max``: replies with tool calls. ``tokens_max``: tokens in and
    out, of all turns. ``cost_usd_max``: US dollars, as far as prices are known. ``wall_clock``: a length such as "10m"
    since the run's code began, waits included. ``tool_errors_max``: turns in a row in which every tool call failed.

    They are looked at before each turn, so the turn that crosses one is finished. Raises UsageError.
    """

    model_turns_max: int = MODEL_TURNS_MAX
    tool_rounds_max: int | None = None
    tokens_max: int | None = None
    cost_usd_max: float | None = None
    wall_clock: Length | None = None
    tool_errors_max: int | None = TOOL_ERRORS_MAX

    def __post_init__(self) -> None:
        for name in ("model_turns_max", "tool_rounds_max", "tokens_max", "tool_errors_max"):
            value = getattr(self, name)
            if value is None and name != "model_turns_max":
                continue
            if type(value) is not int or value < 1:
                raise UsageError(f"{name} has to be a whole number of at least 1, not {value!r}.")
        if self.cost_usd_max is not None and not self.cost_usd_max > 0:
            raise UsageError(
                f"cost_usd_max has to be more than nothing, in US dollars, not {self.cost_usd_max!r}."
            )
        if self.wall_clock is not None and parse_seconds(self.wall_clock) <= 0:
            raise UsageError(f"wall_clock has to be longer than nothing, not {self.wall_clock!r}.")


LIMITS = LoopLimits()


@dataclass(slots=True)
class Spent:
    """What a run of the loop has used up so far. ``began``: seconds since 1970, where the wall clock counts."""

    turns: int = 0
    tool_rounds: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    tool_errors: int = 0
    """Turns in a row in which every tool call failed."""
    began: float | None = None

    def add(self, usage: Usage) -> None:
        """A turn's tokens and cost."""
        self.turns += 1
        self.tokens += usage.input_tokens + usage.output_tokens
        self.cost_usd += usage.cost_usd or 0.0

    def over(self, limits: LoopLimits, now: float | None) -> tuple[StepLimit, str] | None:
        """Which limit is used up, with a text that says so; None while there is room for another turn."""
        reached: tuple[tuple[StepLimit, float, float | None, str], ...] = (
            (
                "tool_errors",
                self.tool_errors,
                limits.tool_errors_max,
                "{0:g} turns in a row failed in all their tool calls",
            ),
            ("model_turns", self.turns, limits.model_turns_max, "its {1:g} model turns are used up"),
            (
                "tool_rounds",
                self.tool_rounds,
                limits.tool_rounds_max,
                "its {1:g} rounds of tool calls are used up",
            ),
            ("tokens", self.tokens, limits.tokens_max, "it has used {0:g} tokens, and may use {1:g}"),
            ("cost", self.cost_usd, limits.cost_usd_max, "it has cost ${0:.4f}, and may cost ${1:.4f}"),
        )
        for limit, used, most, text in reached:
            if most is not None and used >= most:
                return limit, text.format(used, most)
        if limits.wall_clock is not None and now is not None and self.began is not None:
            seconds = parse_seconds(limits.wall_clock)
            if now - self.began >= seconds:
                return "wall_clock", f"{now - self.began:.0f} s have passed, and it may take {seconds:g} s"
        return None

    def to_state(self) -> dict[str, float | None]:
        return {one.name: getattr(self, one.name) for one in fields(self)}
