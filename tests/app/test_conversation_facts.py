"""What is known of a conversation beside what is said in it: whose it is, what it is called, what is attached."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

import evrt
from app.talking import say, talking
from evrt.conversations.conversations import Resource
from evrt.errors import Conflict, EvrtError, InvalidInput, NotFound, UsageError

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


async def test_a_conversation_has_a_user_an_agent_a_title_and_metadata_and_groups_runs(
    tmp_path: Path,
) -> None:
    """S1.12."""
    async with talking(f"sqlite:///{tmp_path}/evrt.db") as app:
        conversations = app.conversations
        ref = await conversations.start(
            "chat", conversation="c", user="ann", title="Of words", metadata={"shelf": 7}
        )
        await app.run("chat", "hello", conversation="c", user="ann")
        await app.run("chat", "fail", conversation=ref, user="ann")
        await say(app, "hi", to="other")
        found = await conversations.get("c")
        assert found == await conversations.get(ref)
        assert (found.id, found.name, found.target) == (ref, "c", "chat")
        assert (found.title, found.metadata) == ("Of words", {"shelf": 7})
        assert (found.runs, dict(found.ended)) == (2, {"succeeded": 1, "failed": 1})
        assert found.owner is not None
        assert await (await app.log()).external(found.owner) == "ann"
        assert [one.name for one in await conversations.list()] == ["other", "c"]
        assert [one.name for one in await conversations.list(user="ann")] == ["c"]
        await conversations.title("c", "Of numbers", by="ann")
        await conversations.set_metadata(ref, {"shelf": 8, "ö": ["é"]})
        await conversations.title("c", "Of numbers")
        found = await conversations.get("c")
        assert (found.title, found.metadata) == ("Of numbers", {"shelf": 8, "ö": ["é"]})
        rows = await (await app.log()).read_stream(ref)
        assert [row.type for row in rows] == [
            "conversation.started",
            "conversation.titled",
            "conversation.described",
        ]  # Said again, the same title is no news.
        await conversations.title("c", None)
        assert (await conversations.get("c")).title is None


async def test_a_conversation_may_have_no_id_but_its_ref() -> None:
    """S1.12."""
    async with talking("memory://") as app:
        ref = await app.conversations.start()
        assert await say(app, "hello", "yes", to=ref) == ["u:hello", "a:to u:hello: shown 1"]
        found = await app.conversations.get(ref)
        assert (found.name, found.target, found.runs) == (None, "chat", 2)


async def test_files_documents_and_what_lies_elsewhere_are_attached() -> None:
    """S3.14, B27, B54: name, media type, size and digest of files; documents inline; a vector_db_id."""
    async with talking("memory://") as app:
        conversations = app.conversations
        await say(app, "hello")
        file = await conversations.attach("c", "a b.txt", io.BytesIO(b"hello"), media_type="text/plain")
        assert file == Resource("a b.txt", "file", "text/plain", 5, HELLO)
        assert await app.blobs.read_all(HELLO) == b"hello"
        document = await conversations.attach("c", "notes", "72 °F", media_type="text/markdown")
        assert document == Resource("notes", "document", "text/markdown", 6)
        vectors = await conversations.attach("c", "knowledge", vector_db_id="vdb-1")
        assert vectors == Resource("knowledge", "vector_db", reference="vdb-1")
        link = await conversations.attach("c", "page", link="https://example.org/x")
        known = await app.blobs.write(b"known")
        blob = await conversations.attach("c", "known", known)
        assert (await conversations.get("c")).resources == (file, document, vectors, link, blob)
        assert blob.blob == known
        assert b"".join([piece async for piece in conversations.read("c", "a b.txt")]) == b"hello"
        assert b"".join([piece async for piece in conversations.read("c", "notes")]) == "72 °F".encode()
        other = await conversations.attach("c", "notes", b"other")
        assert (await conversations.get("c")).resources == (file, vectors, link, blob, other)
        await conversations.detach("c", "page")
        with pytest.raises(NotFound, match=r"What is: a b\.txt, knowledge, known, notes"):
            await conversations.detach("c", "page")
        with pytest.raises(InvalidInput, match="lies elsewhere, at 'vdb-1'"):
            [piece async for piece in conversations.read("c", "knowledge")]


@pytest.mark.parametrize("name", ["", "a/b", "..", "\\x", "a\nb", " a", "a" * 121, None, "x\x00", "\u202e"])
async def test_a_name_that_could_lead_elsewhere_is_refused(name: Any) -> None:
    """Fault 43: what is attached is found by a name that is safe as the name of a file."""
    async with talking("memory://") as app:
        await say(app, "hello")
        with pytest.raises(InvalidInput, match="has a name of 1 to 120 printable characters"):
            await app.conversations.attach("c", name, b"x")


@pytest.mark.parametrize(
    "name",
    ["../../up", "/etc/passwd", "a\x00b", "x" * 1_000, "con", "%2e%2e", "🦆", "conversation-zzz", "run-1"],
)
async def test_an_id_of_one_s_own_is_never_part_of_a_path(tmp_path: Path, name: str) -> None:
    """Fault 43: whatever an id is, it stands for a random ref, and no file is called after it."""
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    async with talking(f"sqlite:///{folder}/evrt.db") as app:
        assert await say(app, "hello", "yes", to=name) == ["u:hello", "a:to u:hello: shown 1"]
        assert (await app.conversations.get(name)).name == name
    files = await asyncio.to_thread(lambda: list(tmp_path.rglob("*")))
    assert {path.name.partition("-")[0] for path in files} == {"in", "here", "evrt.db"}


@pytest.mark.parametrize(
    "attempt, error, says",
    [
        (lambda c: c.get("d"), NotFound, "There is no conversation 'd'"),
        (lambda c: c.get("conversation-aaaaaaaaaaaaaaaa"), NotFound, "There is no conversation"),
        (lambda c: c.title("d", "x"), NotFound, "There is no conversation 'd'"),
        (lambda c: c.title("c", " "), InvalidInput, "1 to 300 characters"),
        (lambda c: c.title("c", "x" * 301), InvalidInput, "1 to 300 characters"),
        (lambda c: c.set_metadata("c", []), InvalidInput, "Metadata is a JSON object"),
        (lambda c: c.set_metadata("c", {"x": "y" * 16_384}), InvalidInput, "16,384 bytes as JSON"),
        (lambda c: c.start(conversation="c"), Conflict, "There is a conversation 'c' already"),
        (lambda c: c.start("nobody"), NotFound, "no agent or workflow 'nobody'"),
        (lambda c: c.list(user="nobody"), NotFound, "There is no user 'nobody'"),
        (lambda c: c.list(limit=0), InvalidInput, "1 to 1,000"),
        (lambda c: c.attach("c", "x"), UsageError, "exactly one of them"),
        (lambda c: c.attach("c", "x", b"", link="y"), UsageError, "exactly one of them"),
        (lambda c: c.attach("d", "x", b""), NotFound, "There is no conversation 'd'"),
        (lambda c: c.attach("c", "x", link=""), InvalidInput, "1 to 400 printable"),
        (lambda c: c.attach("c", "x", b"", media_type="a\nb"), InvalidInput, "media type"),
        (lambda c: c.attach("c", "x", "y" * 600_000), InvalidInput, "attach its bytes as a file"),
        (lambda c: c.attach("c", "x", evrt.Blob(sha256="0" * 64, length=1)), NotFound, "holds no blob 000"),
        (lambda c: c.fork("c", 3), InvalidInput, "first 0 to 2 messages"),
        (lambda c: c.fork("c", -1), InvalidInput, "first 0 to 2 messages"),
        (lambda c: c.fork("c", conversation="c"), Conflict, "already"),
        (lambda c: c.edit("c", 2, "x"), NotFound, "no message 2: the conversation has 2"),
        (lambda c: c.edit("c", -1, "x"), InvalidInput, "counted from 0"),
        (lambda c: c.edit("c", 1, "x"), InvalidInput, "Message 1 is the assistant's"),
        (lambda c: c.retry("c", 7), NotFound, "no message 7"),
        (lambda c: c.delete("d"), NotFound, "There is no conversation 'd'"),
    ],
)
async def test_what_cannot_be_is_said_and_leaves_nothing_behind(
    attempt: Any, error: type[EvrtError], says: str
) -> None:
    """S1.12, B19, B27."""
    async with talking("memory://") as app:
        await say(app, "hello")
        before = await (await app.log()).position()
        with pytest.raises(error, match=says):
            await attempt(app.conversations)
        assert await (await app.log()).position() == before


async def test_there_is_a_limit_to_what_can_be_attached() -> None:
    """B27."""
    async with talking("memory://") as app:
        await say(app, "hello")
        for number in range(50):
            await app.conversations.attach("c", f"{number}", link="x")
        await app.conversations.attach("c", "7", link="y")
        with pytest.raises(Conflict, match="detach one first"):
            await app.conversations.attach("c", "50", link="x")
        found = await app.conversations.get("c")
        assert len(found.resources) == 50
