"""What an app's own code prints, or how it ends the process, is told apart from what a command says."""

from __future__ import annotations

import pytest

from cli.shell import Shell

NOISY = """
import os, sys, evrt

print("loading")
app = evrt.App()

@evrt.tool(effect="read")
def look(city: str) -> str:
    print("looking at", city)
    if city == "nowhere":
        sys.exit(int(os.environ.get("EXIT", "0")))
    return city

@app.workflow
async def trip(ctx: evrt.Context, city: str) -> str:
    print("on the way")
    return await ctx.call(look, city=city)

@app.workflow
async def leave(ctx: evrt.Context) -> None:
    sys.exit(int(os.environ["EXIT"]))
"""


@pytest.fixture
def noisy(shell: Shell) -> Shell:
    shell.write("noisy.py", NOISY)
    shell.environment["EVRT_APP"] = "noisy"
    return shell


def test_what_an_app_prints_goes_to_stderr_and_stdout_is_the_commands(noisy: Shell) -> None:
    started = noisy.evrt("runs", "start", "trip", "Turin", "--json")
    assert started.document["output"] == "Turin"
    for line in ("loading", "on the way", "looking at Turin"):
        assert line in started.err.splitlines()
    run = started.document["run"]
    assert noisy.evrt("runs", "start", "trip", "Rome").out == "Rome\n"
    assert noisy.evrt("replay", run, "--json").document["ok"]
    assert len(noisy.evrt("runs", "list", "--json").document) == 2
    assert noisy.evrt("doctor", "--json").document[0]["name"] == "app"


@pytest.mark.parametrize("code", ["0", "7"])
def test_code_that_exits_is_no_success_and_its_run_goes_on_later(noisy: Shell, code: str) -> None:
    left = noisy.evrt("runs", "start", "leave", "--json", expect=1, EXIT=code)
    assert left.out == ""
    run = left.err.splitlines()[1]
    assert left.err.splitlines()[2:] == [
        f"The run's code called exit({code}). What {run} has done is kept; it goes on with:",
        f"  evrt runs resume {run}",
    ]
    assert noisy.evrt("runs", "resume", run, expect=1, EXIT=code).out == ""


def test_a_projection_that_cannot_be_one_is_told_with_the_line_that_makes_it(noisy: Shell) -> None:
    rest = ", ".join(
        f"{name}=RUNS.{name}" for name in ("document", "handles", "key", "source", "initial", "evolve")
    )
    code = f"Projection(name='mine', version=1, indexes=('colour',), {rest})"
    imports = "from evrt.projection import Projection\nfrom evrt_projections.runs import PROJECTION as RUNS\n"
    noisy.write("noisy.py", f"{imports}{code}\n")
    told = noisy.refused("runs", "list", code=2)
    assert "noisy.py:3): The projection mine has an index on 'colour'" in told


def install(shell: Shell, code: str) -> None:
    """Put a package beside the app that registers a projection, and has this code."""
    folder = shell.folder / "tally-1.dist-info"
    folder.mkdir(exist_ok=True)
    shell.write("tally.py", code)
    shell.write("tally-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tally\nVersion: 1\n")
    shell.write("tally-1.dist-info/entry_points.txt", "[evrt.projections]\ntally = tally:PROJECTION\n")


@pytest.mark.parametrize("code", ["raise RuntimeError('no ledger')", "raise SystemExit(0)"])
def test_a_package_whose_projection_cannot_be_loaded_is_named_by_commands_and_doctor(
    noisy: Shell, code: str
) -> None:
    noisy.evrt("runs", "start", "trip", "Turin")
    install(noisy, code)
    told = noisy.evrt("runs", "list", expect=2).err.splitlines()[-1]
    assert "The projection 'tally' of the entry point group evrt.projections cannot be loaded" in told
    found = {one["name"]: one for one in noisy.evrt("doctor", "--json", expect=1).document}
    assert found["projections"]["verdict"] == "bad"
    assert "'tally'" in found["projections"]["found"]


def test_what_a_package_with_a_projection_prints_goes_to_stderr(noisy: Shell) -> None:
    noisy.evrt("runs", "start", "trip", "Turin")
    install(noisy, "from evrt_projections.runs import PROJECTION\nprint('tallying')\n")
    told = noisy.evrt("runs", "list", "--json")
    assert len(told.document) == 1
    assert "tallying" in told.err


def test_an_app_that_is_broken_hides_no_log(noisy: Shell) -> None:
    run = noisy.evrt("runs", "start", "trip", "Turin").err.splitlines()[1]
    noisy.write("noisy.py", "app = evrt.App(\n")
    told = noisy.refused("runs", "list", code=2)
    assert told.endswith("--db FILE looks into a log without the app.")
    assert noisy.evrt("runs", "list", "--db", "evrt.db", "--json").document[0]["run"] == run
