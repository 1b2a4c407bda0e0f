"""Agents of installed packages: what they register as evrt.agents is the app where nobody names one."""

from __future__ import annotations

import pytest

from cli.shell import Shell

PACKAGE = """
import evrt


async def greet(ctx: evrt.Context, name: str) -> str:
    return f"Hello {name}"


def register(app: evrt.App) -> None:
    app.workflow(greet)


async def part(ctx: evrt.Context) -> str:
    return "Bye"


farewell = evrt.App().workflow(name="farewell")(part)
own = evrt.App()
own.workflow(greet)
broken = 7
"""


@pytest.fixture
def bare(shell: Shell) -> Shell:
    """A folder with a module, and an app that nobody names."""
    shell.environment.pop("EVRT_APP")
    shell.write("greetings.py", PACKAGE)
    return shell


def install(shell: Shell, **points: str) -> None:
    """Leave what a package that registers these leaves on the path."""
    info = shell.folder / "greetings-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[evrt.agents]", *lines, ""]))


def test_what_packages_register_can_be_started_and_is_what_a_worker_serves(bare: Shell) -> None:
    install(bare, hello="greetings:register", bye="greetings:farewell")
    assert bare.evrt("runs", "start", "greet", "Ann").out == "Hello Ann\n"
    assert bare.evrt("runs", "start", "farewell").out == "Bye\n"
    assert "It has: farewell, greet." in bare.refused("worker", "--agents", "nobody", code=2)


def test_an_app_of_a_package_is_taken_where_it_is_the_only_one(bare: Shell) -> None:
    install(bare, hello="greetings:own")
    assert bare.evrt("runs", "start", "greet", "Ann").out == "Hello Ann\n"


@pytest.mark.parametrize(
    "points, text",
    [
        ({"hello": "greetings:own", "bye": "greetings:farewell"}, "hello is an app of its own"),
        (
            {"hello": "greetings:broken"},
            "hello (greetings:broken) of the entry points evrt.agents: 7 is no agent",
        ),
        (
            {"hello": "nowhere:app"},
            "hello of the entry points evrt.agents: The module nowhere could not be loaded",
        ),
        ({"one": "greetings:register", "two": "greetings:register"}, "The name 'greet' is registered twice"),
    ],
)
def test_what_cannot_be_taken_is_named(bare: Shell, points: dict[str, str], text: str) -> None:
    install(bare, **points)
    assert text in bare.refused("runs", "start", "greet", "Ann", code=2)


def test_without_any_the_question_is_which_app(bare: Shell) -> None:
    assert "Which app?" in bare.refused("worker", code=2)
