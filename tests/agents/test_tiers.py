"""Tiers stand in for one another in one order, and make models of their own when they are first called."""

from __future__ import annotations

import pytest

from evrt.agents.tiers import TIERS, Tier, TierConfig, Tiers, tiers_from_env
from evrt.effects.contract import ModelRequest
from evrt.errors import EvrtError, TierNotConfigured, UsageError
from evrt.testing import ScriptedModel

ASK = ModelRequest("m", [{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    "configured, wanted, chosen",
    [
        ("small mid frontier", "small", "small"),
        ("small mid frontier", "mid", "mid"),
        ("small mid frontier", "frontier", "frontier"),
        ("mid frontier", "small", "mid"),
        ("frontier", "small", "frontier"),
        ("frontier", "mid", "frontier"),
        ("small frontier", "mid", "small"),
        ("small mid", "frontier", "small"),
        ("mid", "frontier", "mid"),
    ],
)
def test_the_first_of_small_mid_and_frontier_stands_in_for_a_tier_that_is_missing(
    configured: str, wanted: Tier, chosen: Tier
) -> None:
    """B32"""
    tiers = Tiers(**{tier: f"model-{tier}" for tier in configured.split()})
    found = tiers.choose(wanted)
    assert (found.tier, found.config.model) == (chosen, f"model-{chosen}")
    assert found.wanted == (None if chosen == wanted else wanted)
    assert tiers.configured == tuple(configured.split())


def test_without_any_tier_it_is_an_error_that_says_what_to_set() -> None:
    """S2.6, B32"""
    with pytest.raises(TierNotConfigured, match=r"'mid' was asked for.*EVRT_TIER_MID"):
        Tiers().choose("mid")
    assert issubclass(TierNotConfigured, UsageError)
    assert issubclass(TierNotConfigured, EvrtError)
    assert TierNotConfigured.exit_code == 2


def test_a_tier_of_another_name_is_refused() -> None:
    """B32"""
    with pytest.raises(UsageError, match="no tier 'large'"):
        Tiers(small="m").choose("large")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="model is a name"):
        TierConfig("")


class Closing(ScriptedModel):
    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


async def test_models_of_tiers_are_made_at_their_first_call_once_and_closed_by_their_owner() -> None:
    """S2.5"""
    made: list[Closing] = []

    def make() -> Closing:
        made.append(Closing(lambda request: f"reply of {request.model}"))
        return made[-1]

    never = TierConfig("never", make=lambda: pytest.fail("nobody called it"))
    own = TierConfig("own", {"temperature": 0}, make)
    async with Tiers(small=own, mid=own, frontier=never) as tiers:
        assert made == []
        model = tiers.models[tiers.choose("small").config.model]
        assert made == []
        for _ in range(2):
            assert (await model.complete(ASK)).message["content"] == "reply of m"
        assert tiers.models["own"] is model
        assert [each.closed for each in made] == [0]
    assert [each.closed for each in made] == [1]
    await tiers.aclose()
    assert [each.closed for each in made] == [1]
    await model.complete(ASK)
    assert len(made) == 2, "After its end the next call makes it anew."
    await tiers.aclose()


def test_two_models_under_one_name_are_refused() -> None:
    """S2.5"""
    with pytest.raises(UsageError, match="both call theirs 'own'"):
        Tiers(
            small=TierConfig("own", make=lambda: ScriptedModel([])),
            mid=TierConfig("own", make=lambda: ScriptedModel([])),
        )


def test_the_environment_names_tiers_and_their_parameters() -> None:
    """S2.5"""
    tiers = tiers_from_env(
        environ={
            "EVRT_TIER_SMALL": "openai/small",
            "EVRT_TIER_FRONTIER": "openai/large",
            "EVRT_TIER_FRONTIER_PARAMETERS": '{"temperature": 0}',
            "EVRT_TIER_MID": "",
        }
    )
    assert tiers.configured == ("small", "frontier")
    assert tiers.choose("small").config == TierConfig("openai/small")
    assert tiers.choose("frontier").config == TierConfig("openai/large", {"temperature": 0})


def test_where_the_environment_names_no_tier_one_model_is_all_of_them() -> None:
    """S2.5"""
    tiers = tiers_from_env("openai/gpt-4o", environ={})
    assert {tier: tiers.choose(tier).config.model for tier in TIERS} == dict.fromkeys(TIERS, "openai/gpt-4o")
    assert tiers_from_env("openai/gpt-4o", environ={"EVRT_TIER_MID": "m"}).configured == ("mid",)
    assert tiers_from_env(environ={}).configured == ()


def test_the_process_environment_is_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """S2.5"""
    monkeypatch.setenv("EVRT_TIER_SMALL", "tiny")
    assert tiers_from_env().choose("small").config.model == "tiny"


@pytest.mark.parametrize("text", ["[1]", "temperature=0", '"x"'])
def test_parameters_that_are_no_object_are_refused(text: str) -> None:
    """S2.5"""
    with pytest.raises(UsageError, match="EVRT_TIER_SMALL_PARAMETERS has to be a JSON object"):
        tiers_from_env(environ={"EVRT_TIER_SMALL": "m", "EVRT_TIER_SMALL_PARAMETERS": text})
