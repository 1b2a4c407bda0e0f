"""What an app runs by the clock, as the command line shows it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from cli.forker import Forker
from cli.shell import Shell, new_shell

CLOCKWORK = """
import evrt

app = evrt.App()

@app.schedule("0 9 * * mon-fri", name="mornings", zone="Europe/Rome", input="today", missed="all")
@app.schedule("every 15m", name="often", input="now")
@app.workflow
async def report(ctx: evrt.Context, day: str) -> str:
    return f"reported {day}"
"""


@pytest.fixture
def clockwork(tmp_path: Path, forker: Forker) -> Shell:
    shell = new_shell(tmp_path, forker)
    shell.write("support.py", CLOCKWORK)
    return shell


def test_schedules_are_listed_with_their_next_ticks_before_there_is_a_log(clockwork: Shell) -> None:
    said = clockwork.evrt("schedules")
    assert said.out.splitlines()[0].split() == ["SCHEDULE", "TARGET", "WHEN", "ZONE", "LAST", "NEXT"]
    assert " 09:00, " in next(line for line in said.out.splitlines() if line.startswith("mornings"))
    assert not (clockwork.folder / "evrt.db").exists()
    mornings, often = clockwork.evrt("schedules", "--json").document
    assert (mornings["name"], mornings["when"], mornings["zone"]) == (
        "mornings",
        "0 9 * * mon-fri",
        "Europe/Rome",
    )
    assert (mornings["missed"], mornings["last"], mornings["input"]) == ("all", None, "today")
    first, second, third = (datetime.fromisoformat(tick) for tick in often["next"])
    assert (second - first).total_seconds() == (third - second).total_seconds() == 900


def test_a_schedule_is_run_by_hand_and_that_is_no_tick_of_it(clockwork: Shell) -> None:
    run = clockwork.evrt("schedules", "run", "mornings").out.strip()
    assert (
        clockwork.evrt("schedules", "--app", "support:app", "run", "often", "--json").document["schedule"]
        == "often"
    )
    requested = clockwork.evrt("log", run, "--json").document
    assert requested["event"]["schedule"] == "mornings"
    assert requested["event"]["tick"] is None
    assert [schedule["last"] for schedule in clockwork.evrt("schedules", "--json").document] == [None, None]
    assert "It has: mornings, often" in clockwork.evrt("schedules", "run", "evenings", expect=3).err


def test_an_app_without_schedules_says_how_to_make_one(clockwork: Shell) -> None:
    clockwork.write("support.py", "import evrt\napp = evrt.App()\n")
    assert "@app.schedule" in clockwork.evrt("schedules").err
