"""Agents that ask other agents, or hand the conversation over to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import evrt
from evrt import App, RunResult, SubAgent, Tool, UsageError, tool
from evrt.agents.sub_agents import NESTING_MAX, SUMMARY_PROMPT, shared_messages
from evrt.effects.contract import ModelRequest
from evrt.events.run import ChildStarted, RunRequested
from evrt.testing import Reply, ScriptedModel, call, calls
from runtime.logs import Ctx, run_off, same_after_every_crash, watch, work_off


@tool(effect="read")
def look_up(city: str) -> str:
    return f"{city}: 26 °C"


def last(request: ModelRequest) -> Any:
    return request.messages[-1]


def model(app: App, name: str, says: Callable[[ModelRequest], Reply]) -> str:
    app.models[name] = ScriptedModel(says)
    return name


def asks_once(wanted: Reply, otherwise: str = "So: {}") -> Callable[[ModelRequest], Reply]:
    """A model that calls tools once, and then says what the last result was."""

    def says(request: ModelRequest) -> Reply:
        return otherwise.format(last(request)["content"]) if last(request)["role"] == "tool" else wanted

    return says


def family(app: App, *, mode: Any = "delegate", context: Any = "full") -> None:
    """A chief, who looks something up and then turns to a writer."""
    app.agent("writer", model=model(app, "writes", lambda r: f"A poem on {last(r)['content']}"))

    def chief(request: ModelRequest) -> Reply:
        results = sum(message["role"] == "tool" for message in request.messages)
        if request.messages[0]["content"] == SUMMARY_PROMPT:
            return f"A summary of {request.messages[1]['content']}"
        if results == 0:
            return call("look_up", city="Turin")
        if results == 1:
            return call(f"{'delegate_to' if mode == 'delegate' else 'hand_off_to'}_writer", message="spring")
        return f"It says: {last(request)['content']}"

    app.agent(
        "chief",
        model=model(app, "leads", chief),
        instructions="You lead.",
        tools=[look_up],
        sub_agents=[SubAgent("writer", mode=mode, context=context, description="Writes poems.")],
    )


async def request_of_child(app: App, run: str) -> RunRequested:
    child = next(e.event.child for e in (await app.get(run)).events if isinstance(e.event, ChildStarted))
    requested = (await app.get(child)).events[0].event
    assert isinstance(requested, RunRequested)
    return requested


async def test_what_an_agent_delegates_is_a_run_whose_output_the_model_reads() -> None:
    """B7"""
    async with App("memory://") as app:
        family(app)
        watched = await watch(app)
        run = await run_off(app, "chief", "A poem, please.")
        assert run.output == "It says: A poem on spring"
        requested = await request_of_child(app, run.run_id)
        assert requested.parent == run.run_id
        assert requested.delegation is not None
        assert (requested.delegation.mode, requested.delegation.above) == ("delegate", ("chief",))
        [offered] = [
            t["function"]
            for t in app.models["leads"].requests[0].tools  # type: ignore[attr-defined]
            if t["function"]["name"] == "delegate_to_writer"
        ]
        assert offered["description"].endswith("Writes poems.")
        assert (await app.replay(run.run_id)).ok
        await same_after_every_crash(app, watched, run.run_id)


async def test_a_handoff_has_the_last_word() -> None:
    """B7"""
    async with App("memory://") as app:
        family(app, mode="handoff")
        run = await run_off(app, "chief", "A poem, please.")
        assert run.output == "A poem on spring"
        assert len(app.models["leads"].requests) == 2  # type: ignore[attr-defined]
        assert (await app.replay(run.run_id)).ok


@pytest.mark.parametrize("context", ["full", "summary", "message_only"])
async def test_a_sub_agent_is_given_as_much_of_the_conversation_as_was_said(context: str) -> None:
    """B7"""
    async with App("memory://") as app:
        family(app, context=context)
        run = await run_off(app, "chief", "A poem, please.")
        assert run.output == "It says: A poem on spring"
        given: Any = (await request_of_child(app, run.run_id)).input
        asked = {"role": "user", "content": "spring"}
        if context == "message_only":
            assert given == "spring"
        elif context == "summary":
            assert given[1] == asked
            assert given[0]["content"].startswith(
                "What has been said so far, summed up:\n\nA summary of user: A poem"
            )
            assert "Turin: 26 °C" in given[0]["content"]
            assert "You lead." not in given[0]["content"]
        else:
            assert [m["role"] for m in given] == ["user", "assistant", "tool", "user"]
            assert (given[0]["content"], given[-1]) == ("A poem, please.", asked)
            assert given[2]["content"] == "Turin: 26 °C"
        assert (await app.replay(run.run_id)).ok


def test_calls_without_their_results_and_instructions_are_not_shared() -> None:
    said: list[Any] = [
        {"role": "system", "content": "Secret instructions."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}, {"id": "2"}]},
        {"role": "tool", "tool_call_id": "2", "content": "b"},
        {"role": "tool", "tool_call_id": "1", "content": "a"},
        {"role": "assistant", "content": "Now I ask.", "tool_calls": [{"id": "1"}]},
    ]
    assert shared_messages(said) == [*said[1:5], {"role": "assistant", "content": "Now I ask."}]


def test_a_call_is_not_answered_by_a_later_one_of_its_id() -> None:
    said: list[Any] = [
        {"role": "assistant", "content": "First.", "tool_calls": [{"id": "1"}]},
        {"role": "user", "content": "Never mind."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "b"},
    ]
    assert shared_messages(said) == [{"role": "assistant", "content": "First."}, *said[1:]]


async def test_a_sub_agent_that_fails_is_an_error_the_model_reads() -> None:
    """B7"""
    async with App("memory://") as app:

        class Broken:
            key = "broken"

            async def run(self, ctx: Ctx) -> None:
                raise ValueError("no ink")

        app.register(Broken())
        app.agent(
            "chief",
            model=model(app, "leads", asks_once(call("delegate_to_broken", message="write"))),
            sub_agents=[SubAgent("broken")],
        )
        run = await run_off(app, "chief", "Go.")
        assert run.status == "succeeded"
        assert "SubAgentFailed" in run.output
        assert "broken failed: no ink" in run.output


async def test_whoever_was_handed_the_conversation_may_hand_it_back() -> None:
    """B7"""
    async with App("memory://") as app:
        back = call("hand_back", status="unable", message="I do not do taxes.")
        app.agent("clerk", model=model(app, "clerks", asks_once(back)))
        app.agent(
            "chief",
            model=model(app, "leads", asks_once(call("hand_off_to_clerk", message="taxes"))),
            sub_agents=[SubAgent("clerk", mode="handoff")],
        )
        watched = await watch(app)
        run = await run_off(app, "chief", "My taxes!")
        assert run.output == 'So: {"handed_back":"unable","message":"I do not do taxes."}'
        await same_after_every_crash(app, watched, run.run_id)
        assert (await run_off(app, "clerk", "Hello.")).output.startswith("So: ")
        offered = [
            [t["function"]["name"] for t in r.tools]
            for r in app.models["clerks"].requests  # type: ignore[attr-defined]
        ]
        assert offered[0] == ["hand_back"]
        assert offered[-1] == []


async def test_two_handoffs_at_once_are_one_and_an_error() -> None:
    """B7"""
    async with App("memory://") as app:
        for name in ("left", "right"):
            app.agent(name, model=model(app, name, lambda r: "Here I am."))
        both = calls(call("hand_off_to_left", message="you"), call("hand_off_to_right", message="or you"))
        app.agent(
            "chief",
            model=model(app, "leads", asks_once(both)),
            sub_agents=[SubAgent("left", mode="handoff"), SubAgent("right", mode="handoff")],
        )
        watched = await watch(app)
        run = await run_off(app, "chief", "Go.")
        assert run.output == "Here I am."
        started = [e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ChildStarted)]
        assert [child.target for child in started] == ["left"]
        await same_after_every_crash(app, watched, run.run_id)


async def test_several_pieces_of_work_are_delegated_at_once() -> None:
    """B7"""
    async with App("memory://") as app:
        app.agent("echo", model=model(app, "echoes", lambda r: f"{last(r)['content']}!"))
        both = calls(call("delegate_to_echo", message="a"), call("delegate_to_echo", message="b"))

        def leads(request: ModelRequest) -> Reply:
            results = [str(m["content"]) for m in request.messages if m["role"] == "tool"]
            return " ".join(results) or both

        app.agent(
            "chief",
            model=model(app, "leads", leads),
            sub_agents=[SubAgent("echo", context="message_only")],
        )
        run = await app.run("chief", "Both.")
        assert set(run.waiting_for) == {f"gather#1:{n}/delegate_to_echo#1/echo#1" for n in (0, 1)}
        await work_off(app)
        assert (await app.get(run.run_id)).state.output == "a! b!"


async def test_agents_that_ask_one_another_in_a_circle_come_to_an_end() -> None:
    """B7"""
    async with App("memory://") as app:
        for name, other in (("ping", "pong"), ("pong", "ping")):
            asks = asks_once(call(f"delegate_to_{other}", message="and you?"), "{}")
            app.agent(name, model=model(app, name, asks), sub_agents=[SubAgent(other)])
        run = await run_off(app, "ping", "Go.")
        assert "ping → pong → ping → pong → ping → pong" in run.output
        log = await app.log()
        assert len(await log.streams("run-")) == NESTING_MAX + 1


async def test_a_sub_agent_of_a_run_that_is_not_trusted_is_not_trusted_either() -> None:
    """B7"""
    async with App("memory://") as app:
        seen: list[tuple[str, ...]] = []

        class Watcher:
            key = "watcher"

            async def run(self, ctx: Ctx) -> RunResult:
                seen.append(ctx.untrusted)
                return RunResult("seen", [{"role": "assistant", "content": "seen"}])

        app.register(Watcher())

        @app.workflow
        async def parent(ctx: Ctx, read: bool) -> list[Any]:
            if read:
                await ctx.call(look_up, "Turin")
            before = ctx.untrusted
            await ctx.child("watcher", "look")
            return [before, ctx.untrusted]

        assert (await run_off(app, "parent", False)).output == [[], ["child:watcher"]]
        assert (await run_off(app, "parent", True)).output == [
            ["tool:look_up"],
            ["tool:look_up", "child:watcher"],
        ]
        assert seen == [(), ("tool:look_up",)]


async def test_the_answer_of_a_sub_agent_of_ones_own_making_is_its_final_output() -> None:
    """B7, S1.6"""
    async with App("memory://") as app:

        class Poet:
            key = "poet"

            async def run(self, ctx: Ctx) -> RunResult:
                return RunResult("Roses are red.", [{"role": "assistant", "content": "Roses are red."}])

        app.register(Poet())
        app.agent(
            "chief",
            model=model(app, "leads", asks_once(call("hand_off_to_poet", message="go"))),
            sub_agents=[SubAgent("poet", mode="handoff")],
        )
        assert (await run_off(app, "chief", "Go.")).output == "Roses are red."


async def test_whoever_cancels_an_agent_cancels_those_it_asked() -> None:
    """B7"""
    async with App("memory://") as app:

        @app.workflow
        async def slow(ctx: Ctx, message: str) -> None:
            await ctx.wait_for_signal("never")

        app.agent(
            "chief",
            model=model(app, "leads", asks_once(call("delegate_to_slow", message="go"))),
            sub_agents=[SubAgent(slow, context="message_only")],
        )
        run = await app.run("chief", "Go.")
        [child] = [
            e.event.child for e in (await app.get(run.run_id)).events if isinstance(e.event, ChildStarted)
        ]
        await app.resume(child)
        await app.cancel(run.run_id)
        await app.resume(child)
        assert (await app.get(child)).status == "cancelled"


def one(name: str) -> Tool:
    return Tool.from_function(lambda: None, name=name, effect="pure")


@pytest.mark.parametrize(
    "sub_agents, tools, said",
    [
        ([SubAgent("a"), SubAgent("a")], [], "delegate_to_a, and that is sub-agent a already"),
        ([SubAgent("a b"), SubAgent("a.b")], [], "delegate_to_a_b, and that is sub-agent a b already"),
        ([SubAgent("a")], [one("delegate_to_a")], "delegate_to_a, and that is a tool already"),
        (["a"], [], r"takes evrt.SubAgent\(agent, …\), not 'a'"),
    ],
)
def test_sub_agents_that_would_share_a_name_are_refused(sub_agents: Any, tools: Any, said: str) -> None:
    """B7"""
    with pytest.raises(UsageError, match=said):
        evrt.App("memory://").agent("chief", sub_agents=sub_agents, tools=tools)


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda: SubAgent("x" * 60), "64 characters at most"),
        (lambda: SubAgent("a", mode="ask"), "mode is 'delegate' or 'handoff', not 'ask'"),  # type: ignore[arg-type]
        (lambda: SubAgent("a", context="all"), "context is 'full'"),  # type: ignore[arg-type]
    ],
)
def test_a_sub_agent_that_cannot_be_is_refused(made: Callable[[], SubAgent], said: str) -> None:
    """B7"""
    with pytest.raises(UsageError, match=said):
        made()


async def test_nobody_gets_round_what_needs_leave_by_asking_another() -> None:
    """B7, B10: the policy of the agent above holds for one that has none."""
    sent: list[str] = []

    @evrt.tool
    def send(text: str) -> str:
        sent.append(text)
        return "sent"

    scripts: dict[str, list[Reply]] = {
        "chief": [call("delegate_to_clerk", message="Send it."), "Done."],
        "clerk": [call("send", text="it"), "Sent."],
    }
    app = evrt.App("memory://", models={name: ScriptedModel(script) for name, script in scripts.items()})
    app.agent("clerk", model="clerk", tools=[send])
    chief = app.agent(
        "chief",
        model="chief",
        sub_agents=[evrt.SubAgent("clerk")],
        approvals=evrt.Approvals(writes="always"),
    )
    async with app:
        parked = await app.run(chief, "Send it.")
        await work_off(app)
        [asked] = (await (await app.views()).list("questions")).documents
        assert asked.value.question == "tool call send"
        assert sent == []
        assert (await app.get(parked.run_id)).state.reason == "child"
