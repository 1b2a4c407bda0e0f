"""What can be done to runs from outside, as methods of an app: answers and the like, orders, another try."""

from __future__ import annotations

from typing import Protocol

from evrt.errors import Conflict, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.history import load_run, resolve_run
from evrt.inbox import answer_question, decide_approval, give_tool_result, settle_write, signal_run, verdict
from evrt.log import Log
from evrt.log.coordination import Wake
from evrt.orders import Cancelled, cancel_run, pause_run, unpause_run
from evrt.requesting import Terms, enqueue_run
from evrt.runtime.answers import checked_answer
from evrt.seal import Redact, admit

NOT_GIVEN = object()


class Controlled(Protocol):
    """What these methods need of an app."""

    redact: Redact

    async def log(self) -> Log: ...
    async def _look_outside(self, run: str) -> None:
        """Have a run that is executed here take in what was written to it, before it begins anything else."""

    def check_result(self, tool: str, result: JsonValue) -> None: ...


class Control:
    """Answers, decisions, signals, settlements, orders. ``by`` says who gives them, as it is to be recorded."""

    async def answer(
        self: Controlled, run: str, answer: object, *, operation: str | None = None, by: str | None = None
    ) -> str:
        """Answer a question that a run waits for; returns the question's operation.

        ``operation`` may be left out when only one is open. Then ``resume`` the run.
        Raises NotFound, Conflict (answered already, or its time is over), UsageError (which one?), InvalidInput for an
        answer that the question does not take: not one of its options, not of its type, empty.
        """
        log = await self.log()
        return await answer_question(
            log,
            await resolve_run(log, run),
            admit(answer, self.redact),
            operation=operation,
            by=_shown(self, by),
            check=checked_answer,
        )

    async def tool_result(
        self: Controlled,
        run: str,
        tool_call_id: str,
        result: object = None,
        *,
        error: str | None = None,
        by: str | None = None,
    ) -> str:
        """Give what came of a client tool's call: its result, or an error; returns the operation that waits for it.

        Then ``resume`` the run, where no worker does. Raises NotFound (no such call), Conflict (it has its result
        already, or the run has ended), UsageError (a result and an error; the model gave several calls that id).
        """
        if error is not None and result is not None:
            raise UsageError("A call of a client tool comes to a result or to an error, not to both.")
        log = await self.log()
        answer: JsonObject = (
            {"result": admit(result, self.redact)} if error is None else {"error": admit(error, self.redact)}
        )
        found = await resolve_run(log, run)
        return await give_tool_result(log, found, tool_call_id, answer, by=_shown(self, by))

    async def decide(
        self: Controlled,
        run: str,
        approved: bool,
        *,
        operation: str | None = None,
        by: str | None = None,
        reason: str | None = None,
        digest: str | None = None,
    ) -> str:
        """Grant or deny what a run asks leave for (``ctx.approve``); returns the operation that asked.

        ``operation`` may be left out when only one asks. ``digest`` is that of what the person was shown
        (``ApprovalRequested.shown_digest``). Raises NotFound, Conflict (decided already, its time is over, or it asks for
        something else than that), UsageError (which one?).
        """
        log = await self.log()
        return await decide_approval(
            log,
            await resolve_run(log, run),
            approved,
            operation=operation,
            by=_shown(self, by),
            reason=_shown(self, reason),
            digest=digest,
        )

    async def signal(
        self: Controlled, run: str, name: str, payload: object = None, *, by: str | None = None
    ) -> None:
        """Send a run a signal, which its code receives with ``ctx.wait_for_signal(name)``, now or later.

        Raises NotFound, Conflict (it has ended), InvalidInput (no such name can be).
        """
        log = await self.log()
        found = await resolve_run(log, run)
        await signal_run(log, found, name, admit(payload, self.redact), by=_shown(self, by))

    async def settle(
        self: Controlled,
        run: str,
        operation: str | None = None,
        *,
        result: object = NOT_GIVEN,
        error: str | None = None,
        again: bool = False,
        by: str | None = None,
    ) -> str:
        """Say what a write in doubt came to: its result, its error, or that it is to be made again.

        Raises NotFound, Conflict (not in doubt), UsageError (which one? exactly one of the three), InvalidInput
        for a result that the tool could not have returned.
        """
        log = await self.log()
        said = verdict(
            completed=result is not NOT_GIVEN,
            result=None if result is NOT_GIVEN else admit(result, self.redact),
            error=None if error is None else str(admit(error, self.redact)),
            again=again,
        )
        return await settle_write(
            log, await resolve_run(log, run), operation, said, by=_shown(self, by), check=self.check_result
        )

    async def cancel(
        self: Controlled, run: str, *, by: str | None = None, reason: str | None = None
    ) -> Cancelled:
        """End a run: "cancelled" if it has ended now, "requested" if its worker ends it at its next operation.

        Raises NotFound, Conflict (it has ended).
        """
        log = await self.log()
        why = None if reason is None else str(admit(reason, self.redact))
        found = await resolve_run(log, run)
        cancelled = await cancel_run(log, found, by=_shown(self, by), reason=why)
        await self._look_outside(found)
        return cancelled

    async def pause(self: Controlled, run: str, *, by: str | None = None) -> None:
        """Have a run begin nothing more until it is unpaused. Raises NotFound, Conflict (ended, paused already)."""
        log = await self.log()
        found = await resolve_run(log, run)
        await pause_run(log, found, by=_shown(self, by))
        await self._look_outside(found)

    async def unpause(self: Controlled, run: str, *, by: str | None = None) -> None:
        """Let a paused run go on in a worker; ``resume`` goes on with it here. Raises NotFound, Conflict."""
        log = await self.log()
        await unpause_run(log, await resolve_run(log, run), by=_shown(self, by))

    async def retry(self: Controlled, run: str) -> str:
        """Try a run again, in a worker; returns the run that does so.

        For one that has ended that is a new run with the same input, which supersedes it; one that waits for its
        next attempt makes it at once. Raises NotFound, Conflict (it is under way).
        """
        log = await self.log()
        name = await resolve_run(log, run)
        history = await load_run(log, name)
        requested = history.journal.requested
        if history.state.ended and requested is not None:
            again = requested.model_copy(
                update={"supersedes": name, "idempotency_key": None, "not_before": None, "tick": None}
            )
            return (await enqueue_run(log, again, Terms()))[0]
        if not history.journal.waits_for_retry:
            raise Conflict(
                f"{name} is {history.status}: there is nothing to try again. `evrt runs resume` goes on with it."
            )
        await log.coordination.change(Wake(name))
        return name


def _shown(app: Controlled, text: str | None) -> str | None:
    return None if text is None else str(admit(text, app.redact))
