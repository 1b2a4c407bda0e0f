"""Approvals of tool calls: which calls need them, what a person is shown, and that exactly that is made."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeAlias

import pytest

import evrt
from evrt.agents.approving import DENIED, admit, needs_approval
from evrt.errors import Conflict, UsageError
from evrt.events.calls import ApprovalDecided, ApprovalRequested, ToolCallFailed
from evrt.testing import ScriptedModel, call

Ctx: TypeAlias = evrt.Context[Any]
paid: list[tuple[str, int]] = []


@evrt.tool
async def pay(to: str, cents: int = 1) -> str:
    paid.append((to, cents))
    return f"{to} has {cents}"


@evrt.tool(effect="read")
async def search(query: str) -> str:
    return f"all about {query}"


@evrt.tool(effect="read", confirm=True)
async def secret(name: str) -> str:
    return name * 2


@evrt.tool
async def remember(ctx: Ctx, key: str, value: str, scope: str = "user") -> str:
    return f"{scope} {key}={value}"


@evrt.tool
async def note(ctx: Ctx, text: str) -> str:
    return text


TOOLS = [pay, search, secret, remember, note]


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    paid.clear()


def wished(tool: str, **arguments: Any) -> Any:
    return {"id": f"call-{tool}", "function": {"name": tool, "arguments": json.dumps(arguments)}}


def guarded(
    app: evrt.App, policy: evrt.Approvals | None, tool: evrt.Tool, *, tainted: bool = True, **arguments: Any
) -> evrt.Workflow:
    """A workflow that makes one call as an agent's loop does: admit it, then perform it, held to what was admitted."""

    @app.workflow
    async def loop(ctx: Ctx) -> Any:
        if tainted:
            await ctx.call(search, "weather")
        refused = await admit(ctx, policy, tool, arguments, f"call-{tool.name}")
        if refused is not None:
            return [refused.error_type, refused.message]
        outcome = await ctx.perform(
            wished(tool.name, **arguments), TOOLS, approved=ctx.call_digest(tool, arguments)
        )
        return outcome.event.__dict__["result"]

    return loop


ALWAYS = evrt.Approvals(writes="always")
NEVER = evrt.Approvals(writes="never")
DEFAULT = evrt.Approvals()
SCOPED = {"key": "k", "value": "v"}
SOURCES = ("tool:search",)

CASES: list[tuple[evrt.Approvals | None, evrt.Tool, dict[str, Any], bool, bool]] = [
    # policy, tool, arguments, needs it untainted, needs it tainted
    (None, pay, {}, False, False),
    (None, search, {}, False, False),
    (None, secret, {}, True, True),
    (None, remember, SCOPED, False, False),
    (NEVER, pay, {}, False, False),
    (NEVER, secret, {}, True, True),
    (DEFAULT, pay, {}, False, True),
    (DEFAULT, search, {}, False, False),
    (DEFAULT, note, {}, False, False),
    (DEFAULT, remember, SCOPED, False, True),
    (DEFAULT, remember, {**SCOPED, "scope": "user"}, False, True),
    (DEFAULT, remember, {**SCOPED, "scope": "system"}, False, True),
    (DEFAULT, remember, {**SCOPED, "scope": "conversation"}, False, False),
    (DEFAULT, remember, {**SCOPED, "scope": ["conversation"]}, False, True),
    (ALWAYS, pay, {}, True, True),
    (ALWAYS, search, {}, False, False),
    (ALWAYS, remember, SCOPED, True, True),
    (ALWAYS, remember, {**SCOPED, "scope": "conversation"}, False, False),
    (evrt.Approvals(tools={"pay": "never"}), pay, {}, False, False),
    (evrt.Approvals(tools={"search": "always"}), search, {}, True, True),
    (evrt.Approvals(tools={"search": "untrusted"}), search, {}, False, True),
    (evrt.Approvals(writes="never", tools={"pay": "always"}), pay, {}, True, True),
    (evrt.Approvals(tools={"secret": "never"}), secret, {}, True, True),
    (evrt.Approvals(tools={"remember": "never"}), remember, SCOPED, False, False),
    (evrt.Approvals("never", {"remember": "always"}), remember, {"scope": "conversation"}, True, True),
    (evrt.Approvals("never", {"note": "untrusted"}), note, {}, False, True),
]


@pytest.mark.parametrize("policy, tool, arguments, clean, tainted", CASES)
def test_the_policy_says_which_calls_need_leave(
    policy: evrt.Approvals | None, tool: evrt.Tool, arguments: dict[str, Any], clean: bool, tainted: bool
) -> None:
    """B10: confirmation"""
    assert needs_approval(policy, tool, arguments, ()) is clean
    assert needs_approval(policy, tool, arguments, SOURCES) is tainted


@pytest.mark.parametrize("writes", ["Always", "", "ask", True])
def test_a_policy_that_is_none_is_refused(writes: Any) -> None:
    with pytest.raises(UsageError, match="'never', 'untrusted' or 'always'"):
        evrt.Approvals(writes=writes)
    with pytest.raises(UsageError):
        evrt.Approvals(tools={"pay": writes})
    with pytest.raises(UsageError):
        evrt.Approvals(expires="soon")


async def requested(app: evrt.App, run: str) -> list[ApprovalRequested]:
    return [e.event for e in (await app.get(run)).events if isinstance(e.event, ApprovalRequested)]


async def test_a_person_sees_the_call_and_where_untrusted_content_came_from_and_then_it_is_made() -> None:
    """B10: approval requests"""
    async with evrt.App("memory://") as app:
        run = await app.run(guarded(app, DEFAULT, pay, to="Ann", cents=5))
        assert (run.reason, paid) == ("approval", [])
        [asked] = await requested(app, run.run_id)
        assert asked.action == "tool call pay"
        assert asked.details == {
            "tool": "pay",
            "arguments": {"to": "Ann", "cents": 5},
            "tool_call_id": "call-pay",
            "untrusted": ["tool:search"],
        }
        await app.decide(run.run_id, True, by="ben", digest=asked.shown_digest)
        run = await app.resume(run.run_id)
        assert (run.output, paid) == ("Ann has 5", [("Ann", 5)])
        [decided] = [
            e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ApprovalDecided)
        ]
        assert (decided.by, decided.shown_digest) == ("ben", asked.shown_digest)
        assert (await app.replay(run.run_id)).complete
        assert len(paid) == 1


async def test_a_run_that_has_read_nothing_untrusted_goes_on_without_a_person() -> None:
    async with evrt.App("memory://") as app:
        run = await app.run(guarded(app, DEFAULT, pay, tainted=False, to="Ann"))
        assert (run.output, await requested(app, run.run_id)) == ("Ann has 1", [])


@pytest.mark.parametrize(
    "reason, told",
    [
        ("Ann has enough.", "The reason given: Ann has enough."),
        (None, "No reason was given."),
        ("timeout", "given: timeout"),
    ],
)
async def test_the_model_is_told_of_a_denial_and_its_reason(reason: str | None, told: str) -> None:
    """B10"""
    async with evrt.App("memory://") as app:
        run = await app.run(guarded(app, DEFAULT, pay, to="Ann"))
        await app.decide(run.run_id, False, reason=reason, by="ben")
        error_type, message = (await app.resume(run.run_id)).output
        assert error_type == DENIED
        assert told in message
        assert "It was not made." in message
        assert paid == []


async def test_leave_that_nobody_gives_in_time_is_denied() -> None:
    async with evrt.App("memory://") as app:
        run = await app.run(guarded(app, evrt.Approvals("always", expires="20ms"), pay, to="Ann"))
        assert run.reason == "approval"
        await asyncio.sleep(0.03)
        run = await app.resume(run.run_id)
        assert run.output[0] == DENIED
        assert "Nobody allowed it in time." in run.output[1]
        assert paid == []


async def test_leave_is_for_one_call() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def loop(ctx: Ctx) -> list[str | None]:
            refused = [await admit(ctx, ALWAYS, pay, {"to": "Ann"}, f"call-{n}") for n in range(2)]
            return [None if one is None else one.error_type for one in refused]

        run = await app.run(loop)
        await app.decide(run.run_id, True)
        run = await app.resume(run.run_id)
        assert run.reason == "approval"
        await app.decide(run.run_id, False)
        assert (await app.resume(run.run_id)).output == [None, DENIED]


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("digest", ["", "0" * 32, "other"])
async def test_a_decision_on_something_else_than_was_shown_is_refused(digest: str, approved: bool) -> None:
    """An approval is of what was shown, and the log says so."""
    async with evrt.App("memory://") as app:
        run = await app.run(guarded(app, ALWAYS, pay, to="Ann"))
        before = len((await app.get(run.run_id)).events)
        with pytest.raises(Conflict, match="something else than you were shown"):
            await app.decide(run.run_id, approved, digest=digest)
        assert len((await app.get(run.run_id)).events) == before


async def test_what_is_approved_has_a_digest_of_its_own_for_each_call_and_each_action() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def asks(ctx: Ctx) -> None:
            await ctx.gather(
                ctx.approve("Send", {"to": 1}),
                ctx.approve("Send", {"to": 2}),
                ctx.approve("Take", {"to": 1}),
                ctx.approve("Send", {"to": 1}),
                ctx.approve("Send", {"to": 3}, digest=ctx.call_digest(pay, {"to": "Ann", "cents": 3})),
                ctx.approve("Send", {"to": 4}, digest=ctx.call_digest(pay, {"cents": 3, "to": "Ann"})),
                ctx.approve("Send", {"to": 5}, digest=ctx.call_digest(pay, {"to": "Ann", "cents": 4})),
                ctx.approve("Send", {"to": 6}, digest=ctx.call_digest(search, {"to": "Ann", "cents": 3})),
            )

        digests = [one.shown_digest for one in await requested(app, (await app.run(asks)).run_id)]
        assert digests[0] == digests[3]
        assert digests[4] == digests[5]
        assert len(set(digests)) == 6


@pytest.mark.parametrize(
    "changed",
    [{"to": "Eve", "cents": 5}, {"to": "Ann", "cents": 500}, {"to": "Ann"}, {"to": "Ann", "cents": 5.0}],
)
async def test_a_call_whose_arguments_changed_after_the_approval_is_refused_before_its_effect(
    changed: dict[str, Any],
) -> None:
    """Approved is the exact call; the refusal is on record."""
    shown = {"to": "Ann", "cents": 5}
    async with evrt.App("memory://") as app:

        @app.workflow
        async def loop(ctx: Ctx) -> Any:
            assert await admit(ctx, ALWAYS, pay, shown) is None
            outcome = await ctx.perform(wished("pay", **changed), TOOLS, approved=ctx.call_digest(pay, shown))
            assert isinstance(outcome.event, ToolCallFailed)
            return outcome.event.failure.error_type

        run = await app.run(loop)
        await app.decide(run.run_id, True)
        run = await app.resume(run.run_id)
        assert (run.output, paid) == ("approval_mismatch", [])
        types = [e.type for e in (await app.get(run.run_id)).events]
        assert types.index("approval.decided") < types.index("tool_call.failed")
        assert (await app.replay(run.run_id)).complete


async def test_code_that_asks_leave_for_something_else_after_a_restart_diverges() -> None:
    arguments = {"to": "Ann", "cents": 5}
    async with evrt.App("memory://") as app:

        @app.workflow
        async def loop(ctx: Ctx) -> Any:
            return await admit(ctx, ALWAYS, pay, arguments) is None

        run = await app.run(loop)
        arguments["cents"] = 500
        await app.decide(run.run_id, True)
        assert (await app.resume(run.run_id)).reason == "diverged"


async def test_a_call_too_large_to_be_shown_is_not_made() -> None:
    async with evrt.App("memory://") as app:
        run = await app.run(guarded(app, ALWAYS, pay, to="x" * 1_048_576))
        assert run.output[0] == "PayloadTooLarge"
        assert paid == []


async def test_of_several_who_decide_at_once_one_is_heard() -> None:
    """Fault 42"""
    async with evrt.App("memory://") as app:
        run = await app.run(guarded(app, ALWAYS, pay, to="Ann"))
        [asked] = await requested(app, run.run_id)
        came = await asyncio.gather(
            *(
                app.decide(
                    run.run_id,
                    number % 2 == 0,
                    operation="approve#1",
                    digest=asked.shown_digest if number < 4 else "other",
                )
                for number in range(8)
            ),
            return_exceptions=True,
        )
        assert [type(one) for one in came].count(str) == 1
        assert [type(one) for one in came[4:]] == [Conflict] * 4
        granted = came.index("approve#1") % 2 == 0
        run = await app.resume(run.run_id)
        assert paid == ([("Ann", 1)] if granted else [])


# --------------------------------------------------------------------------------- in an agent's loop


def looping(app: evrt.App, policy: evrt.Approvals | None, hooks: evrt.Hooks | None = None) -> evrt.Agent:
    """An agent whose model searches, then pays Ann, then says what came of that."""

    def says(request: evrt.ModelRequest) -> Any:
        results = [message for message in request.messages if message["role"] == "tool"]
        if len(results) < 2:
            return [call("search", query="Ann"), call("pay", to="Ann", cents=5)][len(results)]
        return str(results[-1]["content"])

    app.models["script"] = ScriptedModel(says)
    return app.agent("payer", model="script", tools=[pay, search], approvals=policy, hooks=hooks)


async def test_a_loop_asks_for_leave_and_goes_on_with_what_was_decided() -> None:
    """B10"""
    async with evrt.App("memory://") as app:
        loop = looping(app, DEFAULT)
        for approved in (True, False):
            run = await app.run(loop, "Pay Ann.")
            assert run.reason == "approval"
            [asked] = await requested(app, run.run_id)
            assert asked.details["untrusted"] == ["tool:search"]  # type: ignore[index,call-overload]  # an object
            await app.decide(run.run_id, approved, reason="as ever", digest=asked.shown_digest)
            run = await app.resume(run.run_id)
            assert (run.output == "Ann has 5") is approved
            assert ("as ever" in run.output) is not approved
            assert paid == [("Ann", 5)]
            assert (await app.replay(run.run_id)).complete


async def test_a_call_that_something_in_the_loop_changes_after_the_approval_is_not_made() -> None:
    """Between the leave and the effect: a hook that holds on to the calls and changes one."""
    held: list[Any] = []

    async def keep(calls: Any) -> None:
        held[:] = calls

    async def change(name: str, text: str) -> None:
        if name == "pay":
            held[0]["function"]["arguments"] = text.replace("Ann", "Eve")

    async with evrt.App("memory://") as app:
        hooks = evrt.Hooks(on_tool_calls=keep, on_tool_start=change)
        run = await app.run(looping(app, DEFAULT, hooks), "Pay Ann.")
        await app.decide(run.run_id, True)
        run = await app.resume(run.run_id)
        assert "is not the one that was approved" in run.output
        assert paid == []
