"""Replaying a run offline: ``evrt replay``."""

from __future__ import annotations

from evrt.cli.output import out, out_json, paint, prints_aside
from evrt.cli.place import Place, require_log
from evrt.cli.text import counted
from evrt.result import ReplayReport

FOLLOWED = 0
DIVERGED = 1


async def replay(place: Place, name: str, *, as_json: bool) -> int:
    """Execute a run's code against its history; returns the exit code."""
    app = place.load_app()
    require_log(app.url)
    try:
        await app.log(read_only=True)
        with prints_aside():
            report = await app.replay(name)
    finally:
        await app.aclose()
    if as_json:
        out_json(_document(report))
    elif report.divergence is not None:
        out(paint(str(report.divergence), "red"))
    else:
        how_far = "to its end" if report.complete else "as far as it goes"
        operations = counted(report.operations, "operation")
        out(
            f"The code follows the history of {report.run_id} {how_far}: {operations}, digest {report.digest}."
        )
    return FOLLOWED if report.ok else DIVERGED


def _document(report: ReplayReport) -> object:
    divergence = report.divergence
    return {
        "run": report.run_id,
        "ok": report.ok,
        "complete": report.complete,
        "operations": report.operations,
        "digest": report.digest,
        "divergence": None
        if divergence is None
        else {
            "message": str(divergence),
            "operation": divergence.operation,
            "position": divergence.position,
        },
        "recorded_output": report.recorded_output,
        "replayed_output": report.replayed_output,
    }
