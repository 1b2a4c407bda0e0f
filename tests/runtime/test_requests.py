"""A model's request is recorded by reference, and can be rebuilt exactly and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

import evrt
from evrt.effects.contract import ModelRequest
from evrt.errors import NotFound, UnusableLog
from evrt.events import JsonObject
from evrt.events.calls import ModelCallCompleted, ModelCallRequested, ToolCallCompleted
from evrt.testing import ScriptedModel, call, calls
from runtime.logs import Ctx


@evrt.tool(effect="read")
async def look(number: int) -> dict[str, int]:
    """Looks at a number."""
    return {"number": number}


@evrt.tool(effect="read")
async def other(text: str) -> str:
    return text


def as_given(request: ModelRequest) -> JsonObject:
    """A request as the scripted model was given it, in the shape of a rebuilt one."""
    shape: JsonObject = {"model": request.model, "messages": list(request.messages)}
    if request.tools:
        shape["tools"] = list(request.tools)
    return {**shape, **request.parameters}


async def rebuilt(app: evrt.App, run: str) -> list[JsonObject]:
    """All requests of a run, rebuilt from its events."""
    history = await app.get(run)
    operations = [e.event.operation for e in history.events if isinstance(e.event, ModelCallRequested)]
    return [history.request(operation) for operation in operations]


async def test_every_request_of_an_agent_loop_is_rebuilt_as_it_was_given(url: str) -> None:
    def script(request: ModelRequest) -> Any:
        turn = len([m for m in request.messages if m["role"] == "assistant"])
        if turn == 1:
            return calls(
                call("look", number=1), call("look", number=2), call("nope"), call("look", number="x")
            )
        if turn < 4:
            return call("other", text="72 °F 🌡") if turn % 2 else call("look", number=turn)
        return "Done."

    model = ScriptedModel(script)
    async with evrt.App(url, models={"m": model}) as app:
        app.agent("agent", model="m", instructions="Be brief.", tools=[look, other], temperature=0.2)
        run = await app.run("agent", [{"role": "user", "content": "Hello", "name": "ann"}])
        assert run.output == "Done."
        assert await rebuilt(app, run.run_id) == [as_given(request) for request in model.requests]
        assert len(model.requests) == 5


LISTS: list[list[list[str]]] = [
    [["a"], ["a", "b"], ["a", "b", "c"]],
    [["a", "b"], ["x", "b"], ["x", "y"]],
    [["a", "b", "c"], ["a"], ["a", "d"]],
    [["a"], ["a"], ["a"]],
    [["a", "b"], [], ["a", "b"]],
    [["a", "a", "a"], ["a", "a"], ["a", "a", "a", "a"]],
]


@pytest.mark.parametrize(
    "lists", LISTS, ids=["extended", "rewritten", "shortened", "same", "emptied", "alike"]
)
async def test_lists_of_messages_may_grow_change_and_shrink(url: str, lists: Sequence[list[str]]) -> None:
    model = ScriptedModel(lambda request: f"reply {len(request.messages)}")
    async with evrt.App(url, models={"m": model}) as app:

        @app.workflow
        async def talk(ctx: Ctx) -> None:
            for texts in lists:
                await ctx.model([{"role": "user", "content": text} for text in texts], model="m")

        run = await app.run(talk)
        assert await rebuilt(app, run.run_id) == [as_given(request) for request in model.requests]
        added = [
            e.event.added
            for e in (await app.get(run.run_id)).events
            if isinstance(e.event, ModelCallRequested)
        ]
        assert added[0] == tuple({"role": "user", "content": text} for text in lists[0])
        if lists[1][: len(lists[0])] == lists[0]:
            assert len(added[1]) == len(lists[1]) - len(lists[0])
        assert (await app.replay(run.run_id)).complete


async def test_a_conversation_kept_in_a_list_records_only_what_is_new(url: str) -> None:
    model = ScriptedModel(lambda request: "x" * 1_000)
    async with evrt.App(url, models={"m": model}) as app:

        @app.workflow
        async def talk(ctx: Ctx) -> None:
            messages: list[JsonObject] = []
            for turn in range(20):
                messages.append({"role": "user", "content": f"turn {turn}"})
                reply = await ctx.model(messages, model="m")
                messages.append(reply.message)

        run = await app.run(talk)
        history = await app.get(run.run_id)
        sizes = [
            len(orjson.dumps(e.event.added))
            for e in history.events
            if isinstance(e.event, ModelCallRequested)
        ]
        assert max(sizes) < 1_200
        assert await rebuilt(app, run.run_id) == [as_given(request) for request in model.requests]


async def test_each_branch_has_a_line_of_calls_of_its_own(url: str) -> None:
    model = ScriptedModel(lambda request: f"{request.messages[-1]['content']}!")
    async with evrt.App(url, models={"m": model}) as app:

        @app.workflow
        async def talk(ctx: Ctx) -> list[str]:
            async def branch(name: str) -> str:
                first = await ctx.model(name, model="m")
                again: list[JsonObject] = [{"role": "user", "content": name}, first.message]
                return (await ctx.model([*again, {"role": "user", "content": "more"}], model="m")).text

            return await ctx.gather(branch("a"), branch("b"))

        run = await app.run(talk)
        assert run.output == ["more!", "more!"]
        history = await app.get(run.run_id)
        intents = [e.event for e in history.events if isinstance(e.event, ModelCallRequested)]
        assert {(i.operation, i.previous) for i in intents} == {
            (f"gather#1:{n}/model#{k}", None if k == 1 else f"gather#1:{n}/model#1")
            for n in (0, 1)
            for k in (1, 2)
        }
        for intent in intents:
            history.request(intent.operation)


async def test_a_transcript_of_the_codes_own_refers_to_replies_and_results(url: str) -> None:
    model = ScriptedModel([call("look", number=3), "Done."])
    async with evrt.App(url, models={"m": model}) as app:

        @app.workflow
        async def loop(ctx: Ctx) -> str:
            transcript = ctx.transcript()
            transcript.add("user", "Look.")
            reply = await ctx.model(transcript, model="m", tools=[look])
            transcript.add_reply(reply)
            transcript.add_result(await ctx.perform(reply.tool_calls[0], [look]))
            return (await ctx.model(transcript, model="m", tools=[look])).text

        run = await app.run(loop)
        history = await app.get(run.run_id)
        second = [e.event for e in history.events if isinstance(e.event, ModelCallRequested)][1]
        assert second.added == (
            {"reply_of": "model#1"},
            {"result_of": "look#1", "tool_call_id": "call_1_0"},
        )
        assert second.tools is None
        assert await rebuilt(app, run.run_id) == [as_given(request) for request in model.requests]


async def test_the_bytes_of_a_model_call_do_not_grow_with_the_conversation(url: str) -> None:
    turns = 99

    def script(request: ModelRequest) -> Any:
        turn = len(request.messages) // 2
        return call("look", number=turn + 1_000) if turn < turns else "Done."

    async with evrt.App(url, models={"m": ScriptedModel(script)}) as app:
        app.agent("agent", model="m", tools=[look], model_turns_max=turns + 1)
        run = await app.run("agent", "Go")
        assert run.output == "Done."
        log = await app.log()
        rows = await log.read_stream(run.run_id)
        requested = [row.payload_length for row in rows if row.type == "model_call.requested"]
        assert len(requested) == turns + 1
        # Two digits more in ordinals and counts, here and there.
        assert requested[99] - requested[10] <= 12
        history = await app.get(run.run_id)
        assert len(history.request("model#100")["messages"]) == 199  # type: ignore[arg-type]


async def test_the_set_of_tools_is_recorded_once_per_run(url: str) -> None:
    model = ScriptedModel(lambda request: "Hi.")
    async with evrt.App(url, models={"m": model}) as app:

        @app.workflow
        async def talk(ctx: Ctx) -> None:
            for tools in ([look], [look, other], [look], []):
                await ctx.model("Hello", model="m", tools=tools)

        run = await app.run(talk)
        intents = [
            e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ModelCallRequested)
        ]
        assert [intent.tools is not None for intent in intents] == [True, True, False, False]
        assert [request.get("tools") for request in await rebuilt(app, run.run_id)] == [
            [look.to_openai_format()],
            [look.to_openai_format(), other.to_openai_format()],
            [look.to_openai_format()],
            None,
        ]


@pytest.mark.parametrize("kind", [ModelCallRequested, ModelCallCompleted, ToolCallCompleted])
async def test_a_changed_event_is_noticed_when_a_request_is_rebuilt(kind: Any) -> None:
    model = ScriptedModel([call("look", number=3), "Done."])
    async with evrt.App("memory://", models={"m": model}) as app:
        app.agent("agent", model="m", tools=[look])
        run = await app.get((await app.run("agent", "Look.")).run_id)
    events = list(run.events)
    changes: dict[Any, JsonObject] = {
        ModelCallRequested: {"added": ({"role": "user", "content": "Look away."},)},
        ModelCallCompleted: {"message": {"role": "assistant", "content": "No."}},
        ToolCallCompleted: {"result": {"number": 4}},
    }
    place = next(index for index, envelope in enumerate(events) if isinstance(envelope.event, kind))
    changed = events[place].event.model_copy(update=changes[kind])
    events[place] = events[place]._replace(event=changed)
    with pytest.raises(UnusableLog, match="do not give the digest that was recorded"):
        evrt.Run(run.id, events).request("model#2")
    with pytest.raises(NotFound, match="has no model call model#9"):
        run.request("model#9")


async def test_after_a_request_that_was_too_large_a_shorter_one_goes_through(url: str) -> None:
    """What a program does whose conversation has become too long."""
    model = ScriptedModel(lambda request: "Hi.")
    async with evrt.App(url, models={"m": model}) as app:

        @app.workflow
        async def talk(ctx: Ctx) -> str:
            await ctx.model([{"role": "user", "content": "first"}], model="m", tools=[look])
            too_much = [{"role": "user", "content": "first"}, {"role": "user", "content": "x" * 2_000_000}]
            with pytest.raises(evrt.ModelFailed, match="over the limit"):
                await ctx.model(too_much, model="m", tools=[look, other])  # type: ignore[arg-type]
            again: list[JsonObject] = [
                {"role": "user", "content": "first"},
                {"role": "user", "content": "short"},
            ]
            return (await ctx.model(again, model="m", tools=[look, other])).text

        run = await app.run(talk)
        assert run.output == "Hi."
        assert len(model.requests) == 2
        history = await app.get(run.run_id)
        assert history.request("model#3") == as_given(model.requests[1])
        assert (await app.replay(run.run_id)).complete


async def test_a_message_that_is_none_is_refused() -> None:
    async with evrt.App("memory://", models={"m": ScriptedModel(["Hi."])}) as app:

        @app.workflow
        async def talk(ctx: Ctx) -> list[str]:
            texts = []
            for message in ("text", {"content": "no role"}, {"role": 1}, None):
                with pytest.raises(evrt.InvalidInput) as refused:
                    await ctx.model([message], model="m")  # type: ignore[list-item]
                texts.append(str(refused.value))
            return texts

        run = await app.run(talk)
        assert all(text.startswith("A chat message is an object with a role, not ") for text in run.output)
