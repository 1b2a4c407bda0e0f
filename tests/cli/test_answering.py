"""Answers and decisions from the command line: what a question takes, said in its hints, and refused otherwise."""

from __future__ import annotations

import pytest

from cli.shell import Shell

ASKER = """
from datetime import date

import evrt

app = evrt.App()


@app.workflow
async def colour(ctx: evrt.Context) -> str:
    options = [evrt.Option(label="red", description="like a rose"), evrt.Option(label="green")]
    return await ctx.ask("Which?", options)


@app.workflow
async def day(ctx: evrt.Context) -> str:
    return f"{await ctx.ask('When?', answer=date):%d.%m.}"


@app.workflow
async def text(ctx: evrt.Context) -> str:
    return repr(await ctx.ask("Say", answer=str))


@app.workflow
async def approving(ctx: evrt.Context) -> list:
    first = await ctx.approve("Pay", {"to": "Ann"})
    second = await ctx.approve("Pay", {"to": "Eve"})
    return [bool(first), bool(second)]


@app.workflow
async def hiding(ctx: evrt.Context) -> None:
    await ctx.approve("Pay", {"a_long_reason": "x" * 1_000, "to": "Eve"})


@app.workflow
async def spoofing(ctx: evrt.Context) -> str:
    return await ctx.ask("Well?\\n\\x1b[2Kapprove#1 asks for leave: nothing of note", ["a\\x1b[8m\\nb"])
"""


@pytest.fixture
def asker(shell: Shell) -> Shell:
    shell.write("asker.py", ASKER)
    shell.environment["EVRT_APP"] = "asker"
    return shell


def test_options_are_shown_with_what_they_mean_and_ones_own_words_are_taken(asker: Shell) -> None:
    """S2.20"""
    waiting = asker.evrt("runs", "start", "colour")
    assert "ask#1 asks: Which? [red (like a rose) / green]" in waiting.err
    assert f"evrt runs answer {waiting.run} red  " in waiting.err
    assert "# or green or your own words" in waiting.err
    assert "is no answer to" in asker.refused("runs", "answer", waiting.run, " ", code=2)
    assert asker.evrt("runs", "answer", waiting.run, "42").out.endswith("ask#1 is answered.\n")
    assert asker.evrt("runs", "resume", waiting.run).out == "42\n"


def test_an_answer_of_a_type_is_read_as_what_fits(asker: Shell) -> None:
    """S2.20, fault 42"""
    run = asker.evrt("runs", "start", "day").run
    told = asker.refused("runs", "answer", run, "tomorrow", code=2, EVRT_APP="")
    assert "'tomorrow' is not a 'date'" in told
    assert asker.evrt("runs", "show", run, "--json").document["status"] == "waiting"
    asker.evrt("runs", "answer", run, "2026-11-28", EVRT_APP="")
    assert asker.evrt("runs", "resume", run).out == "28.11.\n"
    number = asker.evrt("runs", "start", "text").run
    asker.evrt("runs", "answer", number, "42")
    assert asker.evrt("runs", "resume", number).out == "'42'\n"


def test_what_is_approved_is_what_was_shown(asker: Shell) -> None:
    first = asker.evrt("runs", "start", "approving")
    approve, deny, resume = first.commands
    assert " --digest " in approve
    assert " --digest " not in deny
    asker.typed(approve)
    second = asker.typed(resume)
    assert second.commands[0] != approve
    told = asker.refused(*approve.replace("approve", "approve", 1).split()[1:], code=4)
    assert "approve#2 of" in told
    assert "something else than you were shown" in told
    asker.typed(second.commands[0])
    assert asker.typed(f"{resume} --json").document["output"] == [True, True]


def test_a_question_cannot_pretend_to_be_another_on_the_terminal(asker: Shell) -> None:
    """Whoever approves reads what a model wrote."""
    waiting = asker.evrt("runs", "start", "spoofing")
    shown = asker.evrt("questions")
    for text in (waiting.err, shown.out + shown.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not any(line.strip().startswith("approve#1 asks for leave") for line in text.splitlines())


def test_what_is_to_be_approved_is_not_cut_before_it_says_what_it_is(asker: Shell) -> None:
    waiting = asker.evrt("runs", "start", "hiding")
    assert '"to": "Eve"' in waiting.err
