"""The shapes that journeys have, each written as a person would write it, and walked through."""

from __future__ import annotations

from evrt import App
from journeys.examples import recovery
from journeys.examples.branching import claim
from journeys.examples.linear import signup
from journeys.examples.looping import order
from journeys.examples.recovery import tracking
from journeys.obedient import words
from journeys.talks import app_with, journey_events, replays, standing, state_of, talk


async def path_of(app: App) -> list[str]:
    """The steps that the journey has been at."""
    steps = []
    for envelope in await journey_events(app):
        fields = envelope.event.__dict__
        if envelope.type == "journey.started":
            steps.append(fields["step"])
        elif envelope.type == "journey.step_changed" and fields["from_step"] != fields["to_step"]:
            steps.append(fields["to_step"])
    return steps


async def test_a_linear_journey_goes_from_step_to_step_over_several_turns() -> None:
    """S4.4, S4.19, S4.20"""
    async with app_with(signup) as app:
        turns = await talk(
            app,
            signup,
            "Hello!",
            words("begin"),
            words(("give_name", {"name": "Ann"})),
            words(("give_email", {"email": "ann@example.org"})),
        )
        assert await path_of(app) == ["welcome", "name", "email", "done"]
        assert await state_of(app, "signup") == {
            "step": "done",
            "is_complete": True,
            "name": "Ann",
            "email": "ann@example.org",
        }
        assert turns[0].output == (
            "(You help people to sign up. Ask for one thing at a time.\n\nGreet the user and ask whether to begin.)"
        )
        await replays(app, *turns)


async def test_a_branching_journey_takes_the_way_that_its_state_says() -> None:
    """S4.19, S4.20"""
    async with app_with(claim) as app:
        small = await talk(app, claim, words(("report", {"what": "cup", "amount": 9}), "pay"))
        assert (await state_of(app, "claim"))["receipt"] == "9.00 paid"
        large = ("report", {"what": "car", "amount": 9_000})
        [waiting] = await talk(app, claim, words(large, "review", "pay"), conversation="large")
        assert (waiting.status, waiting.reason) == ("waiting", "approval")
        await app.decide(waiting.run_id, False, by="bo")
        declined = await app.resume(waiting.run_id)
        assert (await standing(app, "claim", "large")).ended == "complete"
        assert (await state_of(app, "claim", "large"))["step"] == "declined"
        await replays(app, *small, declined)


async def test_a_looping_journey_comes_back_to_a_step_as_often_as_it_takes() -> None:
    """S4.19, S4.20"""
    async with app_with(order) as app:
        turns = await talk(
            app,
            order,
            words("check_out"),
            words(
                ("choose", {"item": "tea"}), ("set_quantity", {"count": 0}), ("set_quantity", {"count": 2})
            ),
            words(("choose", {"item": "cake"}), ("set_quantity", {"count": 1}), "check_out"),
            "What did I order?",
            words("change_order", "check_out", "check_out"),
        )
        assert "The basket is empty." in str(turns[0].output)
        assert "At least one." in str(turns[1].output)
        assert "- 2 × tea\n- 1 × cake" in str(turns[3].output)
        loop = ["choose", "quantity"]
        assert await path_of(app) == [*loop, *loop, "choose", "confirm", "choose", "confirm", "ordered"]
        await replays(app, *turns)


async def test_a_journey_recovers_from_errors_by_a_step_for_them() -> None:
    """S4.19, S4.20"""
    async with app_with(tracking) as app:
        recovery.failures["count"] = 1
        turns = await talk(
            app,
            tracking,
            words(("look_up", {"parcel": "P7"})),
            words("try_again", "look_up"),
        )
        assert await path_of(app) == ["lookup", "error", "retry", "found"]
        assert (await state_of(app, "tracking"))["place"] == "Turin"
        await replays(app, *turns)


async def test_a_journey_gives_up_after_as_many_errors_as_it_says() -> None:
    """S4.19"""
    async with app_with(tracking) as app:
        recovery.failures["count"] = 3
        [_, last] = await talk(
            app,
            tracking,
            words(("look_up", {"parcel": "P7"})),
            words("try_again", "look_up", "try_again", "look_up", "try_again"),
        )
        assert (await path_of(app))[-2:] == ["error", "given_up"]
        assert last.status == "succeeded"
