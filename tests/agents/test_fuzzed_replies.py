"""Whatever a model replies, an agent's run ends in a status of its own, and what goes back to the model is well formed."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import evrt
from evrt.effects.contract import ModelReply, ModelRequest
from evrt.events.calls import Usage
from evrt.log.check import check
from evrt.testing import ScriptedModel, call, calls

EXAMPLES = max(10, (settings.default or settings()).max_examples // 4)
STATUSES = {"succeeded", "step_limit", "failed", "waiting"}
CODE = (
    "Traceback",
    'File "',
    "object has no attribute",
    "object is not",
    "unexpected keyword",
    "has no len()",
)
"""What gives away that it was evrt's own code that failed."""
HUGE = "x" * 2_000_000


class Answer(BaseModel):
    number: int


@evrt.tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


@evrt.tool(effect="read")
def look(place: str, depth: Any = None) -> list[Any]:
    """Look at a place."""
    return [place, depth]


@evrt.tool(effect="write")
def book(room: str, idempotency_key: str) -> str:
    """Book a room."""
    return f"booked {room}"


@evrt.tool
async def draw(ctx: evrt.Context[Any], sides: int = 6) -> int:
    """Cast a die."""
    return int(ctx.random() * sides)


@evrt.tool(confirm=True)
def pay(amount: float, idempotency_key: str) -> str:
    """Pay somebody."""
    return f"paid {amount}"


TOOLS = (double, look, book, draw, pay)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# ------------------------------------------------------------------------------------------ replies

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["\ud800", nested(300), 2**70]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)
names = st.sampled_from(
    [
        "double",
        "look",
        "book",
        "draw",
        "pay",
        "remember",
        "recall",
        "forget",
        "ask_user",
        "",
        "no/such",
        "n" * 300,
    ]
)
reasonable = st.sampled_from(
    [
        {"number": 2},
        {"number": "two"},
        {"place": "here"},
        {"place": "here", "depth": nested(100)},
        {"room": "Mole"},
        {"sides": 20},
        {"amount": 2.5},
        {"amount": -1},
        {"key": "city", "value": "Turin", "scope": "user"},
        {"key": "city", "value": {"a": nested(40)}, "scope": "conversation"},
        {"key": "", "value": None},
        {"query": "city"},
        {"question": "Which one?"},
        {"question": "Which one?", "options": ["a", "a"]},
        {},
    ]
)
odd_texts = st.sampled_from(
    [
        "",
        " ",
        "{",
        "null",
        "[]",
        '"text"',
        "NaN",
        '{"number": NaN}',
        '{"number": 1e999}',
        '{"number": 123456789012345678901234567890}',
        '{"place": "\\ud800"}',
        '{"place": "\ud800"}',
        '{"place": "here", "depth": ' + "[" * 300 + "]" * 300 + "}",
        '{"place": "here", "depth": ' + "[" * 250 + "]" * 250 + "}",
        '{"place": "here", "depth": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"number": 1, "number": 2}',
        '{"place": "\\u0000"}',
    ]
)
arguments = st.one_of(reasonable.map(json.dumps), odd_texts, st.text(max_size=8), reasonable, anything)
functions = st.one_of(
    st.fixed_dictionaries({"name": names, "arguments": arguments}),
    st.fixed_dictionaries({"name": names, "arguments": reasonable.map(json.dumps)}),
    st.fixed_dictionaries({}, optional={"name": anything, "arguments": arguments}),
    anything,
)
ids: st.SearchStrategy[Any] = st.sampled_from(
    ["a", "b", "c", "", "missing", "call_0_0", "\ud800", None, 7, 0, True, ["a"], {}]
)
a_call = st.one_of(
    st.fixed_dictionaries({"id": ids, "type": st.just("function"), "function": functions}),
    st.fixed_dictionaries(
        {}, optional={"id": ids, "type": anything, "function": functions, "index": anything}
    ),
    anything,
)
contents = st.one_of(
    st.none(),
    st.sampled_from(["Well.", "[FINAL] 2", '{"number": 2}', '{"number": "x"}', HUGE, "\ud800", "", " "]),
    st.just([{"type": "text", "text": "Well."}]),
    anything,
)
tool_calls = st.one_of(
    st.lists(a_call, min_size=1, max_size=4),
    st.lists(a_call, min_size=1, max_size=4),
    st.sampled_from([None, "double", {}, {"id": "a"}, 7, []]),
    a_call.map(lambda one: [one] * 500),
)
messages = st.one_of(
    st.fixed_dictionaries({"role": st.just("assistant"), "content": contents, "tool_calls": tool_calls}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": contents}),
    st.fixed_dictionaries(
        {}, optional={"role": anything, "content": contents, "tool_calls": tool_calls, "refusal": anything}
    ),
)
usages = st.sampled_from(
    [
        Usage(),
        Usage(input_tokens=10, output_tokens=3, cost_usd=0.1),
        Usage(input_tokens=-10, output_tokens=-(2**40), cost_usd=-1.0),
        Usage(input_tokens=2**62, cost_usd=float("nan")),
        Usage(cost_usd=float("inf")),
        None,
        {"input_tokens": "many"},
    ]
)
replies = st.builds(
    ModelReply,
    message=messages,
    finish_reason=st.sampled_from(["stop", "tool_calls", "length", None, "", "junk", "\ud800", 7, ["stop"]]),
    usage=st.just(Usage()) | usages,
    provider=st.sampled_from([None, "p", 7]),
    model_returned=st.sampled_from([None, "m", "\ud800", 7]),
)
agents = st.sampled_from(
    [
        {},
        {"output": Answer},
        {"markers": True},
        {"terminal_tools": ["double"], "stop_on_text": False},
        {"cached_reads": ["look"], "require_tool_call": True},
        {"limits": evrt.LoopLimits(model_turns_max=4, tokens_max=1000, cost_usd_max=1.0)},
    ]
)


# --------------------------------------------------------------------------------------- what holds


def script_of(given: list[Any]) -> Any:
    """These replies, one after another, and a text for whoever asks for more."""
    left = list(given)
    return lambda request: left.pop(0) if left and request.tools else "Well."


async def hold(given: list[Any], options: dict[str, Any], folder: Path) -> evrt.Result:
    """A run of an agent that is replied to like this, with everything that has to be true of any."""
    model = ScriptedModel(script_of(given))
    url = f"sqlite:///{folder / 'evrt.db'}"
    async with evrt.App(url, models={"script": model}) as app:
        usual: dict[str, Any] = {"memory": True, "questions": evrt.Questions(), "model_turns_max": 6}
        app.agent("agent", model="script", tools=TOOLS, **usual | options)
        result = await app.run("agent", "Go.", user="ann", conversation="c")
        assert result.status in STATUSES
        if result.status == "failed":
            assert result.failure is not None
            told = f"{result.failure.error_type}: {result.failure.message}"
            assert result.failure.message, told
            assert not any(word in told for word in CODE), told
        for request in model.requests:
            well_formed(request)
        asked = len(model.requests)
        report = await app.replay(result.run_id)
        assert report.complete if result.status != "waiting" else report.ok, report.divergence
        assert len(model.requests) == asked
    findings = check(url)
    assert findings.ok, findings.findings
    return result


def well_formed(request: ModelRequest) -> None:
    """What a provider takes: each message of a role, each result the answer to a call of the reply before it."""
    json.dumps(request.messages, ensure_ascii=False).encode()
    open_calls: list[str] = []
    for message in request.messages:
        role = message.get("role")
        assert role in ("system", "user", "assistant", "tool"), message
        content = message.get("content")
        assert content is None or isinstance(content, str | list), message
        if role == "tool":
            assert message["tool_call_id"] == open_calls.pop(0), message
            continue
        assert open_calls == [], f"Not answered: {open_calls}"
        assert "tool_calls" not in message or role == "assistant"
        made: Any = message.get("tool_calls") or []
        assert isinstance(made, list)
        assert message.get("tool_calls") != []
        for one in made:
            assert isinstance(one["id"], str)
            assert one["id"]
            assert one["type"] == "function"
            assert isinstance(one["function"]["name"], str)
            assert isinstance(one["function"]["arguments"], str)
            open_calls.append(one["id"])
        assert len(set(open_calls)) == len(open_calls)
    assert open_calls == []


BAD = {"function": {"name": "double", "arguments": "{}"}}
FOUND = [
    [{"role": "assistant", "tool_calls": [BAD, BAD]}],
    [{"role": 7, "content": "Hello."}],
    [{"content": {}}],
    [{"tool_calls": []}],
    [{"tool_calls": [{"id": "a", "function": {"name": "double", "arguments": "{}"}}]}],
    [ModelReply({"content": "Well."}, usage={"input_tokens": "many"})],  # type: ignore[arg-type]  # as a bad model does
]
"""The smallest replies that once did harm."""


@pytest.mark.parametrize("given", FOUND)
async def test_replies_that_once_did_harm_do_none(given: list[Any], tmp_path: Path) -> None:
    await hold(given, {"require_tool_call": True}, tmp_path)


@settings(max_examples=EXAMPLES, phases=[phase for phase in Phase if phase is not Phase.shrink])
@given(given=st.lists(replies, min_size=1, max_size=4), options=agents)
def test_no_replies_whatsoever_end_a_run_otherwise_than_in_a_status_of_its_own(
    given: list[Any], options: dict[str, Any]
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        asyncio.run(hold(given, options, folder))
    finally:
        shutil.rmtree(folder)


async def test_a_call_that_fails_at_once_taints_none_that_was_asked_for_beside_it(tmp_path: Path) -> None:
    """The same is asked of a person in a resume as before it: nothing, as the model had read nothing yet."""
    model = ScriptedModel(
        [calls(call("look"), call("book", room="Mole")), call("book", room="Po"), "Booked."]
    )
    async with evrt.App("memory://", models={"script": model}) as app:
        app.agent("agent", model="script", tools=TOOLS, approvals=evrt.Approvals())
        result = await app.run("agent", "Go.")
        assert (result.status, result.waiting_for) == ("waiting", ("approve#1",))
        await app.decide(result.run_id, True, by="ann")
        assert (await app.resume(result.run_id)).output == "Booked."
        report = await app.replay(result.run_id)
        assert report.complete, report.divergence
