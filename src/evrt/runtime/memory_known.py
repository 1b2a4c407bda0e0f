"""What an execution knows of memory already: streams as far as they are folded, and what was put before models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evrt.events.memory import MemoryRecalled
from evrt.folds.memory import Memory, MemoryItem


@dataclass(slots=True, eq=False)
class KnownMemory:
    """Shared by all contexts of one execution, so that nothing is folded twice."""

    folds: dict[str, Memory] = field(default_factory=dict)
    """By stream."""
    glances: dict[int, MemoryRecalled] = field(default_factory=dict)
    """The last read of the newest items that recorded them, by how many were asked for."""
    glanced: dict[str, Sequence[MemoryItem]] = field(default_factory=dict)
    """What each of those read, by its operation."""
