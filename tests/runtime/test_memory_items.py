"""Memory beyond single values: finding items, expiry, history, many at once, trust, and what an app limits."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import evrt
from evrt.events.memory import MemoryRecalled, MemorySet
from evrt.folds.memory import begins_with
from runtime.logs import Ctx, same_after_every_crash, watch

PAST = datetime(2001, 1, 1, tzinfo=UTC)


async def outcome(app: evrt.App, code: Any, **whose: Any) -> Any:
    """What a workflow comes to, which replays to the same."""
    app.workflow(name="code")(code)
    run = await app.run("code", **(whose or {"user": "ann", "conversation": "c1"}))
    assert run.status == "succeeded", run.failure
    report = await app.replay(run.run_id)
    assert report.complete, report.divergence
    return run.output


@pytest.mark.parametrize(
    "key, prefix, found, plainly",
    [
        ("user.name", "user.name", True, True),
        ("user.name.first", "user.name", True, True),
        ("user.nameplate", "user.name", False, True),
        ("user.name", "user.", True, True),
        ("user.name", "user", True, True),
        ("user", "user.name", False, False),
        ("users", "user", False, True),
        ("user.name", "", True, True),
        ("user..name", "user", True, True),
    ],
)
def test_a_prefix_is_taken_by_segments_unless_letters_are_asked_for(
    key: str, prefix: str, found: bool, plainly: bool
) -> None:
    """S0.12, fault 4"""
    assert begins_with(key, prefix) is found
    assert begins_with(key, prefix, plain=True) is plainly


async def test_items_are_listed_newest_first_by_prefix_source_and_confidence(url: str) -> None:
    """B1"""
    async with evrt.App(url) as app:

        async def code(ctx: Ctx) -> list[Any]:
            await ctx.memory.set("user.name", "Ann", source="crm", metadata={"row": 7})
            await ctx.memory.set("user.nameplate", "A", confidence=0.4)
            await ctx.memory.set("user.name.first", "A.", confidence=0.9)
            wanted: list[Any] = [
                {},
                {"limit": 1},
                {"prefix": "user.name"},
                {"prefix": "user.name", "plain": True},
                {"source": "crm"},
                {"min_confidence": 0.5},
            ]
            found = [[item.key for item in await ctx.memory.list(**one)] for one in wanted]
            item = await ctx.memory.item("user.name")
            assert item is not None
            return [*found, item.source, item.confidence, item.metadata, item.version, item.run == ctx.run_id]

        first, name, plate = "user.name.first", "user.name", "user.nameplate"
        assert await outcome(app, code) == [
            [first, plate, name],
            [first],
            [first, name],
            [first, plate, name],
            [name],
            [first, name],
            "crm",
            1.0,
            {"row": 7},
            1,
            True,
        ]


async def test_several_keys_are_got_set_and_forgotten_at_once(url: str) -> None:
    """B2"""
    async with evrt.App(url) as app:
        watched = await watch(app)

        async def code(ctx: Ctx) -> list[Any]:
            await ctx.memory.set_many({"a.1": 1, "a.2": 2, "ab": 3}, confidence=0.5)
            await ctx.memory.set_many({})
            got = await ctx.memory.get_many(["a.1", "ab", "none"])
            cleared = [await ctx.memory.clear("a"), await ctx.memory.clear("a")]
            left = [item.key for item in await ctx.memory.list()]
            return [got, cleared, left, await ctx.memory.clear(), await ctx.memory.get_many(["ab"])]

        assert await outcome(app, code) == [{"a.1": 1, "ab": 3}, [2, 0], ["ab"], 1, {}]
        together = [types for types in watched.types if "memory.set" in types]
        assert [(types.count("memory.set"), types.count("memory.written")) for types in together] == [(3, 1)]


async def test_of_several_keys_one_that_cannot_be_set_leaves_the_others_unset(url: str) -> None:
    """B2"""
    async with evrt.App(url) as app:

        async def code(ctx: Ctx) -> int:
            for bad in ({"a": 1, "": 2}, {"a": 1, "b": b"\xff"}):
                with pytest.raises(evrt.InvalidInput):
                    await ctx.memory.set_many(bad)
            with pytest.raises(evrt.UsageError, match="1,001 keys are too many at once: 1,000 is the most"):
                await ctx.memory.set_many({str(number): 1 for number in range(1_001)})
            return len(await ctx.memory.list())

        assert await outcome(app, code) == 0


async def test_what_has_expired_is_not_seen_and_reads_the_same_on_replay(url: str) -> None:
    """B1"""
    async with evrt.App(url) as app:

        async def code(ctx: Ctx) -> list[Any]:
            await ctx.memory.set("kept", 1, expires="1h")
            await ctx.memory.set("until", 2, expires=ctx.now() + timedelta(days=1))
            await ctx.memory.set("gone", 3, expires=0.001)
            await ctx.sleep(0.01)
            seen = [await ctx.memory.get(key) for key in ("kept", "until", "gone")]
            listed = [item.key for item in await ctx.memory.list()]
            recalled = [item.key for item in await ctx.memory.recall("gone")]
            existed = await ctx.memory.forget("gone")
            await ctx.memory.set("gone", 4, if_version=0)
            return [seen, listed, recalled, existed, await ctx.memory.get("gone")]

        assert await outcome(app, code) == [[1, 2, None], ["until", "kept"], [], False, 4]
        [run] = await (await app.log()).streams("run-")
        reads = [e.event for e in (await app.get(run)).events if isinstance(e.event, MemoryRecalled)]
        assert all(event.at is not None for event in reads[:5])


async def test_a_history_read_after_everything_has_expired_replays_what_was_seen_then() -> None:
    """B1"""
    async with evrt.App("memory://") as app:

        @app.workflow
        async def sees(ctx: Ctx) -> Any:
            return [await ctx.memory.get("k"), [item.key for item in await ctx.memory.recall("k")]]

        await app.memory.set("k", "here", user="ann", expires=1)
        run = await app.run(sees, user="ann")
        assert run.output == ["here", ["k"]]
        await asyncio.sleep(1)
        assert (await app.replay(run.run_id)).complete
        assert (await app.run(sees, user="ann")).output == [None, []]


async def test_an_expiry_that_has_passed_is_refused_and_nothing_is_written(url: str) -> None:
    """B1"""
    async with evrt.App(url) as app:

        async def code(ctx: Ctx) -> list[str]:
            texts = []
            for expires in (PAST, "0s", "soon", -1, datetime(2100, 1, 1)):  # noqa: DTZ001
                try:
                    await ctx.memory.set("k", 1, expires=expires)
                except evrt.InvalidInput as error:
                    texts.append(str(error))
            assert await ctx.memory.list() == []
            return texts

        past, zero, soon, negative, zoneless = await outcome(app, code)
        assert past.startswith("Memory 'k' cannot expire at 2001-01-01T00:00:00+00:00")
        assert "longer than zero" in zero
        assert "'soon' is not a length of time" in soon
        assert "-1 is not" in negative
        assert "has no zone" in zoneless
        assert await (await app.log()).streams("memory-") == []


async def test_an_app_limits_how_long_and_how_much_is_remembered(url: str) -> None:
    """B3, fault 14"""
    policy = evrt.MemoryPolicy(retention="30d", conversation_retention="1d", memories_max=2)
    async with evrt.App(url, memory_policy=policy) as app:

        async def code(ctx: Ctx) -> list[Any]:
            await ctx.memory.set("a", 1)
            await ctx.memory.set("b", 1, expires="60d")
            capped = await ctx.memory.item("b")
            assert capped is not None
            assert capped.expires_at is not None
            lasts = [round((capped.expires_at - capped.time) / 3_600_000_000)]
            await ctx.memory.set("b", 2, expires="1h")
            await ctx.memory.set("here", 1, scope="conversation")
            refused = []
            for values in ({"c": 1}, {"a": 2, "c": 1}):
                with pytest.raises(evrt.UsageError) as error:
                    await ctx.memory.set_many(values)
                refused.append(str(error.value))
            assert await ctx.memory.forget("a")
            await ctx.memory.set("c", 1)
            places: list[tuple[str, Any]] = [("c", "user"), ("b", "user"), ("here", "conversation")]
            for key, scope in places:
                item = await ctx.memory.item(key, scope=scope)
                assert item is not None
                assert item.expires_at is not None
                lasts.append(round((item.expires_at - item.time) / 3_600_000_000))
            return [refused, lasts]

        refused, lasts = await outcome(app, code)
        told = "This memory holds 2 of the 2 keys that it may hold, so 'c' cannot be set. Forget some first, or raise memories_max."
        assert refused == [told, told]
        assert lasts == [30 * 24, 30 * 24, 1, 24]
        await app.memory.set("d", 1, conversation="c1")
        with pytest.raises(evrt.UsageError, match="2 of the 2"):
            await app.memory.set("e", 1, conversation="c1")


async def test_an_app_says_which_scope_is_meant_where_none_is_named() -> None:
    """section 4, conflict 5"""
    async with evrt.App("memory://", memory_policy=evrt.MemoryPolicy(scope="conversation")) as app:

        async def code(ctx: Ctx) -> list[Any]:
            await ctx.memory.set("k", 1)
            return [await ctx.memory.get("k", scope=scope) for scope in ("conversation", "user")]

        assert await outcome(app, code) == [1, None]


@pytest.mark.parametrize(
    "wrong", [{"scope": "all"}, {"retention": "soon"}, {"memories_max": 0}, {"conversation_retention": -1}]
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """B3"""
    with pytest.raises(evrt.UsageError):
        evrt.MemoryPolicy(**wrong)


async def test_the_history_of_a_key_says_each_value_when_by_whom_and_in_which_run(url: str) -> None:
    """fault 9"""
    async with evrt.App(url) as app:
        await app.memory.set("k", 1, user="ann", by="the desk")

        async def code(ctx: Ctx) -> list[Any]:
            await ctx.memory.set("k", 2, source="agent:helper")
            await ctx.memory.forget("k", source="agent:helper")
            await ctx.memory.set("other", 3)
            changes = await ctx.memory.history("k")
            last = await ctx.memory.history("k", limit=1)
            assert [change.time for change in changes] == sorted(change.time for change in changes)
            said = [(c.action, c.value, c.source, c.actor, c.by, c.run == ctx.run_id) for c in changes]
            return [said, [change.action for change in last], len(await ctx.memory.history("none"))]

        assert await outcome(app, code) == [
            [
                ["set", 1, None, "person", "the desk", False],
                ["set", 2, "agent:helper", "workflow:code", None, True],
                ["forgotten", None, "agent:helper", "workflow:code", None, True],
            ],
            ["forgotten"],
            0,
        ]


async def test_what_a_run_sets_after_it_has_read_from_outside_is_untrusted_and_taints_who_reads_it(
    url: str,
) -> None:
    """fault 8"""

    @evrt.tool(effect="read")
    async def browse() -> str:
        return "page"

    async with evrt.App(url) as app:

        async def code(ctx: Ctx) -> list[Any]:
            await ctx.memory.set("before", 1)
            await ctx.call(browse)
            await ctx.memory.set("after", 1)
            await ctx.memory.set("checked", 1, trust="trusted")
            return [item.trust for item in await ctx.memory.list()]

        assert await outcome(app, code) == ["trusted", "untrusted", "trusted"]

        @app.workflow
        async def reads(ctx: Ctx, way: str) -> list[str]:
            match way:
                case "get":
                    await ctx.memory.get("after")
                case "many":
                    await ctx.memory.get_many(["before", "after"])
                case "recall":
                    await ctx.memory.recall("after")
                case "history":
                    await ctx.memory.history("after")
                case "none":
                    await ctx.memory.get_many(["before", "checked"])
            return list(ctx.untrusted)

        for way in ("get", "many", "recall", "history"):
            run = await app.run(reads, way, user="ann")
            assert run.output == ["memory:user:after"]
            assert (await app.replay(run.run_id)).complete
        assert (await app.run(reads, "none", user="ann")).output == []


async def test_a_run_that_begins_anew_is_trusted_no_more_than_before() -> None:
    """fault 8"""
    async with evrt.App("memory://") as app:
        await app.memory.set("page", "anything", user="ann", trust="untrusted")

        @app.workflow
        async def chapters(ctx: Ctx) -> list[str]:
            if ctx.state is None:
                ctx.continue_as({"read": await ctx.memory.get("page")})
            await ctx.memory.set("learnt", ctx.state["read"])
            return list(ctx.untrusted)

        run = await app.run(chapters, user="ann")
        assert run.output == ["memory:user:page"]
        assert (await app.replay(run.run_id)).complete
        learnt = await app.memory.item("learnt", user="ann")
        assert learnt is not None
        assert learnt.trust == "untrusted"


async def test_what_is_too_much_for_one_read_is_refused_the_same_on_replay() -> None:
    """B1"""
    async with evrt.App("memory://") as app:
        for number in range(3):
            await app.memory.set(f"k{number}", "x" * 500_000, user="ann")

        async def code(ctx: Ctx) -> int:
            with pytest.raises(evrt.InvalidInput, match="over the limit"):
                await ctx.memory.list()
            await app.memory.clear(user="ann")
            return len(await ctx.memory.list("k1"))

        app.workflow(name="code")(code)
        run = await app.run("code", user="ann")
        assert run.output == 0
        assert (await app.replay(run.run_id)).complete


async def test_a_run_killed_between_the_two_sides_of_anything_it_writes_loses_and_doubles_nothing() -> None:
    """B2"""
    async with evrt.App("memory://", memory_policy=evrt.MemoryPolicy(memories_max=4)) as app:

        @app.workflow
        async def writes(ctx: Ctx) -> list[Any]:
            seen: list[Any] = []
            await ctx.memory.set_many({"a": 1, "b": 2})
            seen.append([item.key for item in await ctx.memory.list()])
            await ctx.memory.set("c", 3, scope="conversation", expires="1h")
            await ctx.memory.set("a", 4, if_version=1)
            seen.append([item.value for item in await ctx.memory.recall("a")])
            with pytest.raises(evrt.UsageError, match="This memory holds"):
                await ctx.memory.set_many(dict.fromkeys("vwxyz", 0))
            seen.append(await ctx.memory.clear("b"))
            seen.append([(c.action, c.value) for c in await ctx.memory.history("b")])
            seen.append([item.key for item in await ctx.memory.newest()])
            return seen

        watched = await watch(app)
        run = await app.run(writes, user="ann", conversation="c1")
        assert run.output == [["b", "a"], [4], 1, [["set", 2], ["forgotten", None]], ["a", "c"]]
        assert len(watched.boundaries) > 4
        log = await app.log()
        facts = [row.version for row in await log.read(limit=1_000) if row.type.startswith("memory.")]
        await same_after_every_crash(app, watched, run.run_id)
        assert len(facts) == len({*facts, *range(len(facts))})
        sets = [e for e in await log.read(limit=1_000) if e.type == MemorySet.type]
        assert len(sets) == 4


@pytest.mark.parametrize("limit", [0, -1, "x", True, 2.5])
async def test_a_limit_that_is_none_is_refused_before_anything_is_read(limit: Any) -> None:
    """B2: and a run that catches that replays."""
    async with evrt.App("memory://") as app:

        @app.workflow
        async def reads(ctx: Ctx) -> int:
            memory, refused = ctx.memory, 0
            for read in (
                lambda: memory.recall("k", limit=limit),
                lambda: memory.newest(limit),
                lambda: memory.list(limit=limit),
                lambda: memory.history("k", limit=limit),
            ):
                try:
                    await read()
                except evrt.InvalidInput:
                    refused += 1
            await memory.set("k", 1)
            return refused

        run = await app.run(reads, user="ann")
        assert run.output == 4
        assert (await app.replay(run.run_id)).complete
