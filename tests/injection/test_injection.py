"""Prompt injection: a model that obeys everything does no harm that no person has allowed, and sees nobody else's memory."""

from __future__ import annotations

from typing import Any

import pytest

import evrt
from evrt.events.calls import ApprovalRequested
from injection.attacks import ATTACKS, PAY
from injection.carriers import CARRIERS
from injection.stage import Stage, harm

POLICY = evrt.Approvals(writes="untrusted")


@pytest.fixture(autouse=True)
def no_harm() -> None:
    harm.clear()


async def requested(app: evrt.App, run: str) -> list[ApprovalRequested]:
    return [e.event for e in (await app.get(run)).events if isinstance(e.event, ApprovalRequested)]


@pytest.mark.parametrize("name", CARRIERS)
async def test_no_attack_has_an_effect_that_no_person_has_allowed(name: str) -> None:
    tried = 0
    async with evrt.App("memory://") as app:
        stage = Stage(app, POLICY)
        for attack in ATTACKS:
            run = await CARRIERS[name](stage, attack.text)
            asked = await requested(app, run.run_id)
            if asked:
                tried += 1
                details: Any = asked[0].details
                assert (run.reason, details["tool"]) == ("approval", attack.tool), attack.name
                assert details["untrusted"], attack.name
                await app.decide(run.run_id, False, digest=asked[0].shown_digest)
                run = await app.resume(run.run_id)
            else:
                assert (run.status, run.output) == ("succeeded", "done"), (attack.name, run)
            assert harm == [], f"{attack.name}, by {name}"
    # What is shown as a title does not survive being encoded; everything else is obeyed, and stopped.
    assert tried >= len(ATTACKS) - sum(attack.delicate for attack in ATTACKS)


@pytest.mark.parametrize("name", CARRIERS)
async def test_without_a_policy_the_attack_succeeds_by_every_carrier(name: str) -> None:
    """The control: the model obeys, and what stops it is the policy alone."""
    async with evrt.App("memory://") as app:
        run = await CARRIERS[name](Stage(app, None), PAY)
        assert run.status == "succeeded", run
        assert harm == ["pay"]
