"""The figures as an SVG: a panel for each measure, a dot for each median, a line from the least to the most.

Axes are logarithmic, for the systems lie orders of magnitude apart; the panels say which way is better. The
colours follow the reader's light or dark setting, and the text is text: it can be searched and read out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from against import plan
from against.figures import Report
from against.plan import Measure, System
from against.table import NOT_DURABLE, heading, number, titled
from harness import Spread

SHOWN = ("steps", "many", "resume", "states", "bytes", "fold")
COLUMNS = 2
WIDTH, MARGIN, GAP = 1000, 24, 40
PANEL = (WIDTH - 2 * MARGIN - GAP) // COLUMNS
NAMES, FIGURES = 126, 62
ROW, HEAD, FOOT = 21, 54, 30
TOP = 74

STYLE = """
  .paper { fill: #ffffff } .ink { fill: #1f2328 } .faint { fill: #59636e } .grid { stroke: #d1d9e0 }
  .ours { fill: #0969da; stroke: #0969da } .theirs { fill: #59636e; stroke: #59636e }
  .base { fill: #9a6700; stroke: #9a6700 } .weak { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .ink { fill: #f0f6fc } .faint { fill: #9198a1 } .grid { stroke: #3d444d }
    .ours { fill: #4493f8; stroke: #4493f8 } .theirs { fill: #9198a1; stroke: #9198a1 }
    .base { fill: #d29922; stroke: #d29922 } .weak { fill: #0d1117 }
  }
  text { font: 12.5px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
  .title { font-size: 17px; font-weight: 600 } .panel { font-size: 13.5px; font-weight: 600 }
  .strong { font-weight: 600 } .small { font-size: 11.5px } .end { text-anchor: end } .middle { text-anchor: middle }
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic axis from one power of ten to another, in pixels from ``left`` to ``right``."""

    low: int
    high: int
    left: float
    right: float

    @classmethod
    def over(cls, spreads: Sequence[Spread], left: float, right: float) -> Scale:
        low = math.floor(math.log10(min(spread.least for spread in spreads)))
        high = math.ceil(math.log10(max(spread.most for spread in spreads)))
        return cls(low, max(high, low + 1), left, right)

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)


def draw(report: Report) -> str:
    """The picture. Measures without a figure are left out."""
    panels = [measure for measure in plan.MEASURES if measure.name in SHOWN and _found(report, measure)]
    parts: list[str] = []
    y = TOP
    for place in range(0, len(panels), COLUMNS):
        beside = panels[place : place + COLUMNS]
        for column, measure in enumerate(beside):
            parts += _panel(report, measure, MARGIN + column * (PANEL + GAP), y)
        y += HEAD + FOOT + ROW * max(len(_found(report, measure)) for measure in beside)
    height = y + 26
    foot = "Dots are medians, lines go from the least to the most. Hollow: the next step does not wait until this one is on disk."
    assert NOT_DURABLE.removeprefix("* ") in foot
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="what">',
            f'<title id="what">{escape("evrt beside others, measured in turn in one run")}</title>',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            _text(MARGIN, 32, "evrt beside others, measured in turn in one run", "ink title"),
            _text(MARGIN, 54, heading(report), "faint small"),
            *parts,
            _text(MARGIN, height - 14, foot, "faint small"),
            "</svg>",
            "",
        ]
    )


def _found(report: Report, measure: Measure) -> list[tuple[System, Spread]]:
    """Systems with a figure, the best first."""
    found = [
        (system, spread)
        for system in plan.SYSTEMS
        if (spread := report.spread(measure.name, system.name)) and spread.least > 0
    ]
    return sorted(found, key=lambda pair: pair[1].median, reverse=measure.more_is_better)


def _panel(report: Report, measure: Measure, x: float, y: float) -> list[str]:
    found = _found(report, measure)
    scale = Scale.over([spread for _, spread in found], x + NAMES, x + PANEL - FIGURES)
    bottom = y + HEAD + ROW * len(found)
    arrow = "further right is better" if measure.more_is_better else "further left is better"
    parts = [
        _text(x, y + 18, titled(report, measure), "ink panel"),
        _text(x, y + 36, f"{measure.unit}, {arrow}", "faint small"),
    ]
    for power in range(scale.low, scale.high + 1):
        at = scale.at(10.0**power)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{y + HEAD - 8}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 14, number(10.0**power), "faint small middle"))
    for place, (system, spread) in enumerate(found):
        hollow = measure.races_the_disk and not system.durable
        parts += _row(system, spread, scale, x, y + HEAD + ROW * (place + 0.5) - 2, hollow=hollow)
    return parts


def _row(system: System, spread: Spread, scale: Scale, x: float, y: float, *, hollow: bool) -> list[str]:
    role = {plan.OURS: "ours", plan.BASELINE: "base"}.get(system.name, "theirs")
    weight = " strong" if system.name == plan.OURS else ""
    least, median, most = (scale.at(value) for value in (spread.least, spread.median, spread.most))
    dot = f'<circle class="{role}" cx="{median:.1f}" cy="{y:.1f}" r="5"/>'
    if hollow:
        dot += f'<circle class="weak" cx="{median:.1f}" cy="{y:.1f}" r="3.2"/>'
    return [
        _text(x, y + 4, system.title, f"ink{weight}"),
        f'<line class="{role}" x1="{least:.1f}" x2="{most:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="2"/>',
        dot,
        _text(x + PANEL, y + 4, number(spread.median), f"ink end{weight}"),
    ]


def _text(x: float, y: float, text: str, css: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}">{escape(text)}</text>'
