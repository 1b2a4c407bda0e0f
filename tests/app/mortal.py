"""Deletes a conversation in processes that die on cue: after the n-th thing that has been written.

    python mortal.py

For each line ``n url conversation`` on standard input a child is forked that deletes it and is killed once n of what it
writes (appends, erased payloads and blobs, what is forgotten) has been written; the answer is ``killed``, or ``deleted``
if it came to its end first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import evrt
from evrt.conversations import deleting

WRITES = ("append", "erase_payload", "erase_blob", "forget")
ERASED_AT_ONCE = 3


async def delete_and_die(url: str, conversation: str, turn: int) -> None:
    left = turn
    app = evrt.App(url)
    kind: Any = type(await app.log())

    def mortal(write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def writing(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            written = await write(*arguments, **options)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return written

        return writing

    for name in WRITES:
        setattr(kind, name, mortal(getattr(kind, name)))
    deleting.ERASED_AT_ONCE = ERASED_AT_ONCE
    async with app:
        await app.conversations.delete(conversation, by="ann")


def main() -> None:
    for line in sys.stdin:
        turn, url, conversation = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(delete_and_die(url, conversation, int(turn)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if died else "deleted" if status == 0 else f"failed: {status}", flush=True)


if __name__ == "__main__":
    main()
