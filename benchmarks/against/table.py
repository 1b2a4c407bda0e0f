"""The figures for people: a table on a terminal, the same as text, and a section in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from against import plan
from against.figures import Report
from against.plan import Measure, System
from harness import Spread, print_table

BEGIN = "<!-- against: made by `make against`, not by hand -->"
END = "<!-- against: end -->"


def number(value: float) -> str:
    """Three digits, or all of a whole number: 4,321 · 38.4 · 0.52."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread_text(spread: Spread) -> str:
    return f"{number(spread.least)} – {number(spread.most)}" if spread.least != spread.most else ""


def rows_of(report: Report, measure: Measure) -> list[list[str]]:
    """A row for each system: name, median, spread, in terms of raw and of evrt; or why there is none."""
    rows = []
    for system in plan.SYSTEMS:
        spread = report.spread(measure.name, system.name)
        if spread is None:
            rows.append([system.title, "–", report.why_not(measure.name, system.name), "", ""])
            continue
        ratios = [report.ratio(measure.name, system.name, other) for other in (plan.BASELINE, plan.OURS)]
        rows.append(
            [
                system.title + (" *" if measure.races_the_disk and not system.durable else ""),
                number(spread.median),
                spread_text(spread),
                *(f"{number(ratio.median)} ×" if ratio else "" for ratio in ratios),
            ]
        )
    return rows


HEADINGS = ["", "median", "least – most", "of raw", "of evrt"]
NOT_DURABLE = "* the next step does not wait until this one is on disk"


def print_report(report: Report) -> None:
    """With rules and colour on a terminal, as plain text elsewhere."""
    print(heading(report))
    for measure in plan.MEASURES:
        if measure.name not in report.values and measure.name not in report.failures:
            continue
        title = f"{titled(report, measure)} ({measure.unit}, {better(measure)})"
        if sys.stdout.isatty():
            _print_rich(title, rows_of(report, measure))
        else:
            print(f"\n{title}\n")
            print_table([HEADINGS, *rows_of(report, measure)])
    print(f"\n{NOT_DURABLE}")


def _print_rich(title: str, rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column, name in enumerate(HEADINGS):
        table.add_column(name, justify="left" if column == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row, style="bold cyan" if row[0] == plan.OURS else "dim" if row[1] == "–" else None)
    Console().print(table)


def better(measure: Measure) -> str:
    return "more is better" if measure.more_is_better else "less is better"


def titled(report: Report, measure: Measure) -> str:
    """A quick run looks at shorter runs, and says so."""
    return measure.title.replace(f"{plan.STEPS:,}", f"{report.head['steps']:,}")


def heading(report: Report) -> str:
    """One line: when, on what, how often, how busy the machine was."""
    head, machine = report.head, report.head["machine"]
    load = f"load {min(report.loads):.1f} to {max(report.loads):.1f}" if report.loads else "load unknown"
    if report.busy:
        load += ", busy with other work: not to be relied on"
    quick = ", quick" if head["quick"] else ""
    rounds = "round" if report.rounds == 1 else "rounds"
    return (
        f"{head['begun'][:10]}, evrt {head['evrt']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['Python']}, {report.rounds} {rounds}{quick}, {load}"
    )


# ------------------------------------------------------------------------------------------ Markdown


def markdown(report: Report) -> str:
    """The section between the markers of docs/performance.md."""
    columns = [measure for measure in plan.MEASURES if measure.name in report.values]
    reasons: list[str] = []
    lines = [
        "| | " + " | ".join(measure.short for measure in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for system in plan.SYSTEMS:
        cells = [_cell(report, measure, system, reasons) for measure in columns]
        name = f"**{system.title}**" if system.name == plan.OURS else system.title
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    settings = [f"- {system.title}{_versions(report, system)}: {system.setting}." for system in plan.SYSTEMS]
    why = [f"{place}. {reason[0].upper()}{reason[1:]}." for place, reason in enumerate(reasons, 1)]
    return "\n".join(
        [
            BEGIN,
            "",
            f"{heading(report)}. Medians, in brackets least and most; in italics in terms of evrt in the same round.",
            "",
            *lines,
            "",
            f"\\{NOT_DURABLE}. The numbers in empty cells say why there is none:",
            "",
            *why,
            "",
            "The settings:",
            "",
            *settings,
            "",
            *_besides(report),
            END,
        ]
    )


def _cell(report: Report, measure: Measure, system: System, reasons: list[str]) -> str:
    spread = report.spread(measure.name, system.name)
    if spread is None:
        reason = report.why_not(measure.name, system.name)
        if reason == plan.SAME:
            return "〃"
        if reason not in reasons:
            reasons.append(reason)
        return f"– {reasons.index(reason) + 1}"
    text = number(spread.median) + ("\\*" if measure.races_the_disk and not system.durable else "")
    if spread.least != spread.most:
        text += f" ({number(spread.least)}–{number(spread.most)})"
    ratio = report.ratio(measure.name, system.name, plan.OURS)
    if ratio is not None:
        text += f" *{number(ratio.median)} ×*"
    return text


def _versions(report: Report, system: System) -> str:
    found = report.versions.get(system.name, {})
    listed = ", ".join(f"{name} {version}" for name, version in found.items())
    return f" ({listed})" if listed else ""


def _besides(report: Report) -> list[str]:
    """What workers told beyond their one figure."""
    lines: list[str] = []
    for measure in plan.MEASURES:
        for system, told in report.extra.get(measure.name, {}).items():
            title = next(known.title for known in plan.SYSTEMS if known.name == system)
            lines += [f"- {measure.name}, {title}: {number(figure)} {name}." for name, figure in told.items()]
    return ["Besides:", "", *lines, ""] if lines else []


def spliced(page: str, section: str) -> str:
    """A page with the section in the place between its markers. Raises ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page has no place for the figures: it needs the lines {BEGIN} and {END}.")
    return before + section + after
