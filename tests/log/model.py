"""A log in a few lines, to compare the real ones with. It shares no code with them but the contract's words."""

from __future__ import annotations

from dataclasses import dataclass, field

from evrt.log import Append, Appended, Claim, Draft, Exact, Fence

STREAMS = ("run-a", "run-b", "memory-c")


@dataclass
class Model:
    """What the log must hold. Positions and versions are lengths of lists."""

    events: list[Draft] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    epochs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    erased: set[int] = field(default_factory=set)
    refs: dict[str, str] = field(default_factory=dict)

    def append(self, request: Append) -> Appended | str:
        """What the log must answer, or the name of its error."""
        epochs = dict(self.epochs)
        for stream, expectation in request.expect.items():
            match expectation:
                case Exact(version) if self.versions[stream] != version:
                    return "WrongVersion"
                case Fence(epoch) if epochs[stream] != epoch:
                    return "Fenced"
                case Claim(epoch) if epochs[stream] != epoch - 1:
                    return "Fenced"
                case Claim(epoch):
                    epochs[stream] = epoch
                case _:
                    pass
        self.epochs = epochs
        first = len(self.events) + 1
        versions = []
        for one in request.drafts:
            self.events.append(one)
            self.versions[one.stream] += 1
            versions.append(self.versions[one.stream])
        return Appended(range(first, len(self.events) + 1), tuple(versions))
