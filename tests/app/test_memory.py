"""Memory from outside of runs (``app.memory``), and what no sequence of writes may ever do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evrt
from evrt.agents.memory_tools import memory_tools
from runtime.logs import Ctx, cut_off, place_in, put, watch

EXAMPLES = settings().max_examples // 2


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/evrt.db"


async def test_an_application_sets_gets_lists_and_forgets_by_its_own_ids(url: str) -> None:
    """B1, B2, fault 9"""
    async with evrt.App(url) as app:
        memory = app.memory
        version = await memory.set("user.name", "Ann", user="ann", by="crm", source="row 7", confidence=0.9)
        assert version == 1
        assert await memory.set("user.name", {"first": "Ann"}, user="ann", if_version=version) == 2
        await memory.set_many({"goal": 1, "goal.second": 2}, conversation="c1")
        await memory.set("office", "Turin", user="ann", system="support", metadata={"floor": 3})
        assert await memory.get("user.name", user="ann") == {"first": "Ann"}
        assert await memory.get("user.name", user="bob", default="?") == "?"
        assert await memory.get("office", user="ann", default="?") == "?"
        assert await memory.get_many(["goal", "none"], conversation="c1") == {"goal": 1}
        assert [item.key for item in await memory.list("goal", conversation="c1")] == ["goal.second", "goal"]
        item = await memory.item("office", user="ann", system="support")
        assert item is not None
        assert (item.value, item.scope, item.metadata) == ("Turin", "system", {"floor": 3})
        changes = await memory.history("user.name", user="ann")
        assert [(change.value, change.by, change.source, change.confidence) for change in changes] == [
            ("Ann", "crm", "row 7", 0.9),
            ({"first": "Ann"}, None, None, 1.0),
        ]
        assert [
            await memory.forget("user.name", user="ann"),
            await memory.forget("user.name", user="ann"),
            await memory.clear("goal", conversation="c1", by="ann"),
            await memory.clear(conversation="c1"),
        ] == [True, False, 2, 0]


async def test_runs_see_what_an_application_has_set_and_it_sees_what_they_set(url: str) -> None:
    """S0.5"""
    async with evrt.App(url) as app:

        @app.workflow
        async def code(ctx: Ctx) -> list[Any]:
            seen = [await ctx.memory.get("k"), await ctx.memory.get("k", scope="system")]
            await ctx.memory.set("k", "from the run", scope="system")
            return seen

        place_in(app, "code", "support")
        await app.memory.set("k", "own", user="ann")
        await app.memory.set("k", "shared", user="ann", system="support")
        run = await app.run(code, user="ann")
        assert run.output == ["own", "shared"]
        item = await app.memory.item("k", user="ann", system="support")
        assert item is not None
        assert (item.value, item.run, item.actor) == ("from the run", run.run_id, "workflow:code")


async def test_whose_memory_is_meant_may_be_said_by_refs_as_they_are_printed(url: str) -> None:
    async with evrt.App(url) as app:
        await app.memory.set("k", 1, user="ann")
        ref = await (await app.log()).ref("user", "ann", create=False)
        assert ref is not None
        assert await app.memory.get("k", user=ref) == 1


async def test_reading_of_somebody_unknown_leaves_nothing_behind(url: str) -> None:
    async with evrt.App(url) as app:
        assert await app.memory.get("k", user="ann") is None
        assert await app.memory.list(user="ann", system="support") == ()
        assert await app.memory.history("k", conversation="c1") == []
        log = await app.log()
        assert await log.position() == 0
        assert await log.ref("user", "ann", create=False) is None


@pytest.mark.parametrize(
    "whose",
    [{}, {"user": "ann", "conversation": "c1"}, {"system": "s"}, {"conversation": "c1", "system": "s"}],
)
async def test_it_has_to_be_clear_whose_memory_is_meant(whose: Any) -> None:
    """fault 1"""
    async with evrt.App("memory://") as app:
        for work in (
            app.memory.get("k", **whose),
            app.memory.set("k", 1, **whose),
            app.memory.clear(**whose),
        ):
            with pytest.raises(evrt.UsageError, match="Whose memory"):
                await work


async def test_of_somebody_who_has_not_logged_in_nothing_is_set_beyond_the_conversation() -> None:
    """S0.16"""
    async with evrt.App("memory://") as app:
        with pytest.raises(evrt.UsageError, match="not logged in"):
            await app.memory.set("k", 1, user=evrt.Anonymous("session 1"))

        @app.workflow
        async def code(ctx: Ctx) -> list[str]:
            await ctx.memory.set("k", 1, scope="conversation")
            texts = []
            for scope in ("user", "system"):
                with pytest.raises(evrt.UsageError) as refused:
                    await ctx.memory.get("k", scope=scope)
                texts.append(str(refused.value))
            return [*texts, *[item.key for item in await ctx.memory.recall("k")]]

        place_in(app, "code", "support")
        run = await app.run(code, user=evrt.Anonymous("session 1"), conversation="c1")
        *texts, key = run.output
        assert all(text.startswith("The user of this run has not logged in") for text in texts)
        assert key == "k"


@pytest.mark.parametrize(
    "key, value, more, told",
    [
        ("", 1, {}, "A memory key is text of 1 to 512 characters, not ''"),
        (" ", 1, {}, "A memory key"),
        ("k" * 10_000, 1, {}, "A memory key"),
        (7, 1, {}, "A memory key"),
        ("half \ud800", 1, {}, "A memory key"),
        ("k", b"\xff", {}, "cannot be recorded as JSON"),
        ("k", "x" * (1024 * 1024), {}, "over the limit|this log takes"),
        ("k", 1, {"confidence": 1.5}, "a number from 0 to 1"),
        ("k", 1, {"confidence": True}, "a number from 0 to 1"),
        ("k", 1, {"metadata": [1]}, "a JSON object"),
        ("k", 1, {"trust": "maybe"}, "'trusted' or 'untrusted'"),
        ("k", 1, {"by": 7}, "by= of memory"),
        ("k", 1, {"source": "half \ud800"}, "source= of memory"),
        ("k", 1, {"expires": datetime(2001, 1, 1, tzinfo=UTC)}, "cannot expire at 2001-01-01"),
        ("k", 1, {"expires": datetime(2100, 1, 1)}, "has no zone"),  # noqa: DTZ001
        ("k", 1, {"expires": "soon"}, "is not a length of time"),
        ("k", 1, {"expires": 0}, "longer than zero"),
        ("k", 1, {"expires": "99999999d"}, "too long"),
    ],
)
async def test_bad_input_is_refused_in_words_and_nothing_is_half_written(
    key: Any, value: Any, more: Any, told: str
) -> None:
    """B1"""
    async with evrt.App("memory://") as app:
        await app.memory.set("k", "before", user="ann")
        for work in (
            lambda: app.memory.set(key, value, user="ann", **more),
            lambda: app.memory.set_many({"first": 1, key: value}, user="ann", **more),
        ):
            with pytest.raises(evrt.InvalidInput, match=told):
                await work()
        assert [(item.key, item.value) for item in await app.memory.list(user="ann")] == [("k", "before")]


async def test_of_many_who_write_at_the_same_time_on_one_condition_one_succeeds(url: str) -> None:
    async with evrt.App(url) as app:

        async def book(name: int) -> bool:
            try:
                await app.memory.set("seat", name, conversation="flight", if_version=0)
            except evrt.Conflict as conflict:
                assert "is at version 1, not at 0: read it again" in str(conflict)  # noqa: PT017
                return False
            return True

        assert sorted(await asyncio.gather(*map(book, range(10)))) == [False] * 9 + [True]
        await asyncio.gather(*(app.memory.set(f"k{n}", n, conversation="flight") for n in range(10)))
        assert len(await app.memory.list(conversation="flight")) == 11


# ------------------------------------------------------------- any sequence, against a plain dictionary

USERS = ("ann", "bob", "ann\nbob")
SYSTEMS = ("office", "office\nann", None)
CONVERSATIONS = ("c1", "c2", None)
KINDS: dict[str, tuple[str | None, ...]] = {
    "user": USERS,
    "system": SYSTEMS,
    "conversation": CONVERSATIONS,
}
NAMED = [(kind, name) for kind, names in KINDS.items() for name in names if name is not None]
KEYS = ("a", "a.b", "ab", "a.b.c", "b")

places = st.tuples(st.sampled_from(USERS), st.sampled_from(CONVERSATIONS), st.sampled_from(SYSTEMS))
scopes = st.sampled_from(["user", "system", "conversation"])
keys = st.sampled_from(KEYS)
values = st.integers(0, 99)
actions = st.one_of(
    st.tuples(st.just("set"), scopes, keys, values),
    st.tuples(st.just("expire"), scopes, keys, values),
    st.tuples(st.just("many"), scopes, st.dictionaries(keys, values, max_size=3), st.none()),
    st.tuples(st.just("forget"), scopes, keys, st.none()),
    st.tuples(st.just("clear"), scopes, keys, st.none()),
    st.tuples(st.just("recall"), st.just("all"), keys, st.none()),
    st.tuples(st.just("list"), scopes, keys, st.none()),
    st.tuples(st.just("tool"), scopes, keys, values),
)
runs = st.lists(st.tuples(places, st.lists(actions, max_size=5)), min_size=1, max_size=5)
Model = dict[tuple[Any, ...], dict[str, Any]]


def begins(key: str, prefix: str) -> bool:
    return key.split(".")[: len(prefix.split("."))] == prefix.split(".")


def memories(place: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """What the scopes of a run lead to, where it has them, in the order in which they are searched."""
    user, conversation, system = place
    found = {"user": ("user", user), "system": ("system", system, user), "conversation": (conversation,)}
    return {scope: owner for scope, owner in found.items() if None not in owner}


def apply(model: Model, place: tuple[Any, ...], action: tuple[Any, ...]) -> Any:
    """What an action comes to, by a plain dictionary for each memory."""
    name, scope, key, value = action
    owned = memories(place)
    if name == "recall":
        found = []
        for where, owner in owned.items():
            held = model.setdefault(owner, {})
            keys = [key] if key in held else [k for k in reversed(held) if begins(k, key)]
            found += [[where, k, held[k]] for k in keys]
        return found
    if scope not in owned:
        return "refused"
    held = model.setdefault(owned[scope], {})
    match name:
        case "set" | "tool":
            held.pop(key, None)
            held[key] = str(value) if name == "tool" else value
            return None
        case "expire":
            held.pop(key, None)
            return None
        case "many":
            for one, new in key.items():
                held.pop(one, None)
                held[one] = new
            return None
        case "forget":
            return held.pop(key, None) is not None
        case "clear":
            gone = [k for k in held if begins(k, key)]
            for k in gone:
                del held[k]
            return None
        case _:
            return [[k, held[k]] for k in reversed(held) if begins(k, key)]


async def perform(ctx: Ctx, action: Any) -> Any:
    """The same by ``ctx.memory``."""
    name, scope, key, value = action
    try:
        match name:
            case "set":
                await ctx.memory.set(key, value, scope=scope)
            case "expire":
                await ctx.memory.set(key, value, scope=scope, expires=0.001)
                await ctx.sleep(0.002)
            case "tool":
                call: Any = {"id": "c", "function": {"name": "remember", "arguments": ""}}
                call["function"]["arguments"] = f'{{"key": "{key}", "value": "{value}", "scope": "{scope}"}}'
                answer = (await ctx.perform(call, memory_tools())).value
                return None if "success" in answer else "refused"
            case "many":
                await ctx.memory.set_many(key, scope=scope)
            case "forget":
                return await ctx.memory.forget(key, scope=scope)
            case "clear":
                await ctx.memory.clear(key, scope=scope)
            case "recall":
                return [[item.scope, item.key, item.value] for item in await ctx.memory.recall(key)]
            case _:
                return [[item.key, item.value] for item in await ctx.memory.list(key, scope=scope)]
    except evrt.UsageError:
        return "refused"
    return None


async def execute(ctx: Ctx, wanted: list[Any]) -> list[Any]:
    return [await perform(ctx, action) for action in wanted]


def register(app: evrt.App) -> evrt.App:
    for system in SYSTEMS:
        app.workflow(name=f"in {system!r}")(execute)
        place_in(app, f"in {system!r}", system)
    return app


async def held_by(app: evrt.App) -> Model:
    """What every memory holds, as an application sees it."""
    found: Model = {}
    for user in USERS:
        own: Mapping[tuple[Any, ...], Any] = {
            ("user", user): {"user": user},
            **{("system", system, user): {"user": user, "system": system} for system in SYSTEMS if system},
        }
        for owner, whose in own.items():
            found[owner] = {item.key: item.value for item in await app.memory.list(**whose)}
    for conversation in CONVERSATIONS[:2]:
        items = await app.memory.list(conversation=conversation)
        found[(conversation,)] = {item.key: item.value for item in items}
    return found


@settings(max_examples=EXAMPLES)
@given(program=runs, part=st.floats(0, 1, exclude_max=True))
def test_any_sequence_over_scopes_users_and_systems_is_what_plain_dictionaries_would_be(
    program: list[Any], part: float
) -> None:
    """S0.5, S0.11, S0.12, B1, B2, faults 1, 2, 4: no read ever sees another's value, and each run replays."""
    asyncio.run(compare(program, part))


async def compare(program: list[Any], part: float) -> None:
    async with register(evrt.App("memory://")) as app:
        model: Model = {}
        # Known from the beginning, so that memories which nobody has used are looked into as well.
        for kind, name in NAMED:
            await (await app.log()).ref(kind, name)
        watched = await watch(app)
        last = ""
        for place, wanted in program:
            user, conversation, system = place
            run = await app.run(f"in {system!r}", wanted, user=user, conversation=conversation)
            assert run.status == "succeeded", run.failure
            assert run.output == [apply(model, place, action) for action in wanted]
            assert (await app.replay(run.run_id)).complete
            last = run.run_id
        held = await held_by(app)
        assert held == {owner: model.get(owner, {}) for owner in held}
        # Killed at a moment of the last run, which is then resumed, nothing is lost or doubled.
        log = await app.log()
        first = (await log.read_stream(last, limit=1))[0].position
        cuts = [position for position in watched.boundaries[:-1] if position >= first]
        if cuts:
            fresh = await cut_off(log, cuts[int(part * len(cuts))])
            for kind, name in NAMED:
                fresh._refs[kind, name] = await log.ref(kind, name)  # type: ignore[attr-defined]  # a log in memory's
            put(app, fresh)
            whole = [row.type for row in await log.read(limit=10_000)]
            await app.resume(last)
            assert await held_by(app) == held
            again = [row.type for row in await fresh.read(limit=10_000)]
            for name in ("memory.set", "memory.forgotten"):
                assert again.count(name) == whole.count(name)
            put(app, watched)
