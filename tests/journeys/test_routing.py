"""Routers: which journey a message is for, who said so, and how long a conversation stays there."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

import evrt
from evrt.agents import loop
from evrt.agents.journeys.detecting import Detected
from evrt.effects.contract import ModelError, ModelRequest
from evrt.errors import NotFound, UsageError
from evrt.testing import Reply, ScriptedModel, call, calls
from journeys.examples.branching import claim
from journeys.examples.linear import signup
from journeys.obedient import obey, words
from journeys.talks import app_with, events_of, journey_events, replays, standing, state_of, talk
from runtime.logs import cut_off, put, watch


class Stage(StrEnum):
    OPEN = "open"
    DONE = "done"


class Item(evrt.JourneyState[Stage]):
    step: Stage = Stage.OPEN
    count: int = 0


ROUTES = (
    evrt.Route(signup, "sign_up", "The user wants an account.", keywords=["sign up", "account"]),
    evrt.Route(claim, "make_a_claim", "Something is damaged.", keywords=["damaged", "broken", "claim"]),
)


def a_router(**more: Any) -> evrt.IntentRouter:
    return evrt.IntentRouter("front desk", routes=ROUTES, model="router", **more)


def desk(*replies: Reply, router: evrt.IntentRouter | None = None) -> evrt.App:
    """An app with a router whose model says this, and the journeys it leads to, whose model does as it is told."""
    app = app_with(signup, claim, router or a_router())
    app.models["router"] = ScriptedModel(replies)
    return app


async def routed(app: evrt.App) -> list[tuple[str | None, str, float | None]]:
    """Where the conversation was sent to, by whom, and how certain that was."""
    events = [event.event for event in await journey_events(app) if event.type == "journey.routed"]
    return [(e.journey, e.by, e.confidence) for e in events]  # type: ignore[attr-defined]


async def test_a_model_chooses_the_journey_and_the_conversation_stays_there() -> None:
    """S4.10, B57"""
    async with desk(call("make_a_claim")) as app:
        router = app.target("front desk")
        first = await talk(app, router, "My cup is damaged.", words(("report", {"what": "cup", "amount": 9})))
        assert first[0].output == "(Ask what was damaged, and what it cost.)"
        assert (await state_of(app, "claim"))["step"] == "pay"
        assert await routed(app) == [("claim", "model", None)]
        model: Any = app.models["router"]
        assert len(model.requests) == 1
        offered = [tool["function"] for tool in model.requests[0].tools]
        assert [(one["name"], one["description"]) for one in offered] == [
            ("sign_up", "The user wants an account."),
            ("make_a_claim", "Something is damaged."),
        ]
        await replays(app, *first)


async def test_every_call_of_the_router_s_model_is_answered_so_that_the_history_can_be_sent_again() -> None:
    """S4.10, fault 63"""
    async with desk(calls(call("make_a_claim"), call("nowhere"))) as app:
        [turn] = await talk(app, app.target("front desk"), "It is damaged.")
        messages: Any = (await app.get(turn.run_id)).messages
        called = [one["id"] for message in messages for one in message.get("tool_calls") or ()]
        assert called == [message["tool_call_id"] for message in messages if message["role"] == "tool"]


async def test_a_model_that_names_no_route_that_there_is_is_told_which_there_are() -> None:
    """S4.10"""
    async with desk(call("cancel"), call("sign_up")) as app:
        [turn] = await talk(app, app.target("front desk"), "Hello!")
        [failed] = await events_of(app, turn.run_id, "tool_call.failed")
        assert failed.failure.message == "There is no tool 'cancel'. Tools: sign_up, make_a_claim."
        assert await routed(app) == [("signup", "model", None)]
        await replays(app, turn)


async def test_a_model_that_takes_no_route_answers_itself() -> None:
    """S4.10"""
    async with desk("What is it about?", call("sign_up")) as app:
        turns = await talk(app, app.target("front desk"), "Hello!", "I want to be one of you.")
        assert turns[0].output == "What is it about?"
        assert await routed(app) == [("signup", "model", None)]


@pytest.mark.parametrize("reply", [ModelError("overloaded", "nobody", retriable=False), "I cannot tell."])
async def test_keywords_choose_where_the_model_does_not(reply: Reply) -> None:
    """B57"""
    async with desk(reply) as app:
        [turn] = await talk(app, app.target("front desk"), "My account is broken, my whole account!")
        assert turn.status == "succeeded"
        assert await routed(app) == [("signup", "keywords", 0.5)]
        await replays(app, turn)


async def test_a_guess_that_is_not_certain_enough_does_not_count_and_a_default_does() -> None:
    """B57"""
    router = a_router(confidence_min=0.6, default="make_a_claim")
    async with desk("I cannot tell.", router=router) as app:
        await talk(app, router, "My account is broken.")
        assert await routed(app) == [("claim", "default", None)]


async def test_a_detector_of_one_s_own_may_guess() -> None:
    """B57"""

    class Certain:
        def detect(self, text: str) -> Detected | None:
            return Detected("sign_up", 0.9)

    router = a_router(detector=Certain())
    async with desk("Hm.", router=router) as app:
        await talk(app, router, "…")
        assert await routed(app) == [("signup", "keywords", 0.9)]


async def test_where_nobody_knows_the_failure_of_the_model_is_the_run_s() -> None:
    """B57"""
    async with desk(ModelError("overloaded", "nobody", retriable=False)) as app:
        [turn] = await talk(app, app.target("front desk"), "Hello!")
        assert turn.status == "failed"
        assert turn.failure is not None
        assert turn.failure.error_type == "ModelFailed"


async def test_a_conversation_can_be_rerouted_and_finds_the_journey_it_left_as_it_was() -> None:
    """B57"""
    async with desk(call("make_a_claim"), call("make_a_claim")) as app:
        router = app.target("front desk")
        await talk(app, router, "My cup is damaged.", words(("report", {"what": "cup", "amount": 9})))
        await app.journeys.reroute("front desk", "chat", to="signup", by="ann")
        [turn] = await talk(app, router, words("begin"))
        assert turn.output == "begun"
        await app.journeys.reroute("front desk", "chat")
        [back] = await talk(app, router, "And my cup?")
        assert back.output == "(Say that 9.0 for cup can be paid at once, and ask whether to do it.)"
        assert await routed(app) == [
            ("claim", "model", None),
            ("signup", "person", None),
            (None, "person", None),
            ("claim", "model", None),
        ]
        assert (await state_of(app, "signup"))["step"] == "name"
        await replays(app, turn, back)


async def test_only_what_the_router_leads_to_can_be_rerouted_to() -> None:
    """B57"""
    async with desk(call("sign_up")) as app:
        await talk(app, app.target("front desk"), "Hello!")
        with pytest.raises(NotFound, match=r"no route to 'nowhere'.*: signup, claim"):
            await app.journeys.reroute("front desk", "chat", to="nowhere")
        with pytest.raises(NotFound, match=r"no router 'signup'\. It has: front desk"):
            await app.journeys.reroute("signup", "chat")
        with pytest.raises(NotFound):
            await app.journeys.reroute("front desk", "another", to="claim")


async def test_a_journey_that_has_ended_is_left_and_begins_anew_when_it_is_chosen_again() -> None:
    """B57, B60"""
    async with desk(call("make_a_claim"), call("make_a_claim")) as app:
        router = app.target("front desk")
        small = ("report", {"what": "cup", "amount": 9})
        turns = await talk(app, router, "My cup is damaged.", words(small, "pay"))
        assert (await standing(app, "claim")).ended == "complete"
        [thanks] = await talk(app, router, "Thanks, bye!")
        assert thanks.output == ""
        [more] = await talk(app, router, "Thanks, but my plate is damaged, too.")
        assert more.output == "(Ask what was damaged, and what it cost.)"
        assert (await standing(app, "claim")).under_way
        assert len(await routed(app)) == 2
        await replays(app, *turns, thanks, more)


async def test_a_route_may_lead_to_an_agent_for_one_message() -> None:
    """S4.10"""
    app = evrt.App("memory://", models={"script": ScriptedModel(obey)})
    chatter = app.agent("chatter", model="script", instructions="Small talk.")
    router = evrt.IntentRouter(
        "desk", routes=[*ROUTES, evrt.Route(chatter, "chat", "Just talk.")], model="router"
    )
    app.models["router"] = ScriptedModel([call("chat"), call("chat")])
    app.add(router)
    async with app:
        turns = await talk(app, router, "Nice weather!", "Is it not?")
        assert [turn.output for turn in turns] == ["(Small talk.)"] * 2
        assert len(await routed(app)) == 2


async def test_a_journey_that_is_routed_to_knows_what_was_said_before() -> None:
    """S4.10"""
    model = ScriptedModel(["What is damaged?", "I see."])
    async with desk("How can I help?", call("make_a_claim")) as app:
        app.models["script"] = model
        turns = await talk(app, app.target("front desk"), "Hello!", "My cup is damaged.", "It is blue.")
        said = [message["content"] for message in model.requests[1].messages if message["role"] == "user"]
        assert said == ["Hello!", "My cup is damaged.", "It is blue."]
        await replays(app, *turns)


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_long_turn_goes_on_with_its_journey_in_another_chapter(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4.10"""
    monkeypatch.setattr(loop, "CONTINUE_EVERY_TURNS", 4)
    ends = Stage.DONE if terminal else Stage.OPEN
    many = evrt.Journey("many", Item, model="script", model_turns_max=20, terminal=[Stage.DONE], restart=True)

    @many.tool()
    def add(state: Item) -> int:
        state.count += 1
        if state.count == 3:
            state.step = ends
        return state.count

    router = evrt.IntentRouter("desk", routes=[evrt.Route(many, "count", "Count.")], model="router")
    app = app_with(many, router, model=ScriptedModel([*[call("add") for _ in range(10)], "Ten."]))
    app.models["router"] = ScriptedModel([call("count")])
    async with app:
        [turn] = await talk(app, router, "Count!")
        assert turn.output == "Ten."
        assert len(await events_of(app, turn.run_id, "run.continued")) >= 1
        assert (await state_of(app, "many"))["count"] == 10
        await replays(app, turn)


def test_routes_are_tools_and_their_calls_routes() -> None:
    """S4.10"""
    router = evrt.IntentRouter("desk")
    for route in ROUTES:
        router.add_route(route)
    schemas: Any = router.get_tool_schemas()
    assert [schema["function"]["name"] for schema in schemas] == ["sign_up", "make_a_claim"]
    assert schemas[0]["function"]["parameters"]["properties"] == {}
    assert router.resolve_tool_call("make_a_claim").journey is claim
    with pytest.raises(NotFound, match=r"no route 'nowhere'\. It has: sign_up, make_a_claim"):
        router.resolve_tool_call("nowhere")
    with pytest.raises(UsageError, match="a route sign_up already"):
        router.add_route(ROUTES[0])
    with pytest.raises(UsageError, match="cannot name a route"):
        router.add_route(evrt.Route(claim, "not a name", ""))


async def test_a_router_that_was_killed_anywhere_has_chosen_once() -> None:
    """S4.10, B57"""

    def choose(request: ModelRequest) -> Reply:
        return call("make_a_claim")

    def make() -> evrt.App:
        app = app_with(signup, claim, a_router())
        app.models["router"] = ScriptedModel(choose)
        return app

    app = make()
    watched = await watch(app)
    whole = await app.run("front desk", "It is damaged.", conversation="chat")
    digest = (await app.get(whole.run_id)).digest
    for position in watched.boundaries[1:-1]:
        again = put(make(), await cut_off(watched._log, position))
        if await (await again.log()).streams(whole.run_id):
            assert (await again.resume(whole.run_id)).output == whole.output
            assert (await again.get(whole.run_id)).digest == digest
            assert len(await routed(again)) == 1
