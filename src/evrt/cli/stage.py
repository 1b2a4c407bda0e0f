"""The demo's story on a screen: scenes as they come to pass, progress meanwhile, a timeline at the end."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from evrt.cli.details import detail
from evrt.cli.output import fit, note, on_terminal, out, out_json, paint, width
from evrt.cli.place import evrt_command
from evrt.cli.text import duration, local_time_of_day
from evrt.demo.claims import SAMPLE_PATH
from evrt.demo.plan import Plan
from evrt.demo.scenes import Check, Report, Scene, Span
from evrt.events import Envelope

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

APP = "evrt.demo.app"
COLUMNS_MAX = 100
BAR_COLUMNS_MIN, BAR_COLUMNS_MAX = 10, 36
INDENT = "   "
MARKS = {True: ("✓", "bold green"), False: ("✗", "bold red"), None: ("–", "dim")}
PROBLEMS_MAX, LISTED_MAX = 5, 7
PLAIN_PROGRESS_LINES = 4
"""Into how many parts a process's work is divided where its progress is told in lines."""

EVENTS_AROUND_KILL = 3
ENDINGS = {
    "killed": ("✗", "bold red", "SIGKILL"),
    "succeeded": ("✓", "bold green", "succeeded"),
    "failed": ("✗", "bold red", "failed"),
}


class Stage:
    """Tells the story as it happens: on stdout, its progress on stderr; with ``as_json`` one document at the end."""

    def __init__(self, plan: Plan, *, as_json: bool) -> None:
        self._plan = plan
        self._as_json = as_json
        self._scenes = 0
        self._bar: tuple[int, Progress, TaskID] | None = None
        self._told: tuple[int, int] | None = None
        """Which process's progress was told last, and how many parts of it."""

    def __enter__(self) -> Self:
        if not self._as_json:
            self._opening()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop_bar()

    # --------------------------------------------------------------------------------- as it happens

    def progress(self, pid: int, decided: int, total: int) -> None:
        """A process has recorded a decision."""
        if on_terminal(sys.stderr):
            self._move_bar(pid, decided, total)
            return
        part = decided * PLAIN_PROGRESS_LINES // total
        if (pid, part) != self._told:
            self._told = (pid, part)
            note(f"process {pid}: {decided} of {total} claims decided")

    def scene(self, scene: Scene) -> None:
        """An act is over."""
        self._stop_bar()
        if self._as_json:
            return
        self._scenes += 1
        out(f"\n{paint(f'{self._scenes}. {scene.title}', 'bold')}")
        self._out_text(scene.told)
        for line in _shortened(scene.listed, LISTED_MAX):
            out(paint(fit(f"{INDENT}  {line}", _columns()), "cyan"))
        for check in scene.checks:
            self._out_check(check)
        sys.stdout.flush()

    def finish(self, report: Report) -> None:
        """The timeline, whether everything held, and what to try next; or the whole report as JSON."""
        if self._as_json:
            out_json(_document(report))
            return
        if report.history is not None:
            out(f"\n{paint('Timeline', 'bold')}")
            for line in _timeline(report):
                out(line)
        self._out_verdict(report)

    def interrupted(self) -> None:
        """Ctrl-C: the worker has been stopped."""
        self._stop_bar()
        note("Interrupted; the worker process has been stopped. What it had recorded is kept:")
        note(f"  {_command('runs', 'list', '--db', _log(self._plan))}")

    # ------------------------------------------------------------------------------------- the parts

    def _opening(self) -> None:
        plan = self._plan
        out(paint("A reviewer of expense claims is killed in the middle of its work.", "bold"))
        model = f"{plan.model}, a real model"
        if plan.scripted:
            model = (
                "a scripted one that reads what it is given: no network, no key (--model takes a real one)"
            )
        for label, text in (
            ("claims", f"{len(plan.claims)} from {_source(plan)}, all of them checked"),
            ("model", model),
            ("folder", f"{plan.folder}, new; what earlier demos left beside it is kept"),
        ):
            out(paint(fit(f"{INDENT}{label:<8}{text}", _columns()), "dim"))
        sys.stdout.flush()

    def _out_text(self, text: str) -> None:
        for line in textwrap.wrap(text, _columns(), initial_indent=INDENT, subsequent_indent=INDENT):
            out(paint(line))

    def _out_check(self, check: Check) -> None:
        mark, style = MARKS[check.ok]
        first, *rest = textwrap.wrap(check.text, _columns() - len(INDENT) - 2) or [""]
        out(f"{INDENT}{paint(mark, style)} {paint(first)}")
        for line in rest:
            out(f"{INDENT}  {paint(line)}")
        for problem in _shortened(check.problems, PROBLEMS_MAX):
            for line in textwrap.wrap(problem, _columns() - len(INDENT) - 4, subsequent_indent="  "):
                out(f"{INDENT}    {paint(line, 'red')}")

    def _out_verdict(self, report: Report) -> None:
        out("")
        if report.ok:
            out(paint(f"All of it held. That took {duration(report.seconds)}.", "bold green"))
        else:
            out(paint(f"This did not hold: {', '.join(report.failed)}.", "bold red"))
        if report.history is None:
            return
        out("\nWorth trying next:")
        for what, command in _commands(report):
            out(f"{INDENT}{paint(f'# {what}', 'dim')}\n{INDENT}{paint(command, 'cyan')}")

    def _move_bar(self, pid: int, decided: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        if self._bar is None or self._bar[0] != pid:
            self._stop_bar()
            columns = (TextColumn(f"{INDENT}{{task.description}}"), BarColumn(), MofNCompleteColumn())
            bar = Progress(*columns, console=Console(stderr=True, highlight=False), transient=True)
            bar.start()
            self._bar = (pid, bar, bar.add_task(f"process {pid} decides", total=total))
        _, bar, task = self._bar
        bar.update(task, completed=decided)

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar[1].stop()
            self._bar = None


# --------------------------------------------------------------------------------------- the timeline


def _timeline(report: Report) -> Iterator[str]:
    """A bar for each process, over the time that the run took; then the log around the kill."""
    spans = report.spans
    begin, end = spans[0].first.time, spans[-1].last.time
    labels = [f"{INDENT}process {span.pid}" for span in spans]
    ends = [_span_text(span) for span in spans]
    taken = max(map(len, labels)) + max(map(len, ends)) + 4
    columns = max(BAR_COLUMNS_MIN, min(BAR_COLUMNS_MAX, _columns() - taken))
    per_column = max(1, end - begin) / (columns - 1)
    for span, label, text in zip(spans, labels, ends, strict=True):
        first, last = (int((time - begin) / per_column) for time in (span.first.time, span.last.time))
        mark, style, _ = ENDINGS.get(span.ended, ("·", "yellow", ""))
        bar = f"{' ' * first}{paint('━' * (last - first), 'cyan')}{paint(mark, style)}{' ' * (columns - 1 - last)}"
        out_label = label.ljust(max(map(len, labels)))
        yield f"{out_label}  {bar}  {paint(text, 'dim')}"
    scale = f"0 s{duration((end - begin) / 1_000_000):>{columns - 3}}"
    yield paint(f"{' ' * max(map(len, labels))}  {scale}", "dim")
    if report.killed_at is not None and report.history is not None:
        events = report.history.events
        yield ""
        for envelope in events[max(0, report.killed_at - EVENTS_AROUND_KILL) : report.killed_at]:
            yield _event_line(envelope)
        yield paint(f"{INDENT}{'✗':>5}  SIGKILL", "bold red")
        for envelope in events[report.killed_at : report.killed_at + EVENTS_AROUND_KILL]:
            yield _event_line(envelope)


def _span_text(span: Span) -> str:
    ended = ENDINGS.get(span.ended, ("", "", span.ended))[2]
    return f"@{span.first.version}–@{span.last.version}, {span.decisions} decided, {ended}"


def _event_line(envelope: Envelope) -> str:
    operation = str(getattr(envelope.event, "operation", None) or "")
    place = f"{INDENT}{f'@{envelope.version}':>5}  {local_time_of_day(envelope.time)}  "
    said = "  ".join(filter(None, (f"{envelope.type:<20}", operation, detail(envelope.event))))
    return paint(place, "dim") + paint(fit(said, _columns() - len(place)))


# ---------------------------------------------------------------------------------------- what is next


def _commands(report: Report) -> list[tuple[str, str]]:
    """What each is good for, and the command as it is to be typed."""
    assert report.history is not None
    run, db = report.history.id, ("--db", _log(report.plan))
    moment = report.killed_at or len(report.history.events)
    when = "the moment of the kill" if report.killed_at else "its last moment"
    return [
        ("every event of it, one line each", _command("log", run, *db)),
        (f"{when}: what had been said, what was under way", _command("at", f"{run}@{moment}", *db)),
        ("its code against its history, offline", _command("replay", run, *db, "--app", APP)),
    ]


def _command(*words: str) -> str:
    return shlex.join([*evrt_command(), *words])


def _log(plan: Plan) -> str:
    return plan.url.removeprefix("sqlite:///")


def _source(plan: Plan) -> str:
    return (
        "the sample that comes with evrt (--claims takes yours)"
        if plan.source == SAMPLE_PATH
        else str(plan.source)
    )


# --------------------------------------------------------------------------------------------- as JSON


def _document(report: Report) -> object:
    plan = report.plan
    return {
        "ok": report.ok,
        "failed": report.failed,
        "run": report.history.id if report.history is not None else None,
        "log": plan.url,
        "folder": str(plan.folder),
        "claims": len(plan.claims),
        "source": str(plan.source),
        "model": plan.model,
        "kill_after": plan.kill_after,
        "seconds": round(report.seconds, 3),
        "checks": [
            {"name": check.name, "ok": check.ok, "text": check.text, "problems": list(check.problems)}
            for check in report.checks
        ],
        "scenes": {scene.name: scene.facts for scene in report.scenes},
        "processes": [_span_document(span) for span in report.spans],
        "commands": [command for _, command in _commands(report)] if report.history is not None else [],
    }


def _span_document(span: Span) -> object:
    return {
        "epoch": span.epoch,
        "pid": span.pid,
        "events": [span.first.version, span.last.version],
        "decisions": span.decisions,
        "ended": span.ended,
    }


# ---------------------------------------------------------------------------------------------- layout


def _columns() -> int:
    return min(width(), COLUMNS_MAX) if on_terminal(sys.stdout) else COLUMNS_MAX


def _shortened(lines: Sequence[str], count_max: int) -> list[str]:
    shown = list(lines[:count_max])
    return shown if len(lines) <= count_max else [*shown, f"and {len(lines) - count_max} more"]
