"""Scoped memory: values that outlive a run, read and written through it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import evrt
from evrt.events.memory import MemoryWritten
from evrt.history import memory_at
from runtime.logs import Ctx, cut_off, put, watch


async def test_what_is_set_is_got_until_it_is_forgotten(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def remembers(ctx: Ctx) -> list[Any]:
            seen = [await ctx.memory.get("tea", default="none")]
            await ctx.memory.set("tea", {"kind": "green"})
            seen.append(await ctx.memory.get("tea"))
            await ctx.memory.set("tea", None)
            seen.append(await ctx.memory.get("tea", default="none"))
            seen += [await ctx.memory.forget("tea"), await ctx.memory.forget("tea")]
            seen.append(await ctx.memory.get("tea", default="none"))
            return seen

        run = await app.run(remembers, user="ann")
        assert run.output == ["none", {"kind": "green"}, None, True, False, "none"]
        assert (await app.replay(run.run_id)).complete


async def test_scopes_are_kept_apart_by_user_and_by_conversation(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def write(ctx: Ctx, value: str) -> None:
            await ctx.memory.set("k", f"user {value}")
            await ctx.memory.set("k", f"conversation {value}", scope="conversation")

        @app.workflow
        async def read(ctx: Ctx) -> list[Any]:
            return [await ctx.memory.get("k"), await ctx.memory.get("k", scope="conversation")]

        await app.run(write, "1", user="ann", conversation="a")
        await app.run(write, "2", user="bob", conversation="b")
        assert (await app.run(read, user="ann", conversation="a")).output == ["user 1", "conversation 1"]
        assert (await app.run(read, user="ann", conversation="b")).output == ["user 1", "conversation 2"]
        assert (await app.run(read, user="bob", conversation="c")).output == ["user 2", None]


@pytest.mark.parametrize("scope", ["user", "conversation", "system", "everybody"])
async def test_a_scope_that_the_run_does_not_have_is_refused_and_never_somebody_else_s(scope: Any) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def asks(ctx: Ctx) -> list[str]:
            texts = []
            for work in (
                ctx.memory.get("k", scope=scope),
                ctx.memory.set("k", 1, scope=scope),
                ctx.memory.forget("k", scope=scope),
            ):
                with pytest.raises(evrt.UsageError) as refused:
                    await work
                texts.append(str(refused.value))
            return texts

        run = await app.run(asks)
        expected = (
            f"This run has no {scope}" if scope in ("user", "conversation") else f"Invalid scope: {scope}"
        )
        assert all(text.startswith(expected) for text in run.output)
        assert len((await app.get(run.run_id)).events) == 4


@pytest.mark.parametrize("key", ["", " \n", "k" * 513, "half \ud800"])
async def test_a_key_is_text_of_limited_length(key: str) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def sets(ctx: Ctx) -> None:
            with pytest.raises(evrt.InvalidInput, match="A memory key is text of 1 to 512 characters"):
                await ctx.memory.set(key, 1)
            with pytest.raises(evrt.InvalidInput, match="A memory key"):
                await ctx.memory.get(key)

        assert (await app.run(sets, user="ann")).status == "succeeded"


async def test_a_write_on_condition_of_a_version_loses_to_who_was_first(url: str) -> None:
    """A conflict is an outcome like any other: recorded, never retried, the same on replay."""
    seen: list[str] = []
    async with evrt.App(url) as app:

        @app.workflow
        async def books(ctx: Ctx, name: str) -> bool:
            try:
                await ctx.memory.set("seat", name, scope="conversation", if_version=0)
            except evrt.Conflict as conflict:
                seen.append(str(conflict))
                return False
            return True

        first = await app.run(books, "ann", conversation="flight")
        second = await app.run(books, "bob", conversation="flight")
        assert (first.output, second.output) == (True, False)
        assert (await app.replay(first.run_id)).complete
        assert (await app.replay(second.run_id)).complete
        assert seen == ["Memory 'seat' (conversation) is at version 1, not at 0: read it again."] * 2
        written = (await app.get(second.run_id)).journal.operations["memory.set#1"].outcome
        assert written is not None
        assert isinstance(written.event, MemoryWritten)
        assert written.event.event_id is None
        log = await app.log()
        stream = f"memory-{await log.ref('conversation', 'flight')}"
        assert len(await log.read_stream(stream)) == 1


async def test_versions_are_per_key_so_other_keys_do_not_conflict(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def fill(ctx: Ctx) -> None:
            await ctx.memory.set("a", 1, if_version=0)
            await ctx.memory.set("b", 1, if_version=0)
            await ctx.memory.set("a", 2, if_version=1)
            assert await ctx.memory.forget("b", if_version=2)

        assert (await app.run(fill, user="ann")).status == "succeeded"


async def test_of_many_who_write_on_the_same_condition_one_succeeds(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def book(ctx: Ctx, name: str) -> bool:
            try:
                await ctx.memory.set("seat", name, if_version=0)
            except evrt.Conflict:
                return False
            return True

        results = await asyncio.gather(*(app.run(book, str(n), user="flight") for n in range(20)))
        assert sorted(result.output for result in results) == [False] * 19 + [True]


async def test_a_write_lands_in_memory_and_run_together_or_not_at_all(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def sets(ctx: Ctx) -> None:
            await ctx.memory.set("a", 1)
            await ctx.memory.set("b", 2, if_version=0)

        watched = await watch(app)
        await app.run(sets, user="ann")
        together = [types for types in watched.types if "memory.set" in types]
        assert all("memory.written" in types for types in together)
        assert sum(types.count("memory.set") for types in together) == 2


async def test_a_resumed_run_neither_repeats_its_writes_nor_sees_what_came_later(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def counts(ctx: Ctx) -> list[Any]:
            seen = [await ctx.memory.get("n")]
            await ctx.memory.set("n", 1)
            await ctx.ask("Go on?")
            return [*seen, await ctx.memory.get("n")]

        @app.workflow
        async def meddles(ctx: Ctx) -> None:
            await ctx.memory.set("n", 99)

        run = await app.run(counts, user="ann")
        await app.run(meddles, user="ann")
        await app.answer(run.run_id, "yes")
        run = await app.resume(run.run_id)
        assert run.output == [None, 99]
        assert (await app.replay(run.run_id)).complete
        log = await app.log()
        assert len(await log.read_stream(f"memory-{await log.ref('user', 'ann')}")) == 2


async def test_a_run_killed_at_any_boundary_writes_its_memory_once(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def counts(ctx: Ctx) -> Any:
            for number in range(3):
                await ctx.memory.set("n", number, if_version=number)
            await ctx.memory.forget("n")
            return await ctx.memory.get("n", default="gone")

        watched = await watch(app)
        run = await app.run(counts, user="ann")
        whole = await app.get(run.run_id)
        log = await app.log()
        for position in watched.boundaries[:-1]:
            put(app, await cut_off(log, position))
            assert (await app.resume(run.run_id)).output == "gone"
            again = await app.get(run.run_id)
            assert again.digest == whole.digest
            stream = f"memory-{whole.state.user}"
            assert len(await (await app.log()).read_stream(stream)) == 4
        await log.aclose()


async def test_memory_can_be_read_as_of_any_event_of_a_run(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def sets(ctx: Ctx) -> None:
            await ctx.memory.set("a", 1)
            await ctx.checkpoint(None, name="one")
            await ctx.memory.set("a", 2)

        run = await app.get((await app.run(sets, user="ann")).run_id)
        log = await app.log()
        then = await memory_at(log, run.at(run.version_of("{one}")))
        now = await memory_at(log, run)
        assert (then["user"]["a"].value, now["user"]["a"].value) == (1, 2)
        assert now["user"]["a"].source == f"run:{run.id}"


async def test_a_value_that_is_too_large_is_refused_and_the_run_goes_on(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def stuffs(ctx: Ctx) -> Any:
            with pytest.raises(evrt.InvalidInput, match="over the limit"):
                await ctx.memory.set("k", "x" * 1024 * 1024)
            await ctx.memory.set("k", "small")
            return await ctx.memory.get("k")

        run = await app.run(stuffs, user="ann")
        assert run.output == "small"
        assert (await app.replay(run.run_id)).complete
