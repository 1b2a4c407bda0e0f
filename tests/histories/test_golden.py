"""Every golden history is read, re-hashed and folded by today's code, and comes to what it came to then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evrt.events import EVENT_TYPES, Erased, Unknown
from evrt.log import Recorded
from evrt.log.entry import build_entry, leaf_hash, payload_digest
from evrt.log.envelopes import envelopes
from histories import golden

HISTORIES = sorted(golden.FOLDER.glob("*.jsonl"))
NEVER_IN_A_HISTORY = {"tool_call.reported", "question.expired"}
"""Written only when processes race or code cuts a wait off; their shapes are pinned in the tests of the runtime."""


@pytest.fixture(params=HISTORIES, ids=lambda path: path.stem)
def history(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def expected(history: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(history.with_suffix(".expected.json").read_text(encoding="utf-8"))
    return content


def test_no_history_has_been_edited_or_removed() -> None:
    assert golden.INDEX.read_text(encoding="utf-8") == golden.index(), (
        "A golden history was edited, removed, or added without tests/histories/make.py. They are only ever added to."
    )
    assert len(HISTORIES) >= 7


def test_a_history_hashes_to_the_leaves_it_was_written_with(history: Path) -> None:
    log = expected(history)["log"]
    last: dict[str, Recorded] = {}
    for number, row in enumerate(golden.read(history), start=1):
        before = last.get(row.stream)
        assert row.position == number
        assert row.version == (before.version if before else 0) + 1
        if row.payload is not None and row.salt is not None:
            assert payload_digest(row.salt, row.payload) == row.payload_digest
            assert len(row.payload) == row.payload_length
        entry = build_entry(
            log=log,
            position=row.position,
            time=row.time,
            event_id=row.event_id,
            stream=row.stream,
            version=row.version,
            prev=before.leaf if before else None,
            type=row.type,
            correlation=row.correlation,
            meta=row.meta,
            payload_length=row.payload_length,
            payload_digest=row.payload_digest,
        )
        assert leaf_hash(entry) == row.leaf
        last[row.stream] = row


def test_a_history_folds_to_what_it_folded_to(history: Path) -> None:
    then = expected(history)
    now = json.loads(json.dumps(golden.folded(then["log"], golden.read(history))))
    for name, run in then["runs"].items():
        state = now["runs"][name]["state"]
        # Later versions may know more of a run; what was known stays.
        assert {key: state[key] for key in run["state"]} == run["state"]
        assert {key: now["runs"][name][key] for key in run if key != "state"} == {
            key: value for key, value in run.items() if key != "state"
        }
    assert {key: now[key] for key in then if key != "runs"} == {
        key: value for key, value in then.items() if key != "runs"
    }


def test_a_payload_that_was_changed_no_longer_fits_its_leaf(history: Path) -> None:
    row = next(row for row in golden.read(history) if row.payload is not None)
    assert row.salt is not None
    assert row.payload is not None
    assert payload_digest(row.salt, row.payload + b" ") != row.payload_digest


def test_every_type_of_event_stands_in_some_history() -> None:
    seen = {row.type for path in HISTORIES for row in golden.read(path)}
    assert set(EVENT_TYPES) - seen - NEVER_IN_A_HISTORY == set()


def test_what_is_unknown_or_erased_is_kept_and_shown() -> None:
    events = envelopes(golden.read(golden.FOLDER / "erased-and-unknown.jsonl"))
    unknown = [event.event for event in events if isinstance(event.event, Unknown)]
    assert [(event.logical_type, event.state) for event in unknown] == [
        ("run.teleported", {"to": "Mars"}),
        ("run.started", {"shape": "new"}),
    ]
    assert {event.event.logical_type for event in events if isinstance(event.event, Erased)} == {
        "memory.set",
        "memory.written",
    }
