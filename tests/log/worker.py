"""A process that uses a log as it is told: one JSON command per line in, one JSON answer per line out.

Run as a script; ``Process`` is the other end, for the tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from evrt.errors import EvrtError
from evrt.log import Append, Appended, Claim, Draft, Exact, Expectation, Fence, Log, Next, open_log
from evrt.log.coordination import Hold, Remove
from evrt.log.ids import new_event_id

KINDS: dict[str, type[Expectation]] = {kind.__name__: kind for kind in (Exact, Next, Fence, Claim)}


def to_json(request: Append) -> dict[str, Any]:
    return {
        "drafts": [
            [*draft[:4], draft.meta.decode("latin-1"), draft.payload.decode("latin-1")]
            for draft in request.drafts
        ],
        "expect": {
            stream: [
                type(expectation).__name__,
                expectation.version if isinstance(expectation, Exact | Next) else expectation.epoch,
            ]
            for stream, expectation in request.expect.items()
        },
        "repeat_after": None if request.repeat_after is None else dict(request.repeat_after),
    }


def from_json(value: Mapping[str, Any]) -> Append:
    drafts = [
        Draft(stream, type_, event_id, correlation, meta.encode("latin-1"), payload.encode("latin-1"))
        for stream, type_, event_id, correlation, meta, payload in value["drafts"]
    ]
    expect: dict[str, Expectation] = {
        stream: KINDS[kind](number) for stream, (kind, number) in value["expect"].items()
    }
    return Append(drafts, expect, repeat_after=value["repeat_after"])


class Process:
    """The other end of a worker. ``start`` and ``finish`` let several work at the same time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def line(self) -> Any:
        """What the worker says next, or None when it is gone."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        return json.loads(text) if text.endswith("\n") else None

    def finish(self) -> Any:
        answer = self.line()
        assert answer is not None, "The worker process is gone."
        return answer

    def tell(self, do: str, **arguments: Any) -> Any:
        self.start(do, **arguments)
        return self.finish()

    def append(self, request: Append) -> Appended | str:
        """Where it landed, or the name of the error."""
        answer = self.tell("append", request=to_json(request))
        if "error" in answer:
            return str(answer["error"])
        return Appended(range(*answer["positions"]), tuple(answer["versions"]))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Have it end, by force if it is beyond asking; its exit status."""
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            assert self._process.stdout is not None
            self._process.stdout.close()

    def kill(self) -> int:
        self._process.kill()
        return self.end()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


# -------------------------------------------------------------------------------------- the process


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def flood(log: Log, *, stream: str, count: int, tasks: int = 1) -> None:
    """Append as fast as it goes, each event once the one before is acknowledged; say each position."""

    async def one(stream: str) -> None:
        for number in range(count):
            draft = Draft(stream, "t", new_event_id(), stream, b"{}", b"%d" % number)
            appended = await log.append(Append([draft], {stream: Exact(number)}))
            say([draft.event_id, appended.position])

    await asyncio.gather(*(one(stream if tasks == 1 else f"{stream}-{n}") for n in range(tasks)))


async def work(log: Log, *, name: str, seconds: float, limit: int) -> None:
    """Claim what there is and end it, until nothing is left; say each run that was ended here."""
    queue = log.coordination
    watch = log.watch()
    await queue.renew(name, seconds=seconds)
    while await queue.counts():
        given = await queue.claim(name, targets={"t": 4, "u": None}, limit=limit)
        for run, *_ in given:
            meta = b'{"epoch":1}'
            claimed = Draft(run, "run.claimed", new_event_id(), run, meta, b"")
            await log.append(Append([claimed], {run: Claim(1)}, beside=[Hold(run, name)]))
            ended = Draft(run, "run.succeeded", new_event_id(), run, meta, b"")
            await log.append(Append([ended], {run: Fence(1)}, beside=[Hold(run, name), Remove(run)]))
            say(run)
        if not given:
            await watch.wait(0.1)


async def obey(log: Log | None, command: dict[str, Any]) -> tuple[Log | None, Any]:
    do = command.pop("do")
    if do == "open":
        if log is not None:
            await log.aclose()
        return await open_log(command.pop("url"), **command), "opened"
    if do == "make":
        folder = Path(command["folder"])
        for number in range(command["count"]):
            say(f"{folder}/{number}.db")
            made = await open_log(f"sqlite:///{folder}/{number}.db")
            await made.aclose()
        return log, "made"
    if do == "hold":
        from evrt.log.sqlite.lock import FileLock

        FileLock(command["path"]).acquire()
        say("held")
        os.kill(os.getpid(), signal.SIGSTOP)
        return log, "woken"
    assert log is not None
    if do == "append":
        appended = await log.append(from_json(command["request"]))
        return log, {
            "positions": [appended.positions.start, appended.positions.stop],
            "versions": appended.versions,
        }
    if do == "flood":
        await flood(log, **command)
        return log, "flooded"
    if do == "work":
        await work(log, **command)
        return log, "nothing left"
    if do == "claim":
        await log.coordination.renew(command["name"], seconds=command["seconds"])
        given = await log.coordination.claim(command["name"], targets={"t": None}, limit=command["limit"])
        return log, [run for run, *_ in given]
    if do == "hold entry":
        draft = Draft(command["run"], "t", new_event_id(), command["run"], b"{}", b"")
        await log.append(Append([draft], {}, beside=[Hold(command["run"], command["name"])]))
        return log, "held"
    if do == "ref":
        return log, await log.ref(command["kind"], command["external"])
    if do == "erase":
        await log.erase_payload(command["position"])
        return log, "erased"
    if do == "read":
        return log, [row.event_id for row in await log.read(limit=1_000_000)]
    raise AssertionError(do)


async def main() -> None:
    log: Log | None = None
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            log, answer = await obey(log, json.loads(line))
        except EvrtError as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        say(answer)
    if log is not None:
        await log.aclose()


if __name__ == "__main__":
    asyncio.run(main())
