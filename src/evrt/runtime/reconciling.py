"""Asking a tool's own reconcile function what came of a write in doubt, before a person is asked.

The function only reads, so it is asked again after an error and after a crash. What it found is recorded
as a settlement by ``reconcile``, and a replay reads that; where it cannot tell, that is recorded too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from pydantic import BaseModel

from evrt.effects.reconcile import Completed, Failed, Finding, NotDone, Unknown
from evrt.effects.tools import Tool, ToolContext
from evrt.errors import InvalidInput
from evrt.events.calls import ToolCallSettled, ToolCallUnreconciled
from evrt.events.run import Failure
from evrt.retry import Retry
from evrt.runtime.execution import Execution
from evrt.runtime.latency import milliseconds_since
from evrt.runtime.stop import cancels

BY = "reconcile"
"""Who settled a write, where nobody did but the tool's own function."""

RECONCILE_RETRY = Retry(3)
"""How often a function that raises, or does not come back in the time that its tool has, is asked."""

WRITE_ATTEMPTS_MAX = 3
"""Attempts of a write by the function's word alone; then somebody should look at why it never happens."""


@dataclass(frozen=True, slots=True)
class Reconciling:
    """A write in doubt and the function that may know of it. ``attempt`` is the attempt that is in doubt."""

    execution: Execution
    tool: Tool
    operation: str
    arguments: BaseModel
    attempt: int

    async def settlement(self, reconcile: Tool) -> ToolCallSettled | None:
        """What the function found, as a settlement that is not recorded yet; None when a person has to tell."""
        number = 1
        while True:
            found = await self._ask(reconcile, number)
            if isinstance(found, ToolCallSettled):
                return found
            self.execution.record(found)
            if found.final:
                return None
            number += 1
            await asyncio.sleep((found.delay_ms or 0.0) / 1000)
            await self.execution.barrier()

    async def _ask(self, reconcile: Tool, number: int) -> ToolCallSettled | ToolCallUnreconciled:
        execution = self.execution
        context = ToolContext(execution.run, self.operation, self.attempt, None, execution.world.deps)
        began = perf_counter()
        limit = asyncio.timeout(self.tool.timeout_seconds)
        before = cancels()
        try:
            given = {name: getattr(self.arguments, name) for name in reconcile.arguments.model_fields}
            checked = reconcile.validate(given)
            async with limit:
                found = await reconcile(checked, context)
            return self._settled(found, number, began)
        except InvalidInput as error:
            return self._not_told(type(error).__name__, str(error), number, began)
        except asyncio.CancelledError as error:
            if cancels() > before:
                raise
            return self._raised(error, number, began)
        except Exception as error:  # noqa: BLE001  (whatever the user's own function raises, it has not told)
            if isinstance(error, TimeoutError) and limit.expired():
                text = f"The reconcile function gave no answer within {self.tool.timeout_seconds:g} s."
                return self._not_told("timeout", text, number, began, retry=True)
            return self._raised(error, number, began)

    def _settled(self, found: Finding, number: int, began: float) -> ToolCallSettled | ToolCallUnreconciled:
        """Raises InvalidInput for what is no finding, and for a result that the tool cannot have returned."""
        match found:
            case Completed():
                settled = ToolCallSettled(
                    operation=self.operation, outcome="completed", result=self._result(found.result), by=BY
                )
                self.execution.draft(settled)  # One that is too large cannot be recorded: it shows here.
                return settled
            case Failed():
                failure = self.execution.failure(found.error_type, found.message)
                return ToolCallSettled(operation=self.operation, outcome="failed", failure=failure, by=BY)
            case NotDone() if self.attempt >= WRITE_ATTEMPTS_MAX:
                text = (
                    f"It did not happen in {self.attempt} attempts: settle it, again=True makes it once more."
                )
                return self._not_told("not_done", text, number, began)
            case NotDone():
                return ToolCallSettled(operation=self.operation, outcome="again", by=BY)
            case Unknown():
                return ToolCallUnreconciled(
                    operation=self.operation, attempt=number, latency_ms=milliseconds_since(began)
                )
        raise InvalidInput(
            f"The reconcile function of tool {self.tool.name} returned {found!r:.80}. It has to return one of "
            "evrt.Completed(result), evrt.Failed(message), evrt.NotDone() and evrt.Unknown()."
        )

    def _result(self, returned: Any) -> Any:
        try:
            result = self.execution.admit(self.tool.result_to_json(returned))
            self.tool.result_from(result)
        except (ValueError, TypeError, InvalidInput) as error:
            raise InvalidInput(
                f"The reconcile function of tool {self.tool.name} says that the tool returned {returned!r:.80}, "
                f"which it cannot have: {error}"
            ) from error
        return result

    def _raised(self, error: BaseException, number: int, began: float) -> ToolCallUnreconciled:
        retry = bool(getattr(error, "retriable", True))
        return self._not_told(type(error).__name__, str(error) or repr(error), number, began, retry=retry)

    def _not_told(
        self, error_type: str, message: str, number: int, began: float, *, retry: bool = False
    ) -> ToolCallUnreconciled:
        final = not (retry and number < RECONCILE_RETRY.attempts_max)
        delay = None if final else RECONCILE_RETRY.delay_seconds(number, self.execution.chance()) * 1000
        failure: Failure = self.execution.failure(error_type, message)
        return ToolCallUnreconciled(
            operation=self.operation,
            failure=failure,
            attempt=number,
            final=final,
            delay_ms=delay,
            latency_ms=milliseconds_since(began),
        )
