"""How long an attempt took, as outcomes record it."""

from __future__ import annotations

from time import perf_counter


def milliseconds_since(began: float) -> float:
    """Milliseconds since a reading of ``perf_counter``, to the microsecond."""
    return round((perf_counter() - began) * 1000, 3)
