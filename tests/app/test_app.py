"""Starting, finding and resuming runs; opening and closing the log."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import evrt
from evrt.errors import Conflict, NotFound, UnusableLog, UsageError
from evrt.testing import ScriptedModel, call

Ctx = evrt.Context[Any]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/evrt.db"


def application(url: str) -> evrt.App:
    """An app with a workflow that waits for a person, one that does not, and an agent."""
    app = evrt.App(url, models={"m": ScriptedModel(lambda request: f"{len(request.messages)} messages")})

    @app.workflow
    async def quick(ctx: Ctx, number: int = 0) -> int:
        return await ctx.step("double", lambda: 2 * number)  # type: ignore[no-any-return]

    @app.workflow
    async def asks(ctx: Ctx) -> Any:
        return await ctx.ask("Well?")

    app.agent("agent", model="m")
    return app


async def test_the_log_is_opened_when_it_is_first_needed(url: str) -> None:
    path = url.removeprefix("sqlite:///")
    app = application(url)
    assert not os.path.exists(path)  # noqa: ASYNC240  (a test may wait for the disk)
    assert (await app.run("quick", 2)).output == 4
    assert os.path.exists(path)  # noqa: ASYNC240
    await app.aclose()
    await app.aclose()
    assert (await app.run("quick", 3)).output == 6
    await app.aclose()


def test_run_sync_opens_runs_and_closes_every_time(url: str) -> None:
    app = application(url)
    assert app.run_sync("quick", 2).output == 4
    assert str(app.run_sync("agent", "Hi", user="ann", conversation="c")) == "1 messages"

    async def count() -> int:
        async with app:
            return len(await (await app.log()).streams("run-"))

    assert asyncio.run(count()) == 2


async def test_run_sync_in_an_event_loop_says_what_to_do_instead(url: str) -> None:
    app = application(url)
    with pytest.raises(UsageError, match=r"await app.run\(…\) there"):
        app.run_sync("quick", 2)
    gc.collect()


def test_where_the_log_is_comes_from_the_app_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVRT_DB", raising=False)
    assert evrt.App().url == "sqlite:///evrt.db"
    monkeypatch.setenv("EVRT_DB", "memory://")
    assert evrt.App().url == "memory://"
    assert evrt.App("sqlite:///own.db").url == "sqlite:///own.db"


async def test_the_address_cannot_change_once_the_log_is_open() -> None:
    app = evrt.App("memory://")
    app.url = "memory://"
    async with app:
        with pytest.raises(UsageError, match="is open already"):
            app.url = "sqlite:///other.db"


async def test_a_started_run_has_its_id_at_once_and_its_result_later(url: str) -> None:
    async with application(url) as app:
        running = await app.start("quick", 2)
        assert running.run_id.startswith("run-")
        assert (await running).run_id == running.run_id
        assert (await running).output == 4


async def test_two_apps_on_one_file_see_each_other_s_runs(url: str) -> None:
    async with application(url) as one, application(url) as other:
        run = await one.run("asks")
        assert (await other.get(run.run_id)).status == "waiting"
        await other.answer(run.run_id, "from the other")
        assert (await one.resume(run.run_id)).output == "from the other"
        assert (await other.replay(run.run_id)).complete
        results = await asyncio.gather(*(app.run("quick", n) for n in range(10) for app in (one, other)))
        assert sorted(result.output for result in results) == sorted(
            2 * n for n in range(10) for _ in range(2)
        )


async def test_a_run_goes_on_in_another_process_s_app(url: str) -> None:
    async with application(url) as app:
        run = await app.run("asks")
        await app.answer(run.run_id, "yes")
    async with application(url) as app:
        assert (await app.resume(run.run_id)).output == "yes"


async def test_closing_waits_for_runs_that_are_under_way(url: str) -> None:
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> str:
        await gate.wait()
        return "held"

    async with application(url) as app:

        @app.workflow
        async def holds(ctx: Ctx) -> Any:
            return await ctx.call(hold)

        running = await app.start("holds")
        asyncio.get_running_loop().call_later(0.01, gate.set)
    assert (await running).output == "held"


async def test_leaving_because_of_an_error_interrupts_runs_which_can_be_resumed(url: str) -> None:
    started = asyncio.Event()
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> str:
        started.set()
        await gate.wait()
        return "held"

    def with_hold() -> evrt.App:
        app = application(url)

        @app.workflow
        async def holds(ctx: Ctx) -> Any:
            return await ctx.call(hold)

        return app

    app = with_hold()
    runs: list[evrt.Running] = []

    async def left_by_an_error() -> None:
        async with app:
            runs.append(await app.start("holds"))
            await started.wait()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await left_by_an_error()
    running = runs[0]
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    async with with_hold() as again:
        assert (await again.get(running.run_id)).status == "running"
        assert (await again.resume(running.run_id)).output == "held"
        assert (await again.replay(running.run_id)).complete


async def test_a_conversation_starts_once_however_many_runs_it_has(url: str) -> None:
    async with application(url) as app:
        await asyncio.gather(*(app.run("quick", n, conversation="c1", user="ann") for n in range(5)))
        await app.run("agent", "Hi", conversation="c1", user="ann")
        log = await app.log()
        conversation = await log.ref("conversation", "c1", create=False)
        assert conversation is not None
        rows = await log.read_stream(conversation)
        assert [row.type for row in rows] == ["conversation.started"]
        of_it = await log.read(correlation=conversation)
        assert len({row.stream for row in of_it if row.stream.startswith("run-")}) == 6


async def test_a_run_without_a_conversation_correlates_with_itself(url: str) -> None:
    async with application(url) as app:
        run = await app.run("quick", 1)
        log = await app.log()
        rows = await log.read_stream(run.run_id)
        assert {row.correlation for row in rows} == {run.run_id}


SECRETS = ("ann@example.org", "case 4711/2026")


async def test_clear_columns_hold_refs_and_never_what_a_person_is_called(url: str) -> None:
    user, conversation = SECRETS
    async with application(url) as app:
        app.models["m"] = ScriptedModel([call("look", who=user), f"Hello {user}"])

        @app.workflow
        async def remembers(ctx: Ctx, who: str) -> None:
            await ctx.memory.set(who, conversation)
            await ctx.memory.set(who, conversation, scope="conversation")
            await ctx.emit(who, who)

        await app.run(remembers, user, user=user, conversation=conversation)
        await app.run("agent", user, user=user, conversation=conversation)
        run = await app.run("asks", user=user, conversation=conversation)
        await app.answer(run.run_id, user, by=user)
        log = await app.log()
        for row in await log.read():
            clear = f"{row.stream} {row.type} {row.correlation} {row.meta.decode()}"
            assert not any(secret in clear for secret in SECRETS), clear
        requested = (await app.get(run.run_id)).journal.requested
        assert requested is not None
        assert requested.user == await log.ref("user", user)
        assert requested.conversation == await log.ref("conversation", conversation)
        assert await log.external(str(requested.user)) == user


async def test_runs_are_found_by_a_beginning_of_their_id_that_only_one_has(url: str) -> None:
    async with application(url) as app:
        first = await app.run("quick", 1)
        await app.run("quick", 2)
        assert (await app.get(first.run_id.removeprefix("run-"))).id == first.run_id
        assert (await app.get(first.run_id[:-3])).id == first.run_id
        with pytest.raises(UsageError, match="could be any of 2 runs"):
            await app.get("run-")
        for unknown in ("nobody", "run-nobody"):
            with pytest.raises(NotFound, match="There is no run"):
                await app.get(unknown)


async def test_every_way_to_a_run_that_does_not_exist_says_so(url: str) -> None:
    async with application(url) as app:
        for work in (
            app.get("run-x"),
            app.resume("run-x"),
            app.replay("run-x"),
            app.answer("run-x", 1),
            app.settle("run-x", result=1),
        ):
            with pytest.raises(NotFound, match="There is no run run-x"):
                await work
        assert await (await app.log()).position() == 0


async def test_a_run_whose_code_is_gone_cannot_be_resumed_but_can_be_read(url: str) -> None:
    async with application(url) as app:
        run = await app.run("asks")
    async with evrt.App(url) as other:
        with pytest.raises(NotFound, match="no agent or workflow 'asks'"):
            await other.resume(run.run_id)
        assert (await other.get(run.run_id)).status == "waiting"


async def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    with pytest.raises(UnusableLog):
        await application(f"sqlite:///{tmp_path}/other.db").run("quick", 1)


async def test_operations_of_a_newer_version_keep_a_run_from_being_executed(url: str) -> None:
    from evrt.log import Append, Draft
    from evrt.log.ids import new_event_id

    async with application(url) as app:
        run = await app.run("asks")
        log = await app.log()
        payload = b'{"operation":"ask#1"}'
        await log.append(
            Append([Draft(run.run_id, "question.delegated", new_event_id(), run.run_id, b"{}", payload)], {})
        )
        with pytest.raises(Conflict, match=r"does not know \(question.delegated\)"):
            await app.resume(run.run_id)
        with pytest.raises(Conflict, match="a newer one wrote them"):
            await app.replay(run.run_id)
        note = Draft(run.run_id, "run.admired", new_event_id(), run.run_id, b"{}", b"{}")
        assert note.type in [e.type for e in (await _with(app, note, run.run_id)).events]


async def _with(app: evrt.App, draft: Any, run: str) -> evrt.Run:
    from evrt.log import Append

    await (await app.log()).append(Append([draft], {}))
    return await app.get(run)


async def test_results_say_what_came_of_a_run() -> None:
    result = evrt.Result("run-1", "succeeded", "text")
    assert (str(result), result.unwrap()) == ("text", "text")
    assert str(evrt.Result("run-1", "waiting", reason="question")) == "run-1 waiting: question"
    with pytest.raises(evrt.StepLimitReached):
        evrt.Result("run-1", "step_limit", "so far").unwrap()
