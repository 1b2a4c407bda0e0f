"""The ledger of a run's tool calls: a call that has failed is not made again as it was, a read not twice in a row.

Pure: what is to be done about a call follows from the calls noted before, so that a replay comes to the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from evrt.events import JsonObject, JsonValue
from evrt.events.canonical import canonical

REFUSED_TYPE = "repeated_error"
"""Error type of the failure that the model is given for a call that is refused."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The same call failed before: ``message`` tells the model so, and how."""

    message: str


@dataclass(frozen=True, slots=True)
class Served:
    """The same read was made before, and no other tool has run since: its result is still good.

    ``operation`` is the operation that it was recorded by.
    """

    operation: str


Verdict = Refused | Served | None
"""What the ledger says of a call; None lets it be made."""


class CallLedger:
    """Tool calls of a run so far. ``reads`` are the names of tools whose results may be served again.

        verdict = ledger.look(tool, arguments)
        if verdict is None:                      # else it is refused or served
            … make the call …
            ledger.note(tool, arguments, operation, error="…" or None)

    A read is served until any other tool has run, whatever came of that, for it may have changed what is read. A call
    that failed is refused until another tool has come to a result, for that may have mended what was missing.
    """

    def __init__(self, reads: Collection[str] = ()) -> None:
        self.reads = frozenset(reads)
        self._errors: dict[str, str] = {}
        self._results: dict[str, str] = {}

    def look(self, tool: str, arguments: JsonValue) -> Verdict:
        """What is to be done about a call. ``arguments`` as JSON; an order of keys makes no difference."""
        call = _digest(tool, arguments)
        if (error := self._errors.get(call)) is not None:
            return Refused(
                f"You called {tool} with exactly these arguments before, and it failed: {error} The call was not made "
                "again. Change the arguments, use another tool, or say what is missing."
            )
        operation = self._results.get(call)
        return None if operation is None else Served(operation)

    def note(self, tool: str, arguments: JsonValue, operation: str, *, error: str | None = None) -> None:
        """Note a call that was made. ``error`` is the text of its failure, None where it came to a result."""
        call = _digest(tool, arguments)
        self._results = _of_tool(tool, self._results) if tool in self.reads else {}
        if error is not None:
            self._errors[call] = error
            self._results.pop(call, None)
            return
        self._errors = _of_tool(tool, self._errors)
        self._errors.pop(call, None)
        if tool in self.reads:
            self._results[call] = operation

    def to_state(self) -> JsonObject:
        """All that it knows, as JSON: for ``ctx.continue_as``."""
        return {"errors": dict(self._errors), "results": dict(self._results)}

    @classmethod
    def from_state(cls, state: Mapping[str, JsonValue], reads: Collection[str] = ()) -> CallLedger:
        """The inverse of ``to_state``; what is served then has to be from what the code still knows."""
        ledger = cls(reads)
        ledger._errors = cast(dict[str, str], dict(cast(JsonObject, state.get("errors") or {})))
        ledger._results = cast(dict[str, str], dict(cast(JsonObject, state.get("results") or {})))
        return ledger


def _of_tool(tool: str, known: Mapping[str, str]) -> dict[str, str]:
    prefix = _digest_of_tool(tool)
    return {call: said for call, said in known.items() if call.startswith(prefix)}


def _digest_of_tool(tool: str) -> str:
    return sha256(tool.encode()).hexdigest()[:16]


def _digest(tool: str, arguments: JsonValue) -> str:
    """A call by its tool and arguments: short, so that the state stays small however long arguments are."""
    return _digest_of_tool(tool) + sha256(canonical(arguments)).hexdigest()[:32]
