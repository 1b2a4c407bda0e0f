"""The demo's app, as a user would write one: a reviewer, its tools, and a workflow that hands it claims.

``--app evrt.demo.app`` names it on the command line. Ledger and tray lie beside the log, so that
whoever names a log has named them too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

import evrt
from evrt.demo.claims import Claim
from evrt.demo.instructions import INSTRUCTIONS, claim_prompt
from evrt.demo.policy import load_policy, load_rates
from evrt.demo.scripted import ReviewerModel
from evrt.demo.tools import DemoDeps, exchange_rate, look_up_policy, put_in_tray, record_decision
from evrt.errors import UsageError
from evrt.log.address import parse_url

SCRIPTED = "scripted/reviewer"
LATENCY_SECONDS = 0.04
ONE_BY_ONE = 6
"""Claims that are reviewed one after the other, before the others follow in groups."""

AT_ONCE = 6


class Summary(BaseModel):
    """What the workflow returns. ``given_up``: claims over which the reviewer used up its turns."""

    claims: int
    given_up: list[str]


def folder() -> Path:
    """Where ledger and tray are: beside the log."""
    path = parse_url(app.url)
    if path is None:
        raise UsageError("The demo keeps its ledger beside its log: name a log in a file, such as demo.db.")
    return Path(path).parent


app = evrt.App(
    deps=DemoDeps(load_policy(), load_rates(), folder, LATENCY_SECONDS),
    models={SCRIPTED: ReviewerModel(latency_seconds=LATENCY_SECONDS)},
)

reviewer = app.agent(
    "reviewer",
    model=SCRIPTED,
    instructions=INSTRUCTIONS,
    tools=[look_up_policy, exchange_rate, record_decision, put_in_tray],
)


@app.workflow(timeout=None)
async def review_batch(ctx: evrt.Context[DemoDeps], claims: list[Claim], model: str = SCRIPTED) -> Summary:
    """Have every claim reviewed: the first ones one after the other, the rest in groups at the same time."""
    agent = replace(reviewer, model=model)

    async def given_up(claim: Claim) -> bool:
        try:
            await ctx.call(agent, claim_prompt(claim))
        except evrt.StepLimitReached:
            return True
        await ctx.emit("reviewed", {"claim": claim.claim})
        return False

    first, rest = claims[:ONE_BY_ONE], claims[ONE_BY_ONE:]
    verdicts = [await given_up(claim) for claim in first]
    await ctx.checkpoint({"reviewed": len(first), "of": len(claims)}, name="one-by-one")
    for start in range(0, len(rest), AT_ONCE):
        verdicts += await ctx.gather(*(given_up(claim) for claim in rest[start : start + AT_ONCE]))
        await ctx.emit("progress", {"reviewed": len(verdicts), "of": len(claims)})
    await ctx.checkpoint({"reviewed": len(verdicts), "of": len(claims)}, name="all-reviewed")
    return Summary(
        claims=len(claims),
        given_up=[claim.claim for claim, gave_up in zip(claims, verdicts, strict=True) if gave_up],
    )
