"""Questions: what they take for an answer, how often a model may ask, and callbacks that answer in this process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import UUID

import pytest
from pydantic import BaseModel

import evrt
from evrt.agents.markers import Answer, Decision, Final, Question, Reasoning, decision
from evrt.agents.questions import NOBODY, question_key
from evrt.errors import Conflict, InvalidInput, UsageError
from evrt.events.calls import QuestionAsked
from evrt.testing import ScriptedModel, call

Ctx: TypeAlias = evrt.Context[Any]
COLOURS = [
    evrt.Option(label="red", description="like a rose"),
    evrt.Option(label="green", description="like grass"),
    evrt.Option(label="blue"),
]


USED_UP = "You have asked the one question that this run may ask"


class Address(BaseModel):
    street: str
    number: int


def asking(app: evrt.App, *args: Any, **how: Any) -> evrt.Workflow:
    """A workflow that asks one thing, and returns the answer with the name of its type."""

    @app.workflow
    async def asks(ctx: Ctx) -> list[Any]:
        answer = await ctx.ask("Which?", *args, **how)
        return [answer, type(answer).__name__]

    return asks


async def count(app: evrt.App, run: str, type: str) -> int:
    return [e.type for e in (await app.get(run)).events].count(type)


# ------------------------------------------------------------------------- what is taken for an answer

TAKEN: list[tuple[Any, dict[str, Any], Any, Any]] = [
    # options, how, given, the answer
    (None, {}, "anything", "anything"),
    (None, {}, {"a": 1}, {"a": 1}),
    (["red", "green"], {}, "red", "red"),
    (["red", "green"], {}, "  green\n", "green"),
    (["red", "green"], {}, "mauve", "mauve"),
    (["red", "green"], {"allow_free_form": True}, "Red", "Red"),
    (["red"], {"allow_free_form": False}, "red", "red"),
    (COLOURS, {}, "blue", "blue"),
    (COLOURS, {"allow_free_form": False}, " blue ", "blue"),
    ([" spaced "], {"allow_free_form": False}, " spaced ", " spaced "),
    (None, {"answer": int}, 7, 7),
    (None, {"answer": bool}, False, False),
    (None, {"answer": Address}, {"street": "S", "number": 1}, {"street": "S", "number": 1}),
    (None, {"answer": {"type": "array", "maxItems": 2}}, [1, 2], [1, 2]),
    (None, {"answer": Literal["a", "b"]}, "b", "b"),
    (None, {"answer": int | None}, None, None),
]


@pytest.mark.parametrize("options, how, given, answer", TAKEN)
async def test_an_answer_that_fits_is_taken(
    options: Any, how: dict[str, Any], given: Any, answer: Any
) -> None:
    """S2.20, fault 42"""
    async with evrt.App("memory://") as app:
        run = await app.run(asking(app, options, **how))
        await app.answer(run.run_id, given)
        assert (await app.resume(run.run_id)).unwrap()[0] == answer
        assert (await app.replay(run.run_id)).complete


REFUSED: list[tuple[Any, dict[str, Any], Any, str]] = [
    (None, {}, "", "An empty text is no answer to 'Which\\?'\\.$"),
    (None, {}, " \n\t", "An empty text"),
    (["red", "green"], {}, " ", "Say red or green, or something else in words\\."),
    (["red", "green"], {"allow_free_form": False}, "mauve", "'mauve' is not one .* Say red or green\\.$"),
    (["red", "green"], {"allow_free_form": False}, "Red", "is not one of the answers"),
    (["red", "green"], {}, 7, "7 is not one of the answers"),
    (["red", "green"], {}, None, "None is not one of the answers"),
    (["only"], {"allow_free_form": False}, "x", "Say only\\.$"),
    (COLOURS, {"allow_free_form": False}, "like grass", "is not one of the answers"),
    (None, {"answer": int}, "seven", "'seven' is not of type 'integer'"),
    (None, {"answer": int}, "", "An empty text"),
    (None, {"answer": bool}, 1, "is not of type 'boolean'"),
    (None, {"answer": Address}, {"street": "S"}, "'number' is a required property"),
    (None, {"answer": Address}, {"street": "S", "number": "x"}, "number: 'x' is not of type 'integer'"),
    (None, {"answer": {"type": "array", "maxItems": 2}}, [1, 2, 3], "is no answer to 'Which\\?'"),
    (None, {"answer": Literal["a", "b"]}, "c", "is not one of"),
    (None, {"answer": datetime}, "yesterday", "'yesterday' is not a 'date-time'"),
    (None, {"answer": UUID}, "1234", "'1234' is not a 'uuid'"),
]


@pytest.mark.parametrize("options, how, given, told", REFUSED)
async def test_an_answer_that_does_not_fit_is_refused_to_its_giver_and_nothing_is_written(
    options: Any, how: dict[str, Any], given: Any, told: str
) -> None:
    """S2.20, B36, fault 42"""
    async with evrt.App("memory://") as app:
        run = await app.run(asking(app, options, **how))
        before = len((await app.get(run.run_id)).events)
        with pytest.raises(InvalidInput, match=told):
            await app.answer(run.run_id, given)
        history = await app.get(run.run_id)
        assert len(history.events) == before
        assert (history.state.status, history.state.waiting_for) == ("waiting", ("ask#1",))


async def test_an_answer_of_a_type_comes_to_the_code_as_that_type() -> None:
    """S2.20"""
    seen: list[Any] = []

    async with evrt.App("memory://") as app:

        @app.workflow
        async def asks(ctx: Ctx) -> None:
            seen.append(await ctx.ask("Where?", answer=Address))
            seen.append(await ctx.ask("When?", answer=date))

        run = await app.run(asks)
        await app.answer(run.run_id, {"street": "S", "number": 1})
        await app.resume(run.run_id)
        with pytest.raises(InvalidInput, match="'tomorrow' is not a 'date'"):
            await app.answer(run.run_id, "tomorrow")
        await app.answer(run.run_id, "2026-11-28")
        assert (await app.resume(run.run_id)).status == "succeeded"
        assert seen[-2:] == [Address(street="S", number=1), date(2026, 11, 28)]
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize(
    "options, how, told",
    [
        ([], {}, "one or more texts"),
        ([" "], {}, "none of them empty"),
        (["a", "a"], {}, "or there twice"),
        (["a"], {"answer": int}, "options or a type"),
        (None, {"allow_free_form": False}, "Without options"),
        (None, {"answer": {"type": "no such"}}, "JSON schema of an answer is none"),
        (None, {"answer": object()}, "cannot be the type of an answer"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_an_error_of_the_code(
    options: Any, how: dict[str, Any], told: str
) -> None:
    async with evrt.App("memory://") as app:
        run = await app.run(asking(app, options, **how))
        assert run.failure is not None
        assert run.failure.error_type == "UsageError"
        assert told in run.failure.message
        assert await count(app, run.run_id, "question.asked") == 0


async def test_what_is_offered_is_recorded_with_what_it_means() -> None:
    """S2.20: options with label and description, and whether something else may be said"""
    async with evrt.App("memory://") as app:
        run = await app.run(asking(app, COLOURS))
        [asked] = [e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, QuestionAsked)]
        assert asked.options == ("red", "green", "blue")
        assert asked.descriptions == ("like a rose", "like grass", "")
        assert asked.allow_free_form is True


async def test_of_several_who_answer_at_once_one_is_heard_and_bad_answers_never_win() -> None:
    """Fault 42, B37"""
    async with evrt.App("memory://") as app:
        run = await app.run(asking(app, ["yes", "no"], allow_free_form=False))
        given = ["maybe", "yes", "", "no", "yes", "no", 3]
        came = await asyncio.gather(
            *(app.answer(run.run_id, one, operation="ask#1") for one in given), return_exceptions=True
        )
        won = [answer for answer, one in zip(given, came, strict=True) if one == "ask#1"]
        assert len(won) == 1
        assert won[0] in ("yes", "no")
        assert {type(one) for one in came} == {str, InvalidInput, Conflict}
        assert (await app.resume(run.run_id)).output[0] == won[0]


async def test_a_question_that_changes_what_it_takes_is_another_question() -> None:
    """A code change between asking and resuming is noticed, and not for types, whose schema a library makes."""
    how: dict[str, Any] = {"allow_free_form": True}
    async with evrt.App("memory://") as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("Which?", ["a", "b"], **how)

        run = await app.run(asks)
        how["allow_free_form"] = False
        assert (await app.resume(run.run_id)).reason == "diverged"
        how["allow_free_form"] = True
        assert (await app.resume(run.run_id)).reason == "question"


# --------------------------------------------------------------------------------- a model that asks


def wished(number: int, **arguments: Any) -> Any:
    """A call of ask_user as a model makes it."""
    return {"id": f"c{number}", "function": {"name": "ask_user", "arguments": json.dumps(arguments)}}


def model_that_asks(app: evrt.App, asking: Sequence[Any], **how: Any) -> evrt.Workflow:
    """A workflow that makes these calls of ask_user, one after another; those of an inner list at once."""

    @app.workflow
    async def loop(ctx: Ctx) -> list[Any]:
        asks = evrt.Questions(**how).begin()
        told: list[Any] = []
        for number, one in enumerate(asking):
            if isinstance(one, list):
                outcomes = await ctx.gather(
                    *(ctx.perform(wished(10 * number + n, **each), [asks.tool]) for n, each in enumerate(one))
                )
                told.append([_told(outcome) for outcome in outcomes])
            else:
                told.append(_told(await ctx.perform(wished(number, **one), [asks.tool])))
        return told

    return loop


def _told(outcome: evrt.ToolOutcome) -> Any:
    event = outcome.event.__dict__
    return event.get("result") or f"{event['failure'].error_type}: {event['failure'].message}"


async def answered(app: evrt.App, loop: evrt.Workflow, answers: Sequence[Any]) -> list[Any]:
    """Run it, giving these answers in turn."""
    left = list(answers)

    async def answer(asked: evrt.Asked) -> Any:
        return left.pop(0)

    run = await app.run(loop, on_question=answer)
    assert left == []
    assert (await app.replay(run.run_id)).complete
    told: list[Any] = run.unwrap()
    return told


@pytest.mark.parametrize(
    "how, limit",
    [
        ({"autonomy": "low"}, 5),
        ({"autonomy": "medium"}, 3),
        ({"autonomy": "high"}, 1),
        ({}, 3),
        ({"autonomy": "low", "questions_max": 2}, 2),
        ({"questions_max": 0}, 0),
    ],
)
async def test_a_run_asks_so_many_questions_and_then_the_model_decides_for_itself(
    how: dict[str, Any], limit: int
) -> None:
    """B36: 5, 3 or 1 by autonomy, low, medium or high"""
    async with evrt.App("memory://") as app:
        loop = model_that_asks(app, [{"question": f"{n}?"} for n in range(7)], **how)
        told = await answered(app, loop, [f"answer {n}" for n in range(limit)])
        assert told[:limit] == [{"answer": f"answer {n}"} for n in range(limit)]
        beyond = told[limit:]
        assert beyond
        assert all(one["answer"] is None and "Decide for yourself" in one["note"] for one in beyond)


@pytest.mark.parametrize(
    "first, second, same",
    [
        ("Which colour?", "Which colour?", True),
        ("Which colour?", "  which\n\tCOLOUR? ", True),
        ("Which colour?", "Which color?", False),
        ("Which colour?", "Which colour", False),
        ("Straße?", "straße?", True),
    ],
)
def test_a_question_is_recognised_by_its_words(first: str, second: str, same: bool) -> None:
    """B36: SHA-256 of the text without outer white space, in lower case, white space as single spaces"""
    assert (question_key(first) == question_key(second)) is same
    assert question_key(" A \n B ") == sha256(b"a b").hexdigest()


async def test_a_repeat_gets_the_earlier_answer_even_beyond_the_limit_and_nobody_is_asked_again() -> None:
    """B36, fault 42"""
    async with evrt.App("memory://") as app:
        loop = model_that_asks(
            app,
            [{"question": "Which?"}, {"question": "Why?"}, {"question": " WHICH? "}, {"question": "which?"}],
            autonomy="high",
        )
        told = await answered(app, loop, ["this"])
        assert told[0] == {"answer": "this"}
        assert told[1]["answer"] is None
        assert [one["answer"] for one in told[2:]] == ["this", "this"]
        assert all("before in this run" in one["note"] for one in told[2:])


async def test_a_question_asked_twice_in_one_reply_is_asked_once() -> None:
    """B36"""
    async with evrt.App("memory://") as app:
        loop = model_that_asks(
            app, [[{"question": "Which?"}, {"question": "which?"}, {"question": "Why?"}]], autonomy="medium"
        )
        [[first, again, other]] = await answered(app, loop, ["this", "that"])
        assert {first["answer"], other["answer"]} == {"this", "that"}
        assert again["answer"] is None
        assert "another call" in again["note"]


@pytest.mark.parametrize(
    "options, ok",
    [
        (None, True),
        ([{"label": x, "description": x * 2} for x in "abc"], True),
        ([{"label": x} for x in "abc"], True),
        ([{"label": x} for x in "ab"], False),
        ([{"label": x} for x in "abcd"], False),
        ([], False),
        ([{"label": x} for x in "aab"], False),
        (["a", "b", "c"], False),
    ],
)
async def test_a_model_offers_exactly_three_options_or_none(options: Any, ok: bool) -> None:
    """S2.20: 3 predefined and free form; what is refused has not been asked and counts for nothing"""
    async with evrt.App("memory://") as app:
        loop = model_that_asks(
            app, [{"question": "Which?", "options": options}, {"question": "Why?"}], autonomy="high"
        )
        told = await answered(app, loop, ["mine"])
        if ok:
            assert told[0] == {"answer": "mine"}
            assert told[1]["answer"] is None
        else:
            assert isinstance(told[0], str)
            assert told[1] == {"answer": "mine"}


def test_the_tool_says_what_it_takes() -> None:
    """S2.20: allow_free_form is true unless said otherwise"""
    tool = evrt.Questions().begin().tool
    assert (tool.name, tool.in_run, tool.trusted) == ("ask_user", True, True)
    described: Any = tool.to_openai_format()["function"]
    parameters = described["parameters"]
    assert parameters["required"] == ["question"]
    assert parameters["properties"]["allow_free_form"]["default"] is True
    options = parameters["properties"]["options"]["anyOf"][0]
    assert (options["minItems"], options["maxItems"]) == (3, 3)
    assert set(parameters["$defs"]["Option"]["properties"]) == {"label", "description"}


async def test_a_question_that_nobody_answers_in_time_lets_the_model_decide() -> None:
    """S2.13, B37"""
    async with evrt.App("memory://") as app:
        loop = model_that_asks(app, [{"question": "Which?"}, {"question": "which?"}], expires="20ms")
        run = await app.run(loop)
        assert run.status == "waiting"
        await asyncio.sleep(0.03)
        run = await app.resume(run.run_id)
        first, again = run.unwrap()
        assert first == {"answer": None, "note": NOBODY}
        assert again["answer"] is None
        assert NOBODY in again["note"]
        assert await count(app, run.run_id, "question.expired") == 1
        assert await count(app, run.run_id, "question.asked") == 1
        with pytest.raises(Conflict):
            await app.answer(run.run_id, "late", operation="ask_user#1/ask#1")
        assert (await app.replay(run.run_id)).complete


async def test_what_was_asked_survives_continuing_anew() -> None:
    """B36: dedup and limit are those of the run, not of a chapter"""
    async with evrt.App("memory://") as app:

        @app.workflow
        async def loop(ctx: Ctx) -> list[Any]:
            asks = evrt.Questions(autonomy="high").begin(ctx.state)
            if ctx.state is None:
                await ctx.perform(wished(1, question="Which?"), [asks.tool])
                ctx.continue_as(asks.to_state())
            return [
                _told(await ctx.perform(wished(2, question=text), [asks.tool])) for text in ("which?", "Why?")
            ]

        run = await app.run(loop)
        await app.answer(run.run_id, "this")
        again, beyond = (await app.resume(run.run_id)).unwrap()
        assert again["answer"] == "this"
        assert "Decide for yourself" in beyond["note"]
        assert await count(app, run.run_id, "question.asked") == 1
        assert (await app.replay(run.run_id)).complete


async def test_a_waiting_question_can_be_cancelled() -> None:
    """Fault 42"""
    async with evrt.App("memory://") as app:
        run = await app.run(model_that_asks(app, [{"question": "Which?"}]))
        assert await app.cancel(run.run_id) == "cancelled"
        with pytest.raises(Conflict, match="has ended"):
            await app.answer(run.run_id, "late")


@pytest.mark.parametrize(
    "how", [{"autonomy": "none"}, {"questions_max": -1}, {"expires": "soon"}, {"expires": 0}]
)
def test_questions_that_cannot_be_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        evrt.Questions(**how)


# ------------------------------------------------------------------------------------------ markers


@pytest.mark.parametrize(
    "text, markers, decided",
    [
        ("[FINAL] Done.", True, Final("Done.")),
        ("\n \t[FINAL]Done.", True, Final("Done.")),
        ("[FINAL]", True, Final("")),
        ("[ASK_USER] Which one?", True, Question("Which one?")),
        ("  [ASK_USER]\nWhich one?", True, Question("Which one?")),
        ("[ASK_USER] Is it [FINAL]?", True, Question("Is it [FINAL]?")),
        ("[FINAL] I did not [ASK_USER] anything.", True, Final("I did not [ASK_USER] anything.")),
        ("[ASK_USER]  ", True, Reasoning("[ASK_USER]  ")),
        ("I could say [FINAL] now.", True, Reasoning("I could say [FINAL] now.")),
        ("So: [ASK_USER] Which?", True, Reasoning("So: [ASK_USER] Which?")),
        ("> [FINAL] quoted", True, Reasoning("> [FINAL] quoted")),
        ("[final] Done.", True, Reasoning("[final] Done.")),
        ("[FINALLY] Done.", True, Reasoning("[FINALLY] Done.")),
        ("What is the capital of Italy?", True, Reasoning("What is the capital of Italy?")),
        ("", True, Reasoning("")),
        ("Shall I?", False, Answer("Shall I?")),
        ("[FINAL] Done.", False, Answer("[FINAL] Done.")),
    ],
)
def test_a_marker_counts_at_the_beginning_alone_and_a_question_mark_is_no_question(
    text: str, markers: bool, decided: Decision
) -> None:
    """S2.1, S2.22, fault 41"""
    assert decision(text, markers=markers) == decided


async def test_a_model_that_marks_its_texts_reasons_asks_and_ends() -> None:
    """S2.1, S2.22, fault 41, fault 42"""
    said = [
        "Is it Turin? I might say [FINAL] soon.",
        "[ASK_USER] Which city?",
        "  [ASK_USER] which CITY?",
        "[ASK_USER] Are you sure?",
        "[FINAL] It is done. Shall I go on?",
    ]
    model = ScriptedModel(said)
    async with evrt.App("memory://", models={"script": model}) as app:
        app.agent("asker", model="script", markers=True, questions=evrt.Questions(autonomy="high"))
        run = await app.run("asker", "Go.")
        assert run.waiting_for == ("ask#1",)
        await app.answer(run.run_id, "Turin")
        run = await app.resume(run.run_id)
        assert run.output == "It is done. Shall I go on?"
        told = [m["content"] for m in model.requests[-1].messages if m["role"] == "user"][1:]
        assert [str(one).splitlines()[0].split(".")[0] for one in told] == [
            "Go on",
            "Turin",
            "Turin",
            USED_UP,
        ]
        assert await count(app, run.run_id, "question.asked") == 1
        assert (await app.replay(run.run_id)).complete


async def test_an_agent_that_may_ask_has_the_tool_and_its_user_s_word_is_trusted() -> None:
    """B36, B37: the question parks the run, and its answer is what the model reads"""
    model = ScriptedModel([call("ask_user", question="Which city?"), "Turin it is."])
    async with evrt.App("memory://", models={"script": model}) as app:
        app.agent("asker", model="script", questions=evrt.Questions())
        run = await app.run("asker", "Go.")
        assert run.waiting_for == ("ask_user#1/ask#1",)
        await app.answer(run.run_id, "Turin")
        assert (await app.resume(run.run_id)).output == "Turin it is."
        assert model.requests[-1].messages[-1]["content"] == '{"answer":"Turin"}'
        assert (await app.replay(run.run_id)).complete


# ---------------------------------------------------------------------- a callback in this process


async def test_a_callback_is_asked_one_thing_after_another_and_the_run_goes_on() -> None:
    """S2.13"""
    seen: list[tuple[str, bool]] = []
    busy = 0

    async def answer(asked: evrt.Asked) -> Any:
        nonlocal busy
        busy += 1
        assert busy == 1
        await asyncio.sleep(0)
        seen.append((asked.text, asked.is_approval))
        busy -= 1
        if asked.is_approval:
            return evrt.Approval(True, "fine", "ann")
        assert asked.check("ok") == "ok"
        return f"{asked.text} {len(asked.options)}"

    async with evrt.App("memory://") as app:

        @app.workflow
        async def asks(ctx: Ctx) -> list[Any]:
            first = await ctx.gather(ctx.ask("A"), ctx.ask("B", COLOURS), ctx.approve("C", {"to": 1}))
            approval = first[2]
            return [first[0], first[1], approval.approved, approval.by, await ctx.ask("D")]

        run = await app.run(asks, on_question=answer)
        assert run.output == ["A 0", "B 3", True, "ann", "D 0"]
        assert sorted(seen) == [("A", False), ("B", False), ("C", True), ("D", False)]
        assert (await app.replay(run.run_id)).complete


async def test_a_callback_that_dies_loses_nothing() -> None:
    """S2.13: the wait is durable; the callback is only one who answers"""

    async def dies(asked: evrt.Asked) -> Any:
        raise ConnectionError("nobody there")

    async def wrong(asked: evrt.Asked) -> Any:
        return "mauve"

    async def right(asked: evrt.Asked) -> Any:
        return "a"

    async with evrt.App("memory://") as app:
        asks = asking(app, ["a", "b"], allow_free_form=False)
        with pytest.raises(ConnectionError):
            await app.run(asks, on_question=dies)
        log = await app.log()
        [run_id] = await log.streams("run-")
        run = await app.resume(run_id)
        assert run.reason == "question"
        with pytest.raises(InvalidInput, match="Say a or b"):
            await evrt.respond_with(app, run, wrong)
        run = await app.resume(run.run_id)
        assert (await evrt.respond_with(app, run, right)).output == ["a", "str"]


async def test_somebody_else_may_answer_while_the_callback_is_at_it() -> None:
    """S2.13"""
    async with evrt.App("memory://") as app:

        async def slow(asked: evrt.Asked) -> Any:
            await app.answer(asked.run_id, "theirs", operation=asked.operation)
            return "mine"

        run = await app.run(asking(app), on_question=slow)
        assert run.output == ["theirs", "str"]


async def test_a_run_that_waits_for_something_else_comes_back_waiting() -> None:
    """S2.13"""

    async def never(asked: evrt.Asked) -> Any:
        raise AssertionError("nothing is asked")

    async with evrt.App("memory://") as app:

        @app.workflow
        async def waits(ctx: Ctx) -> Any:
            return await ctx.wait_for_signal("go")

        run = await app.run(waits, on_question=never)
        assert (run.status, run.reason) == ("waiting", "signal")


MORTAL = """
import asyncio, os, signal, sys
import evrt

app = evrt.App(sys.argv[1])

@app.workflow
async def asks(ctx: evrt.Context) -> list:
    return [await ctx.ask("A?"), await ctx.ask("B?")]

async def dies(asked):
    if asked.text == "B?":
        os.kill(os.getpid(), signal.SIGKILL)
    return "a"

async def lives(asked):
    return "b"

async def main():
    async with app:
        if len(sys.argv) == 2:
            await app.run(asks, on_question=dies)
        else:
            waiting = await app.resume(sys.argv[2])
            print((await evrt.respond_with(app, waiting, lives)).output)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_while_its_callback_is_asked_loses_nothing(tmp_path: Path) -> None:
    """S2.13, B37: what was answered stays answered, and the question stays open"""
    program = tmp_path / "mortal.py"
    program.write_text(MORTAL, "utf-8")
    command = [sys.executable, str(program), f"sqlite:///{tmp_path}/evrt.db"]
    killed = await asyncio.to_thread(subprocess.run, command, check=False)
    assert killed.returncode == -signal.SIGKILL
    async with evrt.App(command[-1]) as app:
        [run_id] = await (await app.log()).streams("run-")
        history = await app.get(run_id)
        assert history.state.waiting_for == ("ask#2",)
    went_on = await asyncio.to_thread(
        subprocess.run, [*command, run_id], check=True, capture_output=True, text=True
    )
    assert went_on.stdout == "['a', 'b']\n"
