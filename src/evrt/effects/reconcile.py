"""What a reconcile function can find out about a write in doubt.

A write without an idempotency key that was cut off is never repeated and never called failed. Whoever
can look it up outside (a list of payments, an order by its number) gives the tool a ``reconcile=``
function, which is asked before a person is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Completed:
    """The write happened; ``result`` is what the tool would have returned."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The write was tried and failed: the code sees a ToolFailed with this text."""

    message: str
    error_type: str = "reconciled"


@dataclass(frozen=True, slots=True)
class NotDone:
    """The write did not happen, and will not any more: it is made again."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It cannot be told: a person has to settle it."""


Finding: TypeAlias = Completed | Failed | NotDone | Unknown
