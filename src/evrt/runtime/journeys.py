"""Journeys as a run sees them: how one stands, read once, and changed together with the run's own note of it.

A journey is a stream, found from the conversation and the name it has in the code; without a conversation it is the
run's own. Every write expects the version that was read: where another run was faster, that is a recorded outcome, and
the journey is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from evrt.errors import Conflict, ReplayDivergence, UsageError, WrongVersion
from evrt.events import Event, JsonObject
from evrt.events.journey import (
    JourneyAction,
    JourneyEnded,
    JourneyRecalled,
    JourneyRouted,
    JourneyStarted,
    JourneyStepChanged,
    JourneyWritten,
)
from evrt.events.run import CANCELLED
from evrt.folds.journeys import JourneyFold, Standing, evolve, recalled
from evrt.runtime.execution import Execution
from evrt.runtime.facts import Facts
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of
from evrt.runtime.stop import RunStopped, Stop

PREFIX = "journey-"


def journey_stream(owner: str, name: str) -> str:
    """The stream of a journey: of a conversation, or of a run without one, by their refs. Neither can be read off it."""
    return f"{PREFIX}{digest_of([owner, name])}"


@dataclass(slots=True, eq=False)
class RunJourney:
    """``ctx.journey(name)``: a journey of the run's conversation, which is there for its next runs as well."""

    _execution: Execution
    name: str
    standing: Standing | None = None
    """How it stands, as far as this run knows; None before ``load``."""
    _facts: Facts[JourneyFold] = field(init=False)

    def __post_init__(self) -> None:
        self._facts = Facts(self._execution, JourneyFold)

    @property
    def stream(self) -> str:
        """The name of its stream."""
        execution = self._execution
        return journey_stream(execution.conversation or execution.run, self.name)

    async def load(self) -> Standing:
        """Read how it stands. Recorded with the version that was read."""
        execution = self._execution
        identity = execution.bind("journey.load")
        digest = digest_of([self.name])
        known = await execution.recorded(identity, "journey", digest)
        if known is not None and known.outcome is not None:
            event = known.outcome.event
        else:
            event = JourneyRecalled(operation=identity, digest=digest, journey=self.name)
            try:
                now = (await execution.outside(self._facts.fold(self.stream))).standing
            except asyncio.CancelledError:
                self._cut_off(event)
                raise
            event = event.model_copy(
                update={
                    name: getattr(now, name) for name in ("state", "ended", "route", "untrusted", "version")
                }
            )
            execution.record(event)
        assert isinstance(event, JourneyRecalled)
        self.standing = recalled(event)
        if event.untrusted:
            execution.untrusted.setdefault(f"journey:{self.name}")
        return self.standing

    async def start(self, state: JsonObject) -> Standing:
        """Begin, or begin anew, with this state. Errors as for ``change``."""
        kept = self._admit(state)
        started = JourneyStarted(
            journey=self.name,
            step=str(kept.get("step")),
            state=kept,
            untrusted=bool(self._execution.untrusted),
        )
        return await self._write("start", started)

    async def change(
        self,
        patch: JsonObject,
        *,
        to_step: str,
        tool: str | None = None,
        ended: str | None = None,
        reopened: bool = False,
    ) -> Standing:
        """Give some keys of the state other values. ``ended`` says why the journey ends with that, ``reopened`` that it
        had ended and goes on.

        Raises Conflict when another run has changed it since it was read; nothing is written then, and ``standing`` is
        what that other run made of it. Raises UsageError for a journey that has not begun, InvalidInput or
        PayloadTooLarge for a patch that cannot be recorded.
        """
        before = self._standing().state
        if before is None:
            raise UsageError(f"The journey {self.name} has not begun: start it with its first state.")
        changed = JourneyStepChanged(
            from_step=str(before.get("step")),
            to_step=to_step,
            patch=self._admit(patch),
            tool=tool,
            reopened=reopened,
            untrusted=bool(self._execution.untrusted),
        )
        if ended is None:
            return await self._write("change", changed)
        return await self._write("change", changed, JourneyEnded(reason=ended, step=to_step))

    async def end(self, reason: str) -> Standing:
        """Say that it has come to its end. Errors as for ``change``."""
        state = self._standing().state or {}
        step = state.get("step")
        return await self._write("end", JourneyEnded(reason=reason, step=None if step is None else str(step)))

    async def route(self, journey: str | None, *, by: str, confidence: float | None = None) -> Standing:
        """Of a router: send the conversation to this journey from now on; None has it choose again."""
        routed = JourneyRouted(router=self.name, journey=journey, by=by, confidence=confidence)
        return await self._write("route", routed)

    def refuse(self, what: str) -> RunStopped:
        """Park the run, as diverged: its code cannot go on with what was kept. Returns what to raise."""
        waits = "" if self._execution.offline else " Nothing is lost: the run is parked, not failed."
        error = ReplayDivergence(
            f"The journey {self.name} cannot go on with the state that was kept: {what}.{waits} Mend the code, and resume "
            f"the run.",
            operation=f"journey:{self.name}",
        )
        return self._execution.stop(Stop("diverged", error))

    async def _write(self, action: JourneyAction, *facts: Event) -> Standing:
        """Append facts to the stream with the run's note of them, and come to know how the journey stands after."""
        execution = self._execution
        standing = self._standing()
        for fact in facts:
            payload_of(fact)  # Too large a state is refused here, on the first execution as on replay.
        digest = digest_of([self.name, action, [fact.model_dump(mode="json") for fact in facts]])
        identity = execution.bind(f"journey.{action}")
        known = await execution.recorded(identity, "journey", digest)
        if known is not None and known.outcome is not None:
            written = known.outcome.event
        else:
            new = JourneyWritten(operation=identity, digest=digest, journey=self.name, action=action)
            try:
                written = await self._append(standing, facts, new)
            except asyncio.CancelledError:
                self._cut_off(new)
                raise
        assert isinstance(written, JourneyWritten)
        if written.conflict is not None:
            await self.load()
            raise Conflict(written.conflict)
        for fact in facts:
            standing = evolve(standing, fact)
        self.standing = standing
        return standing

    async def _append(
        self, standing: Standing, facts: Sequence[Event], new: JourneyWritten
    ) -> JourneyWritten:
        drafts = [self._facts.draft(self.stream, fact) for fact in facts]
        written = new.model_copy(
            update={
                "event_ids": tuple(draft.event_id for draft in drafts),
                "version": standing.version + len(drafts),
            }
        )
        try:
            await self._facts.append(self.stream, standing.version, drafts, written)
            return written
        except WrongVersion:
            conflict = (
                f"The journey {self.name} was changed by another run at the same time: see how it stands now."
            )
            refused = new.model_copy(update={"conflict": conflict})
            self._execution.record(refused)
            return refused

    def _standing(self) -> Standing:
        if self.standing is None:
            raise UsageError(
                f"The journey {self.name} has not been read in this run: await its load() first."
            )
        return self.standing

    def _admit(self, value: JsonObject) -> JsonObject:
        admitted = self._execution.admit(value)
        assert isinstance(admitted, dict)
        return admitted

    def _cut_off(self, event: JourneyRecalled | JourneyWritten) -> None:
        execution = self._execution
        if execution.stopped is None:
            failure = execution.failure(CANCELLED, "The code that awaited this cancelled it.")
            execution.record(event.model_copy(update={"failure": failure}))
