"""A journey of ten turns comes to the same wherever it is killed: in process at every append, and by SIGKILL for real."""

from __future__ import annotations

import os
import random
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from evrt.log import Log
from journeys.mortal import ERROR, Mortals, told
from journeys.trip import FINAL, TURNS, go_on, make_app, no_model, story
from runtime.logs import Watched, cut_off, put, watch

CUTS = 7
"""Appends in CI, spread over the whole; a soak takes every one."""


async def undisturbed() -> tuple[Watched, dict[str, Any]]:
    app = make_app()
    watched = await watch(app)
    await go_on(app)
    return watched, await story(app)


async def cut_and_go_on(
    log: Log, position: int, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = put(make_app(), await cut_off(log, position))
    runs = await go_on(app)
    assert await story(app) == whole, f"cut off at position {position}"
    no_model(app)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", _no_network)
        for run in runs:
            report = await app.replay(run)
            assert report.complete, (position, report.divergence)
            assert report.ok


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("A replay opened a socket.")


async def test_ten_turns_come_to_what_they_should() -> None:
    """S4.4"""
    watched, whole = await undisturbed()
    assert whole["state"] == FINAL
    assert whole["ended"] == "complete"
    assert len(whole["outputs"]) == len(TURNS) == 10
    assert whole["outputs"][-1] == ""
    # Each kind of refusal is among them, or the kills would not have met it.
    said = str(whole["messages"])
    for refusal in (
        "Nobody travels yet",
        "Who is that?",
        "There is no tool",
        "not valid",
        "the card is refused",
    ):
        assert refusal in said
    assert len(watched.boundaries) > 50


async def test_ten_turns_cut_off_at_appends_all_over_come_to_the_same_and_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S4.4, S4.12, fault 58"""
    watched, whole = await undisturbed()
    boundaries = watched.boundaries[:-1]
    for position in boundaries[:: len(boundaries) // CUTS]:
        await cut_and_go_on(watched._log, position, whole, monkeypatch)


@pytest.mark.soak
async def test_ten_turns_cut_off_after_every_append_come_to_the_same_and_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S4.4, S4.12, fault 58"""
    watched, whole = await undisturbed()
    for position in watched.boundaries[:-1]:
        await cut_and_go_on(watched._log, position, whole, monkeypatch)


# ------------------------------------------------------------------------------------ real processes

SITES = ("append.before", "append.after")
DEATHS = 3
"""In CI, spread over the conversation; a soak has one on either side of every append, and pairs of them."""


def die_and_go_on(
    mortals: Mortals, folder: Path, whole: dict[str, Any], *deaths: tuple[str, int]
) -> list[str]:
    """Let workers die one after another, and the last one come to the end; what is not as it should be."""
    folder.mkdir()
    for site, nth in deaths:
        status = mortals.live(folder, site, nth)
        assert os.WIFSIGNALED(status), (deaths, (folder / ERROR).read_text())
        assert os.WTERMSIG(status) == signal.SIGKILL
    if mortals.live(folder) != 0:
        return [f"{deaths}: {(folder / ERROR).read_text()}"]
    found = told(folder)
    assert all(found["replayed"])
    wrong = [
        name for name in ("state", "ended", "outputs", "messages", "digests") if found[name] != whole[name]
    ]
    return [f"{deaths}: {name} differs" for name in wrong]


def undisturbed_process(mortals: Mortals, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    assert mortals.live(folder) == 0, (folder / ERROR).read_text()
    return told(folder)


def test_ten_turns_in_processes_that_are_killed_come_to_the_same(tmp_path: Path) -> None:
    """S4.4, S4.12, fault 58"""
    with Mortals() as mortals:
        whole = undisturbed_process(mortals, tmp_path / "whole")
        assert whole["state"] == FINAL
        count = whole["passed"]["append.before"]
        for number in range(DEATHS):
            site = SITES[number % len(SITES)]
            nth = random.randint(1 + number * count // DEATHS, (number + 1) * count // DEATHS)
            assert die_and_go_on(mortals, tmp_path / str(number), whole, (site, nth)) == []


@pytest.mark.soak
def test_ten_turns_killed_on_either_side_of_every_append_come_to_the_same(tmp_path: Path) -> None:
    """S4.4, S4.12, fault 58"""
    with Mortals() as mortals:
        whole = undisturbed_process(mortals, tmp_path / "whole")
        count = whole["passed"]["append.before"]
        single = [((site, nth),) for site in SITES for nth in range(1, count + 1)]
        pairs = [
            (
                (random.choice(SITES), random.randint(1, count // 2)),
                (random.choice(SITES), random.randint(1, count // 2)),
            )
            for _ in range(count)
        ]
        for number, deaths in enumerate([*single, *pairs]):
            assert die_and_go_on(mortals, tmp_path / str(number), whole, *deaths) == []
