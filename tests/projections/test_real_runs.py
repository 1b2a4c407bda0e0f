"""The built-in views of runs that really took place, on a real file, beside what the core says of the same runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evrt
from docs_projections import BUILT_IN
from evrt import Context
from evrt.events.calls import Usage
from evrt.folds.chats import last_assistant_message, messages_of
from evrt.testing import ScriptedModel, call, check_projection, history_of
from evrt_projections.usage import Price, usage


@evrt.tool(effect="read")
def weather(city: str) -> dict[str, Any]:
    """The weather in a city."""
    return {"city": city, "sunny": True}


def script(request: evrt.ModelRequest) -> Any:
    last = request.messages[-1]
    if last["content"] == "Break.":
        raise evrt.ModelError("bad_request", "No.", retriable=False)
    if last["role"] == "user":
        return call("weather", city="Turin")
    return evrt.ModelReply(
        {"role": "assistant", "content": "Sunny."}, usage=Usage(input_tokens=9, cost_usd=0.25)
    )


async def test_a_conversation_of_three_runs_reads_the_same_from_its_views(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'evrt.db'}"
    app = evrt.App(url, models={"script": ScriptedModel(script)})
    helper = app.agent("helper", model="script", tools=[weather])
    async with app:
        first = await app.run(helper, "Umbrella?", conversation="c1", user="ann")
        failed = await app.run(helper, "Break.", conversation="c1", user="ann")
        last = await app.run(helper, "And tomorrow?", conversation="c1", user="ann")
        assert [run.status for run in (first, failed, last)] == ["succeeded", "failed", "succeeded"]
        each = [(await app.get(run.run_id)) for run in (first, failed, last)]
        views = await app.views()

        conversation = each[0].state.conversation
        assert conversation is not None
        said = [one.value for one in await views.family("messages", conversation)]
        assert messages_of(said) == [*each[0].messages, *each[2].messages]
        assert messages_of(said, include_failed_runs=True) == [m for run in each for m in run.messages]
        assert last_assistant_message(messages_of(said)) == {"role": "assistant", "content": "Sunny."}

        header = (await views.view("conversations", conversation)).value
        assert (header.runs, header.ended, header.last_answer) == (3, {"succeeded": 2, "failed": 1}, "Sunny.")
        assert header.owner == each[0].state.user

        used = (await views.list("usage", where={"user": header.owner})).documents
        assert len(used) == 5
        assert sum(one.value.cost_usd or 0.0 for one in used) == sum(
            run.state.cost_usd or 0.0 for run in each
        )

        for run in each:
            assert (await views.view("runs", run.id)).value == run.state
            steps = {one.part: one.value.status for one in await views.family("steps", run.id)}
            assert steps.keys() == run.journal.operations.keys()
        facts = (await views.list("audit", where={"run": failed.run_id}, oldest_first=True)).documents
        assert [fact.value.what for fact in facts] == ["run.requested", "run.claimed", "run.failed"]
    for projection in BUILT_IN:
        if projection.name not in ("agents", "journeys", "memory", "questions", "systems"):
            check_projection(projection, [history_of(url)])


async def test_a_question_waits_in_its_view_until_it_is_answered(tmp_path: Path) -> None:
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}")

    @app.workflow
    async def publish(ctx: Context[Any], text: str) -> Any:
        await ctx.memory.set("draft", text)
        return await ctx.ask("Publish?", options=["yes", "no"])

    async with app:
        waiting = await app.run(publish, "Words.", user="ann")
        views = await app.views()
        [question] = (await views.list("questions", where={"status": "open"})).documents
        assert (question.key, question.value.question, question.value.options) == (
            waiting.run_id,
            "Publish?",
            ("yes", "no"),
        )
        await app.answer(waiting.run_id, "yes", by="ben")
        assert (await views.list("questions", where={"status": "open"})).documents == []
        assert (await app.resume(waiting.run_id)).output == "yes"
        answered = (await views.view("questions", waiting.run_id, question.part)).value
        assert (answered.status, answered.by) == ("answered", "ben")
        [remembered] = (await views.list("memory", where={"run": waiting.run_id})).documents
        assert (remembered.part, remembered.value.value) == ("draft", "Words.")


async def test_other_prices_build_the_view_of_usage_anew_and_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'evrt.db'}"
    costs: list[list[float | None]] = []
    for prices in (
        {"script": Price(input=1_000_000, output=0)},
        {"script": Price(input=2_000_000, output=0)},
    ) * 2:
        priced = usage(prices, name="usage_at_list_price")
        app = evrt.App(url, models={"script": ScriptedModel(script)}, projections=[priced])
        helper = app.agent("helper", model="script", tools=[weather])
        async with app:
            if not costs:
                await app.run(helper, "Umbrella?")
            listed = await (await app.views()).list("usage_at_list_price", limit=1)
            costs.append([document.value.cost_usd for document in listed.documents])
    assert costs == [[9.0], [18.0], [9.0], [18.0]]
