"""How far a run had got, in a few words: what is kept of one that is cancelled."""

from __future__ import annotations

from dataclasses import dataclass, field

from evrt.events import Event
from evrt.events.calls import ModelCallCompleted, ToolCallRequested
from evrt.folds.journal import Journal
from evrt.folds.messages import is_call_aside

SAID_CHARACTERS_MAX = 2_000


@dataclass(slots=True)
class Gist:
    """The last that a model of a run said in words, and which tools were called, and how often."""

    said: str | None = None
    tools: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, journal: Journal) -> Gist:
        """That of what a journal knows."""
        gist = cls()
        known = [e for o in journal.operations.values() for e in (o.intent, o.outcome) if e is not None]
        for envelope in sorted(known, key=lambda envelope: envelope.version):
            gist.note(envelope.event)
        return gist

    def note(self, event: Event) -> None:
        """Take in the next event of the run."""
        if isinstance(event, ModelCallCompleted):
            content = event.message.get("content")
            if isinstance(content, str) and content.strip() and not is_call_aside(event.operation):
                self.said = content.strip()
        elif isinstance(event, ToolCallRequested) and event.attempt == 1:
            self.tools[event.tool] = self.tools.get(event.tool, 0) + 1

    def text(self) -> str | None:
        """The gist in words; None where nothing had been done."""
        if self.said is not None:
            more = "…" if len(self.said) > SAID_CHARACTERS_MAX else ""
            return self.said[:SAID_CHARACTERS_MAX] + more
        if not self.tools:
            return None
        called = ", ".join(
            name if count == 1 else f"{name} ({count} times)" for name, count in self.tools.items()
        )
        return f"It had called {called}."
