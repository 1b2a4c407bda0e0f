"""What a tool of a journey may return to say that it did, or did not, do what it was asked to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evrt.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ToolResult:
    """``ToolResult.ok(value)`` or ``ToolResult.fail("what is wrong")``. A failure leaves the state as it was."""

    succeeded: bool
    value: Any = None
    error: str = ""

    @classmethod
    def ok(cls, value: Any = None) -> ToolResult:
        """The tool has done it; the model reads ``value``, any JSON."""
        return cls(True, value)

    @classmethod
    def fail(cls, error: str) -> ToolResult:
        """The tool has not done it; the model reads why, as the error of its call."""
        return cls(False, error=error)

    def unwrap(self) -> Any:
        """The value. Raises StepRefused for a failure."""
        if not self.succeeded:
            raise StepRefused(self.error)
        return self.value


class StepRefused(InvalidInput):
    """A journey does not take what a tool made of its state; the text says why, for the model to read."""
