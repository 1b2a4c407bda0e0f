"""What every benchmark here does the same way: paired rounds, medians, the spread beside them.

A benchmark gives its cases, functions that work for a while and return a rate, and the pairs
to compare. All cases run once per round, forward in one and backward in the next (A B, B A,
A B …), so that what slows the machine for a while slows both of a pair; their ratio is taken
round by round. A ratio is what can be compared between machines; a rate is not.

    Bench(__doc__, "events/s").run(cases=[Case("raw", raw), Case("evrt", evrt)], ratios=[Ratio("evrt", "raw", 0.6)])

Every benchmark takes --quick (two short rounds: does it still run?), --json, and --out FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ROUNDS = 7
ROUNDS_QUICK = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. ``sample`` works for about ``seconds`` and returns its rate."""

    name: str
    sample: Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A case in terms of its baseline, with the goal that was set for it, if any."""

    case: str
    baseline: str
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, and how far they lie apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))


class Bench:
    """A benchmark run from the command line. ``question`` is the docstring of its file."""

    def __init__(self, question: str | None, unit: str, *, argv: Sequence[str] | None = None) -> None:
        self._question = (question or "").strip().partition("\n")[0]
        self._unit = unit
        parser = argparse.ArgumentParser(description=self._question)
        parser.add_argument("--quick", action="store_true", help="two short rounds")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")
        parser.add_argument("--out", metavar="FILE", help="also write the figures as JSON to a file")
        parser.add_argument("--rounds", type=int, help=f"number of rounds (default {ROUNDS})")
        self._options = parser.parse_args(argv)

    @property
    def quick(self) -> bool:
        return bool(self._options.quick)

    def run(self, cases: Sequence[Case], ratios: Sequence[Ratio] = (), *, seconds: float = 1.0) -> None:
        """Measure, print, and write what was asked for."""
        rates = self._measure(cases, 0.1 if self.quick else seconds)
        report = self._report(rates, ratios)
        if self._options.out:
            with open(self._options.out, "w", encoding="utf-8") as file:
                json.dump(report, file, indent=2)
        if self._options.json:
            print(json.dumps(report, indent=2))
        else:
            self._print(rates, ratios)

    def _measure(self, cases: Sequence[Case], seconds: float) -> dict[str, list[float]]:
        rounds = self._options.rounds or (ROUNDS_QUICK if self.quick else ROUNDS)
        rates: dict[str, list[float]] = {case.name: [] for case in cases}
        for number in range(rounds):
            for case in cases if number % 2 == 0 else reversed(cases):
                rates[case.name].append(case.sample(seconds))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
        return rates

    def _report(self, rates: dict[str, list[float]], ratios: Sequence[Ratio]) -> dict[str, Any]:
        return {
            "question": self._question,
            "unit": self._unit,
            "machine": machine(),
            "rates": rates,
            "ratios": [
                {
                    "case": ratio.case,
                    "baseline": ratio.baseline,
                    "goal": ratio.goal,
                    "rounds": _paired(rates, ratio),
                }
                for ratio in ratios
            ],
        }

    def _print(self, rates: dict[str, list[float]], ratios: Sequence[Ratio]) -> None:
        print(self._question)
        print(", ".join(f"{what} {value}" for what, value in machine().items()))
        print()
        table = [["", f"{self._unit}, median", "least", "most"]]
        for name, figures in rates.items():
            spread = Spread.of(figures)
            table.append([name, *(f"{figure:,.0f}" for figure in (spread.median, spread.least, spread.most))])
        print_table(table)
        if not ratios:
            return
        print()
        table = [["ratio", "median", "least", "most", "goal"]]
        for ratio in ratios:
            spread = Spread.of(_paired(rates, ratio))
            figures_text = [f"{figure:.2f}" for figure in (spread.median, spread.least, spread.most)]
            goal = "" if ratio.goal is None else f"≥ {ratio.goal:g}"
            table.append([f"{ratio.case} / {ratio.baseline}", *figures_text, goal])
        print_table(table)


def _paired(rates: dict[str, list[float]], ratio: Ratio) -> list[float]:
    return [a / b for a, b in zip(rates[ratio.case], rates[ratio.baseline], strict=True)]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of text under each other, the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }
