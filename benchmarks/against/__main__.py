"""The command: measure evrt and its rivals in turn, print what was found, write figures, chart and page.

make against                        every system, rounds for at most 7.5 minutes
make against ARGS="--quick"         a short look, under two minutes
make against ARGS="--docs"          also rewrites the section of docs/performance.md and its chart
make against ARGS="--only evrt dbos steps"   some systems, some measures
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from against import plan
from against.chart import draw
from against.figures import Report, report_from_json, report_of
from against.install import HERE
from against.rounds import Rounds, Samples
from against.table import markdown, print_report, spliced
from harness import machine

RUNS = HERE / ".runs"
PAGE = HERE.parents[1] / "docs" / "performance.md"
CHART = HERE.parents[1] / "docs" / "performance-against.svg"


class NoReport(Exception):
    """There are no figures where they were said to be."""


def arguments() -> argparse.Namespace:
    names = [system.name for system in plan.SYSTEMS] + [measure.name for measure in plan.MEASURES]
    parser = argparse.ArgumentParser(
        prog="make against", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, shorter runs")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, help="number of rounds (default 5, quick 1)")
    parser.add_argument("--minutes", type=float, help="how long to measure at most (default 7.5, quick 2)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=names, default=[], help=f"of {', '.join(names)}"
    )
    parser.add_argument("--fresh", action="store_true", help="do not go on with a run that was interrupted")
    parser.add_argument(
        "--from", dest="recorded", metavar="FILE", type=Path, help="measure nothing: figures of a file"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="also write the figures as JSON to a file")
    parser.add_argument("--docs", action="store_true", help="rewrite docs/performance.md and its chart")
    return parser.parse_args()


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def measured(options: argparse.Namespace) -> Report:
    """A new run, or the rest of one that was interrupted."""
    systems = [system for system in plan.SYSTEMS if system.name in options.only] or plan.SYSTEMS
    measures = [measure for measure in plan.MEASURES if measure.name in options.only] or plan.MEASURES
    if options.quick:
        measures = [measure for measure in measures if measure.steps is None]
    rounds = options.rounds or (1 if options.quick else 5)
    # Apart from one another, so that a short look does not end an interrupted full run.
    folder = RUNS / ("some" if options.only else "quick" if options.quick else "full")
    head = {
        "begun": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "evrt": commit(),
        "quick": options.quick,
        "steps": plan.STEPS_QUICK if options.quick else plan.STEPS,
        "seconds": 0.4 if options.quick else 1.0,
        "machine": machine(),
        "plan": [[system.name for system in systems], [measure.name for measure in measures], rounds],
    }
    samples = Samples.opened(folder / "samples.jsonl", head, fresh=options.fresh)
    if samples.lines:
        say(f"going on with the run begun {samples.head['begun']}, which has {len(samples.lines)} samples")
    run = Rounds(
        samples=samples,
        folder=folder,
        systems=systems,
        measures=measures,
        rounds=rounds,
        minutes_max=options.minutes or (2 if options.quick else 7.5),
        seconds=head["seconds"],
        steps=head["steps"],
        say=say,
    )
    run.run()
    head = samples.head | {"ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "absent": run.absent}
    head["complete"] = run.complete
    report = report_of(head, samples.lines)
    (RUNS / f"{folder.name}.json").write_text(json.dumps(report.to_json(), indent=2) + "\n", "utf-8")
    if run.complete:
        shutil.rmtree(folder)
    else:
        say("figures are missing; the same command goes on where this one stopped")
    return report


def read(file: Path) -> Report:
    """The report in a file that an earlier run wrote."""
    try:
        return report_from_json(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, KeyError) as error:
        raise NoReport(f"{file} holds no figures of an earlier run: {error!r}") from error


def commit() -> str:
    """The checkout's commit, with a plus where files are changed."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=9"],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "of no commit"


def main() -> int:
    options = arguments()
    try:
        report = read(options.recorded) if options.recorded else measured(options)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where this one stopped")
        return 130
    except NoReport as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(report.to_json(), indent=2)
    if options.out:
        options.out.write_text(text + "\n", "utf-8")
    if options.json:
        print(text)
    else:
        print_report(report)
    if not report.whole:
        say("figures are missing: the table says which, and why")
        return 1
    if options.docs:
        return write_page(report)
    return 0


def write_page(report: Report) -> int:
    """The section of docs/performance.md and its chart, from a full run only."""
    missing = {measure.name for measure in plan.MEASURES} - set(report.values)
    if report.head["quick"] or missing:
        say("the page was left as it is: it takes the figures of a full run")
        return 1
    PAGE.write_text(spliced(PAGE.read_text("utf-8"), markdown(report)), "utf-8")
    CHART.write_text(draw(report), "utf-8")
    say(f"rewrote {PAGE.name} and {CHART.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
