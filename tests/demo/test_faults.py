"""Faults planted in the demo's own sources: it has to find each, name it, and exit with 1."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from demo.stories import LANES, Told, claims_file, spoilt, typed

RECORD = "    ledger = context.deps.ledger\n"
RECORD_BEFORE = (
    f"{RECORD}    ledger.record(idempotency_key, claim_id, decision, _euros(amount_eur), reason)\n"
)
VERIFY = "        found = verify("


class Fault(NamedTuple):
    """Places of the demo and what they say instead; which checks do not hold then; what is said of it."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    failed: frozenset[str]
    said: str


def fault(name: str, *changes: tuple[str, str, str], failed: str, said: str) -> Fault:
    return Fault(name, changes, frozenset(failed.split()), said)


def behind_its_back(statement: str) -> str:
    """Somebody changes the ledger just before it is looked at."""
    return (
        "        with self.ledger._file._transaction() as connection:\n"
        f"            connection.execute({statement!r})\n"
        f"{VERIFY}"
    )


SENT_TWICE = fault(
    "the ledger is sent everything twice",
    ("tools.py", RECORD, RECORD_BEFORE),
    failed="once",
    said="C-001 was delivered 2 times; the log accounts for 1.",
)
FAULTS = (
    SENT_TWICE,
    fault(
        "the ledger ignores its key",
        ("ledger.py", "key TEXT NOT NULL UNIQUE", "key TEXT NOT NULL"),
        ("ledger.py", "if row is None:", "if True:"),
        failed="policy once same",
        said="C-002 is there 2 times.",
    ),
    fault(
        "a decision is altered in the ledger",
        (
            "story.py",
            VERIFY,
            behind_its_back("UPDATE entries SET amount_eur = '1.00' WHERE claim = 'C-002'"),
        ),
        failed="policy once same",
        said="C-002 is there as approve, 1.00 EUR, within_policy; the log recorded approve, 22.00 EUR, within_policy.",
    ),
    fault(
        "a decision is lost from the ledger",
        ("story.py", VERIFY, behind_its_back("DELETE FROM entries WHERE claim = 'C-002'")),
        failed="policy once same",
        said="C-002 was decided, and is not there.",
    ),
    fault(
        "the worker begins anew instead of resuming",
        (
            "worker.py",
            "await app.resume(job.resume)",
            'await app.run(review_batch, {"claims": [c.model_dump(mode="json") for c in job.claims]})',
        ),
        ("plan.py", "claims=[] if resume is not None else self.claims", "claims=self.claims"),
        failed="resumed replayed once same",
        said="to its end: it is running",
    ),
    fault(
        "the code does something else in another process",
        ("app.py", '{"claim": claim.claim}', '{"pid": __import__("os").getpid()}'),
        failed="resumed",
        said="The code diverges from the history",
    ),
    fault(
        "the code does something else when it is replayed",
        ("app.py", '{"claim": claim.claim}', '{"story": "evrt.demo.story" in __import__("sys").modules}'),
        failed="replayed",
        said="The code diverges from the history",
    ),
    fault(
        "the model says something else in another process",
        ("scripted.py", """return f"{said[""", """return f"{__import__('os').getpid()} {said["""),
        failed="same",
        said="the histories differ",
    ),
    fault(
        "the worker is asked to end rather than killed",
        ("process.py", "self._process.kill()", "self._process.terminate()"),
        failed="killed replayed policy once same",
        said="it died of signal 15",
    ),
    fault(
        "nobody kills the worker",
        ("story.py", "worker.kill()", "pass"),
        failed="killed",
        said="the run was over before it could be killed",
    ),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Told]]]:
    """A demo with each fault, some of them at the same time: they mostly wait."""

    def tell(fault: Fault, folder: Path) -> Told:
        sources = spoilt(folder, *fault.changes)
        claims = claims_file(folder, 3)
        return typed(folder, "demo", "--claims", claims, "--kill-after", "1", "--json", sources=sources)

    with ThreadPoolExecutor(LANES) as lanes:
        yield {fault.name: lanes.submit(tell, fault, tmp_path_factory.mktemp("fault")) for fault in FAULTS}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_and_named(told: dict[str, Future[Told]], fault: Fault) -> None:
    found = told[fault.name].result()
    assert found.code == 1, found.out + found.err
    assert set(found.report["failed"]) == fault.failed, found.out
    assert fault.said in "\n".join(map(found.text_of, fault.failed))


def test_what_does_not_hold_is_named_in_the_story_too(tmp_path: Path) -> None:
    sources = spoilt(tmp_path, *SENT_TWICE.changes)
    told = typed(tmp_path, "demo", "--claims", claims_file(tmp_path, 2), sources=sources)
    assert told.code == 1
    assert "✗ ledger and tray do not hold each decision of the log just once" in told.flat
    assert SENT_TWICE.said in told.flat
    assert "This did not hold: once." in told.out


def test_a_worker_that_breaks_down_is_explained_without_a_traceback(tmp_path: Path) -> None:
    sources = spoilt(tmp_path, ("worker.py", "app.api_base = job.api_base", 'raise KeyError("planted")'))
    told = typed(tmp_path, "demo", sources=sources)
    assert told.code == 6
    assert "ended with status 1 and without a result: KeyError: 'planted'" in told.err
    assert "What it printed is in evrt-demo/1/workers.txt." in told.err
