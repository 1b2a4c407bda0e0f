"""A conversation is forgotten with everything in it, wherever that was kept, and whatever stops the deletion."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import evrt
from app import mortal
from app.talking import Ctx, said, say, talking
from audit.logs import Place, sign_head
from evrt.errors import Conflict, EvrtError, NotFound
from evrt.log import open_log
from evrt.log.check import check
from evrt.projector import projector
from evrt.projector.verify import verify_view
from evrt.testing import ScriptedModel

NEEDLE = "needle-in-a-haystack"
REMEMBERED = "what ann wants to be remembered"
TURNS_MAX = 60
"""No deletion of these tests writes so often."""


def desk(url: str) -> evrt.App:
    """An app whose workflow has everything that can be in a conversation."""
    app = talking(url)

    @app.workflow
    async def child(ctx: Ctx, text: str) -> str:
        await ctx.say(f"child of {text}")
        return text

    @app.workflow
    async def after(ctx: Ctx, told: dict[str, Any]) -> str:
        return str(told["output"])

    @app.workflow(on_end="after")
    async def everything(ctx: Ctx, text: str) -> str:
        await ctx.memory.set("topic", text, scope="conversation")
        await ctx.memory.set("wish", REMEMBERED, scope="user")
        await ctx.emit("progress", {"of": text})
        await ctx.checkpoint({"text": text})
        await ctx.start_child("child", text)
        return text

    return app


async def fill(url: str) -> str:
    """A conversation in which everything speaks of the needle; its ref."""
    async with desk(url) as app:
        ref = await app.conversations.start(
            conversation="c", user="ann", title=f"{NEEDLE} 1", metadata={"x": f"{NEEDLE} 2"}
        )
        await app.run("everything", f"{NEEDLE} 3", conversation="c", user="ann")
        await app.run("chat", f"look {NEEDLE} 4", conversation="c", user="ann")
        await app.conversations.attach("c", "file", f"{NEEDLE} 5".encode())
        await app.conversations.attach("c", "text", f"{NEEDLE} 6")
        await app.conversations.fork("c", conversation="fork")
        await (await app.conversations.edit("c", 0, f"{NEEDLE} 7"))
        await app.run("chat", "hello", conversation="other", user="ann")
        await app.conversations.attach("other", "hay", b"hay")
        # The views have all of it.
        views = await app.views()
        await views.wait_for(await (await app.log()).position())
        return ref


async def erased_in(url: str, ref: str) -> None:
    """Nothing of the conversation is left in the log, and the rest is there."""
    async with aclosing(await open_log(url, read_only=True)) as log:
        after = 0
        left = set()
        while rows := await log.read(after=after):
            for row in rows:
                assert NEEDLE.encode() not in (row.payload or b"") + row.meta, row.type
                if row.payload is not None:
                    left.add(row.type)
            after = rows[-1].position
        assert {"conversation.deleted", "conversation.erased", "memory.set", "model_call.completed"} <= left
        assert await log.external(ref) is None
        assert await log.ref("conversation", "other", create=False)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with such a log, and the conversation's ref."""
    folder = tmp_path_factory.mktemp("filled")
    return folder, asyncio.run(fill(f"sqlite:///{folder}/evrt.db"))


@pytest.fixture
def place(filled: tuple[Path, str], tmp_path: Path) -> Place:
    """A copy of it."""
    shutil.copytree(filled[0], tmp_path / "copy")
    return Place(tmp_path / "copy" / "evrt.db")


@pytest.fixture
def ref(filled: tuple[Path, str]) -> str:
    return filled[1]


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_nothing_of_a_conversation_is_left_and_everything_else_is(place: Place, ref: str) -> None:
    """S3.19: and all its associated turns; fault 44; section 5: payloads and salts go, tombstones stay."""
    async with desk(place.url) as app:
        views = await app.views()
        before = await (await app.log()).position()
        deleted = await app.conversations.delete("c", by="ann", reason="She asked for it.")
        assert deleted.conversation == ref
        assert deleted.blobs == 1
        log = await app.log()
        tombstones = [row.type for row in (await log.read_stream(ref)) if row.payload is not None]
        assert tombstones == ["conversation.deleted", "conversation.erased"]
        assert await said(app, "fork") == []
        assert (await app.conversations.get("fork")).source_deleted
        assert len(await said(app, "other")) == 2
        assert b"".join([piece async for piece in app.conversations.read("other", "hay")]) == b"hay"
        # Her memory is not the conversation's.
        run = await app.run("everything", "hay", conversation="other", user="ann")
        assert REMEMBERED in str((await app.get(run.run_id)).events) or run.status == "succeeded"
        for name in views.projections:
            page = await views.list(name, limit=1_000)
            assert NEEDLE not in str(page.documents), name
            for key in {document.key for document in page.documents}:
                assert NEEDLE not in str(await views.family(name, key, as_of=before)), name
    await erased_in(place.url, ref)
    left = await asyncio.to_thread(bytes_in, place.path.parent)
    assert [path for path, content in left.items() if NEEDLE.encode() in content] == []


async def test_what_is_read_of_one_that_was_deleted_says_so_and_a_new_one_may_have_its_id(
    place: Place, ref: str
) -> None:
    """Section 5: deleted when, and by whom."""
    async with desk(place.url) as app:
        await app.conversations.delete("c", by="ann")
        attempts: list[Callable[[], Any]] = [
            lambda: app.conversations.get(ref),
            lambda: app.message_history(ref),
            lambda: app.last_assistant_message(ref, as_of=3),
            lambda: app.conversations.title(ref, "x"),
            lambda: app.conversations.attach(ref, "x", b"x"),
            lambda: app.conversations.fork(ref),
            lambda: app.conversations.edit(ref, 0, "x"),
            lambda: app.run("chat", "x", conversation=ref),
            lambda: app.enqueue("chat", "x", conversation=ref),
        ]
        for attempt in attempts:
            with pytest.raises(NotFound, match=rf"{ref} was deleted at 20\d\d-\d\d-\d\dT[0-9:]+Z by ann"):
                await attempt()
        with pytest.raises(NotFound, match="There is no conversation 'c'"):
            await app.conversations.get("c")
        assert [one.name for one in await app.conversations.list(user="ann")] == ["other", "fork"]
        assert await say(app, "hello", "yes") == ["u:hello", "a:to u:hello: shown 1"]
        assert (await app.conversations.get("c")).id != ref


def test_the_log_is_sound_and_what_was_signed_over_it_holds(place: Place, ref: str) -> None:
    """Section 5: hashes keep the chain checkable."""
    signed = sign_head(place)
    asyncio.run(_delete(place.url, "c"))
    report = check(place.url)
    assert report.ok, report.findings
    assert report.erased > 30
    verdict = place.verify(signed.content)
    assert verdict.ok, verdict.findings
    assert verdict.report.erased == report.erased


async def _delete(url: str, conversation: str, **how: Any) -> None:
    async with evrt.App(url) as app:
        await app.conversations.delete(conversation, by="ann", **how)


async def test_views_are_as_if_built_anew_whoever_keeps_them(place: Place, ref: str) -> None:
    """Section 5: a view is a fold of what the log holds, after a deletion too; in another process that keeps it too."""
    async with desk(place.url) as keeping:
        views = await keeping.views()
        await views.family("messages", ref)
        await _delete(place.url, "c")
        await views.wait_for(await (await keeping.log()).position())
        for name in views.projections:
            assert NEEDLE not in str((await views.list(name, limit=1_000)).documents), name
            assert (await verify_view(views, name)).agrees, name


async def test_a_chat_that_another_process_holds_is_forgotten_as_well(place: Place, ref: str) -> None:
    """Section 5, B20: erasure waits for no cache."""
    async with desk(place.url) as app:
        assert await say(app, "go on", to="fork") != []
        held = await say(app, "go on", to="c")
        assert NEEDLE in str(held)
        await _delete(place.url, "c")
        assert NEEDLE not in str(await say(app, "go on", to="fork"))
        assert (await app.chats.read(await app.log(), ref)).turns() == []


async def test_runs_that_wait_or_are_queued_are_cancelled_and_one_that_is_executed_is_in_the_way() -> None:
    """Section 5: refused with a clear Conflict, unless by force."""
    app = evrt.App("memory://")
    begun, go_on = asyncio.Event(), asyncio.Event()

    @evrt.tool(effect="read")
    async def wait() -> str:
        """Waits."""
        begun.set()
        await go_on.wait()
        return NEEDLE

    @app.workflow
    async def busy(ctx: Ctx) -> str:
        return str(await ctx.call(wait))

    @app.workflow
    async def asking(ctx: Ctx) -> str:
        return str(await ctx.ask(NEEDLE))

    async with app:
        asked = await app.run("asking", conversation="c")
        queued = await app.enqueue("asking", conversation="c")
        running = await app.start("busy", conversation="c")
        await begun.wait()
        with pytest.raises(Conflict, match=rf"{running.run_id} of this conversation is being executed"):
            await app.conversations.delete("c")
        assert (await app.conversations.get("c")).runs == 3
        deleted = await app.conversations.delete("c", force=True)
        go_on.set()
        with pytest.raises(EvrtError, match="epoch"):
            await running
        for run in (asked.run_id, queued.run_id, running.run_id):
            assert (await app.get(run)).status == "cancelled"
            assert await (await app.log()).coordination.entry(run) is None
        rows = await (await app.log()).read(correlation=deleted.conversation)
        left = {row.type for row in rows if row.payload is not None}
        assert left == {"conversation.deleted", "conversation.erased"}


async def test_a_file_that_another_conversation_has_as_well_stays_until_that_is_deleted() -> None:
    """B27, section 5."""
    async with talking("memory://") as app:
        await say(app, "hello", to="a")
        await say(app, "hello", to="b")
        shared = await app.conversations.attach("a", "x", b"shared")
        await app.conversations.attach("b", "y", b"shared")
        gone = await app.conversations.attach("a", "z", b"detached")
        await app.conversations.detach("a", "z")
        assert (await app.conversations.delete("a")).blobs == 1
        assert await app.blobs.length(gone.sha256 or "") is None
        assert await app.blobs.read_all(shared.sha256 or "") == b"shared"
        assert (await app.conversations.delete("b")).blobs == 1
        assert await app.blobs.length(shared.sha256 or "") is None


Deleter = Callable[[int, str, str], str]


@pytest.fixture
def deleting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deleter]:
    """Deletes in a process that dies on cue; says ``killed`` or ``deleted``. Its views are taken over at once."""
    monkeypatch.setattr(projector, "STALLED_SECONDS", 0.02)
    monkeypatch.setattr(projector, "LOOK_SECONDS", 0.02)
    with subprocess.Popen(
        [sys.executable, mortal.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def delete(turn: int, url: str, conversation: str) -> str:
            stdin.write(f"{turn} {url} {conversation}\n")
            stdin.flush()
            return stdout.readline().strip()

        yield delete
        stdin.close()


async def small(url: str) -> str:
    """A conversation of one run with a file; its ref."""
    app = evrt.App(url)

    @app.workflow
    async def speak(ctx: Ctx, text: str) -> str:
        await ctx.memory.set("topic", text, scope="conversation")
        await ctx.ask(text)
        return text

    async with app:
        await app.run("speak", NEEDLE, conversation="c")
        await app.conversations.attach("c", "file", NEEDLE.encode())
        return (await app.conversations.get("c")).id


async def finished(url: str, ref: str, name: str) -> None:
    """Whatever was left is gone once it is deleted again."""
    async with evrt.App(url) as app:
        with pytest.raises(NotFound, match=r"was deleted .* by ann"):
            await app.message_history(ref)
        await app.conversations.delete(name, by="bob")
        log = await app.log()
        rows = await log.read()
        assert not any(NEEDLE.encode() in (row.payload or b"") for row in rows)
        left = [row.type for row in rows if row.payload is not None and row.correlation == ref]
        assert left[:2] == ["conversation.deleted", "conversation.erased"]
        assert await log.external(ref) is None
        assert (await app.conversations.list()) == []
        with pytest.raises(NotFound, match=r"was deleted .* by ann"):
            await app.conversations.get(ref)


def trials(folder: Path, delete: Deleter, turns: Iterable[int]) -> int:
    """Delete a copy of a small conversation for each of these turns, and complete it; how many were killed."""
    ref = asyncio.run(small(f"sqlite:///{folder}/evrt.db"))
    killed = 0
    for turn in turns:
        copy = folder / str(turn)
        copy.mkdir()
        for path in folder.glob("evrt.db*"):
            shutil.copy(path, copy)
        url = f"sqlite:///{copy}/evrt.db"
        came_to = delete(turn, url, "c")
        if came_to == "deleted":
            break
        assert came_to == "killed"
        killed += 1
        # By its own id as long as that is known, and by its ref in any case.
        asyncio.run(finished(url, ref, "c" if turn % 2 and turn < 14 else ref))
        assert check(url).ok
    return killed


def test_a_deletion_that_is_killed_is_completed_when_it_is_asked_for_again(
    tmp_path: Path, deleting: Deleter
) -> None:
    """Section 5: the tombstone comes first. Killed for real behind it, and among the payloads."""
    assert trials(tmp_path, deleting, (2, 9)) == 2


@pytest.mark.soak
def test_a_deletion_that_is_killed_anywhere_is_completed(tmp_path: Path, deleting: Deleter) -> None:
    """Section 5: after everything that it writes, but for the first, which cancels the run that waits."""
    assert trials(tmp_path, deleting, range(2, TURNS_MAX)) >= 14


def test_the_same_on_postgresql(postgres: str, deleting: Deleter) -> None:
    """Section 5."""
    ref = asyncio.run(small(postgres))
    assert deleting(8, postgres, "c") == "killed"
    asyncio.run(finished(postgres, ref, "c"))
    report = check(postgres)
    assert report.ok, report.findings
    assert report.erased > 10


async def test_a_program_that_reads_no_view_leaves_nothing_in_their_files_either(tmp_path: Path) -> None:
    """S3.19: whoever deletes has every view forget, not only those that happen to be read."""
    url = f"sqlite:///{tmp_path}/evrt.db"

    def made() -> evrt.App:
        app = evrt.App(url, models={"m": ScriptedModel(lambda request: "The word is QUAGGA.")})
        app.agent("helper", model="m")
        return app

    async with made() as app:
        for number in range(3):
            await app.run("helper", f"QUAGGA {number}?", conversation="c", user="ann")
        await app.memory.set("word", "QUAGGA", conversation="c")
        views = await app.views()
        for name in views.projections:
            await views.wait_for(await (await app.log()).position(), name)
    assert any(b"QUAGGA" in content for content in bytes_in(tmp_path).values())
    async with made() as app:
        deleted = await app.conversations.delete("c")
        assert deleted.behind == ()
    assert [name for name, content in bytes_in(tmp_path).items() if b"QUAGGA" in content] == []
