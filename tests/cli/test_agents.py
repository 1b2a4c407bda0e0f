"""Agents and systems as data, from the command line."""

from __future__ import annotations

import json

import pytest

from cli.forker import Forker
from cli.shell import Shell, new_shell

APP = '''
import evrt
from evrt.testing import ScriptedModel

app = evrt.App(
    models={name: ScriptedModel(lambda request: f"{request.model}: {request.messages[0]['content']}") for name in "mn"}
)


@evrt.tool(effect="read")
async def weather(city: str) -> str:
    """The weather."""
    return f"18 C in {city}"


app.add_tools(weather)
'''

FILE = """\
agents:
  base:
    model: m
    instructions: Be kind.
  support:
    parent: base
    tools: [weather]
systems:
  desk:
    prefix: At the desk.
    members: [support]
"""


@pytest.fixture
def shop(shell: Shell) -> Shell:
    """A shell whose app has a tool and no agent in code."""
    shell.write("support.py", APP)
    return shell


@pytest.fixture(scope="module")
def defined(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Shell:
    """A shell with an agent, for what changes nothing."""
    shell = new_shell(tmp_path_factory.mktemp("defined"), forker)
    shell.write("support.py", APP)
    shell.evrt("agents", "define", "support")
    return shell


def test_agents_are_defined_revised_and_run(shop: Shell) -> None:
    """S0.25, B4, B9: from nothing to a run of a revision."""
    assert shop.evrt("agents", "define", "support", "--set", "model=m", "--set", "instructions=one").out == (
        "support is defined: revision 1 of 1 is active.\n"
    )
    shop.evrt(
        "agents",
        "revise",
        "support",
        "--set",
        "instructions=two",
        "--set",
        "limits.tokens_max=500",
        "--by",
        "ann",
    )
    assert shop.evrt("runs", "start", "support", "hi").out == "m: two\n"
    assert shop.evrt("runs", "start", "support", "hi", "--revision", "1", "--model", "n").out == "n: one\n"
    shop.evrt("agents", "revise", "support", "--set", "instructions=three", "--draft")
    assert "revision 2 of 3 is active" in shop.evrt("agents", "activate", "support", "2").out
    shop.evrt("agents", "restore", "support", "1")
    shop.evrt("agents", "fork", "support", "copy", "--revision", "2")
    shown = shop.evrt("agents", "show", "support").out
    assert "revision 4 of 4 is active" in shown
    assert "as revision 1 was" in shown
    assert "instructions: one" in shown
    document = shop.evrt("agents", "show", "copy", "--effective", "--json").document
    assert document["revision"]["config"]["limits"]["tokens_max"] == 500
    assert (document["forked_from"], document["forked_revision"]) == ("support", 2)
    shop.evrt("agents", "retire", "copy", "--reason", "replaced")
    listed = {agent["key"]: agent["status"] for agent in shop.evrt("agents", "list", "--json").document}
    assert listed == {"support": "active", "copy": "retired"}
    assert "retired and takes no new runs" in shop.refused("runs", "start", "copy", "hi", code=4)


def test_two_revisions_are_compared(shop: Shell) -> None:
    """B4: what a revision changed."""
    shop.evrt("agents", "define", "support", "--set", "model=m", "--set", "instructions=one")
    shop.evrt("agents", "revise", "support", "--set", "instructions=two")
    lines = shop.evrt("agents", "diff", "support", "1", expect=1).out.splitlines()
    assert lines[:2] == ["--- support, revision 1", "+++ support, revision 2"]
    assert "-instructions: one" in lines
    assert "+instructions: two" in lines
    assert shop.evrt("agents", "diff", "support", "1", "1").out == ""


def test_a_file_is_imported_whole_or_not_at_all(shop: Shell) -> None:
    """B4: import, export, and every fault with its line."""
    shop.write("agents.yaml", FILE.replace("tools: [weather]", "limits: {model_turns_max: 0}"))
    assert shop.refused("agents", "import", "agents.yaml", code=2) == (
        "agents.yaml:7: limits.model_turns_max: Input should be greater than 0"
    )
    shop.write("agents.yaml", FILE)
    checked = shop.evrt("agents", "import", "agents.yaml", "--check")
    assert checked.out == "defined: base, support, desk\n"
    assert "Nothing has been written" in checked.err
    assert shop.evrt("agents", "import", "agents.yaml", "--json").document["defined"] == [
        "base",
        "support",
        "desk",
    ]
    assert shop.evrt("agents", "import", "-", stdin=FILE).out == "unchanged: base, support, desk\n"
    assert shop.evrt("runs", "start", "support", "hi").out == "m: At the desk.\n\n---\n\nBe kind.\n"
    exported = shop.evrt("agents", "export").out
    assert shop.evrt("agents", "import", "-", stdin=exported).out == "unchanged: base, support, desk\n"
    assert list(json.loads(shop.evrt("agents", "export", "base", "--json").out)["agents"]) == ["base"]


def test_a_name_that_is_nearly_right_is_told_what_there_is_in_code_and_in_the_log(shop: Shell) -> None:
    shop.evrt("agents", "define", "support", "--set", "model=openai/gpt-4o")
    told = shop.refused("runs", "start", "suport", "hi", code=3)
    assert "Defined in its log: support. Did you mean 'support'?" in told
    far = shop.refused("runs", "start", "zzz", "hi", code=3)
    assert "Defined in its log: support." in far
    assert "Did you mean" not in far


def test_a_file_with_nothing_in_it_is_refused(shop: Shell) -> None:
    for text in ("", "{}", "agents: {}\n"):
        shop.write("empty.yaml", text)
        for options in ((), ("--check",)):
            told = shop.refused("agents", "import", "empty.yaml", *options, code=2)
            assert "There is nothing in it." in told


def test_an_agent_config_of_llama_stack_is_taken_from_a_file(shop: Shell) -> None:
    """S3.3: --format llama-stack."""
    config = {"model": "m", "instructions": "Hi.", "sampling_params": {"max_tokens": 0}, "x": 1}
    shop.write("config.json", json.dumps(config))
    shop.evrt("agents", "define", "stack", "--file", "config.json", "--format", "llama-stack")
    shown = shop.evrt("agents", "show", "stack", "--json").document
    assert shown["revision"]["given"] == config
    assert "--format is for a --file" in shop.refused(
        "agents", "define", "x", "--format", "llama-stack", code=2
    )


def test_a_spec_is_set_and_printed(shop: Shell) -> None:
    """S0.28: the spec document of an agent."""
    shop.evrt("agents", "define", "support")
    assert shop.evrt("agents", "spec", "support", "--set", "-", stdin="Grüße.\n").out == (
        "The spec of support has revision 1 now.\n"
    )
    assert shop.evrt("agents", "spec", "support").out == "Grüße.\n"
    assert "has revisions 1 to 1" in shop.refused("agents", "spec", "support", "--revision", "3", code=3)


def test_systems_are_defined_and_shown(shop: Shell) -> None:
    """B6, fault 12: members, prefix, knowledge; and a run in one of several."""
    shop.evrt("agents", "define", "support", "--set", "model=m")
    for key in ("desk", "back"):
        shop.evrt("systems", "define", key, "--prefix", f"At the {key}.")
        shop.evrt("systems", "add", key, "support")
    shop.evrt("systems", "learn", "desk", "hours", "-", "--inject", "system", "--trusted", stdin="9 to 5.")
    assert "in several systems" in shop.refused("runs", "start", "support", "hi", code=2)
    assert shop.evrt("runs", "start", "support", "hi", "--system", "desk").out == (
        "m: At the desk.\n\n## hours\n\n9 to 5.\n"
    )
    shown = shop.evrt("systems", "show", "desk")
    assert "system, always" in shown.out
    shop.evrt("systems", "forget", "desk", "hours")
    shop.evrt("systems", "revise", "desk", "--prefix", "In front.")
    shop.evrt("systems", "remove", "back", "support")
    document = shop.evrt("systems", "show", "desk", "--json").document
    assert (document["prefix"], document["members"], document["knowledge"]) == ("In front.", ["support"], [])
    assert [one["key"] for one in shop.evrt("systems", "list", "--json").document] == ["desk", "back"]
    assert "system.defined" in shop.evrt("audit", "trail", "--json").out


@pytest.mark.parametrize(
    "words, code, text",
    [
        (("show", "nobody"), 3, "No agent 'nobody' has been defined in this log. Defined are: support."),
        (("activate", "support", "9"), 3, "Agent support has revision 1; there is no revision 9."),
        (("define", "support"), 4, "has been defined already"),
        (("define", "x", "--set", "modle=m"), 2, "modle: Extra inputs are not permitted"),
        (("define", "x", "--set", "model"), 2, "--set takes FIELD=VALUE"),
        (("define", "x", "--file", "missing.yaml"), 3, "There is no file missing.yaml."),
        (("revise", "support", "--parent", "x", "--no-parent"), 2, "not both"),
        (("revise", "support", "--if-revision", "7", "--name", "x"), 4, "is at revision 1, not at 7"),
        (("diff", "support", "1", "2"), 3, "there is no revision 2"),
        (("import", "missing.yaml"), 3, "There is no file missing.yaml."),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    defined: Shell, words: tuple[str, ...], code: int, text: str
) -> None:
    """B4: exit codes 2, 3 and 4."""
    assert text in defined.refused("agents", *words, code=code)


def test_a_log_without_definitions_says_how_to_make_some(shop: Shell) -> None:
    """S0.25: and a log is not made by looking."""
    assert "There is no log" in shop.refused("agents", "list", code=3)
    shop.evrt("systems", "define", "desk")
    assert "evrt agents define" in shop.evrt("agents", "list").err
    assert "nothing that a worker could execute" in shop.refused("worker", code=2)
