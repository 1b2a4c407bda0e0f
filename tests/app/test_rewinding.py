"""Another way on: what was said is edited or asked again, and conversations begin with what was said in others."""

from __future__ import annotations

from pathlib import Path

import pytest

import evrt
from app.talking import Ctx, said, say, talking, text_of
from evrt.conversations import rewinding
from evrt.events.run import RunRequested


async def test_a_message_is_edited_and_everything_from_there_is_superseded(tmp_path: Path) -> None:
    """B19: supersede_from_message_index. No event is changed."""
    async with talking(f"sqlite:///{tmp_path}/evrt.db") as app:
        await say(app, "one", "two", "three")
        log = await app.log()
        before = await log.read()
        runs = await log.streams("run-")
        edited = await (await app.conversations.edit("c", 2, "TWO", by="ann"))
        assert edited.output == ["u:one", "a:to u:one: shown 1"]
        assert await said(app) == ["u:one", "a:to u:one: shown 1", "u:TWO", "a:to u:TWO: shown 3"]
        assert await log.read(upto=len(before)) == before
        assert [(await app.get(run)).status for run in runs] == ["succeeded"] * 3
        ends = [(await log.read_stream(run))[-1].type for run in runs]
        assert ends == ["run.succeeded", "run.superseded", "run.superseded"]
        requested = (await app.get(edited.run_id)).events[0].event
        assert isinstance(requested, RunRequested)
        assert (requested.supersedes, requested.target) == (runs[1], "chat")
        assert await say(app, "three") == (await said(app))[:-2]
        # As of then it is as it was.
        as_of = await app.message_history("c", as_of=len(before))
        assert text_of(as_of)[2:] == [
            "u:two",
            "a:to u:two: shown 3",
            "u:three",
            "a:to u:three: shown 5",
        ]


async def test_an_answer_is_asked_for_again() -> None:
    """B19: from the last message, from any, and from one inside of a turn."""
    async with talking("memory://") as app:
        await say(app, "one", "look", "three")
        assert len(await said(app)) == 9
        for at, left in ((None, 9), (8, 9), (5, 7), (2, 7), (0, 2)):
            await (await app.conversations.retry("c", at))
            assert len(await said(app)) == left
        assert await said(app) == ["u:one", "a:to u:one: shown 1"]


async def test_a_run_that_failed_is_not_shown_whoever_tries_it_again() -> None:
    """B19: one rule for the history and for what a run is shown."""
    async with talking("memory://") as app:
        await say(app, "one", "fail")
        failed = (await (await app.log()).streams("run-"))[-1]
        again = await app.retry(failed)
        await app.resume(again)
        assert await say(app, "two") == ["u:one", "a:to u:one: shown 1"]
        everything = await app.message_history("c", include_failed_runs=True)
        assert text_of(everything)[2:4] == ["u:fail", "u:two"]


async def test_one_of_several_messages_of_an_input_is_edited_with_those_before_it_kept() -> None:
    """B19, S1.15: an input may be a list of messages, in an object or not."""
    async with talking("memory://") as app:
        app.agent("echo", model="m")
        told = [{"role": "user", "content": "a", "name": "ann"}, {"role": "user", "content": "b"}]
        more = [{"role": "user", "content": "c"}]
        await app.run("echo", {"messages": [*told, *more], "x": 1}, conversation="c")
        await (await app.conversations.edit("c", 1, "B"))
        assert (await said(app))[:2] == ["u:a", "u:B"]
        await app.run("echo", told, conversation="d")
        edited = await (await app.conversations.edit("d", 0, "A"))
        assert (await app.get(edited.run_id)).state.input == [{**told[0], "content": "A"}]


async def test_what_is_still_at_it_is_cancelled_when_it_is_superseded() -> None:
    """B19."""
    app = evrt.App("memory://")

    @app.workflow
    async def asking(ctx: Ctx, text: str) -> str:
        return f"{await ctx.ask(text)}!"

    async with app:
        first = await app.run("asking", "one", conversation="c")
        queued = await app.enqueue("asking", "two", conversation="c")
        edited = await (await app.conversations.edit("c", 0, "ONE"))
        assert [(await app.get(run)).status for run in (first.run_id, queued.run_id)] == ["cancelled"] * 2
        assert edited.status == "waiting"
        assert await said(app) == ["u:ONE"]
        later = await app.conversations.retry("c", queued=True)
        entry = await (await app.log()).coordination.entry(later.run_id)
        assert entry is not None
        assert entry.state == "ready"
        assert (await app.get(edited.run_id)).status == "cancelled"


async def test_a_fork_begins_with_what_was_said_and_copies_nothing(tmp_path: Path) -> None:
    """B19: a conversation goes two ways; forks of forks too."""
    async with talking(f"sqlite:///{tmp_path}/evrt.db") as app:
        await say(app, "needle one", "look", "three")
        log = await app.log()
        before = await log.position()
        fork = await app.conversations.fork("c", 6, conversation="f", title="The other way")
        assert await log.position() == before + 2
        assert await said(app, "f") == (await said(app))[:6]
        # The source goes on, and is edited: the fork stays.
        await say(app, "four")
        await (await app.conversations.edit("c", 0, "ONE"))
        assert await said(app, "f") == await say(app, "five", to="f")
        ff = await app.conversations.fork(fork, conversation="ff")
        assert await say(app, "six", to="ff") == await said(app, "f")
        await (await app.conversations.edit("f", 6, "FIVE"))
        assert (await said(app, "f"))[6] == "u:FIVE"
        assert (await said(app, "ff"))[6] == "u:five"
        # What is inherited can be edited as well: where it was said nothing changes.
        await (await app.conversations.edit("ff", 2, "TWO"))
        assert (await said(app, "ff"))[:3] == ["u:needle one", "a:to u:needle one: shown 1", "u:TWO"]
        assert len(await said(app, "ff")) == 4
        assert (await said(app, "f"))[6] == "u:FIVE"
        rows = [row for row in await log.read(correlation=fork) if b"needle" in (row.payload or b"")]
        # Only in what its runs were shown, and gave back.
        assert {row.type for row in rows} == {"conversation.recalled", "run.succeeded"}
        header = await app.conversations.get("ff")
        assert (header.id, header.source, header.source_messages) == (ff, fork, 8)


async def test_a_fork_is_cut_anywhere_and_says_so(tmp_path: Path) -> None:
    """B19: between a call and its result too; what a run is shown is fit for a model all the same."""
    async with talking(f"sqlite:///{tmp_path}/evrt.db") as app:
        await say(app, "one", "look")
        whole = await said(app)
        for upto in range(len(whole) + 1):
            await app.conversations.fork("c", upto, conversation=f"f{upto}")
            assert await said(app, f"f{upto}") == whole[:upto]
        assert await say(app, "so?", to="f4") == whole[:3]
        assert await say(app, "so?", to="f0") == []


async def test_a_fork_loses_what_it_had_from_a_conversation_that_is_deleted() -> None:
    """B19: erasure waits for nobody."""
    async with talking("memory://") as app:
        await say(app, "one", to="a")
        await app.conversations.fork("a", conversation="b")
        await say(app, "two", to="b")
        await app.conversations.fork("b", 3, conversation="c")
        await say(app, "three", to="c")
        assert len(await said(app, "c")) == 5
        await app.conversations.delete("a")
        assert (await app.conversations.get("b")).source_deleted
        assert await said(app, "b") == ["u:two", "a:to u:two: shown 3"]
        # Of b it was to have no more than what was said first.
        left = ["u:two", "u:three", "a:to u:three: shown 4"]
        assert await said(app, "c") == left
        assert await say(app, "four", to="c") == left
        await app.conversations.delete("b")
        assert await said(app, "c") == [*left[1:], "u:four", "a:to u:four: shown 4"]


async def test_more_runs_are_superseded_than_fit_into_one_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """B19."""
    monkeypatch.setattr(rewinding, "SUPERSEDED_AT_ONCE", 2)
    async with talking("memory://") as app:
        await say(app, "1", "2", "3", "4", "5")
        runs = await (await app.log()).streams("run-")
        await (await app.conversations.edit("c", 0, "one"))
        assert await said(app) == ["u:one", "a:to u:one: shown 1"]
        for run in runs:
            assert (await app.get(run)).events[-1].type == "run.superseded"
