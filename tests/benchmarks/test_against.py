"""``make against`` does not rot: its plan, its figures, its tables and its picture hold without any rival installed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from against import plan
from against.chart import draw
from against.figures import Report, report_from_json, report_of
from against.install import HERE, REQUIREMENTS
from against.rounds import Rounds, Samples
from against.table import BEGIN, END, markdown, print_report, spliced

HEAD = {
    "begun": "2026-11-27 18:00",
    "evrt": "0123456",
    "quick": False,
    "steps": 1_000,
    "seconds": 1.0,
    "machine": {"cores": "2", "system": "Linux", "Python": "3.11.7", "SQLite": "3.40.1"},
    "plan": [],
}
RATES = {
    "steps": {
        "raw": [2_000.0, 4_000.0, 3_000.0],
        "evrt": [1_000.0, 1_000.0, 1_000.0],
        "dbos": [350.0, 410.0, 300.0],
        "langgraph": [345.9, 687.2, 500.0],
    },
    "many": {"raw": [90_000.0], "evrt": [6_400.0], "restate": [1_239.0]},
    "resume": {"evrt": [72.4, 80.0], "dbos": [1_409.0, 1_464.0]},
    "states": {"evrt": [0.066], "langgraph": [0.534]},
    "fold": {"raw": [588_955.0], "evrt": [35_049.0], "eventsourcing": [40_945.0]},
    "bytes@0": {"evrt": [40_960.0], "langgraph": [20_480.0]},
    "bytes": {"evrt": [905_216.0], "langgraph": [103_682_048.0]},
}


def recorded() -> Report:
    """A report on samples such as workers give, with one failure among them."""
    lines: list[dict[str, Any]] = [
        {
            "measure": measure,
            "system": system,
            "round": number,
            "value": value,
            "done": 10,
            "stored": 10,
            "extra": {"ms of it replay": 337.5} if (measure, system) == ("resume", "dbos") else {},
            "versions": {"sqlite": "3.40.1"},
            "load": 0.5,
        }
        for measure, systems in RATES.items()
        for system, values in systems.items()
        for number, value in enumerate(values)
    ]
    lines.append({"measure": "many", "system": "dbos", "round": 0, "failed": "ended with 1: locked"})
    return report_of(HEAD | {"absent": {"eventsourcing": "no package index"}}, lines)


def test_figures_are_medians_with_ratios_taken_round_by_round() -> None:
    report = recorded()
    raw = report.spread("steps", "raw")
    assert raw is not None
    assert (raw.least, raw.median, raw.most) == (2_000, 3_000, 4_000)
    ratio = report.ratio("steps", "evrt", "raw")
    assert ratio is not None
    assert [ratio.least, ratio.median, ratio.most] == pytest.approx([0.25, 1 / 3, 0.5])
    assert report.ratio("steps", "evrt", "evrt") is None


def test_a_step_weighs_what_the_store_grew_by_and_not_its_empty_tables() -> None:
    report = recorded()
    assert report.values["bytes"] == {"evrt": {0: 864.256}, "langgraph": {0: 103_661.568}}
    assert "bytes@0" not in report.values


def test_an_empty_cell_says_why_it_is_empty() -> None:
    report = recorded()
    assert report.why_not("many", "dbos") == "failed: ended with 1: locked"
    assert report.why_not("resume", "eventsourcing") == "records events, executes nothing"
    assert report.why_not("steps", "eventsourcing") == "no package index"
    assert report.why_not("steps", "restate") == "not asked for"


def test_a_report_written_to_a_file_is_the_same_when_read() -> None:
    report = recorded()
    again = report_from_json(json.loads(json.dumps(report.to_json())))
    assert again.to_json() == report.to_json()
    assert markdown(again) == markdown(report)


def test_the_table_shows_every_system_with_its_figure_or_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_report(recorded())
    printed = capsys.readouterr().out
    blocks = {block.splitlines()[0]: block for block in re.split(r"\n(?=\S.*\(.*better\))", printed)}
    steps = blocks["Durable steps, one after another (steps/s, more is better)"]
    for system in plan.SYSTEMS:
        assert re.search(rf"^{re.escape(system.title)} ", steps, re.MULTILINE), system.title
    assert re.search(r"^evrt +1,000 +0\.333 ×$", steps, re.MULTILINE)
    assert re.search(r"^LangGraph \* +500 +346 – 687 ", steps, re.MULTILINE)
    assert (
        "failed: ended with 1: locked"
        in blocks["Durable steps, 50 runs at once (steps/s in all, more is better)"]
    )


def test_a_terminal_gets_the_same_rows_with_rules(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    print_report(recorded())
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "─" in printed
    assert re.search(r"evrt +1,000 +0\.333 ×", printed)
    assert max(map(len, printed.splitlines())) <= 100


def test_the_page_has_a_place_for_the_figures_and_nothing_else_of_it_changes() -> None:
    page = (HERE.parents[1] / "docs" / "performance.md").read_text("utf-8")
    new = spliced(page, markdown(recorded()))
    assert "| DBOS | 350 (300–410) *0.35 ×* |" in new
    assert new.partition(BEGIN)[0] == page.partition(BEGIN)[0]
    assert new.partition(END)[2] == page.partition(END)[2]
    assert spliced(new, markdown(recorded())) == new
    with pytest.raises(ValueError, match="no place for the figures"):
        spliced("# Another page\n", markdown(recorded()))


def test_the_picture_is_well_formed_and_keeps_every_mark_within_its_panel() -> None:
    report = recorded()
    picture = ElementTree.fromstring(draw(report))
    svg = "{http://www.w3.org/2000/svg}"
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    dots = [dot for dot in picture.iter(f"{svg}circle") if dot.attrib["class"] != "weak"]
    # One for each figure of the panels, and a hollow one where a system races the disk.
    assert len(dots) == 4 + 3 + 2 + 2 + 3 + 2
    assert len(list(picture.iter(f"{svg}circle"))) == len(dots) + 1
    for dot in dots:
        assert 0 < float(dot.attrib["cx"]) < width
        assert 0 < float(dot.attrib["cy"]) < height
    words = [text.text for text in picture.iter(f"{svg}text")]
    assert "Durable steps, one after another" in words
    assert "103,662" in words
    style = picture.find(f"{svg}style")
    assert style is not None
    assert style.text is not None
    assert "prefers-color-scheme: dark" in style.text


# -------------------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize("system", plan.SYSTEMS, ids=lambda system: system.name)
def test_a_worker_answers_what_the_plan_asks_of_it(system: plan.System) -> None:
    worker = (HERE / "systems" / f"{system.worker}.py").read_text("utf-8")
    offered = set(
        re.findall(r'^ +"(\w+)": ', worker[worker.index('if __name__ == "__main__":') :], re.MULTILINE)
    )
    asked = {measure.asks for measure in plan.MEASURES if (system.name, measure.name) not in plan.WHY_NOT}
    if any(measure.prepared for measure in plan.MEASURES) and not system.prepares_itself:
        asked.add("prepare")
    assert asked <= offered


def test_reasons_are_given_for_cells_that_exist() -> None:
    cells = {(system.name, measure.name) for system in plan.SYSTEMS for measure in plan.MEASURES}
    assert set(plan.WHY_NOT) <= cells


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_rival_is_pinned_by_version_and_no_host_is_named(path: Path) -> None:
    text = path.read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line), line
    assert "://" not in text


def test_the_server_is_pinned_by_version_and_no_host_is_named() -> None:
    text = (REQUIREMENTS / "package.json").read_text("utf-8")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", wanted) for wanted in json.loads(text)["dependencies"].values())
    assert "://" not in text
    assert {path.name for path in REQUIREMENTS.iterdir()} == {
        "package.json",
        *(f"{name}.txt" for name in ("dbos", "eventsourcing", "langgraph", "restate")),
    }


# ---------------------------------------------------------------------------------------- the workers


def rounds_of(folder: Path, measures: set[str], say: Callable[[str], None], *, rounds: int = 1) -> Rounds:
    """Rounds of raw SQLite alone, which needs nothing installed."""
    return Rounds(
        samples=Samples.opened(folder / "samples.jsonl", HEAD, fresh=False),
        folder=folder,
        systems=[system for system in plan.SYSTEMS if system.name == plan.BASELINE],
        measures=[measure for measure in plan.MEASURES if measure.name in measures],
        rounds=rounds,
        minutes_max=1,
        seconds=0.02,
        steps=10,
        say=say,
    )


def test_workers_run_in_turn_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    rounds_of(tmp_path, {"steps"}, said.append).run()
    assert len(said) == 2
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"measure": "fo')  # Killed while it wrote.
    again = rounds_of(tmp_path, {"steps", "fold"}, said.append)
    again.run()
    assert [(line["measure"], line["stored"] >= line["done"]) for line in again.samples.lines] == [
        ("steps", True),
        ("fold", True),
    ]
    assert [line["measure"] for line in Samples.opened(again.samples.path, HEAD, fresh=False).lines] == [
        "steps",
        "fold",
    ]
    assert Samples.opened(again.samples.path, HEAD, fresh=True).lines == []


class Liar(Rounds):
    """Rounds whose workers claim a step more than their store holds."""

    def _answer(self, system: plan.System, asked: str, steps: int, folder: Path) -> dict[str, Any]:
        return {"value": 9.0, "done": 10, "stored": 9, "extra": {}, "versions": {}}


def test_a_worker_whose_store_does_not_hold_its_steps_has_failed(tmp_path: Path) -> None:
    honest = rounds_of(tmp_path, {"steps"}, lambda _: None)
    liar = Liar(**{name: getattr(honest, name) for name in honest.__dataclass_fields__ if name[0] != "_"})
    liar.run()
    [line] = liar.samples.lines
    assert line["failed"] == "says it did 10 steps, and its store holds 9"
    assert not liar.samples.has("steps", "raw", 0)
