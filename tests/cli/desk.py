"""An app whose runs talk, remember, ask and cost: what the commands that read views are tried on."""

from __future__ import annotations

DESK = '''
import os

import evrt
from evrt.effects.contract import ModelError, ModelReply
from evrt.events.calls import Usage
from evrt.projection import Projection, Stream
from evrt.testing import ScriptedModel
from pydantic import BaseModel


def reply(request):
    said = request.messages[-1]["content"]
    if said == "overload":
        raise ModelError("overloaded", "too much", retriable=False, usage=Usage(input_tokens=7, cost_usd=0.5))
    text = said * 20_000 if said == "long" else f"You said {said}."
    return ModelReply({"role": "assistant", "content": text}, usage=Usage(input_tokens=10, output_tokens=4, cost_usd=0.25))


class Endings(BaseModel, frozen=True):
    """How often runs of a target have failed."""

    failed: int = 0


def count(before, envelope):
    if os.path.exists("fragile"):
        raise ValueError("it is fragile")
    return Endings(failed=before.failed + 1)


ENDINGS = Projection(
    name="endings",
    version=1,
    document=Endings,
    handles=frozenset({"run.failed"}),
    key=lambda columns: columns.stream,
    source=Stream,
    initial=lambda key, part: Endings(),
    evolve=count,
)

app = evrt.App(models={"paid": ScriptedModel(reply)}, projections=[ENDINGS])
desk = app.agent("desk", model="paid")


@app.workflow
async def learn(ctx: evrt.Context, value: object) -> str:
    if value is None:
        await ctx.memory.forget("topic")
    else:
        await ctx.memory.set("topic", value)
    return "learnt"


@app.workflow
async def approve(ctx: evrt.Context, what: str) -> str:
    return await ctx.ask(f"May I {what}?", options=["yes", "no"], allow_free_form=False)
'''
