"""A step from which several lead on: a claim is paid at once if it is small, and looked at by a person if it is not."""

from __future__ import annotations

from enum import StrEnum

import evrt


class Step(StrEnum):
    REPORT = "report"
    PAY = "pay"
    REVIEW = "review"
    PAID = "paid"
    DECLINED = "declined"


class Claim(evrt.JourneyState[Step]):
    step: Step = Step.REPORT
    what: str = ""
    amount: float = 0
    receipt: str = ""


claim = evrt.Journey(
    "claim",
    Claim,
    model="script",
    prompts={
        Step.REPORT: "Ask what was damaged, and what it cost.",
        Step.PAY: "Say that $amount for $what can be paid at once, and ask whether to do it.",
        Step.REVIEW: "Say that somebody has to look at $what first.",
        Step.PAID: "Say that $amount has been paid: $receipt.",
        Step.DECLINED: "Say that $what is not paid for.",
    },
    moves={
        Step.REPORT: [Step.PAY, Step.REVIEW],
        Step.PAY: [Step.PAID],
        Step.REVIEW: [Step.PAY, Step.DECLINED],
    },
    terminal=[Step.PAID, Step.DECLINED],
)


@evrt.tool
async def transfer(amount: float, idempotency_key: str) -> str:
    """Pay. The bank takes the key, so that a crash does not pay twice."""
    return f"{amount:.2f} paid"


@claim.tool(Step.REPORT)
def report(state: Claim, what: str, amount: float) -> str:
    """The user said what was damaged and what it cost."""
    state.what, state.amount = what, amount
    state.step = Step.PAY if amount <= 100 else Step.REVIEW
    return f"To be {'paid' if state.step is Step.PAY else 'reviewed'}."


@claim.tool(Step.REVIEW)
async def review(ctx: evrt.Context[None], state: Claim) -> str:
    """Have a person decide."""
    approval = await ctx.approve(f"Pay {state.amount:.2f} for {state.what}")
    state.step = Step.PAY if approval else Step.DECLINED
    return "approved" if approval else "declined"


@claim.tool(Step.PAY)
async def pay(ctx: evrt.Context[None], state: Claim) -> str:
    """Pay."""
    state.receipt = await ctx.call(transfer, amount=state.amount)
    state.step = Step.PAID
    return state.receipt
