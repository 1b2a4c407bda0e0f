"""Turns: what each run took, told in events, and of runs that really took place; the turn log made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import evrt
from evrt import Context
from evrt.effects.contract import ModelReply
from evrt.events import Envelope, Event, JsonObject
from evrt.events import calls as c
from evrt.events import loop as lp
from evrt.events import run as r
from evrt.events.calls import Usage
from evrt.folds.turns import Routing, Turn, TurnRecord, turn_records
from evrt.projection import fold
from evrt.testing import ScriptedModel, call
from evrt.turn_log import write_turn_files
from evrt_projections.turns import PROJECTION
from pure.histories import placed

CONVERSATION = "conversation-a"
SECOND = 1_000_000


def turn(
    *events: Event, stream: str = "run-a", correlation: str = CONVERSATION, meta: JsonObject | None = None
) -> Any:
    history = placed(events, stream, correlation, meta or {"actor": "agent:helper"})
    found = fold(PROJECTION, history)
    return found[correlation, stream].value if found else None


REQUESTED = r.RunRequested(target="helper", kind="agent", input="Hi.")
ROUTED = lp.TierSelected(
    operation="tier#1", tier="mid", model="m-mid", rule="default", rationale="No other.", wanted="small"
)


def asked(operation: str, model: str = "m-mid") -> c.ModelCallRequested:
    return c.ModelCallRequested(
        operation=operation, digest="d", model=model, parameters={}, messages_digest="00", messages_count=1
    )


def replied(operation: str, **usage: Any) -> c.ModelCallCompleted:
    message: JsonObject = {"role": "assistant", "content": "x"}
    return c.ModelCallCompleted(operation=operation, message=message, provider="acme", usage=Usage(**usage))


def test_a_turn_sums_up_what_its_run_took() -> None:
    """B33, S2.7"""
    found = turn(
        REQUESTED,
        r.RunStarted(),
        ROUTED,
        asked("model#1"),
        c.ModelCallFailed(
            operation="model#1",
            failure=r.Failure(error_type="overloaded", message="no"),
            final=False,
            usage=Usage(input_tokens=5, cost_usd=0.01),
        ),
        replied("model#1", input_tokens=10, output_tokens=3, cost_usd=0.02),
        c.ToolCallRequested(operation="look#1", digest="d", tool="look", effect="read"),
        c.ToolCallRequested(operation="look#1", digest="d", tool="look", effect="read", attempt=2),
        c.ToolCallRequested(operation="look#2", digest="d", tool="look", effect="read"),
        asked("summary#1", "m-small"),
        replied("summary#1", input_tokens=1, output_tokens=1),
        lp.ContextCompacted(
            operation="context#1", kind="step_compaction", first=1, last=3, tokens_before=9, tokens_after=4
        ),
        r.RunEmitted(operation="emit#1", name="skill.used", payload={"name": "charts"}),
        r.RunEmitted(operation="emit#2", name="progress", payload={"name": "not a skill"}),
        r.RunSucceeded(output="x"),
    )
    assert found.model_dump(exclude={"requested_at", "started_at", "ended_at", "cost_usd"}) == {
        "conversation": CONVERSATION,
        "target": "helper",
        "status": "succeeded",
        "tier_used": "mid",
        "model_name": "m-mid",
        "provider": "acme",
        "prompt_tokens": 16,
        "completion_tokens": 4,
        "tool_calls": 2,
        "skill_used": "charts",
        "history_compacted": True,
        "routing": {"tier": "mid", "rule": "default", "rationale": "No other.", "wanted": "small"},
    }
    assert found.cost_usd == pytest.approx(0.03)
    assert found.requested_at < found.started_at < found.ended_at


@pytest.mark.parametrize(
    "end, status",
    [
        (r.RunFailed(failure=r.Failure(error_type="E", message="m")), "failed"),
        (r.RunCancelled(), "cancelled"),
        (r.RunTimedOut(timeout_seconds=1), "timed_out"),
        (r.RunStepLimitReached(model_turns_max=3), "step_limit"),
    ],
)
def test_a_turn_ends_as_its_run_does_and_nothing_after_that_belongs_to_it(end: Event, status: str) -> None:
    """B33"""
    found = turn(REQUESTED, end, ROUTED)
    assert (found.status, found.tier_used) == (status, None)


def test_a_run_of_a_child_is_no_turn_and_a_run_alone_is_one() -> None:
    """B33"""
    assert turn(REQUESTED, meta={"parent": "run-b"}) is None
    alone = turn(REQUESTED, stream="run-a", correlation="run-a")
    assert (alone.conversation, alone.target) == (None, "helper")


def in_a_row(*streams: tuple[str, str, bool]) -> list[Envelope]:
    """Runs asked for one after another on one log: (run, correlation, whether it has ended)."""
    history: list[Envelope] = []
    for run, correlation, ended in streams:
        events: list[Event] = [REQUESTED, r.RunStarted(), *([r.RunSucceeded()] if ended else [])]
        for envelope in placed(events, run, correlation, {}):
            at = len(history) + 1
            history.append(envelope._replace(position=at, time=at * SECOND))
    return history


def test_turns_are_counted_in_their_conversation_from_zero_and_unfinished_ones_count_and_are_not_told() -> (
    None
):
    """B33, S2.7"""
    history = in_a_row(
        ("run-z", CONVERSATION, True),
        ("run-m", "conversation-b", True),
        ("run-k", CONVERSATION, False),
        ("run-a", CONVERSATION, True),
        ("run-q", "run-q", True),
    )
    documents = sorted(fold(PROJECTION, history).values(), key=lambda one: one.first)
    records = turn_records(documents, {CONVERSATION: "chat/1", "conversation-b": None})
    assert [(one.conversation_id, one.turn_index, one.run) for one in records] == [
        ("chat/1", 0, "run-z"),
        ("conversation-b", 0, "run-m"),
        ("chat/1", 2, "run-a"),
        (None, 0, "run-q"),
    ]
    counts: dict[str, int] = {}
    in_pieces = [one for document in documents for one in turn_records([document], counts=counts)]
    assert [one.turn_index for one in in_pieces] == [one.turn_index for one in records]
    assert [one.latency_ms for one in records] == [1_000.0] * 4
    assert records[0].timestamp.isoformat() == "1970-01-01T00:00:03+00:00"


def test_a_record_has_these_fields_and_no_others() -> None:
    """B33"""
    wanted = {"conversation_id", "turn_index", "tier_used", "model_name", "provider", "prompt_tokens"} | {
        *("completion_tokens", "latency_ms", "cost_cents", "tool_calls", "skill_used", "history_compacted"),
        *("timestamp", "routing_decision"),
    }
    assert set(TurnRecord.model_fields) - wanted == {"conversation_ref", "run", "target", "status"}
    assert wanted <= set(TurnRecord.model_fields)
    [record] = turn_records(fold(PROJECTION, in_a_row(("run-a", "run-a", True))).values())
    with pytest.raises(ValidationError):
        TurnRecord.model_validate({**record.model_dump(), "extra": 1})
    with pytest.raises(ValidationError, match="timezone"):
        TurnRecord.model_validate({**record.model_dump(), "timestamp": record.timestamp.replace(tzinfo=None)})
    assert Turn().model_config["frozen"]


@evrt.tool(effect="read")
def look() -> str:
    """Looks."""
    return "seen"


async def test_the_turn_log_of_real_runs_and_its_files_named_by_refs(tmp_path: Path) -> None:
    """B33, S2.7, fault 43"""
    paid = ModelReply({"role": "assistant", "content": "Yes."}, usage=Usage(input_tokens=7, cost_usd=0.5))
    script = ScriptedModel([call("look"), paid, paid, paid])
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}", models={"script": script})
    helper = app.agent("helper", model="script", tools=[look])

    @app.workflow
    async def routed(ctx: Context[Any]) -> str:
        ctx.record(lp.TierSelected, tier="small", model="script", rule="boilerplate", rationale="Small talk.")
        await ctx.emit("skill.used", {"name": "greeting"})
        return "Hi."

    wicked = "../../outside/" + "x" * 300
    async with app:
        await app.run(helper, "One?", conversation=wicked)
        await app.run(helper, "Two?", conversation="c2")
        await app.run(routed, conversation=wicked)
        await app.run(helper, "Alone?")
        records = [record async for record in app.turn_log()]
        assert [(one.conversation_id, one.turn_index, one.tool_calls, one.cost_cents) for one in records] == [
            (wicked, 0, 1, 50.0),
            ("c2", 0, 0, 50.0),
            (wicked, 1, 0, None),
            (None, 0, 0, 50.0),
        ]
        assert records[0].model_name == "script"
        assert records[2].routing_decision == Routing(
            tier="small", rule="boilerplate", rationale="Small talk."
        )
        assert (records[2].tier_used, records[2].skill_used) == ("small", "greeting")
        assert [one async for one in app.turn_log("c2")] == [records[1]]
        with pytest.raises(evrt.NotFound):
            [one async for one in app.turn_log("nobody's")]

        folder = tmp_path / "turns"
        paths = write_turn_files(records, folder)
        assert sorted(path.name for path in paths) == sorted(
            f"{name}.jsonl" for name in {one.conversation_ref or "runs-alone" for one in records}
        )
        assert set(folder.iterdir()) == set(paths)
        [lines] = [
            path.read_text("utf-8").splitlines()
            for path in paths
            if len(path.read_text("utf-8").splitlines()) == 2
        ]
        assert [json.loads(line)["turn_index"] for line in lines] == [0, 1]
        assert json.loads(lines[0])["conversation_id"] == wicked
        assert TurnRecord.model_validate_json(lines[0]) == records[0]
        assert write_turn_files(records, folder) == paths, "Written again, files are replaced."


def test_a_folder_that_cannot_be_written_to_is_told_in_words(tmp_path: Path) -> None:
    """fault 43"""
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(evrt.Unavailable, match="turn log cannot be written"):
        write_turn_files(
            turn_records(fold(PROJECTION, in_a_row(("run-a", "run-a", True))).values()), tmp_path / "file"
        )
