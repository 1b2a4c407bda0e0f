"""How many milliseconds does starting take: `evrt --help`, and importing evrt and its parts?

Goal: `evrt --help` within 300 ms. The baseline is Python itself, `python -c pass`; typer alone and
litellm alone say how much of the rest is theirs. Every start is a process of its own, measured
from before it is made until it has ended, with the files in the system's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from harness import Bench, Case, Ratio

# As evrt imports litellm: else it would first ask the network for a list of prices.
OFFLINE = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def start(*words: str) -> Case:
    """A case that starts Python again and again; its figure is the mean time of one start."""

    def sample(seconds: float) -> float:
        count = 0
        began = time.perf_counter()
        while count == 0 or time.perf_counter() - began < seconds:
            subprocess.run([sys.executable, *words], env=OFFLINE, stdout=subprocess.DEVNULL, check=True)
            count += 1
        return (time.perf_counter() - began) / count * 1_000

    return Case(f"python {' '.join(words)}" if words[0] == "-c" else f"evrt {words[-1]}", sample)


def main() -> None:
    nothing = start("-c", "pass")
    helping = start("-m", "evrt", "--help")
    others = [start("-c", f"import {name}") for name in ("evrt", "typer", "evrt.app", "litellm")]
    Bench(__doc__, "ms").run(
        cases=[nothing, *others, helping],
        ratios=[Ratio(case.name, nothing.name) for case in (*others, helping)],
    )


if __name__ == "__main__":
    main()
