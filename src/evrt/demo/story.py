"""The story that the demo tells: run it, kill it, resume it, replay it, and look whether it was right.

Every act does something to real processes and real files, and then checks what came of it. Nothing is
printed here: an audience is told as it goes on, and the report holds everything at the end.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from time import perf_counter

from evrt.demo.app import app
from evrt.demo.deliveries import Write, completed_writes, discrepancies, open_writes, place_of
from evrt.demo.following import Follower
from evrt.demo.ledger import Entry, Ledger, Tray
from evrt.demo.plan import Plan, url_in
from evrt.demo.policy import load_policy, load_rates
from evrt.demo.process import Worker, started
from evrt.demo.report import Verification, verify
from evrt.demo.scenes import Audience, Check, Report, Scene
from evrt.demo.tools import LEDGER_FILE, TRAY_FILE
from evrt.events import JsonObject
from evrt.events.run import RunClaimed, RunDiverged
from evrt.history import Run, load_run
from evrt.log import Log, open_log

COMPLAINTS_FILE = "workers.txt"
UNINTERRUPTED_FOLDER = "uninterrupted"
ARRIVAL_POLLS_MAX, ARRIVAL_POLL_SECONDS = 20, 0.002


async def tell(plan: Plan, audience: Audience) -> Report:
    """The whole story, in the plan's folder. Raises EvrtError where it cannot be told to its end."""
    began = perf_counter()
    async with AsyncExitStack() as stack:
        story = _Story(plan, audience, stack)
        await story.run_and_kill()
        if story.report.killed_at is not None:
            story.look_at_the_log()
            await story.resume()
        if story.goes_on:
            await story.replay()
            story.recompute()
            await story.run_uninterrupted()
    story.report.seconds = perf_counter() - began
    return story.report


class _Story:
    def __init__(self, plan: Plan, audience: Audience, stack: AsyncExitStack) -> None:
        self.plan = plan
        self.audience = audience
        self.report = Report(plan)
        self.ledger, self.tray = _ledger_and_tray(plan.folder)
        self.arrived: list[Write] = []
        """Writes that had reached ledger or tray when the kill cut them off."""
        self.log: Log
        self.follower: Follower
        self.history: Run
        self._stack = stack

    @property
    def goes_on(self) -> bool:
        """Whether the run has come to its end, or still could."""
        return self.history.status in ("running", "succeeded")

    # ------------------------------------------------------------------------------- run it, kill it

    async def run_and_kill(self) -> None:
        plan = self.plan
        job = plan.job(plan.folder, latency_seconds=plan.latency_seconds)
        async with started(job, plan.folder / COMPLAINTS_FILE) as worker:
            tell = self._progress(worker, 0)
            run = await worker.run()
            log = await open_log(plan.url, read_only=True)
            self.log = await self._stack.enter_async_context(aclosing(log))
            self.follower = Follower(log, run, tell)
            if await _first(self.follower.until(self._due), worker.ended()):
                await self._arrival()
                worker.kill()
            status = await worker.ended()
        history = await self._read(run)
        killed = status == -signal.SIGKILL and history.journal.terminal is None
        decided = len(completed_writes(history))
        if killed:
            self.report.killed_at = len(history.events)
            told = f"Process {worker.pid} began {run}. In the middle of it, it was sent SIGKILL."
            text = f"it died of signal 9 (wait status {status}) with {decided} of {len(plan.claims)} decisions recorded"
        else:
            told = f"Process {worker.pid} began {run}."
            if history.status == "succeeded":
                text = "the run was over before it could be killed, so nothing was interrupted"
            elif status < 0:
                text = f"it died of signal {-status}, not of the SIGKILL that it was to be sent"
            else:
                text = f"the run did not come as far as the kill: {_ending(history)}"
        facts: JsonObject = {"pid": worker.pid, "wait_status": status, "decisions": decided}
        self._add("kill", "Run it, kill it", told, [Check("killed", killed, text)], facts)

    def _due(self) -> bool:
        return self.follower.decided >= self.plan.kill_after and bool(self.follower.under_way)

    async def _arrival(self) -> None:
        """Wait, but not for long, for the worst moment: a decision has arrived, and the log does not know it."""
        awaited = {write.place for write in self.follower.under_way.values()}
        for _ in range(ARRIVAL_POLLS_MAX):
            if not awaited.isdisjoint(map(place_of, await asyncio.to_thread(self._entries))):
                return
            await asyncio.sleep(ARRIVAL_POLL_SECONDS)

    # ------------------------------------------------------------------------------ what the log holds

    def look_at_the_log(self) -> None:
        """What anybody can read now of the dead process's work."""
        there = set(map(place_of, self._entries()))
        writes = {write.operation: write for write in open_writes(self.history)}
        self.arrived = [write for write in writes.values() if write.place in there]
        under_way = [operation for operation in self.history.journal.operations.values() if operation.open]
        told = (
            f"{len(self.history.events)} events, and {_counted(len(under_way), 'operation')} without an outcome. What reads is "
            "done again. A write may have arrived, the log cannot know: it goes out again under the same key."
        )
        facts: list[JsonObject] = []
        lines = []
        for operation in under_way:
            write = writes.get(operation.identity)
            arrived = None if write is None else write in self.arrived
            lines.append(_open_line(operation.identity, write, arrived))
            facts.append({"operation": operation.identity, "kind": operation.kind, "arrived": arrived})
        at: JsonObject = {"events": len(self.history.events), "open": facts}
        self._add("log", "What the log holds at that moment", told, [], at, lines)

    # ------------------------------------------------------------------------------------- resume it

    async def resume(self) -> None:
        plan, before = self.plan, self.history
        job = plan.job(plan.folder, resume=before.id, latency_seconds=plan.latency_seconds)
        async with started(job, plan.folder / COMPLAINTS_FILE) as worker:
            self.follower.tell = self._progress(worker, self.follower.decided)
            await worker.run()
            await _first(self.follower.until(lambda: self.follower.ended), worker.ended())
            status = await worker.ended()
        history = await self._read(before.id)
        known, decided = len(completed_writes(before)), len(completed_writes(history))
        epochs = [event.epoch for e in history.events if isinstance(event := e.event, RunClaimed)]
        ok = history.status == "succeeded" and epochs == [1, 2]
        text = f"the run came to its end: {_counted(decided - known, 'more decision')}, {decided} in all"
        if not ok:
            text = f"process {worker.pid} did not bring {history.id} to its end: {_ending(history)}"
        told = (
            f"Process {worker.pid} claimed the run. The code was led through what is recorded, nothing of that was "
            "done again, and it went on from there."
        )
        facts: JsonObject = {"pid": worker.pid, "wait_status": status, "decisions": decided - known}
        self._add("resume", "Resume it in a new process", told, [Check("resumed", ok, text)], facts)

    # ------------------------------------------------------------------------------------- replay it

    async def replay(self) -> None:
        before = await self._everything()
        app.url = self.plan.url
        try:
            await app.log(read_only=True)
            replayed = await app.replay(self.history.id)
        finally:
            await app.aclose()
        untouched = before == await self._everything()
        text = (
            f"the code follows its history to the end: {replayed.operations} operations, no model and no tool called, "
            "nothing written"
        )
        if replayed.divergence is not None:
            text = str(replayed.divergence)
        elif not replayed.complete:
            text = (
                f"the code follows its history, but that stops before the run's end: {_ending(self.history)}"
            )
        elif not untouched:
            text = "replaying changed the ledger, the tray or the log"
        told = "The same code against the history alone: every answer comes out of the log."
        facts: JsonObject = {"operations": replayed.operations, "digest": replayed.digest}
        ok = replayed.ok and replayed.complete and untouched
        self._add("replay", "Replay it offline", told, [Check("replayed", ok, text)], facts)

    # ----------------------------------------------------------------------------------- was it right?

    def recompute(self) -> None:
        found = verify(self.plan.claims, self.ledger, self.tray, load_policy(), load_rates())
        told = "Every claim is decided once more, by the policy's own code, and compared with what is there."
        facts: JsonObject = {
            "approved": found.outcomes["approve"],
            "rejected": found.outcomes["reject"],
            "left_to_a_person": found.outcomes["doubtful"],
            "deliveries_repeated": found.deliveries_repeated,
            "deliveries_refused": found.refusals,
        }
        checks = [self._check_policy(found), self._check_once(found)]
        self._add("verify", "Look whether it was right", told, checks, facts)

    def _check_policy(self, found: Verification) -> Check:
        total, outcomes = len(found.rows), found.outcomes
        agreeing = sum(row.verdict == "agrees" for row in found.rows)
        if found.ok:
            text = (
                f"the policy says the same about {agreeing} of {_counted(total, 'claim')}: {outcomes['approve']} approved, "
                f"{outcomes['reject']} rejected, {outcomes['doubtful']} left to a person"
            )
        else:
            what = (
                "what is there disagrees" if self.plan.scripted else f"the model {self.plan.model} disagrees"
            )
            text = f"{what} with the policy about {total - agreeing} of {_counted(total, 'claim')}"
        return Check("policy", found.ok, text, found.problems)

    def _check_once(self, found: Verification) -> Check:
        problems = [f"{row.claim.claim} is not there." for row in found.rows if not row.found]
        problems += discrepancies(self.history, self._entries(), self.arrived)
        count = found.deliveries_repeated
        repeats = {0: "no delivery came twice", 1: "1 delivery came twice, and its key absorbed it"}
        text = repeats.get(count, f"{count} deliveries came twice, and their keys absorbed them")
        text = f"ledger and tray hold each decision once: {text}"
        if problems:
            text = "ledger and tray do not hold each decision of the log just once"
        return Check("once", not problems, text, problems)

    # ----------------------------------------------------------------------------- and uninterrupted?

    async def run_uninterrupted(self) -> None:
        title, plan = "The same claims without a kill", self.plan
        if not plan.scripted:
            text = "left out: a real model does not say the same twice, so another run of it would differ by itself"
            self._add("uninterrupted", title, "", [Check("same", None, text)], {})
            return
        folder = plan.folder / UNINTERRUPTED_FOLDER
        folder.mkdir()
        async with started(plan.job(folder, latency_seconds=0.0), plan.folder / COMPLAINTS_FILE) as worker:
            tell = self._progress(worker, 0)
            run = await worker.run()
            async with aclosing(await open_log(url_in(folder), read_only=True)) as log:
                follower = Follower(log, run, tell)
                await _first(follower.until(lambda: follower.ended), worker.ended())
                await worker.ended()
                other = await load_run(log, run)
        mine, theirs = self.history.digest, other.digest
        ledger, tray = _ledger_and_tray(folder)
        same_entries = _contents(self._entries()) == _contents(ledger.entries() + tray.entries())
        text = f"interrupted or not, the histories are equal: digest {mine[:16]}… both times"
        if mine != theirs:
            text = f"the histories differ: digest {mine[:16]}… interrupted, {theirs[:16]}… uninterrupted"
        elif not same_entries:
            text = "the histories are equal, but not what the two runs left in ledger and tray"
        told = f"Process {worker.pid} took them with a log, a ledger and a tray of its own."
        facts: JsonObject = {"run": run, "digest": theirs, "interrupted_digest": mine}
        check = Check("same", mine == theirs and same_entries, text)
        self._add("uninterrupted", title, told, [check], facts)

    # ------------------------------------------------------------------------------------------ parts

    def _entries(self) -> list[Entry]:
        return self.ledger.entries() + self.tray.entries()

    async def _everything(self) -> tuple[list[Entry], int]:
        return self._entries(), await self.log.position()

    async def _read(self, run: str) -> Run:
        self.history = self.report.history = await load_run(self.log, run)
        return self.history

    def _progress(self, worker: Worker, decided: int) -> Callable[[int], None]:
        """What tells the audience of a worker's decisions, beginning with those that are there."""

        def tell(decided: int) -> None:
            self.audience.progress(worker.pid, decided, len(self.plan.claims))

        tell(decided)
        return tell

    def _add(
        self,
        name: str,
        title: str,
        told: str,
        checks: Sequence[Check],
        facts: JsonObject,
        listed: Sequence[str] = (),
    ) -> None:
        scene = Scene(name, title, told, listed, checks, facts)
        self.report.scenes.append(scene)
        self.audience.scene(scene)


async def _first(wanted: Awaitable[None], worker_ended: Awaitable[int]) -> bool:
    """Wait for either; whether ``wanted`` came about. Raises what either raises."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(worker_ended)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return tasks[0] in done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ledger_and_tray(folder: Path) -> tuple[Ledger, Tray]:
    return Ledger(folder / LEDGER_FILE), Tray(folder / TRAY_FILE)


def _contents(entries: Sequence[Entry]) -> list[tuple[str | None, ...]]:
    """What is there, without how often it came."""
    return sorted((e.claim, e.decision, e.amount_eur or "", e.reason) for e in entries)


def _ending(history: Run) -> str:
    """How a run came to stand where it stands."""
    state = history.state
    if state.failure is not None:
        return f"it failed: {state.failure.error_type}: {state.failure.message}"
    if state.reason == "diverged":
        return [event.message for e in history.events if isinstance(event := e.event, RunDiverged)][-1]
    return f"it is {state.status}{f' ({state.reason})' if state.reason else ''}"


def _counted(count: int, one: str) -> str:
    return f"{count} {one if count == 1 else f'{one}s'}"


def _open_line(identity: str, write: Write | None, arrived: bool | None) -> str:
    if write is None:
        return f"{'reads':<24}{identity}"
    state = "writes, had arrived" if arrived else "writes, had not arrived"
    return f"{state:<24}{identity} for {write.key}"
