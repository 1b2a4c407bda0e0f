"""What an examination of ``evrt doctor`` finds, and those examinations that are the same for every store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from evrt.log.check import check
from evrt.log.standing import Standing

Verdict = Literal["ok", "mind", "bad"]

CHECKED_EVENTS_MAX = 20_000
"""A log up to this long is checked whole; a longer one is left to `evrt db check`."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one examination found, and what to do about it where it is not ``ok``."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine_python() -> Diagnosis:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Diagnosis("Python", "ok", version)
    return Diagnosis("Python", "mind", f"{version}, which evrt is not tested on", "Use 3.11, 3.12 or 3.13.")


def examine_standing(text: str, standing: Standing) -> Diagnosis:
    """A log of today's schema, of which ``text`` says the rest."""
    if standing.moved_to is not None:
        return Diagnosis(
            "log", "mind", f"{text}, which has moved to {standing.moved_to}", "Name that log from now on."
        )
    if standing.copied_from is not None:
        return Diagnosis(
            "log",
            "mind",
            f"{text}, a copy of {standing.copied_from} that is not finished",
            "Run `evrt db copy` with the two again.",
        )
    return Diagnosis("log", "ok", text)


def examine_events(url: str) -> Diagnosis:
    """Every event of a log that is not too long for that."""
    report = check(url)
    if report.ok:
        return Diagnosis("events", "ok", f"all {report.events:,} checked and sound")
    first = report.findings[0]
    where = "" if first.position is None else f"position {first.position}: "
    return Diagnosis("events", "bad", f"{where}{first.text}", "Run `evrt db check`, and restore a copy.")
