"""Every case that the library ships runs here, its optional tests too: a new one in a release fails this."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from unittest import TestCase

import eventsourcing
import pytest
from eventsourcing.dcb import tests as tagged
from eventsourcing.tests import persistence

from eventsourcing_cases import test_factory, test_on_postgres, test_projections, test_recorders
from eventsourcing_cases.logs import POSTGRES, SQLITE, Store

NOT_OURS: dict[type[TestCase], str] = {
    persistence.RecorderTestCase: "what other cases share; it tests nothing",
    persistence.TranscoderTestCase: "of values within a state, which a log does not look into",
    tagged.DCBRecorderTestCase: "of another kind of recorder, whose events have tags in place of originators",
}


def modules_of(package: object) -> Iterator[object]:
    path = getattr(package, "__path__")  # noqa: B009
    for module in pkgutil.walk_packages(path, "eventsourcing."):
        if "test" in module.name.split(".")[-1] or ".tests." in module.name:
            try:
                yield importlib.import_module(module.name)
            except ImportError:
                # Helpers for a database whose driver is not installed.
                assert "postgres" in module.name


def shipped() -> set[type[TestCase]]:
    return {
        member
        for module in modules_of(eventsourcing)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, TestCase) and member.__module__.startswith("eventsourcing.")
    }


def ours_in(*modules: ModuleType) -> list[type[TestCase]]:
    return [
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, TestCase) and member.__module__ == module.__name__
    ]


OURS: dict[Store, list[type[TestCase]]] = {
    SQLITE: ours_in(test_recorders, test_factory, test_projections),
    POSTGRES: ours_in(test_on_postgres),
}


@pytest.mark.parametrize("store", OURS, ids=lambda store: store.module)
def test_every_shipped_case_runs_in_every_store(store: Store) -> None:
    assert persistence.ApplicationRecorderTestCase in shipped()
    assert {getattr(ours, "store") for ours in OURS[store]} == {store}  # noqa: B009
    missing = {
        case for case in shipped() - {TestCase} if not any(issubclass(ours, case) for ours in OURS[store])
    }
    assert missing - NOT_OURS.keys() == set()
    assert NOT_OURS.keys() <= shipped()


def test_whatever_runs_in_a_file_runs_on_a_server() -> None:
    assert {ours.__base__ for ours in OURS[POSTGRES]} == set(OURS[SQLITE])


@pytest.mark.parametrize("ours", [ours for some in OURS.values() for ours in some])
def test_no_shipped_test_is_replaced_and_the_optional_ones_run(ours: type[TestCase]) -> None:
    for base in ours.__mro__:
        if not base.__module__.startswith("eventsourcing."):
            continue
        for name, function in vars(base).items():
            if name.startswith("test"):
                assert getattr(ours, name) is function
            if name.startswith("optional_test"):
                assert hasattr(ours, name.removeprefix("optional_"))
