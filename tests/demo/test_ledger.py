"""The ledger and the tray hold each key once, whoever delivers, however often, and whenever killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.demo.ledger import Entry, Ledger, Tray
from evrt.errors import Conflict, InvalidInput, Unavailable

WRITER = """
import sys
from pathlib import Path
from evrt.demo.ledger import Ledger
from evrt.errors import Conflict
path, first, last, reason = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
ledger = Ledger(Path(path))
for number in range(int(first), int(last)):
    try:
        print(ledger.record(f"k{number}", f"C-{number}", "approve", "1.00", reason).key, flush=True)
    except Conflict:
        print("refused", flush=True)
"""


class Writer:
    """A process of its own that delivers the keys from ``first`` up to ``last``, told when to begin."""

    def __init__(self, path: Path, first: int, last: int, reason: str = "within_policy") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first), str(last), reason],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.told, self.said = self.process.stdin, self.process.stdout

    def begin(self) -> None:
        assert self.said.readline() == "ready\n"
        self.told.write("\n")
        self.told.flush()

    def acknowledged(self, count: int) -> list[str]:
        return [self.said.readline().strip() for _ in range(count)]

    def end(self) -> list[str]:
        # Not communicate(): it reads past what readline() has taken from the pipe already.
        with self.process, self.told, self.said:
            return self.said.read().split()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def test_an_entry_is_read_back_as_delivered(ledger: Ledger, tmp_path: Path) -> None:
    ledger.record("k1", "C-1", "reject", "63.01", "over_limit")
    assert ledger.entries() == [Entry("k1", "C-1", "reject", "63.01", "over_limit", 1, 0)]
    tray = Tray(tmp_path / "tray.db")
    tray.put("k2", "東京", None, "no_exchange_rate")
    assert tray.entries() == [Entry("k2", "東京", "doubtful", None, "no_exchange_rate", 1, 0)]


def test_a_repeated_delivery_is_answered_alike_and_counted(ledger: Ledger) -> None:
    answers = [ledger.record("k1", "C-1", "approve", "1.00", "within_policy") for _ in range(3)]
    assert len(set(answers)) == 1
    assert ledger.entries() == [Entry("k1", "C-1", "approve", "1.00", "within_policy", 3, 0)]


def test_another_content_under_a_known_key_is_refused_and_counted(ledger: Ledger) -> None:
    ledger.record("k1", "C-1", "approve", "1.00", "within_policy")
    with pytest.raises(
        Conflict, match=r"already holds C-1: approve, 1\.00 EUR, within_policy under the key k1"
    ):
        ledger.record("k1", "C-1", "approve", "2.00", "within_policy")
    assert ledger.entries() == [Entry("k1", "C-1", "approve", "1.00", "within_policy", 1, 1)]


def test_a_tray_refuses_an_amount_where_there_was_none(tmp_path: Path) -> None:
    tray = Tray(tmp_path / "tray.db")
    tray.put("k1", "C-1", None, "no_exchange_rate")
    with pytest.raises(Conflict, match="no amount"):
        tray.put("k1", "C-1", "1.00", "no_exchange_rate")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1.00", "2.00"])), max_size=12))
def test_the_first_delivery_of_a_key_stands(deliveries: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        first: dict[str, str] = {}
        same: Counter[str] = Counter()
        for key, amount in deliveries:
            stands = first.setdefault(key, amount)
            same[key] += stands == amount
            try:
                assert ledger.record(key, "C-1", "approve", amount, "r").amount_eur == stands
            except Conflict:
                assert stands != amount
        sent = Counter(key for key, _ in deliveries)
        assert ledger.entries() == [
            Entry(key, "C-1", "approve", amount, "r", same[key], sent[key] - same[key])
            for key, amount in first.items()
        ]


@pytest.mark.parametrize(
    "acknowledged, microseconds", [(0, 0), (0, 900), (1, 350), (3, 1_700), (7, 40), (20, 4_000)]
)
def test_a_killed_writer_loses_no_acknowledged_entry(
    ledger: Ledger, tmp_path: Path, acknowledged: int, microseconds: int
) -> None:
    writer = Writer(tmp_path / "ledger.db", 0, 100_000)
    writer.begin()
    acknowledgements = writer.acknowledged(acknowledged)
    time.sleep(microseconds / 1_000_000)
    os.kill(writer.process.pid, signal.SIGKILL)
    acknowledgements += writer.end()
    assert writer.process.returncode == -signal.SIGKILL

    held = [entry.key for entry in ledger.entries()]
    assert held == [f"k{number}" for number in range(len(held))]
    assert acknowledgements == held[: len(acknowledgements)]
    assert len(held) <= len(acknowledgements) + 1

    # Whoever resumes cannot know what arrived, and delivers everything again.
    after = len(held) + 5
    writer = Writer(tmp_path / "ledger.db", 0, after)
    writer.begin()
    writer.end()
    assert [entry.key for entry in ledger.entries()] == [f"k{number}" for number in range(after)]
    assert [entry.deliveries for entry in ledger.entries()] == [2] * len(held) + [1] * 5


def test_processes_that_deliver_the_same_keys_to_a_new_file_make_each_entry_once(tmp_path: Path) -> None:
    writers = [Writer(tmp_path / "new.db", 10 * first, 10 * first + 40) for first in range(4)]
    for writer in writers:
        writer.begin()
    assert [len(writer.end()) for writer in writers] == [40] * 4
    entries = Ledger(tmp_path / "new.db").entries()
    expected = Counter(f"k{number}" for first in range(4) for number in range(10 * first, 10 * first + 40))
    assert {entry.key: entry.deliveries for entry in entries} == expected


def test_of_processes_that_disagree_one_is_first_and_the_other_refused(tmp_path: Path) -> None:
    writers = [Writer(tmp_path / "new.db", 0, 40, reason) for reason in ("one", "other")]
    for writer in writers:
        writer.begin()
    refused = [writer.end().count("refused") for writer in writers]
    entries = Ledger(tmp_path / "new.db").entries()
    won = Counter(entry.reason for entry in entries)
    assert refused == [40 - won["one"], 40 - won["other"]]
    assert sum(entry.refusals for entry in entries) == 40


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    def deliver(number: int) -> Entry:
        return ledger.record(f"k{number % 5}", "C-1", "approve", "1.00", "within_policy")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(deliver, range(40)))
    assert sorted((entry.key, entry.deliveries) for entry in ledger.entries()) == [
        (f"k{n}", 8) for n in range(5)
    ]


def test_a_file_of_another_kind_is_refused_and_left_as_it_is(ledger: Ledger, tmp_path: Path) -> None:
    foreign, text = tmp_path / "foreign.db", tmp_path / "claims.csv"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE entries (key TEXT)")
    connection.close()
    text.write_text("claim,employee\n" * 100)
    for path in (foreign, text, tmp_path / "ledger.db"):
        before = path.read_bytes()
        with pytest.raises(InvalidInput, match=f"{path.name} is "):
            Tray(path)
        assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"The ledger .* cannot be used now: unable to open"):
        Ledger(tmp_path / "absent" / "ledger.db")


def test_every_delivery_is_committed_with_full_synchronization(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db")._file._transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
