"""What the roles of `evrt db roles` are for: one executes runs and keeps views, another looks at them and no more."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import psycopg
import pytest

import evrt
from evrt.errors import Denied
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.coordination import Enqueue
from evrt.log.postgres.address import parse_postgres_url
from evrt.projector.postgres import views_schema
from evrt.projector.verify import verify_view
from evrt.projector.views import open_views
from evrt.worker.worker import Worker
from log.postgres_users import Users
from log.stores import append, draft
from postgres import shared

Ctx = evrt.Context[None]


@evrt.tool(effect="read")
async def double(number: int) -> int:
    return 2 * number


async def leaf(ctx: Ctx, number: int) -> int:
    return int(await ctx.call(double, number))


async def whole(ctx: Ctx, number: int) -> list[Any]:
    """Takes a worker claim, a park, a timer, a child, a signal, a blob and an answer to come to its end."""
    doubled = await ctx.child("leaf", number)
    await ctx.sleep("10ms")
    return [doubled, await ctx.wait_for_signal("go"), await ctx.ask("Sure?"), "x" * 70_000]


def make_app(url: str) -> evrt.App:
    app = evrt.App(url)
    app.workflow(leaf)
    app.workflow(whole)
    return app


@pytest.fixture
def users(postgres: str) -> Users:
    """Of a log that its owner has made, whose views nobody has kept so far."""

    async def make() -> None:
        await (await open_log(postgres)).aclose()

    asyncio.run(make())
    return Users(postgres)


async def run_all(url: str) -> str:
    """A run from its request to its end, through the queue."""
    async with make_app(url) as app:
        worker = asyncio.create_task(Worker(app).run())
        run = await app.enqueue("whole", 3, conversation="c1", user="ann", priority=2, idempotency_key="k")
        log = await app.log()
        await app.signal(run.run_id, "go", 1)
        async for _ in log.subscribe():
            if (await app.get(run.run_id)).journal.reason_to_wait() == "question":
                break
        await app.answer(run.run_id, "yes")
        assert (await run.result()).output == [6, 1, "yes", "x" * 70_000]
        paused = await app.enqueue("leaf", 1)
        await app.pause(paused.run_id)
        await app.unpause(paused.run_id)
        assert (await paused.result()).output == 2
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await log.erase_payload(1)
        return run.run_id


async def test_a_writer_executes_runs_from_the_queue_and_keeps_the_views(users: Users) -> None:
    url = users.url_of(users.roles.writer)
    run = await run_all(url)
    async with aclosing(await open_log(url)) as log, aclosing(await open_views(log)) as views:
        assert not views.temporary
        head = await log.position()
        assert (await views.view("runs", run, min_position=head)).value.status == "succeeded"
        assert (await verify_view(views, "runs")).agrees
    async with aclosing(await open_log(users.another(users.roles.writer))) as log:
        await log.append(append(draft()))
        # What one writer has built another keeps, throws away and builds anew.
        async with aclosing(await open_views(log)) as views:
            assert not views.temporary
            head = await log.position()
            assert (await views.view("runs", run, min_position=head)).value.status == "succeeded"
            for generation in await views.store.generations():
                await views.store.remove(generation)
            assert await views.list("runs", min_position=head)
    # A reader may ask them by SQL.
    there = views_schema(parse_postgres_url(users.url_of(users.roles.reader)))
    parameters: dict[str, Any] = dict(there.parameters)
    with psycopg.connect(**parameters) as reader:
        text = f"SELECT count(*) FROM {there.quoted_schema}.views"
        assert reader.execute(text.encode()).fetchone() != (0,)


async def test_a_reader_lists_looks_back_and_verifies_and_is_denied_the_rest(users: Users) -> None:
    run = await run_all(users.url_of(users.roles.writer))
    url = users.url_of(users.roles.reader)
    async with aclosing(await open_log(url, read_only=True)) as log, aclosing(await open_views(log)) as views:
        head = await log.position()
        assert {one.key for one in (await views.list("runs", min_position=head)).documents} >= {run}
        assert (await views.view("runs", run, as_of=f"{run}@1")).value.status == "queued"
        assert (await verify_view(views, "runs")).agrees
        assert views.temporary
    assert check(url).findings == ()
    async with aclosing(await open_log(url)) as log:
        for refused in (
            log.append(append(draft())),
            log.coordination.renew("host:1:a"),
            log.coordination.claim("host:1:a", targets={"leaf": None}, limit=1),
            log.coordination.change(Enqueue("run-1", "leaf")),
        ):
            with pytest.raises(
                Denied, match="Have the schema's owner give this user its rights: `evrt db roles`"
            ):
                await refused


async def test_views_that_others_kept_before_are_kept_by_writers_from_then_on(postgres: str) -> None:
    async with aclosing(await open_log(postgres)) as log, aclosing(await open_views(log)) as views:
        await log.append(append(draft()))
        await views.list("runs", min_position=await log.position())
    users = Users(postgres)
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        users.grant(connection)
    async with aclosing(await open_log(users.url_of(users.roles.writer))) as log:
        await log.append(append(draft()))
        async with aclosing(await open_views(log)) as views:
            assert not views.temporary
            await views.list("runs", min_position=await log.position())


async def test_the_schema_of_another_program_is_not_given_to_writers(postgres: str) -> None:
    async with aclosing(await open_log(postgres)):
        pass
    name = views_schema(parse_postgres_url(postgres)).quoted_schema
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    with pytest.raises(psycopg.Error, match="another program's"):
        Users(postgres)
