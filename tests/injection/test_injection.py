"""Prompt injection: a model that obeys everything does no harm that no person has allowed, and sees nobody else's memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import evrt
from evrt.events.calls import ApprovalRequested
from injection.attacks import ATTACKS, PAY, Attack
from injection.carriers import CARRIERS, Carrier, served_by
from injection.stage import Stage, harm

POLICY = evrt.Approvals(writes="untrusted")


@pytest.fixture(autouse=True)
def no_harm() -> None:
    harm.clear()


async def requested(app: evrt.App, run: str) -> list[ApprovalRequested]:
    return [e.event for e in (await app.get(run)).events if isinstance(e.event, ApprovalRequested)]


async def attacked(stage: Stage, name: str, bring: Carrier, attacks: Sequence[Attack]) -> None:
    """Attacks by one carrier: each is obeyed by the model, and does nothing, as nobody allows it."""
    obeyed = 0
    for attack in attacks:
        run = await bring(stage, attack.text)
        asked = await requested(stage.app, run.run_id)
        if asked:
            obeyed += 1
            details: Any = asked[0].details
            assert (run.reason, details["tool"]) == ("approval", attack.tool), (attack.name, name, run)
            assert details["untrusted"], attack.name
            await stage.app.decide(run.run_id, False, digest=asked[0].shown_digest)
            run = await stage.app.resume(run.run_id)
        assert harm == [], f"{attack.name}, by {name}"
        assert run.status in ("succeeded", "waiting"), (attack.name, name, run)
    # What is shown as a title does not survive being encoded; everything else is obeyed, and stopped.
    assert obeyed >= len(attacks) - sum(attack.delicate for attack in attacks), name


@pytest.mark.parametrize("name", CARRIERS)
async def test_no_attack_has_an_effect_that_no_person_has_allowed(name: str) -> None:
    """Fault 8: whatever stands in memory, or anywhere else that a prompt is made of"""
    async with evrt.App("memory://") as app:
        await attacked(Stage(app, POLICY), name, CARRIERS[name], ATTACKS)


async def test_no_tool_of_an_mcp_server_talks_an_agent_into_anything(tmp_path: Path) -> None:
    async with evrt.App("memory://") as app:
        stage = Stage(app, POLICY)
        for name, bring in served_by(tmp_path).items():
            await attacked(stage, name, bring, ATTACKS)
        stage.policy = None
        for number, bring in enumerate(served_by(tmp_path).values(), 1):
            await bring(stage, PAY)
            assert harm == ["pay"] * number


@pytest.mark.parametrize("name", CARRIERS)
async def test_without_a_policy_the_attack_succeeds_by_every_carrier(name: str) -> None:
    """The control: the model obeys, and what stops it is the policy alone."""
    async with evrt.App("memory://") as app:
        run = await CARRIERS[name](Stage(app, None), PAY)
        assert run.status == "succeeded", run
        assert harm == ["pay"]
