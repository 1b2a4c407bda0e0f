"""Samples become figures: medians, spreads, and ratios taken round by round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from against import plan
from harness import Spread

Record = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What a run found, as it is written to the file of figures."""

    head: Mapping[str, Any]
    values: Mapping[str, Mapping[str, Mapping[int, float]]]
    """By measure, system and round."""
    extra: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Medians of what workers tell besides, by measure, system and name."""
    failures: Mapping[str, Mapping[str, str]]
    versions: Mapping[str, Mapping[str, str]]
    loads: Sequence[float]

    def spread(self, measure: str, system: str) -> Spread | None:
        found = self.values.get(measure, {}).get(system)
        return Spread.of(list(found.values())) if found else None

    def ratio(self, measure: str, system: str, baseline: str) -> Spread | None:
        """A system in terms of another, in the rounds that have both."""
        ours, theirs = (self.values.get(measure, {}).get(name, {}) for name in (system, baseline))
        both = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
        return Spread.of(both) if both and system != baseline else None

    def why_not(self, measure: str, system: str) -> str:
        """Why there is no figure."""
        return (
            self.failures.get(measure, {}).get(system)
            or plan.WHY_NOT.get((system, measure))
            or self.head.get("absent", {}).get(worker_of(system))
            or "not asked for"
        )

    @property
    def whole(self) -> bool:
        """Whether nothing that was asked for is missing."""
        return not self.failures and not self.head.get("absent") and bool(self.head.get("complete", True))

    @property
    def busy(self) -> bool:
        """Whether others kept the machine busy: a worker alone, with its server, makes a load of two at most."""
        return bool(self.loads) and Spread.of(self.loads).median > int(self.head["machine"]["cores"]) + 1

    @property
    def rounds(self) -> int:
        return max((len(rounds) for by in self.values.values() for rounds in by.values()), default=0)

    def to_json(self) -> Record:
        return {
            **self.head,
            "rounds": self.rounds,
            "load": [round(load, 2) for load in (min(self.loads), max(self.loads))] if self.loads else [],
            "versions": self.versions,
            "values": self.values,
            "extra": self.extra,
            "failures": self.failures,
        }


HEAD = ("begun", "ended", "evrt", "quick", "steps", "seconds", "machine", "absent", "complete")


def worker_of(system: str) -> str:
    return next((known.worker for known in plan.SYSTEMS if known.name == system), system)


def report_of(head: Record, lines: Iterable[Record]) -> Report:
    """The report on samples as they were written down."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    told: dict[str, dict[str, dict[str, list[float]]]] = {}
    failures: dict[str, dict[str, str]] = {}
    versions: dict[str, dict[str, str]] = {}
    loads = []
    for line in lines:
        measure, system = line["measure"], line["system"]
        if "failed" in line:
            failures.setdefault(measure, {})[system] = f"failed: {line['failed']}"
            continue
        values.setdefault(measure, {}).setdefault(system, {})[line["round"]] = line["value"]
        for name, figure in line["extra"].items():
            told.setdefault(measure, {}).setdefault(system, {}).setdefault(name, []).append(figure)
        versions[system] = line["versions"]
        loads.append(line["load"])
    extra = {
        measure: {
            system: {name: Spread.of(figures).median for name, figures in names.items()}
            for system, names in systems.items()
        }
        for measure, systems in told.items()
    }
    return Report(
        {key: head[key] for key in HEAD if key in head},
        in_our_units(head, values),
        extra,
        failures,
        versions,
        loads,
    )


def in_our_units(
    head: Record, values: dict[str, dict[str, dict[int, float]]]
) -> dict[str, dict[str, dict[int, float]]]:
    """Stores become bytes for a step beyond the empty store, seconds of states milliseconds."""
    empty = values.pop(plan.EMPTY.name, {})
    for measure in plan.MEASURES:
        if measure.asks == "bytes" and measure.name in values:
            steps = head["steps"] if measure.steps is None else measure.steps
            values[measure.name] = {
                system: {number: (size - empty[system][number]) / steps for number, size in sizes.items()}
                for system, sizes in values[measure.name].items()
                if system in empty
            }
        if measure.name == "states" and measure.name in values:
            values[measure.name] = {
                system: {number: 1_000 * seconds for number, seconds in found.items()}
                for system, found in values[measure.name].items()
            }
    return values


def report_from_json(text: Record) -> Report:
    """A report as it was written to a file."""
    values = {
        measure: {
            system: {int(number): value for number, value in rounds.items()} for system, rounds in by.items()
        }
        for measure, by in text["values"].items()
    }
    head = {key: text[key] for key in HEAD if key in text}
    return Report(head, values, text["extra"], text["failures"], text["versions"], text["load"])
