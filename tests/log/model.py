"""A log in a few lines, to compare the real ones with. It shares no code with them but the contract's words."""

from __future__ import annotations

from dataclasses import dataclass, field

from evrt.log import Append, Appended, Claim, Draft, Exact, Fence, Next

STREAMS = ("run-a", "run-b", "memory-c")


@dataclass
class Model:
    """What the log must hold. Positions are lengths of lists; the version of a stream without events is -1."""

    events: list[Draft] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, -1))
    epochs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    erased: set[int] = field(default_factory=set)
    refs: dict[str, str] = field(default_factory=dict)

    def append(self, request: Append) -> Appended | str:
        """What the log must answer, or the name of its error."""
        epochs = dict(self.epochs)
        # A stream begins at 1 unless its first event is to be the next after -1.
        ends = {stream: max(version, 0) for stream, version in self.versions.items()}
        for stream, expectation in request.expect.items():
            match expectation:
                case Exact(version) if self.versions[stream] != (version or -1):
                    return "WrongVersion"
                case Next(version) if self.versions[stream] == -1 and version in (0, 1):
                    ends[stream] = version - 1
                case Next(version) if self.versions[stream] == -1 or self.versions[stream] != version - 1:
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
            ends[one.stream] += 1
            self.versions[one.stream] = ends[one.stream]
            versions.append(ends[one.stream])
        return Appended(range(first, len(self.events) + 1), tuple(versions))
