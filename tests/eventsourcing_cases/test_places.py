"""How the library finds the module, and what its settings may say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from uuid import uuid4

import pytest
from eventsourcing.persistence import (
    InfrastructureFactory,
    InfrastructureFactoryError,
    InterfaceError,
    StoredEvent,
)
from eventsourcing.utils import get_topic

import evrt.log.sqlite
from eventsourcing_cases.logs import MODULE
from evrt.log.foreign.recorders import LogApplicationRecorder, LogProcessRecorder
from evrt.log.sqlite.factory import Factory
from evrt.log.sqlite.places import find_place

PAST = Path(__file__).parent.parent / "formats" / "v1.db"


class MyApplicationRecorder(LogApplicationRecorder):
    """One that somebody has derived."""


class MyProcessRecorder(LogProcessRecorder):
    """One that somebody has derived."""


def factory(name: object, **settings: str) -> Factory:
    return Factory({"SQLITE_DBNAME": str(name), **settings})


def record(name: str) -> int | None:
    """Record one event; its position."""
    made = factory(name)
    recorder = made.application_recorder()
    recorder.insert_events([StoredEvent(uuid4(), 1, "topic", b"")])
    position = recorder.max_notification_id()
    made.close()
    return position


# --------------------------------------------------------------------------------- finding the factory


@pytest.mark.parametrize("topic", [MODULE, f"{MODULE}:Factory"])
def test_the_library_finds_the_factory_after_a_log_was_opened_without_it(topic: str) -> None:
    script = f"""
        import asyncio, json, os, sys, tempfile
        from contextlib import aclosing
        from evrt.log import open_log

        async def open_and_close(path):
            async with aclosing(await open_log(f"sqlite:///{{path}}")) as log:
                return await log.position()

        path = os.path.join(tempfile.mkdtemp(), "evrt.db")
        asyncio.run(open_and_close(path))
        before = "eventsourcing" in sys.modules

        from eventsourcing.application import Application
        with Application(env={{"PERSISTENCE_MODULE": {topic!r}, "SQLITE_DBNAME": path}}) as app:
            print(json.dumps([before, type(app.factory).__name__, type(app.recorder).__name__]))
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    assert json.loads(told.stdout) == [False, "Factory", "LogApplicationRecorder"]


def test_the_module_has_nothing_else_that_it_does_not_have() -> None:
    assert evrt.log.sqlite.Factory is Factory
    with pytest.raises(AttributeError, match=r"module 'evrt.log.sqlite' has no attribute 'Factories'"):
        _ = evrt.log.sqlite.Factories  # type: ignore[attr-defined]


def test_a_log_has_no_recorder_for_tagged_events() -> None:
    from eventsourcing.dcb.persistence import DCBInfrastructureFactory

    with pytest.raises(InfrastructureFactoryError, match=r"Found 0 infrastructure factory classes"):
        DCBInfrastructureFactory.construct({"PERSISTENCE_MODULE": MODULE, "SQLITE_DBNAME": ":memory:"})


# -------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "settings, words",
    [
        ({}, r"No log is named: set SQLITE_DBNAME to the path"),
        ({"SQLITE_DBNAME": ""}, r"No log is named"),
        ({"SQLITE_DBNAME": "a.db", "SQLITE_LOCK_TIMEOUT": "soon"}, r"whole number of seconds.*'soon'"),
        ({"SQLITE_DBNAME": "a.db", "ORIGINATOR_ID_TYPE": "int"}, r"takes 'uuid' or 'text'; it is 'int'"),
        ({"SQLITE_DBNAME": "a.db", "SINGLE_ROW_TRACKING": "n"}, r"leave SINGLE_ROW_TRACKING out"),
        ({"SQLITE_DBNAME": "file:a.db?mode=ro"}, r"a log takes mode=memory and cache=shared alone"),
        ({"SQLITE_DBNAME": "sqlite:///a.db?mode=ro"}, r"takes no parameters"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_words(settings: dict[str, str], words: str) -> None:
    with pytest.raises(OSError, match=words):
        InfrastructureFactory.construct({"PERSISTENCE_MODULE": MODULE, **settings})


def test_making_a_factory_opens_nothing(tmp_path: Path) -> None:
    made = factory(tmp_path / "evrt.db", SQLITE_LOCK_TIMEOUT="3")
    made.mapper()
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_can_be_named_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [
        "my log.db",
        str(tmp_path / "my log.db"),
        "file:my%20log.db",
        f"file:{tmp_path}/my%20log.db",
        f"file://{tmp_path}/my%20log.db",
        "sqlite:///my log.db",
        f"sqlite:///{tmp_path}/my log.db",
    ]
    assert [record(name) for name in names] == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_in_memory_has_a_place_of_its_own_and_leaves_nothing_behind() -> None:
    assert [record(":memory:"), record(":memory:")] == [1, 1]
    place = find_place(":memory:")
    assert place.folder is not None
    folder = place.folder.path
    assert os.path.isdir(folder)
    del place
    assert not os.path.exists(folder)


def test_what_is_in_memory_is_shared_by_name_as_long_as_somebody_uses_it() -> None:
    name = "file:accounts?mode=memory&cache=shared"
    first = factory(name)
    assert [record(name), record(name)] == [1, 2]
    assert record("file:others?mode=memory&cache=shared") == 1
    first.close()
    del first
    assert record(name) == 1


def test_recorders_can_be_derived_and_named_by_their_topics(tmp_path: Path) -> None:
    made = factory(
        tmp_path / "evrt.db",
        APPLICATION_RECORDER_TOPIC=get_topic(MyApplicationRecorder),
        PROCESS_RECORDER_TOPIC=get_topic(MyProcessRecorder),
    )
    assert type(made.application_recorder()) is MyApplicationRecorder
    assert type(made.process_recorder()) is MyProcessRecorder
    made.close()
    wrong = factory(tmp_path / "evrt.db", PROCESS_RECORDER_TOPIC="eventsourcing.popo:POPOProcessRecorder")
    with pytest.raises(
        TypeError, match=r"POPOProcessRecorder cannot record .*derive it from LogProcessRecorder"
    ):
        wrong.process_recorder()


# --------------------------------------------------------------------------------------------- opening


def test_what_cannot_be_opened_is_an_interface_error_that_says_what_to_do(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("mine")
    past = tmp_path / "past.db"
    past.write_bytes(PAST.read_bytes())
    for path, words in (
        (other, r"is not a log of evrt"),
        (past, r"run `evrt db migrate`"),
        (tmp_path / "nowhere" / "evrt.db", r"There is no folder"),
    ):
        with pytest.raises(InterfaceError, match=words):
            factory(path).application_recorder()
    assert other.read_text() == "mine"
