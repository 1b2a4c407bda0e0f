"""Write new golden histories from real runs: ``python tests/histories/make.py NAME …``, or all that are missing.

One that exists is never written again: a history is what some version of evrt really wrote.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import evrt
from evrt.effects.contract import ModelReply
from evrt.errors import EvrtError
from evrt.events.calls import Usage
from evrt.log import Append, Draft, Log
from evrt.log.ids import new_event_id
from evrt.testing import ScriptedModel, call

sys.path.insert(0, str(Path(__file__).parent.parent))

from histories import golden

Scenario = Callable[[evrt.App], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(make: Scenario) -> Scenario:
    SCENARIOS[make.__name__.replace("_", "-")] = make
    return make


@evrt.tool(effect="read")
async def look_up(city: str) -> dict[str, object]:
    """The weather of a city."""
    return {"city": city, "celsius": 18, "sky": "heiter bis wolkig ☀️"}


@evrt.tool
async def pay(amount: int) -> str:
    """Pay, once and never twice."""
    return f"paid {amount}"


@evrt.tool(effect="write", key=lambda claim, **_: f"claim-{claim}")
async def decide(claim: int, decision: str) -> str:
    """Decide a claim; repeating it does nothing."""
    return f"{claim}: {decision}"


@evrt.tool(effect="read")
async def broken(reason: str) -> str:
    """Always fails."""
    raise RuntimeError(reason)


@evrt.tool(timeout="50ms")
async def slow_payment(amount: int) -> str:
    """Takes longer than it may, so nobody knows whether it happened."""
    await asyncio.sleep(timedelta(seconds=30).total_seconds())
    return "paid"


@scenario
async def agent_with_tools(app: evrt.App) -> None:
    replies: list[Any] = [
        [call("look_up", city="Turin"), call("look_up", city="東京"), call("no_such_tool", x=1)],
        [call("decide", claim=7, decision="approve")],
        "It is 18 °C in Turin and in 東京. 🌤",
    ]
    app.models["script"] = ScriptedModel(replies)
    agent = app.agent(
        "helper", model="script", instructions="Be brief.", tools=[look_up, decide], temperature=0
    )
    await app.run(agent, "What is the weather?", conversation="conversation of José", user="zoë@example.org")


@scenario
async def workflow_with_everything(app: evrt.App) -> None:
    @app.workflow
    async def everything(ctx: evrt.Context[None], topic: str) -> dict[str, object]:
        upper = await ctx.step("upper", str.upper, topic)
        found = await ctx.gather(*(ctx.call(look_up, city=city) for city in ("A", "B", "C")))
        with suppress(EvrtError):
            await ctx.gather(ctx.call(broken, reason="first"), ctx.call(broken, reason="second"))
        await ctx.memory.set("report.topic", topic)
        await ctx.memory.set("report.draft", {"version": 1}, scope="conversation")
        await ctx.memory.forget("report.draft", scope="conversation")
        remembered = await ctx.memory.get("report.topic")
        await ctx.emit("progress", {"done": 1, "of": 2})
        await ctx.say("Half way.")
        await ctx.report_error("A small matter", {"code": 7})
        await ctx.checkpoint({"topic": topic}, name="half")
        ctx.now(), ctx.uuid(), ctx.random()
        paid = await ctx.call(pay, amount=3)
        answer = await ctx.ask("Publish?", options=["yes", "no"])
        return {"upper": upper, "found": len(found), "remembered": remembered, "paid": paid, "answer": answer}

    result = await app.run(everything, "Ünïcode", user="u1", conversation="c1")
    await app.answer(result.run_id, "yes", by="Ada")
    await app.resume(result.run_id)


@scenario
async def in_doubt_then_settled(app: evrt.App) -> None:
    @app.workflow
    async def paying(ctx: evrt.Context[None], amount: int) -> str:
        return str(await ctx.call(slow_payment, amount=amount))

    ways: tuple[dict[str, Any], ...] = ({"result": "paid 3"}, {"error": "the bank says no"})
    for settle in ways:
        result = await app.run(paying, 3)
        await app.settle(result.run_id, by="Ada", **settle)
        await app.resume(result.run_id)
    again = await app.run(paying, 4)
    await app.settle(again.run_id, again=True)
    await app.resume(again.run_id)


@scenario
async def step_limit(app: evrt.App) -> None:
    app.models["script"] = ScriptedModel(
        [[call("look_up", city="A")], [call("look_up", city="B")], "I looked twice."]
    )
    await app.run(app.agent("looker", model="script", tools=[look_up], model_turns_max=2), "Look for ever.")


@scenario
async def failed_and_timed_out(app: evrt.App) -> None:
    @app.workflow
    async def failing(ctx: evrt.Context[None]) -> None:
        await ctx.call(broken, reason="no luck")

    @app.workflow(timeout="100ms")
    async def endless(ctx: evrt.Context[None]) -> None:
        await asyncio.sleep(timedelta(seconds=30).total_seconds())

    await app.run(failing)
    await app.run(endless)


@scenario
async def retries(app: evrt.App) -> None:
    busy = evrt.ModelError("rate_limit", "Too many requests.", retriable=True)
    refused = evrt.ModelError("authentication", "No such key.", retriable=False)
    app.models["script"] = ScriptedModel([busy, "At last.", refused])
    soon = evrt.Retry(2, base_seconds=0.001)
    tries: list[int] = []

    def unsteady(limit: int) -> int:
        tries.append(limit)
        if len(tries) < limit:
            raise OSError("not yet")
        return len(tries)

    @app.workflow
    async def trying(ctx: evrt.Context[None]) -> list[object]:
        read = await ctx.step("unsteady", unsteady, 2, effect="read", retry=soon)
        with suppress(EvrtError):
            await ctx.step("hopeless", unsteady, 99)
        reply = await ctx.model("Are you there?", model="script", retry=soon)
        with suppress(EvrtError):
            await ctx.model([{"role": "user", "content": "And now?"}], model="script", retry=soon)
        return [read, reply.text]

    await app.run(trying)


@scenario
async def paid_for_and_failed(app: evrt.App) -> None:
    cut = evrt.ModelError(
        "connection", "It hung up.", retriable=True, usage=Usage(input_tokens=40, cost_usd=0.5)
    )
    silent = evrt.ModelError("timeout", "No reply.", retriable=True, retry_after_seconds=0.002)
    used = Usage(input_tokens=40, output_tokens=8, cost_usd=0.75)
    reply = ModelReply({"role": "assistant", "content": "At last."}, usage=used)
    unusable = ModelReply({"role": "assistant", "content": None, "seed": 2**80}, usage=used)
    app.models["script"] = ScriptedModel([cut, silent, reply, unusable])

    @app.workflow
    async def paying_for_nothing(ctx: evrt.Context[None]) -> str:
        soon = evrt.Retry(3, base_seconds=0.001)
        text = (await ctx.model("Are you there?", model="script", retry=soon)).text
        with suppress(EvrtError):
            await ctx.model("And now?", model="script")
        return text or ""

    await app.run(paying_for_nothing)


@scenario
async def diverged_then_mended(app: evrt.App) -> None:
    cities = ["A", "B"]

    @app.workflow
    async def looking(ctx: evrt.Context[None]) -> str:
        for city in cities:
            await ctx.call(look_up, city=city)
        return str(await ctx.ask("Go on?"))

    result = await app.run(looking)
    await app.answer(result.run_id, "yes")
    cities[0] = "somewhere else"
    await app.resume(result.run_id)
    cities[0] = "A"
    await app.resume(result.run_id)


@scenario
async def erased_and_unknown(app: evrt.App) -> None:
    @app.workflow
    async def remembering(ctx: evrt.Context[None], secret: str) -> None:
        await ctx.memory.set("secret", secret)
        await ctx.call(look_up, city="A")

    await app.run(remembering, "a secret", user="u1")
    log = await app.log()
    future = [
        Draft(
            "run-future",
            "run.teleported",
            new_event_id(),
            "run-future",
            b'{"actor":"tomorrow"}',
            b'{"to":"Mars"}',
        ),
        Draft(
            "run-future", "run.started", new_event_id(), "run-future", b'{"schema":99}', b'{"shape":"new"}'
        ),
    ]
    await log.append(Append(future, {}))
    rows = await log.read()
    for row in rows:
        if row.type in ("memory.set", "memory.written"):
            await log.erase_payload(row.position)


async def never(*_: object) -> str:
    """Takes for ever."""
    await asyncio.Event().wait()
    return ""


@scenario
async def given_up(app: evrt.App) -> None:
    app.models["silent"] = ScriptedModel(never)

    @evrt.tool(effect="read")
    async def fetch() -> str:
        """Fetches for ever."""
        return await never()

    @app.workflow
    async def impatient(ctx: evrt.Context[None]) -> int:
        given_up = 0
        for work in (
            ctx.call(fetch),
            ctx.step("wait", never),
            ctx.model("Are you there?", model="silent"),
            ctx.gather(ctx.ask("Anybody?"), ctx.step("wait", never, effect="read")),
        ):
            try:
                async with asyncio.timeout(0.05):
                    await work
            except TimeoutError:
                given_up += 1
        return given_up

    await app.run(impatient)


@scenario
async def reported_late(app: evrt.App) -> None:
    arrives = asyncio.Event()

    async def deliver(parcel: int) -> str:
        """Deliver, once and never twice."""
        await arrives.wait()
        return f"parcel {parcel} arrived"

    tool = evrt.tool(deliver)

    async def delivering(ctx: evrt.Context[None], parcel: int) -> str:
        return str(await ctx.call(tool, parcel=parcel))

    app.workflow(delivering)
    second = evrt.App("memory://")
    second.workflow(delivering)
    second._log = await app.log()
    running = await app.start("delivering", 3)
    await asyncio.sleep(0.05)
    await second.resume(running.run_id)
    arrives.set()
    with suppress(EvrtError):
        await running
    await second.resume(running.run_id)


@scenario
async def raced(app: evrt.App) -> None:
    @evrt.tool
    async def send(parcel: int) -> str:
        """Send a parcel, and never hear of it."""
        return await never()

    @app.workflow
    async def racing(ctx: evrt.Context[None]) -> list[object]:
        async def limit() -> str:
            return str(await ctx.step("limit", asyncio.sleep, 0.02, "too late"))

        async def sends() -> str:
            return str(await ctx.call(send, parcel=1))

        first = await ctx.race(ctx.call(look_up, city="A"), ctx.step("wait", never), ctx.ask("Anybody?"))
        with suppress(EvrtError):
            await ctx.race(ctx.step("wait", never, effect="read"), ctx.call(broken, reason="first"))
        return [first.branch, *await ctx.race(sends(), limit())]

    result = await app.run(racing)
    await app.settle(result.run_id, again=True, by="Ada")
    await app.resume(result.run_id)


@scenario
async def reconciled(app: evrt.App) -> None:
    findings: list[object] = []

    def look_it_up(amount: int) -> object:
        found = findings.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    wire = evrt.tool(timeout="20ms", reconcile=look_it_up)(slow_payment._function)

    @app.workflow
    async def wiring(ctx: evrt.Context[None], amount: int) -> str:
        return str(await ctx.call(wire, amount=amount))

    for found in (
        [OSError("The bank does not answer."), evrt.Completed("paid 3")],
        [evrt.NotDone(), evrt.Failed("There is no money.", "refused")],
        [evrt.Unknown()],
        ["paid, I think"],
    ):
        findings[:] = found
        await app.run(wiring, 3)


@scenario
async def attempted_again(app: evrt.App) -> None:
    left: dict[str, int] = {}

    @evrt.tool(effect="read")
    async def fetch(page: int) -> str:
        """Fails as often as it is told to."""
        if left["fetch"]:
            left["fetch"] -= 1
            raise ConnectionError(f"page {page} is not there")
        return f"page {page}"

    @app.workflow(retry=evrt.Retry(3, base_seconds=0.001))
    async def fetching(ctx: evrt.Context[None]) -> list[object]:
        return await ctx.gather(ctx.call(look_up, city="A"), ctx.call(fetch, page=1), ctx.call(fetch, page=2))

    for fails in (1, 3, 9):
        left["fetch"] = fails
        await app.run(fetching)


@scenario
async def children_and_chapters(app: evrt.App) -> None:
    @app.workflow
    async def reviewing(ctx: evrt.Context[None], page: int) -> str:
        return str(await ctx.call(look_up, city=f"page {page}"))

    @app.workflow
    async def hopeless(ctx: evrt.Context[None]) -> None:
        raise ValueError("no luck")

    @app.workflow
    async def publishing(ctx: evrt.Context[None], pages: int) -> dict[str, object]:
        state = ctx.state or {"reviewed": [], "left": None}
        first = len(state["reviewed"])
        numbers = range(first, min(first + 2, pages))
        reviewed = [*state["reviewed"], *await ctx.gather(*(ctx.child(reviewing, page) for page in numbers))]
        if len(reviewed) < pages:
            # Nobody in this chapter or a later one waits for it.
            left = await ctx.start_child(reviewing, 99, conversation="c2")
            ctx.continue_as({"reviewed": reviewed, "left": left.target})
        problems: list[str] = []
        for target in ("hopeless", "reviewing"):
            try:
                await ctx.child(target, None if target == "hopeless" else 98)
            except evrt.ChildFailed as error:
                problems.append(f"{error.status}: {error.message}")
        slow = await ctx.start_child(reviewing, 97)
        won = await ctx.race(slow, ctx.step("soon", asyncio.sleep, 0.01, "soon"))
        closing = "closed twice" if ctx.patched("close-twice") else "closed"
        return {**state, "reviewed": reviewed, "problems": problems, "won": won.branch, "closing": closing}

    result = await app.run(publishing, 3, user="u1", conversation="c1")
    await work_off(app, cancelled=98)
    assert (await app.get(result.run_id)).status == "succeeded"


async def work_off(app: evrt.App, cancelled: object = None) -> None:
    """Execute what is queued or can go on, but for runs of this input, which are cancelled."""
    log = await app.log()
    busy = True
    while busy:
        busy = False
        for run in await log.streams("run-"):
            history = await app.get(run)
            if history.state.ended or (history.status == "waiting" and not history.journal.has_cause):
                continue
            busy = True
            if history.state.input == cancelled and cancelled is not None:
                await app.cancel(run, by="Ada", reason="not needed")
            else:
                await app.resume(run)


@scenario
async def waited(app: evrt.App) -> None:
    """Sleeps, signals, approvals and a question, in time and not; a run that was paused while it waited."""

    @app.workflow
    async def shipping(ctx: evrt.Context[None], order: int) -> list[object]:
        await ctx.sleep("1ms")
        await ctx.sleep_until(ctx.now())
        leave = await ctx.approve("Ship it", {"order": order}, timeout="30d")
        await ctx.race(ctx.sleep("1d"), ctx.sleep(0.001), ctx.wait_for_signal("never"))
        came: list[object] = [leave.approved, leave.reason, await ctx.wait_for_signal("at port/Genoa")]
        for late in (
            lambda: ctx.wait_for_signal("arrived", timeout="1ms"),
            lambda: ctx.ask("Where is it?", ["lost", "late"], timeout="1ms"),
            lambda: ctx.approve("Send another", timeout="1ms"),
        ):
            try:
                came.append(bool(await late()))
            except evrt.TimedOut as error:
                came.append(error.operation)
        return came

    run = (await app.run(shipping, 7)).run_id
    await app.decide(run, True, by="Ada", reason="It is paid.")
    await app.signal(run, "at port/Genoa", {"day": 3}, by="port")
    await app.signal(run, "at port/Genoa", {"day": 4})
    await app.pause(run, by="Ada")
    await app.unpause(run, by="Ada")
    for _ in range(100):
        if (await app.resume(run)).status != "waiting":
            break
        await asyncio.sleep(0.002)
    denied = (await app.run(shipping, 8)).run_id
    await app.decide(denied, False, reason="It is broken.")
    await app.resume(denied)


@scenario
async def asked_and_approved(app: evrt.App) -> None:
    """Questions of every shape, by code and by a model; leave for a tool call that was granted, and another denied."""

    @app.workflow
    async def asking(ctx: evrt.Context[None]) -> list[Any]:
        options = [evrt.Option(label="red", description="like a rose"), evrt.Option(label="green")]
        came = [
            await ctx.ask("Which?", options),
            await ctx.ask("Sure?", ["yes", "no"], allow_free_form=False),
            await ctx.ask("How many?", answer={"type": "integer", "minimum": 1}),
        ]
        asks = evrt.Questions(autonomy="high").begin()
        function: Any = {"name": "ask_user", "arguments": '{"question": "Shall I pay?"}'}
        for number in range(2):
            outcome = await ctx.perform({"id": f"call_{number}", "function": function}, [asks.tool])
            came.append(outcome.value)
        for amount in (3, 4):
            digest = ctx.call_digest(pay, {"amount": amount})
            approval = await ctx.approve("tool call pay", {"amount": amount}, digest=digest)
            came.append([approval.approved, approval.reason])
        return came

    run = (await app.run(asking)).run_id
    for answer in ("mauve", "yes", 7, "Do."):
        await app.answer(run, answer, by="Ada")
        await app.resume(run)
    for approved in (True, False):
        events = [e.event for e in (await app.get(run)).events if e.type == "approval.requested"]
        digest = events[-1].shown_digest  # type: ignore[attr-defined]  # by its type
        await app.decide(run, approved, by="Ada", reason="as ever", digest=digest)
        await app.resume(run)


@scenario
async def superseded(app: evrt.App) -> None:
    """A run that has failed is tried again by another one."""
    left = [RuntimeError("not today")]

    @app.workflow(retry=evrt.Retry(1))
    async def trying(ctx: evrt.Context[None]) -> str:
        if left:
            raise left.pop()
        return "today"

    first = await app.run(trying)
    await app.resume(await app.retry(first.run_id))


@scenario
async def journeys(app: evrt.App) -> None:
    """A router, and a journey that is begun, changed, refused, ended, and come back to."""
    from journeys.examples.branching import claim
    from journeys.examples.linear import signup
    from journeys.obedient import obey, words

    routes = [evrt.Route(signup, "sign_up", "An account."), evrt.Route(claim, "make_a_claim", "Damage.")]
    desk = evrt.IntentRouter("desk", routes=routes, model="router")
    app.models["script"] = ScriptedModel(obey)
    app.models["router"] = ScriptedModel([call("make_a_claim"), call("make_a_claim")])
    for target in (signup, claim, desk):
        app.add(target)
    turns = (
        "My cup is broken ☕",
        words("pay", ("report", {"what": "cup", "amount": 9})),
        words("pay"),
        "Thanks!",
        "My plate is broken, too",
        words(("report", {"what": "plate", "amount": 900}), "review"),
    )
    done = [await app.run(desk, turn, conversation="chat", user="ann") for turn in turns]
    other = await app.run(claim, words("review"), conversation="chat", user="ann")
    for run in (other, done[-1]):  # The second comes too late.
        await app.decide(run.run_id, True, by="Bo")
        await app.resume(run.run_id)
    await app.journeys.reroute("desk", "chat", to="signup", by="Bo")
    await app.run(desk, words("begin"), conversation="chat", user="ann")


@scenario
async def agents_and_systems(app: evrt.App) -> None:
    app.models["m"] = ScriptedModel(lambda request: "Gern.")
    app.add_tools(look_up)
    await app.agents.define("base", {"model": "m", "instructions": "Sei kurz. 72°F"}, by="ann")
    await app.agents.define("support", {"tools": ["look_up"]}, parent="base", description="Hilft.")
    await app.systems.define("desk", prefix="Du arbeitest am Schalter.")
    await app.systems.add_member("desk", "support")
    await app.systems.add_member("desk", "base")
    await app.systems.set_knowledge("desk", {"name": "hours", "text": "9 bis 17 Uhr.", "inject": "system"})
    await app.systems.set_knowledge("desk", {"name": "gone", "text": "Alt."})
    await app.systems.remove_knowledge("desk", "gone")
    await app.systems.revise("desk", description="Vorn.")
    await app.run("support", "Hallo", user="ann")
    await app.agents.revise(
        "support", {"knowledge": [{"name": "faq", "text": "Rückgabe: 5 Tage.", "mode": "rag"}]}
    )
    await app.run("support", "Rückgabe?", user="ann")
    await app.agents.revise("support", {"model": "n"}, draft=True)
    await app.agents.restore("support", 1, by="bob")
    await app.agents.activate("support", 2)
    await app.agents.fork("support", "copy")
    await app.agents.define(
        "stack", {"model": "m", "sampling_params": {"max_tokens": 0}}, format="llama-stack"
    )
    await app.agents.set_spec("support", "Antwortet am selben Tag.")
    await app.agents.retire("copy", reason="replaced")
    await app.systems.remove_member("desk", "base")


@scenario
async def conversations_and_loop(app: evrt.App) -> None:
    def reply(request: evrt.ModelRequest) -> Any:
        last = str(request.messages[-1]["content"])
        if last.startswith("Wetter") and request.tools:
            return call("look_up", city="Turin " * 60)
        return f"{request.model}: {len(request.messages)} messages"

    for name in ("klein", "gross"):
        app.models[name] = ScriptedModel(reply)

    @app.shield("polite")
    def polite(messages: Any) -> str | None:
        return "Bitte freundlich. ☀️" if "verflixt" in str(messages[-1]["content"]) else None

    app.agent(
        "helper",
        instructions="Sei kurz.",
        tools=[look_up],
        tiers=evrt.Tiers(small="klein", frontier="gross"),
        compaction=evrt.Compaction(budget=400),
        input_shields=["polite"],
        output_shields=["polite"],
        memory=True,
    )
    chats = app.conversations
    await chats.start("helper", conversation="chat", user="zoë", title="Wetter", metadata={"from": "web"})
    await chats.title("chat", "Das Wetter in 東京", by="zoë")
    await chats.set_metadata("chat", {"from": "app", "rating": 4.5})
    await chats.attach("chat", "plan.txt", b"Montag: Sonne", media_type="text/plain")
    await chats.attach("chat", "note", "Regen am Dienstag")
    await chats.detach("chat", "note", by="zoë")
    for text in ("Wetter?", "Wetter morgen?", "Wetter im Juli?", "verflixt", "Danke."):
        await app.run("helper", text, conversation="chat", user="zoë")
    await chats.fork("chat", 4, conversation="other")
    await (await chats.edit("chat", 0, "Wetter gestern?"))
    await app.run("helper", "Und heute?", conversation="other", user="zoë")
    await app.run("helper", "Vergiss das.", conversation="gone", user="zoë")
    await chats.delete("gone", by="zoë")


@evrt.tool(effect="read")
async def page(number: int) -> str:
    """A page of a long report."""
    return f"Seite {number}: " + "Umsatz gestiegen ↑ " * 40


@scenario
async def routed_and_compacted(app: evrt.App) -> None:
    """Models by tier, the middle of a run summarised, older results shortened, over two turns of a conversation."""
    pages = [call("page", number=number) for number in range(5)]
    app.models["large"] = ScriptedModel([*pages, "Der Umsatz ist gestiegen."])
    app.models["tiny"] = ScriptedModel(
        lambda request: "Gern." if request.messages[-1]["content"] == "Danke!" else "Seiten wurden gelesen."
    )
    reader = app.agent(
        "reader",
        instructions="Du liest Berichte.",
        tools=[page],
        tiers=evrt.Tiers(small="tiny", frontier="large"),
        compaction=evrt.Compaction(budget=1_250),
        pruning=evrt.Pruning(ceiling=1_200, protected=2),
    )
    await app.run(reader, "Wie war das Jahr?", conversation="c1")
    await app.run(reader, "Danke!", conversation="c1")


async def memory_of_three_scopes(app: evrt.App) -> None:
    @app.workflow
    async def remembers(ctx: evrt.Context[Any]) -> Any:
        await ctx.memory.set_many({"tee.art": "grün 🍵", "tee.minuten": 3}, source="umfrage", confidence=0.5)
        await ctx.memory.set("tisch", 7, scope="conversation", expires="36500d", metadata={"saal": "B"})
        await ctx.memory.set("ziel", "fertig", scope="system")
        await ctx.call(look_up, "Turin")
        await ctx.memory.set("stadt", "Turin")
        with suppress(EvrtError):
            await ctx.memory.set("alt", 1, expires=ctx.now() - timedelta(days=1))
        seen: list[Any] = [[item.key for item in await ctx.memory.newest()] for _ in range(2)]
        seen.append([item.key for item in await ctx.memory.list("tee", source="umfrage")])
        seen.append([[item.scope, item.value] for item in await ctx.memory.recall("tee")])
        seen.append(await ctx.memory.get_many(["tee.art", "milch"]))
        seen.append(len(await ctx.memory.history("tisch", scope="conversation")))
        seen.append(await ctx.memory.clear("tee"))
        return [*seen, await ctx.memory.item("ziel", scope="system") is not None, list(ctx.untrusted)]

    object.__setattr__(remembers, "system", "büro")  # As an agent has it.
    await app.memory.set("name", "Ann", user="ann", by="empfang")
    await app.memory.forget("name", user="ann", by="empfang")
    await app.run(remembers, user="ann", conversation="chat")
    await app.run(remembers, user=evrt.Anonymous("sitzung 1"))


async def conversations(app: evrt.App) -> None:
    """What is done to conversations: runs that see what was said, edits, a fork, attachments, and a deletion."""
    from app.talking import add_chat

    add_chat(app)
    told = app.conversations
    await told.start("chat", conversation="tea", user="ann", title="Of tea", metadata={"shelf": 7})
    for text in ("hello ☕", "look", "yes", "yes"):
        await app.run("chat", text, conversation="tea", user="ann")
    await told.title("tea", "Of green tea", by="ann")
    await told.set_metadata("tea", {"shelf": 8})
    await told.attach("tea", "leaf.txt", b"a leaf", media_type="text/plain")
    await told.attach("tea", "notes", "3 minutes, 80 °C")
    await told.attach("tea", "knowledge", vector_db_id="vdb-1")
    await told.detach("tea", "notes")
    await told.fork("tea", 2, conversation="coffee", by="bob")
    await app.run("chat", "coffee?", conversation="coffee", user="ann")
    await (await told.edit("tea", 7, "no", by="ann"))
    await (await told.retry("tea"))
    await app.run("chat", "forget it", conversation="secret", user="ann")
    await told.delete("secret", by="ann", reason="asked for")


async def write(name: str) -> None:
    app = evrt.App("memory://")
    async with app:
        await SCENARIOS[name](app)
        log: Log = await app.log()
        rows = await log.read(limit=10_000)
        identity = log.id
    lines = "".join(f"{golden.to_line(row)}\n" for row in rows)
    (golden.FOLDER / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    expected = json.dumps(golden.folded(identity, rows), indent=1, ensure_ascii=False)
    (golden.FOLDER / f"{name}.expected.json").write_text(expected + "\n", encoding="utf-8")


def main(names: list[str]) -> None:
    for name in names or SCENARIOS:
        if (golden.FOLDER / f"{name}.jsonl").exists():
            print(f"{name} exists and stays as it is")
        else:
            asyncio.run(write(name))
            golden.enter(name)
            print(f"{name} written")


if __name__ == "__main__":
    main(sys.argv[1:])
