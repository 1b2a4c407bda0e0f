"""A call that failed is not made again as it was, and a read is not made twice while nothing else has run."""

from __future__ import annotations

import json

import pytest

from evrt.agents.ledger import CallLedger, Refused, Served


def test_a_call_that_failed_is_refused_with_what_it_came_to() -> None:
    """B38"""
    ledger = CallLedger()
    ledger.note("search", {"q": "turin", "top": 3}, "search#1", error="No such index.")
    verdict = ledger.look("search", {"top": 3, "q": "turin"})
    assert isinstance(verdict, Refused)
    assert "search" in verdict.message
    assert "No such index." in verdict.message
    assert ledger.look("search", {"q": "rome", "top": 3}) is None
    assert ledger.look("fetch", {"q": "turin", "top": 3}) is None


def test_a_call_that_failed_may_be_made_again_when_another_tool_has_come_to_a_result() -> None:
    """B38"""
    ledger = CallLedger()
    ledger.note("read", {"path": "a"}, "read#1", error="No such file.")
    ledger.note("read", {"path": "b"}, "read#2")
    ledger.note("write", {"path": "a"}, "write#1", error="Disk full.")
    assert isinstance(ledger.look("read", {"path": "a"}), Refused)
    ledger.note("write", {"path": "a", "small": True}, "write#2")
    assert ledger.look("read", {"path": "a"}) is None


@pytest.mark.parametrize(
    "between, served",
    [
        pytest.param([], True, id="nothing"),
        pytest.param([("read", {"path": "b"}, None)], True, id="the same tool"),
        pytest.param([("write", {"path": "b"}, None)], False, id="another tool"),
        pytest.param([("write", {"path": "b"}, "Denied.")], False, id="another tool that failed"),
        pytest.param([("list", {}, None)], False, id="another read"),
        pytest.param([("read", {"path": "a"}, "Gone.")], False, id="the call itself, failing"),
    ],
)
def test_a_read_is_served_until_any_other_tool_has_run(
    between: list[tuple[str, dict[str, str], str | None]], served: bool
) -> None:
    """B38"""
    ledger = CallLedger(reads=("read", "list"))
    ledger.note("read", {"path": "a"}, "read#1")
    for number, (tool, arguments, error) in enumerate(between):
        ledger.note(tool, arguments, f"{tool}#x{number}", error=error)
    assert (ledger.look("read", {"path": "a"}) == Served("read#1")) is served


def test_only_tools_on_the_list_are_served() -> None:
    """B38"""
    ledger = CallLedger(reads=("read",))
    ledger.note("count", {}, "count#1")
    assert ledger.look("count", {}) is None


def test_a_ledger_goes_on_from_its_state() -> None:
    """B38"""
    ledger = CallLedger(reads=("read",))
    ledger.note("fetch", {"u": "x"}, "fetch#1", error="404")
    ledger.note("read", {"path": "a"}, "read#1", error="Gone.")
    ledger.note("read", {"path": "b"}, "read#2", error=None)
    state = json.loads(json.dumps(ledger.to_state()))
    again = CallLedger.from_state(state, reads=("read",))
    assert again.to_state() == ledger.to_state()
    assert again.look("read", {"path": "b"}) == Served("read#2")
    assert isinstance(again.look("read", {"path": "a"}), Refused)
