"""``check_projection`` finds what makes a projection no pure fold, and says it in one paragraph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

import evrt
from evrt.errors import UsageError
from evrt.events import Envelope
from evrt.events.calls import ModelCallCompleted, Usage
from evrt.projection import Columns, Correlation, Projection, Stream, fold
from evrt.testing import ScriptedModel, check_projection, history_of
from histories import golden
from pure.histories import placed


class Spend(BaseModel):
    model_config = ConfigDict(frozen=True)

    calls: int = 0
    tokens: int = 0
    seen: Any = None


def by_run(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith("run-") else None


def spent(before: Spend, envelope: Envelope) -> Spend | None:
    event = envelope.event
    if not isinstance(event, ModelCallCompleted):
        return before
    return Spend(calls=before.calls + 1, tokens=before.tokens + event.usage.output_tokens)


GOOD = Projection[Spend](
    name="spend",
    version=1,
    document=Spend,
    handles=frozenset({"model_call.completed"}),
    key=by_run,
    source=Stream,
    initial=lambda key, part: Spend(),
    evolve=spent,
    indexes=("calls",),
)


def call(number: int) -> ModelCallCompleted:
    return ModelCallCompleted(
        operation=f"model#{number}", message={"content": []}, usage=Usage(output_tokens=3)
    )


HISTORY = [
    envelope._replace(position=position)
    for position, envelope in enumerate(
        [
            *placed([call(1), call(2), call(3)], "run-a", "conversation-a"),
            *placed([call(1), call(2)], "run-b", "conversation-a"),
            *placed([call(1)], "run-c", "conversation-b"),
        ],
        start=1,
    )
]


def test_a_pure_fold_passes() -> None:
    check_projection(GOOD, [HISTORY, HISTORY[:3]])
    [first, *_] = fold(GOOD, HISTORY).values()
    assert (first.key, first.value) == ("run-a", Spend(calls=3, tokens=9))


def evolving(change: Callable[[Spend, Envelope], Any]) -> Projection[Spend]:
    return replace(GOOD, evolve=change)


def mutating_the_document(before: Spend, envelope: Envelope) -> Spend:
    seen = before.seen or []
    seen.append(envelope.position)
    return Spend(seen=list(seen))


def mutating_the_event(before: Spend, envelope: Envelope) -> Spend:
    envelope.event.__dict__["message"]["content"].append("mine now")
    return before


def failing_on_erased(before: Spend, envelope: Envelope) -> Spend:
    return Spend(tokens=envelope.event.usage.output_tokens)  # type: ignore[attr-defined]


calls_so_far = count()
shared = Spend(seen=[])


def mutating_the_initial(before: Spend, envelope: Envelope) -> Spend:
    shared.seen.append(1)
    return Spend(calls=1)


@pytest.mark.parametrize(
    "projection, said",
    [
        pytest.param(
            evolving(lambda before, _: Spend(calls=next(calls_so_far))), "two different documents", id="state"
        ),
        pytest.param(
            evolving(lambda before, _: Spend(tokens=time_ns())), "two different documents", id="clock"
        ),
        pytest.param(
            evolving(mutating_the_document), "changes the document it is given", id="changed document"
        ),
        pytest.param(evolving(mutating_the_event), "changes the event it is given", id="changed event"),
        pytest.param(
            replace(GOOD, initial=lambda key, part: shared, evolve=mutating_the_initial),
            "changes what `initial` returns",
            id="changed initial",
        ),
        pytest.param(
            replace(GOOD, key=lambda columns: columns.event.operation),  # type: ignore[attr-defined]
            "more than the clear columns",
            id="key",
        ),
        pytest.param(
            replace(GOOD, key=lambda columns: columns.correlation, source=Stream),
            "says that all events of",
            id="source",
        ),
        pytest.param(replace(GOOD, part=lambda envelope: str(next(calls_so_far))), "and then to", id="part"),
        pytest.param(evolving(lambda before, _: Spend(seen="x" * 70_000)), "cannot be kept", id="size"),
        pytest.param(evolving(lambda before, _: Spend(seen=(1, 2))), "its JSON changes", id="JSON"),
        pytest.param(evolving(failing_on_erased), "erased", id="erased"),
        pytest.param(
            replace(GOOD, indexes=("seen",), evolve=lambda before, _: Spend(seen=[1])),
            "index on seen",
            id="index",
        ),
        pytest.param(
            replace(GOOD, indexes=("seen",), evolve=lambda before, _: Spend(seen=2**63)),
            "64 bits",
            id="number",
        ),
        pytest.param(evolving(lambda before, _: {"calls": 1}), "of dict and not of Spend", id="class"),
        pytest.param(replace(GOOD, part=lambda envelope: 7), "has to be a text", id="text"),  # type: ignore[arg-type, return-value]
        pytest.param(replace(GOOD, initial=lambda key: Spend()), "makes `initial`", id="initial"),  # type: ignore[arg-type, misc]
        pytest.param(replace(GOOD, handles=frozenset({"run.wished"})), "handles no event", id="nothing"),
    ],
)
def test_what_is_no_pure_fold_is_refused(projection: Projection[Any], said: str) -> None:
    with pytest.raises(AssertionError) as raised:
        check_projection(projection, [HISTORY])
    text = str(raised.value)
    assert said in text
    assert text.startswith("The projection spend ")
    assert "\n" not in text


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"handles": "model_call.completed"}, "write frozenset({…}) around it"),
        ({"indexes": "calls"}, "write (…,) around it"),
        ({"version": "1"}, "has version '1'"),
        ({"version": 0}, "versions are 1, 2, 3"),
        ({"document": dict}, "which is no pydantic model"),
        ({"source": "run-a"}, "'run-a' where a function belongs"),
        ({"indexes": ("spent",)}, "Its fields: calls, tokens, seen."),
    ],
)
def test_what_cannot_be_a_projection_is_told_when_it_is_made(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        replace(GOOD, **wrong)
    assert said in str(raised.value)


def test_a_key_that_is_spread_over_streams_needs_a_source_that_is_too() -> None:
    check_projection(replace(GOOD, key=lambda columns: columns.correlation, source=Correlation), [HISTORY])


def test_a_history_is_read_from_a_log_and_from_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'evrt.db'}"
    app = evrt.App(url, models={"script": ScriptedModel(["Sunny."])})
    helper = app.agent("helper", model="script")
    assert app.run_sync(helper, "Umbrella?").status == "succeeded"
    events = history_of(url)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    check_projection(GOOD, [events])
    [golden_file, *_] = golden.FOLDER.glob("agent-with-tools.jsonl")
    assert history_of(golden_file)[0].type == "conversation.started"


async def test_a_history_is_read_inside_an_event_loop_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'evrt.db'}"
    async with evrt.App(url, models={"script": ScriptedModel(["Sunny."])}) as app:
        helper = app.agent("helper", model="script")
        await app.run(helper, "Umbrella?")
        assert history_of(url)[-1].type == "run.succeeded"


def test_a_document_is_nested_as_deeply_as_it_can_be_read() -> None:
    """pydantic writes deeper JSON than it reads."""

    def nested(levels: int) -> Projection[Spend]:
        deepest: Any = "here"
        for _ in range(levels):
            deepest = [deepest]
        return evolving(lambda before, envelope: Spend(calls=before.calls + 1, seen=deepest))

    check_projection(nested(190), [HISTORY])
    with pytest.raises(AssertionError, match=r"could not be read back: .*recursion limit"):
        check_projection(nested(240), [HISTORY])
