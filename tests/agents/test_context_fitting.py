"""A loop that is kept within its budget, on a real log: what it sent before can be had again, whole, at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import evrt
from evrt import Context
from evrt.agents.compaction import Compaction
from evrt.agents.context_fitting import ContextFitting
from evrt.agents.history_compaction import HistoryCompaction
from evrt.agents.limits import LoopLimits
from evrt.agents.loop import Loop
from evrt.agents.pruning import Pruning, apply_plan
from evrt.agents.routing import TurnFacts
from evrt.agents.settings import LoopSettings
from evrt.agents.tier_choice import TierChoice, facts_of
from evrt.agents.tiers import TierConfig, Tiers
from evrt.agents.tokens import count_tokens
from evrt.effects.contract import ModelRequest
from evrt.errors import UsageError
from evrt.events import JsonObject
from evrt.events.loop import ContextCompacted, TierSelected
from evrt.testing import ScriptedModel, call

STEPS = 12


def words(text: str) -> int:
    return len(text.split())


@evrt.tool(effect="read")
def read(page: int) -> str:
    """A page."""
    return f"page {page} " + "word " * 300


def reads(request: ModelRequest) -> Any:
    """Reads page after page, as many as it may, and then answers. The pages read so far are counted in the ids."""
    messages: Any = request.messages
    calls = [one for message in messages for one in message.get("tool_calls", ())]
    last = int(calls[-1]["id"].rpartition("_")[2]) if calls else -1
    if last + 1 >= STEPS:
        return "Read."
    function = {"name": "read", "arguments": f'{{"page": {last + 1}}}'}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call_{last + 1}", "type": "function", "function": function}],
    }


class Reader:
    """An app with a workflow that runs the loop, fitted so, and the models that it calls."""

    def __init__(self, tmp_path: Path, fitting: Callable[[], ContextFitting], small: Any = None) -> None:
        self.large = ScriptedModel(reads)
        self.small = ScriptedModel(small or (lambda request: "Pages were read."))
        self.app = evrt.App(
            f"sqlite:///{tmp_path / 'evrt.db'}", models={"large": self.large, "small": self.small}
        )

        @self.app.workflow(name="reader")
        async def reader(ctx: Context[Any], task: str) -> Any:
            async def prompt() -> str:
                return "You read pages."

            settings = LoopSettings(
                name="reader",
                prompt=prompt,
                tools=lambda: (read,),
                limits=LoopLimits(model_turns_max=STEPS + 2),
                choose_model=lambda ctx, turn: ("large", {}),
                compact=fitting(),
            )
            return (await Loop(ctx, settings).run([{"role": "user", "content": task}])).output

        self.reader = reader

    async def run(self) -> evrt.Result:
        return await self.app.run(self.reader, "Read all pages.")


def small() -> tuple[str | None, JsonObject]:
    return "small", {}


async def requests_of(app: evrt.App, run: str, name: str) -> list[Sequence[JsonObject]]:
    """The messages of every request, rebuilt from the log."""
    history = await app.get(run)
    found: list[Any] = [
        history.request(operation)["messages"]
        for operation in history.journal.operations
        if operation.startswith(f"{name}#")
    ]
    return found


async def compacted(app: evrt.App, run: str) -> list[ContextCompacted]:
    events = (await app.get(run)).events
    return [one.event for one in events if isinstance(one.event, ContextCompacted)]


async def test_every_request_stays_within_the_budget_and_every_original_can_be_rebuilt(
    tmp_path: Path,
) -> None:
    """S2.25, S2.26, S2.28, S2.29, fault 36"""
    reader = Reader(tmp_path, lambda: ContextFitting(small, Compaction(1_000, words)))
    async with reader.app:
        result = await reader.run()
        assert result.output == "Read."
        sent = [list(request.messages) for request in reader.large.requests]
        assert len(sent) == STEPS + 1
        assert max(count_tokens(messages, words) for messages in sent) <= 1_000
        floor = [
            {"role": "system", "content": "You read pages."},
            {"role": "user", "content": "Read all pages."},
        ]
        assert all(messages[:2] == floor for messages in sent), (
            "Who it is and what it is to do is never touched."
        )

        events = await compacted(reader.app, result.run_id)
        summaries = [one for one in events if one.summary is not None]
        assert 1 <= len(summaries) <= STEPS // 2
        assert [one.summary for one in summaries] == ["Pages were read."] * len(summaries)
        assert len(summaries) == len(reader.small.requests), "Each by one call of the small model."
        assert all(one.tokens_after < one.tokens_before for one in events)
        assert {one.kind for one in events} == {"step_compaction"}

        assert await requests_of(reader.app, result.run_id, "model") == sent
        small_sent = [list(request.messages) for request in reader.small.requests]
        assert await requests_of(reader.app, result.run_id, "compaction") == small_sent

        pages = {page: f"page {page} " + "word " * 300 for page in range(STEPS)}
        whole = {
            one["content"]
            for messages in await requests_of(reader.app, result.run_id, "model")
            for one in messages
            if one["role"] == "tool"
        }
        assert set(pages.values()) <= whole, "Every page has been seen whole, and can be seen so again."
        replay = await reader.app.replay(result.run_id)
        assert (replay.ok, replay.complete) == (True, True)


async def test_a_small_model_that_fails_leaves_the_context_as_it_was_while_it_fits(tmp_path: Path) -> None:
    """S2.28"""

    def broken(request: ModelRequest) -> Any:
        raise evrt.ModelError("bad_request", "No.", retriable=False)

    reader = Reader(tmp_path, lambda: ContextFitting(small, Compaction(1_000, words)), broken)
    async with reader.app:
        result = await reader.run()
        assert result.output == "Read."
        events = await compacted(reader.app, result.run_id)
        assert {one.summary for one in events} == {None}
        assert max(count_tokens(one.messages, words) for one in reader.large.requests) <= 1_000


async def test_a_budget_that_the_task_alone_is_over_ends_the_run_before_any_call(tmp_path: Path) -> None:
    """S2.26"""
    reader = Reader(tmp_path, lambda: ContextFitting(small, Compaction(5, words)))
    async with reader.app:
        result = await reader.run()
        assert result.status == "failed"
        assert result.failure is not None
        assert result.failure.error_type == "ContextTooLarge"
        assert reader.large.requests == []


async def test_pruning_shortens_results_of_older_steps_and_the_log_has_them_whole(tmp_path: Path) -> None:
    """B39"""
    reader = Reader(tmp_path, lambda: ContextFitting(small, pruning=Pruning(1_000, 2, words)))
    async with reader.app:
        result = await reader.run()
        sent = [list(request.messages) for request in reader.large.requests]
        assert await requests_of(reader.app, result.run_id, "model") == sent
        last = [one["content"] for one in sent[-1] if one["role"] == "tool"]
        assert [words(str(content)) > 300 for content in last] == [False] * (STEPS - 2) + [True] * 2
        events = await compacted(reader.app, result.run_id)
        assert {(one.kind, one.summary) for one in events} == {("tool_result_pruning", None)}
        assert [one for event in events for one in event.shortened] == list(range(3, 3 + 2 * (STEPS - 2), 2))
        assert (await reader.app.replay(result.run_id)).ok


async def test_a_run_that_was_cut_off_goes_on_with_the_context_that_it_had(tmp_path: Path) -> None:
    """S2.26, S2.28"""

    def fitting() -> ContextFitting:
        return ContextFitting(small, Compaction(1_000, words), pruning=Pruning(700, 2, words))

    (tmp_path / "whole").mkdir()
    whole = Reader(tmp_path / "whole", fitting)
    async with whole.app:
        wanted = await whole.app.get((await whole.run()).run_id)
    reached = asyncio.Event()

    async def hangs(request: ModelRequest) -> Any:
        if len(cut.large.requests) == 8:
            reached.set()
            await asyncio.Event().wait()
        return reads(request)

    cut = Reader(tmp_path, fitting)
    cut.large = cut.app.models["large"] = ScriptedModel(hangs)
    async with cut.app:
        running = await cut.app.start(cut.reader, "Read all pages.")
        await reached.wait()
        running._task.cancel()
        await asyncio.wait({running._task})
    again = Reader(tmp_path, fitting)
    async with again.app:
        result = await again.app.resume(running.run_id)
        assert (result.status, result.output) == ("succeeded", "Read.")
        assert (await again.app.get(running.run_id)).digest == wanted.digest
        assert 0 < len(again.large.requests) < len(whole.large.requests)


# -------------------------------------------------------------------------------------------- history


def chat(turns: int) -> list[JsonObject]:
    said: list[JsonObject] = [{"role": "system", "content": "persona"}]
    for turn in range(turns):
        said.append({"role": "user", "content": f"question {turn}"})
        said.append({"role": "assistant", "content": f"answer {turn}"})
    return [*said, {"role": "user", "content": "now"}]


@pytest.mark.parametrize("turns, summarised", [(9, None), (10, None), (11, range(1, 13)), (20, range(1, 31))])
def test_of_more_than_ten_turns_of_history_the_last_five_are_kept(
    turns: int, summarised: range | None
) -> None:
    """B35"""
    messages = chat(turns)
    floor = {0, len(messages) - 1}
    history = HistoryCompaction()
    older = history.middle_to_summarise(messages, floor)
    found = history.compact(messages, "small talk", floor)
    if summarised is None:
        assert (older, found) == (None, None)
        return
    assert older == [messages[index] for index in summarised]
    assert found is not None
    after = apply_plan(found.plan, messages)
    assert after == [
        messages[0],
        {
            "role": "system",
            "content": "Earlier in this conversation: small talk",
            "metadata": {"kind": "history_compaction"},
        },
        *messages[-11:],
    ]
    assert found.floor == (0, len(after) - 1)
    assert history.compact(messages, None, floor) is None


def test_a_history_keeps_at_least_one_turn_and_no_more_than_it_may_have() -> None:
    """B35"""
    assert (HistoryCompaction().turns_max, HistoryCompaction().turns_kept) == (10, 5)
    for wrong in ((10, 0), (4, 5)):
        with pytest.raises(UsageError, match="turns_kept"):
            HistoryCompaction(*wrong)


async def test_the_history_of_a_conversation_is_summarised_once_in_a_run(tmp_path: Path) -> None:
    """B35"""
    models = {
        "large": ScriptedModel([call("read", page=1), "Done."]),
        "small": ScriptedModel(["They talked."]),
    }
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}", models=models)

    @app.workflow
    async def chats(ctx: Context[Any]) -> Any:
        settings = LoopSettings(
            name="chats",
            tools=lambda: (read,),
            choose_model=lambda ctx, turn: ("large", {}),
            compact=ContextFitting(small, history=HistoryCompaction()),
        )
        return (await Loop(ctx, settings).run([{"role": "user", "content": "now"}], chat(12)[1:-1])).output

    async with app:
        result = await app.run(chats)
        assert result.output == "Done."
        [event] = await compacted(app, result.run_id)
        assert (event.kind, event.first, event.last, event.summary) == (
            "history_compaction",
            0,
            13,
            "They talked.",
        )
        assert len(models["large"].requests[0].messages) == 1 + 2 * 5 + 1
        assert (await app.replay(result.run_id)).ok


# ---------------------------------------------------------------------------------------------- tiers


async def chosen(tmp_path: Path, choice: TierChoice, steps: int = 3) -> tuple[list[TierSelected], list[Any]]:
    """What is recorded of a choice, and the models of so many steps, of which the second only reasoned."""
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}")
    models: list[Any] = []

    @app.workflow
    async def work(ctx: Context[Any]) -> None:
        models.clear()
        for step in range(steps):
            choice.reasoned = step == 2
            models.append(choice(ctx, step))

    async with app:
        result = await app.run(work)
        assert result.status == "succeeded", result
        events = (await app.get(result.run_id)).events
    return [one.event for one in events if isinstance(one.event, TierSelected)], models


TIERS = {"small": "s", "mid": TierConfig("m", {"temperature": 0}), "frontier": "f"}


async def test_a_task_is_routed_step_by_step_and_each_change_is_recorded_with_its_reason(
    tmp_path: Path,
) -> None:
    """B30, S2.4"""
    choice = TierChoice(Tiers(**TIERS), parameters={"temperature": 1, "top_p": 1})  # type: ignore[arg-type]
    events, models = await chosen(tmp_path, choice, 5)
    assert [(one.tier, one.model, one.rule, one.wanted) for one in events] == [
        ("frontier", "f", "first_step", None),
        ("mid", "m", "default", None),
        ("frontier", "f", "after_reasoning", None),
        ("mid", "m", "default", None),
    ]
    assert events[0].rationale == "The first step plans the task."
    assert models[0] == ("f", {"temperature": 1, "top_p": 1})
    assert models[1] == ("m", {"temperature": 0, "top_p": 1})
    assert len(models) == 5
    assert choice.small() == ("s", {})


async def test_a_turn_of_a_conversation_is_routed_once(tmp_path: Path) -> None:
    """B31, B32, S2.4"""
    choice = TierChoice(Tiers(frontier="f"), facts=TurnFacts(3, "thanks"))
    events, models = await chosen(tmp_path, choice)
    assert [(one.tier, one.rule, one.wanted) for one in events] == [("frontier", "boilerplate", "small")]
    assert models == [("f", {})] * 3


def test_a_choice_goes_on_from_its_state() -> None:
    """B30"""
    choice = TierChoice(Tiers(frontier="f"))
    choice._last, choice.reasoned = ("mid", "default"), True
    again = TierChoice(Tiers(frontier="f"))
    again.restore(choice.to_state())
    assert (again._last, again.reasoned) == (("mid", "default"), True)


def test_the_facts_of_a_turn_are_how_many_went_before_and_what_was_said_last() -> None:
    """B31"""
    history = chat(2)[1:-1]
    said: list[JsonObject] = [{"role": "user", "content": [{"type": "text", "text": "Thanks!"}]}]
    assert facts_of(said, history) == TurnFacts(2, "Thanks!")
    assert facts_of([], pin="small") == TurnFacts(0, "", pin="small")


# ------------------------------------------------------------------------------------- an app's agent


async def test_an_agent_is_given_all_of_it_by_its_arguments(tmp_path: Path) -> None:
    """B30, B31, B35, B39, S2.29"""
    large = ScriptedModel(lambda request: f"I have read {len(request.messages)} messages.")
    tiny = ScriptedModel(lambda request: "They talked.")
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}", models={"large": large, "tiny": tiny})
    helper = app.agent(
        "helper",
        instructions="You are Ada.",
        tiers=evrt.Tiers(small="tiny", mid="large"),
        tier="mid",
        history_compaction=HistoryCompaction(turns_max=3, turns_kept=2),
        pruning=Pruning(),
        compaction=Compaction(10_000),
    )
    async with app:
        read = [(await app.run(helper, f"Question {turn}?", conversation="c1")).output for turn in range(6)]
        turns = [turn async for turn in app.turn_log("c1")]
    counts = [int(text.split()[3]) for text in read]
    assert counts == [2, 4, 6, 8, 1 + 1 + 2 * 2 + 1, 1 + 1 + 2 * 2 + 1], (
        "From the fifth turn on, two are kept."
    )
    assert [turn.history_compacted for turn in turns] == [False] * 4 + [True] * 2
    assert {(turn.tier_used, turn.model_name) for turn in turns} == {("mid", "large")}
    assert [str(request.messages[0]["content"])[:21] for request in tiny.requests] == [
        "You keep the notes of"
    ] * 2
    assert {turn.routing_decision.rule for turn in turns if turn.routing_decision} == {"pin"}


async def test_what_a_summary_says_is_not_said_in_the_conversation(tmp_path: Path) -> None:
    """S2.29"""
    reader = Reader(tmp_path, lambda: ContextFitting(small, Compaction(1_000, words)))
    async with reader.app:
        result = await reader.app.run(reader.reader, "Read all pages.", conversation="c1")
        run = await reader.app.get(result.run_id)
        said = await reader.app.message_history("c1")
    assert len(reader.small.requests) > 0
    assert said == run.messages
    assert not any("Pages were read." in str(message) for message in said)
    assert len(said) == 1 + 2 * STEPS + 1
