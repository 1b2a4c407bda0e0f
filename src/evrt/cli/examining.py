"""What ``evrt doctor`` prints: a line for each examination, with what to do where it is not well."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from evrt.cli.output import out, out_json, paint, prints_aside
from evrt.cli.place import Place, default_url
from evrt.errors import EvrtError, UsageError
from evrt.log.address import is_postgres, parse_url
from evrt.log.diagnosis import Diagnosis, Verdict
from evrt.log.doctor import examine
from evrt.log.postgres.address import needing_psycopg, parse_postgres_url
from evrt.projection import AnyProjection
from evrt.projector.doctor import examine_views
from evrt.projector.registry import projections
from evrt.worker.doctor import examine_queue

WELL = 0
UNWELL = 1

STYLES: dict[Verdict, str] = {"ok": "green", "mind": "yellow", "bad": "bold red"}
NAME_COLUMNS = 12


def examine_place(place: Place, *, as_json: bool) -> int:
    """Print what was found; returns the exit code."""
    found: list[Diagnosis] = []
    for diagnosis in _all(place):
        found.append(diagnosis)
        if not as_json:
            _out(diagnosis)
    if as_json:
        out_json(
            [{"name": d.name, "verdict": d.verdict, "found": d.found, "remedy": d.remedy} for d in found]
        )
    return UNWELL if any(diagnosis.verdict == "bad" for diagnosis in found) else WELL


def _all(place: Place) -> Iterator[Diagnosis]:
    app, url, own = _app(place)
    examinations = _of_log(url)
    yield from app
    verdicts = {}
    for diagnosis in examinations:
        verdicts[diagnosis.name] = diagnosis.verdict
        yield diagnosis
    yield from _projections(own)
    if "events" in verdicts and verdicts["log"] != "bad":  # There is a log for the views to be of.
        yield from examine_views(url)
    if verdicts.get("log") == "ok" and "events" in verdicts:  # An older log has no queue.
        yield from asyncio.run(examine_queue(url))


def _of_log(url: str) -> Iterator[Diagnosis]:
    """The examinations of a log's place. Raises UsageError."""
    if is_postgres(url):
        address = parse_postgres_url(url)
        with needing_psycopg():
            from evrt.log.postgres.doctor import examine_postgres
        return examine_postgres(address, url)
    path = parse_url(url)
    if path is None:
        raise UsageError("A log in memory has no place to look at; give the URL of a file.")
    return examine(path)


def _app(place: Place) -> tuple[list[Diagnosis], str, Sequence[AnyProjection]]:
    """What is to be said of the app, where one is named; where the log is; and the app's own projections."""
    if place.app_name is None:
        return [], place.url or default_url(), ()
    try:
        app = place.load_app()
    except EvrtError as error:
        return [Diagnosis("app", "bad", str(error).removesuffix("."))], place.url or default_url(), ()
    names = ", ".join(sorted(app.targets)) or "none"
    well = Diagnosis("app", "ok", f"{place.app_name}, with these agents and workflows: {names}")
    return [well], app.url, app.projections


def _projections(own: Iterable[AnyProjection]) -> Iterator[Diagnosis]:
    """Projections that keep every view from being read, as one of an installed package that cannot be loaded."""
    try:
        with prints_aside():
            projections(own)
    except EvrtError as error:
        yield Diagnosis("projections", "bad", str(error).removesuffix("."))


def _out(diagnosis: Diagnosis) -> None:
    verdict = paint(diagnosis.verdict.ljust(4), STYLES[diagnosis.verdict])
    out(f"{verdict}  {diagnosis.name.ljust(NAME_COLUMNS)}  {paint(diagnosis.found)}.")
    if diagnosis.remedy:
        out(f"{' ' * (NAME_COLUMNS + 8)}{paint(diagnosis.remedy, 'dim')}")
