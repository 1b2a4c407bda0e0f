"""What is done to conversations from the command line: titled, forked, deleted with everything in them."""

from __future__ import annotations

import sys

from evrt.cli.ordering import ordering
from evrt.cli.output import harmless, note, on_terminal, out, out_json
from evrt.cli.place import Place
from evrt.cli.text import counted
from evrt.errors import UsageError
from evrt.history import resolve_ref


async def title(place: Place, name: str, text: str | None, *, by: str | None, as_json: bool) -> None:
    """Give a conversation another title, or none."""
    async with ordering(place) as app:
        await app.conversations.title(name, text, by=by)
        ref = await resolve_ref(await app.log(), "conversation", name)
    if as_json:
        out_json({"conversation": ref, "title": text})
    else:
        out(f"{ref} has no title any more." if text is None else f"{ref} is called {text!r}.")


async def fork(
    place: Place, name: str, upto: int | None, *, new: str | None, by: str | None, as_json: bool
) -> None:
    """Begin a conversation with the first messages of another."""
    async with ordering(place) as app:
        ref = await app.conversations.fork(name, upto, conversation=new, by=by)
        header = await app.conversations.get(ref)
    if as_json:
        told = {"conversation": ref, "source": header.source, "messages": header.source_messages}
        out_json(told)
        return
    out(ref)
    note(f"It begins with {counted(header.source_messages or 0, 'message')} of {header.source}.")


async def delete(
    place: Place,
    name: str,
    *,
    by: str | None,
    reason: str | None,
    force: bool,
    sure: bool,
    as_json: bool,
) -> int:
    """Forget a conversation; the exit code: 1 where the person at the terminal would rather not.

    Raises UsageError where nobody is there to be asked and nobody has said so beforehand.
    """
    async with ordering(place) as app:
        ref = await resolve_ref(await app.log(), "conversation", name)
        if not sure and not _agreed(f"{name} ({ref})" if name != ref else ref):
            note("Nothing has been deleted.")
            return 1
        deleted = await app.conversations.delete(ref, by=by, reason=reason, force=force)
        views = await app.views()
        # So that when this returns no view of this log has any of it.
        await views.wait_for(await (await app.log()).position(), timeout_seconds=None)
    if as_json:
        out_json({"conversation": ref, "events": deleted.events, "blobs": deleted.blobs})
    else:
        erased = f"{counted(deleted.events, 'event')} and {counted(deleted.blobs, 'file')}"
        out(f"{ref} is deleted: what {erased} held is gone.")
    return 0


def _agreed(what: str) -> bool:
    """Whether the person at the terminal says yes. Raises UsageError where there is none."""
    if sys.stdin is None or not on_terminal(sys.stdin):
        raise UsageError(
            f"This would delete {what} with everything in it, which cannot be taken back, and there is no terminal to "
            "ask on: add --yes to do it. Nothing has been deleted."
        )
    sys.stderr.write(harmless(f"Delete {what} with everything in it? This cannot be taken back. [y/N] "))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
