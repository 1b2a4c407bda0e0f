"""Seven runs that between them use everything a run can do. Each comes to the same end every time it is made.

``errand``: one thing after another · ``fan``: branches, nested, one of them failing · ``remember``:
memory, alone and in branches · ``interview``: questions, alone and beside writes · ``assistant``: a
model that calls tools in parallel · ``doomed``: branches with models, ending in an error · ``contest``:
races, writes that are looked up when in doubt, an error that escapes and is tried again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from crash.foreign import Client, Foreign
from crash.mortal import MortalApp
from crash.world import MODEL, Line, World
from evrt import Agent, Completed, Conflict, Context, NotDone, Retry, ToolContext, ToolFailed, tool
from evrt.effects.contract import Model, ModelError, ModelReply, ModelRequest, OnDelta
from evrt.events import JsonValue
from evrt.folds.requests import CHAIN_START, chain
from evrt.retry import NO_RETRY
from evrt.testing import Reply, ScriptedModel, call, calls

FOR_EVER = 3_600.0
QUICK = Retry(3, base_seconds=0.001)
ANSWERS: dict[str, JsonValue] = {"Go on?": "yes", "How much?": 7, "And now?": "stop"}

# ------------------------------------------------------------------------------------------- tools


@tool(effect="pure")
async def shout(text: str, context: ToolContext[World]) -> str:
    return context.deps.call(context, "shout", text.upper())


@tool(effect="read")
async def look(where: str, context: ToolContext[World]) -> str:
    return context.deps.call(context, "look", f"saw the {where}")


@tool(effect="read")
def peer(where: str, context: ToolContext[World]) -> str:
    """A read in a thread."""
    return context.deps.call(context, "peer", f"peered at the {where}")


@tool(effect="read")
async def linger(where: str, milliseconds: int, context: ToolContext[World]) -> str:
    await asyncio.sleep(milliseconds / 1000)
    return context.deps.call(context, "linger", f"lingered at the {where}")


@tool(effect="read", retry=QUICK)
async def fetch(page: int, context: ToolContext[World]) -> str:
    """Fails twice."""
    text = context.deps.call(context, "fetch", f"page {page}")
    if context.attempt < 3:
        raise ConnectionError(f"attempt {context.attempt} found nobody")
    return text


@tool(effect="read")
async def refuse(why: str, context: ToolContext[World]) -> str:
    context.deps.call(context, "refuse", None)
    raise PermissionError(why)


@tool
async def book(item: str, idempotency_key: str, context: ToolContext[World]) -> str:
    """A write with a key: booked under the same key it counts once."""
    return context.deps.call(context, "book", f"booked {item}")


@tool
async def pay(amount: int, context: ToolContext[World]) -> str:
    """A write without a key."""
    return context.deps.call(context, "pay", f"paid {amount}")


@tool
def send(letter: str, context: ToolContext[World]) -> str:
    """A write without a key, in a thread."""
    return context.deps.call(context, "send", f"sent {letter}")


@tool(effect="read")
async def hang(where: str) -> str:
    """Never comes back."""
    await asyncio.sleep(FOR_EVER)
    return "never"


@tool(effect="read", timeout="15ms")
async def stall(where: str, context: ToolContext[World]) -> str:
    """Comes back too late."""
    context.deps.call(context, "stall", None)
    await asyncio.sleep(FOR_EVER)
    return "never"


async def traced(context: ToolContext[World]) -> Completed | NotDone:
    """What came of a wire, as everybody can see in the ledger."""
    line = context.deps.happened(context.run_id, context.operation)
    return NotDone() if line is None else Completed(line.result)


@tool(reconcile=traced)
async def wire(amount: int, context: ToolContext[World]) -> str:
    """A write without a key that can be looked up."""
    return context.deps.call(context, "wire", f"wired {amount}")


@tool(reconcile=traced)
async def wire_slowly(amount: int, context: ToolContext[World]) -> str:
    """One that has happened long before it comes back, which it never does."""
    context.deps.call(context, "wire_slowly", f"wired {amount} slowly")
    await asyncio.sleep(FOR_EVER)
    return "never"


@tool(effect="read")
async def await_effect(operation: str, context: ToolContext[World]) -> str:
    """Comes back when a call has had its effect."""
    while context.deps.happened(context.run_id, operation) is None:  # noqa: ASYNC110  (the ledger has no bell)
        await asyncio.sleep(0.001)
    return context.deps.call(context, "await_effect", f"saw {operation}")


@tool(effect="read")
async def recover(page: int, context: ToolContext[World]) -> str:
    """Fails the first time that the world is asked, in whichever process that is."""
    first = context.deps.happened(context.run_id, context.operation) is None
    text = context.deps.call(context, "recover", f"page {page}")
    if first:
        raise ConnectionError("nobody is there yet")
    return text


UNKEYED = frozenset({"pay", "send", "wire", "wire_slowly"})
KEYED = frozenset({"book"})

# ------------------------------------------------------------------------------------------ models


class WatchedModel:
    """A scripted model whose calls leave their lines in the ledger."""

    def __init__(self, world: World, script: Any) -> None:
        self._world = world
        self._model = ScriptedModel(script)

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        digest = CHAIN_START
        for message in request.messages:
            digest = chain(digest, dict(message))
        seen = sum(line.key == digest.hex() for line in self._world.lines())
        self._world.effect(Line(MODEL, "", "", 1, digest.hex(), None))
        if request.model == "moody" and seen == 0:
            raise ModelError("overloaded", "Not in the mood.", retriable=True)
        return await self._model.complete(request, on_delta)


def _script(request: ModelRequest) -> Reply:
    """Three turns: look and book and pay, then fetch and an unknown tool, then words."""
    turn = sum(message["role"] == "assistant" for message in request.messages)
    errand = request.messages[-1]["content"] if turn == 0 else ""
    if turn == 0:
        return calls(call("look", where=errand), call("book", item="table"), call("pay", amount=20))
    if turn == 1:
        return calls(call("fetch", page=2), call("teleport", to="Mars"), call("peer", where="sky"))
    return f"Done after {len(request.messages)} messages."


def _short_script(request: ModelRequest) -> Reply:
    if request.messages[-1]["role"] == "tool":
        return "Sent."
    return call("send", letter="regrets")


# -------------------------------------------------------------------------------------------- runs


async def errand(ctx: Context[World], item: str) -> JsonValue:
    world = ctx.deps
    label = await ctx.step("label", lambda text: text.title(), item)
    moment, unique, number = ctx.now(), ctx.uuid(), ctx.random()
    seen = await ctx.call(look, where="shelf")
    await ctx.emit("progress", {"seen": seen})
    paid = await ctx.call(pay, amount=3)
    booked = await ctx.call(book, item=label)

    def weigh(what: str) -> int:
        # Fails the first time that the world is asked, in whichever process that is.
        first = world.happened(ctx.run_id, "weigh#1") is None
        world.effect(Line("weigh", ctx.run_id, "weigh#1", 1, None, len(what)))
        if first:
            raise TimeoutError("the scales are busy")
        return len(what)

    weight = await ctx.step("weigh", weigh, label, effect="read", retry=QUICK)
    page = await ctx.call(fetch, page=1)
    await ctx.checkpoint({"paid": paid}, name="paid")
    loud = await ctx.call(shout, text=page)
    await ctx.say("Nearly there.")
    sent = await ctx.call(send, letter="thanks")
    peered = await ctx.call(peer, where="gate")
    later = ctx.now() >= moment and len(str(unique)) == 36 and 0 <= number < 1
    return [label, seen, paid, booked, weight, loud, sent, peered, later]


async def fan(ctx: Context[World], item: str) -> JsonValue:
    async def inner() -> list[Any]:
        first = await ctx.call(fetch, page=3)
        rest = await ctx.gather(
            ctx.call(pay, amount=5),
            ctx.call(linger, where="well", milliseconds=1),
            ctx.call(book, item="boat"),
        )
        return [first, *rest]

    async def chain_of_two() -> str:
        await ctx.call(look, where="door")
        return str(await ctx.call(pay, amount=6))

    wide = await ctx.gather(
        ctx.call(look, where="hill"),
        ctx.call(book, item=item),
        ctx.call(send, letter="card"),
        inner(),
        chain_of_two(),
    )
    await ctx.emit("wide", len(wide))
    failure = ""
    try:
        await ctx.gather(
            ctx.call(linger, where="lake", milliseconds=2),
            ctx.call(refuse, why="not today"),
            ctx.call(pay, amount=8),
            ctx.call(refuse, why="nor tomorrow"),
        )
    except ToolFailed as error:
        failure = error.message
    last = await ctx.gather(*(ctx.call(look, where=str(number)) for number in range(3)))
    return [wide, failure, last]


async def remember(ctx: Context[World], item: str) -> JsonValue:
    memory = ctx.memory
    before = await memory.get("topic", default="nothing")
    await memory.set("topic", item)
    await ctx.call(pay, amount=9)
    topic = await memory.get("topic")

    async def note(name: str) -> JsonValue:
        await memory.set(name, name.upper(), scope="conversation")
        await ctx.call(look, where=name)
        return await memory.get(name, scope="conversation")

    notes = await ctx.gather(note("north"), note("south"), note("east"))
    forgot = await memory.forget("topic")
    forgot_again = await memory.forget("topic")
    conflict = ""
    try:
        await memory.set("north", "taken", scope="conversation", if_version=999)
    except Conflict:
        conflict = "conflict"
    await memory.set("mark", [1, 2, 3], if_version=0)
    await ctx.call(book, item="seat")
    return [before, topic, notes, forgot, forgot_again, conflict, await memory.get("mark")]


async def interview(ctx: Context[World], item: str) -> JsonValue:
    seen = await ctx.call(look, where=item)
    go = await ctx.ask("Go on?", options=["yes", "no"])
    paid = await ctx.call(pay, amount=10) if go == "yes" else None
    amount, sent, booked = await ctx.gather(
        ctx.ask("How much?"), ctx.call(send, letter="bill"), ctx.call(book, item="room")
    )
    paid_again = await ctx.call(pay, amount=amount)
    await ctx.checkpoint({"amount": amount})
    return [seen, go, paid, amount, sent, booked, paid_again, await ctx.ask("And now?")]


async def doomed(ctx: Context[World], item: str) -> JsonValue:
    words = await ctx.gather(ctx.call(CLERK, "Write."), ctx.call(PORTER, item), ctx.call(look, where="exit"))
    await ctx.memory.set("words", words[0])
    reply = await ctx.model("What now?", model="moody", retry=QUICK)
    await ctx.emit("reply", reply.text)

    async def last() -> str:
        await ctx.call(pay, amount=30)
        return str(await ctx.call(refuse, why="closed"))

    await ctx.gather(ctx.call(book, item="taxi"), last(), ctx.call(linger, where="kerb", milliseconds=3))
    return "never"


async def hurried(ctx: Context[World], item: str) -> JsonValue:
    """What takes too long takes for ever here, so that it is always the same that is cut off."""

    async def gives_up(milliseconds: int) -> str:
        try:
            async with asyncio.timeout(milliseconds / 1000):
                await ctx.gather(ctx.call(hang, where="left"), ctx.step("hang", asyncio.sleep, FOR_EVER))
        except TimeoutError:
            return "gave up"
        return "never"

    async def times_out() -> str:
        try:
            return str(await ctx.call(stall, where="wall"))
        except ToolFailed as error:
            return error.error_type

    async def fails() -> str:
        await ctx.call(pay, amount=40)
        return str(await ctx.call(refuse, why="no"))

    first = await ctx.gather(gives_up(30), times_out(), ctx.call(pay, amount=41), ctx.call(look, where=item))
    failure = ""
    try:
        await ctx.gather(fails(), gives_up(20), ctx.call(book, item="bench"))
    except ToolFailed as error:
        failure = error.message
    return [first, failure, await gives_up(10), await ctx.call(pay, amount=42)]


async def contest(ctx: Context[World], item: str) -> JsonValue:
    async def wires() -> None:
        await ctx.call(wire_slowly, amount=50)
        await ctx.call(hang, where="bank")

    async def nested() -> list[Any]:
        inner = await ctx.race(ctx.call(look, where="near"), ctx.call(hang, where="far"))
        return [*inner, await ctx.call(recover, page=9)]

    first = await ctx.race(
        ctx.call(hang, where="left"), ctx.call(look, where=item), ctx.step("hang", asyncio.sleep, FOR_EVER)
    )
    second = await ctx.race(wires(), ctx.call(await_effect, operation="race#2:0/wire_slowly#1"))
    wired, both = await ctx.gather(ctx.call(wire, amount=51), nested())
    return [*first, *second, wired, both, await ctx.call(wire, amount=52)]


CLERK = Agent(name="clerk", model="short", instructions="Write letters.", tools=(send,))
PORTER = Agent(name="porter", model="script", tools=(look, book, pay, fetch, peer))
WORKFLOWS = (errand, fan, remember, interview, doomed, hurried, contest)
RUNS = ("errand", "fan", "remember", "interview", "assistant", "doomed", "contest")
TRIED_AGAIN = frozenset({"contest"})
"""Those whose errors are tried again; the others end with theirs."""
INPUT = "harbour"


def make_app(url: str, world: World, *, plant: str | None = None) -> MortalApp:
    """An app with all of them, as every process makes it anew."""
    models: dict[str, Model] = {
        "script": WatchedModel(world, _script),
        "short": WatchedModel(world, _short_script),
        "moody": WatchedModel(world, lambda request: "Fine."),
    }
    app = MortalApp(url, world, models=models, plant=plant)
    app.agent("assistant", model="script", instructions="Be useful.", tools=PORTER.tools, retry=NO_RETRY)
    for run in WORKFLOWS:
        app.workflow(retry=QUICK if run.__name__ in TRIED_AGAIN else NO_RETRY)(run)
    app.register(Foreign(Client(world), (look, book, pay, send)), retry=NO_RETRY)
    from crash.programs import perform  # Which is made of what is above.

    app.workflow(retry=QUICK)(perform)
    return app
