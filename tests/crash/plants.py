"""Bugs to plant into a worker, each of which the harness has to catch. They exist in these processes only.

``no_fence``: appends of a worker that has lost its claim are let through · ``ack_before_commit``: an
append is answered before it is durable · ``intent_not_durable``: effects do not wait for their intent.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson

from evrt.log import Append, Appended, Claim, Draft, Fence, Log
from evrt.log.contract import Landing
from evrt.runtime.journal import JournalWriter

PLANTS = ("no_fence", "ack_before_commit", "intent_not_durable")


def planted(log: Log, plant: str | None) -> Log:
    """The log with the bug, or the log itself."""
    match plant:
        case None:
            return log
        case "no_fence":
            return cast(Log, WithoutFence(log))
        case "ack_before_commit":
            return cast(Log, EarlyAnswers(log))
        case "intent_not_durable":
            setattr(JournalWriter, "barrier", _no_barrier)  # noqa: B010  # Said so that type checkers let it pass.
            return log
    raise ValueError(f"There is no plant {plant!r}.")


async def _no_barrier(writer: JournalWriter) -> None:
    """What a barrier does when somebody has taken it for a waste of time."""


class WithoutFence:
    """Drops the expectation that the claim still holds, and the epoch in the events that says so too."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, request: Append) -> Landing[Appended]:
        fenced = any(isinstance(expectation, Fence) for expectation in request.expect.values())
        if fenced:
            expect = {stream: e for stream, e in request.expect.items() if not isinstance(e, Fence)}
            drafts = [_without_epoch(draft) for draft in request.drafts]
            request = request._replace(drafts=drafts, expect=expect)
        return self._log.append(request)


def _without_epoch(draft: Draft) -> Draft:
    meta = {name: value for name, value in orjson.loads(draft.meta).items() if name != "epoch"}
    return draft._replace(meta=orjson.dumps(meta))


class EarlyAnswers:
    """Answers appends at once and writes them a moment later, when the next one comes or the loop is idle.

    Claims are answered truly: their versions are where the made-up ones go on from.
    """

    DELAY_SECONDS = 0.05

    def __init__(self, log: Log) -> None:
        self._log = log
        self._versions: dict[str, int] = {}
        self._late: list[Append] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, request: Append) -> Landing[Appended]:
        self._write()
        if any(not isinstance(expectation, Fence) for expectation in request.expect.values()):
            written = self._log.append(request)
            if any(isinstance(expectation, Claim) for expectation in request.expect.values()):
                written.add_done_callback(lambda done: self._learn(request, done))
            return written
        self._late.append(request)
        loop = asyncio.get_running_loop()
        loop.call_later(self.DELAY_SECONDS, self._write)
        answer: Landing[Appended] = Landing()
        answer.set_result(Appended(range(1, 1 + len(request.drafts)), tuple(map(self._next, request.drafts))))
        return answer

    async def aclose(self) -> None:
        self._write()
        await self._log.aclose()

    def _write(self) -> None:
        late, self._late = self._late, []
        for request in late:
            self._log.append(request)

    def _learn(self, request: Append, done: asyncio.Future[Appended]) -> None:
        if done.exception() is None:
            for draft, version in zip(request.drafts, done.result().versions, strict=True):
                self._versions[draft.stream] = version

    def _next(self, draft: Draft) -> int:
        version = self._versions[draft.stream] = self._versions.get(draft.stream, 0) + 1
        return version
