"""The demo, typed as a newcomer types it: what it claims is looked up in the files it leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.cases import POLICY, RATES
from demo.stories import (
    CHECKS,
    EVRT,
    LANES,
    SAMPLE,
    Told,
    alive,
    claims_file,
    environment,
    rows,
    typed,
)
from evrt.demo.policy import decide

POLLS_MAX, POLL_SECONDS = 2_000, 0.01


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The demo as it is."""
    return typed(tmp_path_factory.mktemp("demo"), "demo")


@pytest.fixture(scope="module")
def told_in_json(told: Told) -> Told:
    """The same once more, in the same folder."""
    return typed(told.cwd, "demo", "--json")


# ------------------------------------------------------------------------------------ what it shows


def test_everything_holds(told: Told) -> None:
    assert told.code == 0, told.out + told.err
    assert len(re.findall(r"^   ✓ ", told.out, re.MULTILINE)) == len(CHECKS)
    assert "   ✗ " not in told.out.replace("✗  SIGKILL", "")
    assert "it died of signal 9 (wait status -9)" in told.flat
    assert "the policy says the same about 48 of 48 claims" in told.flat
    assert "All of it held." in told.out


def test_the_story_goes_to_stdout_and_its_progress_to_stderr(told: Told) -> None:
    pids = list(
        dict.fromkeys(re.findall(r"^process (\d+): \d+ of 48 claims decided$", told.err, re.MULTILINE))
    )
    assert len(pids) == 3
    assert all(re.fullmatch(r"process \d+: \d+ of 48 claims decided", line) for line in told.err.splitlines())
    assert [pid for pid in pids if f"Process {pid} " not in told.out] == []
    assert "claims decided" not in told.out
    assert "\x1b" not in told.out + told.err


def test_it_is_no_wider_than_a_hundred_columns(told: Told) -> None:
    commands = {line for line in told.out.splitlines() if str(EVRT) in line}
    assert [line for line in told.out.splitlines() if len(line) > 100 and line not in commands] == []


def test_the_three_commands_worth_trying_work_as_printed(told: Told) -> None:
    printed = [line.strip() for line in told.out.partition("Worth trying next:")[2].splitlines()]
    commands = [line for line in printed if line and not line.startswith("#")]
    log, at, replay = (typed(told.cwd, command=command) for command in commands)
    assert [log.code, at.code, replay.code] == [0, 0, 0], log.err + at.err + replay.err
    events = log.out.splitlines()
    assert "run.requested" in events[0]
    assert "run.succeeded" in events[-1]
    [moment] = re.findall(r"run-\w+@(\d+)", commands[1])
    assert "running" in at.out.splitlines()[0]
    assert f"@{moment} of {len(events)}" in at.out
    assert "follows the history" in replay.out
    [killed] = [number for number, event in enumerate(events) if "epoch 2" in event]
    assert killed == int(moment)


def test_a_demo_is_given_a_new_folder_and_leaves_the_earlier_ones_as_they_are(
    told: Told, tmp_path: Path
) -> None:
    folder = told.cwd / "evrt-demo" / "1"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (told.cwd / "evrt-demo" / "notes.txt").write_text("mine")
    again = typed(told.cwd, "demo", "--claims", claims_file(tmp_path, 1), "--json")
    assert again.code == 0
    assert again.report["folder"] != "evrt-demo/1"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert (told.cwd / "evrt-demo" / "notes.txt").read_text() == "mine"


# ------------------------------------------------------------------- looked up without evrt's own code


def test_the_report_is_one_json_object_on_stdout(told_in_json: Told) -> None:
    report = told_in_json.report
    assert told_in_json.code == 0, told_in_json.out
    assert (report["ok"], report["failed"]) == (True, [])
    assert told_in_json.checks == dict.fromkeys(CHECKS, True)
    assert report["scenes"]["kill"]["wait_status"] == -signal.SIGKILL
    first, second = report["processes"]
    assert (first["ended"], second["ended"]) == ("killed", "succeeded")
    assert 12 <= report["kill_after"] <= first["decisions"] < 48
    assert first["decisions"] + second["decisions"] == 48


def test_two_processes_worked_on_the_run_and_neither_repeated_the_other(told_in_json: Told) -> None:
    report = told_in_json.report
    log = told_in_json.cwd / report["folder"] / "log.db"
    events = [
        (name, json.loads(payload))
        for name, payload in rows(log, "SELECT type, payload FROM events ORDER BY position")
    ]
    claims = [
        (event["epoch"], int(event["worker"].partition(":")[2]))
        for name, event in events
        if name == "run.claimed"
    ]
    assert claims == [(1, report["processes"][0]["pid"]), (2, report["processes"][1]["pid"])]
    assert not any(alive(pid) for _, pid in claims)
    types = Counter(name for name, _ in events)
    assert (types["run.requested"], types["run.started"], types["run.succeeded"]) == (1, 1, 1)
    outcomes = Counter(
        event["operation"] for name, event in events if name.endswith((".completed", ".failed"))
    )
    assert set(outcomes.values()) == {1}
    assert types["model_call.completed"] == 3 * 48
    assert types["tool_call.failed"] == types["run.diverged"] == 0


def test_ledger_and_tray_hold_each_claim_once_and_as_the_policy_says(told_in_json: Told) -> None:
    report = told_in_json.report
    folder = told_in_json.cwd / report["folder"]
    query = "SELECT claim, decision, amount_eur, reason, deliveries, refusals FROM entries"
    entries = rows(folder / "ledger.db", query) + rows(folder / "tray.db", query)
    expected = []
    for claim in SAMPLE:
        says = decide(claim, POLICY, RATES)
        amount = None if says.amount_eur is None else str(says.amount_eur)
        expected.append((claim.claim, says.outcome, amount, says.reason))
    assert sorted(entry[:4] for entry in entries) == sorted(expected)
    assert {entry[5] for entry in entries} == {0}
    arrived = [one["operation"] for one in report["scenes"]["log"]["open"] if one["arrived"]]
    assert sum(entry[4] - 1 for entry in entries) == len(arrived)
    assert report["scenes"]["verify"]["deliveries_repeated"] == len(arrived)
    undisturbed = folder / "uninterrupted"
    others = rows(undisturbed / "ledger.db", query) + rows(undisturbed / "tray.db", query)
    assert sorted(entry[:4] for entry in others) == sorted(expected)
    assert {entry[4] for entry in others} == {1}


def test_the_interrupted_and_the_uninterrupted_run_have_one_digest(told_in_json: Told) -> None:
    report = told_in_json.report
    digests = []
    for run, log in (
        (report["run"], "log.db"),
        (report["scenes"]["uninterrupted"]["run"], "uninterrupted/log.db"),
    ):
        shown = typed(told_in_json.cwd, "runs", "show", run, "--db", Path(report["folder"], log), "--json")
        digests.append(json.loads(shown.out)["digest"])
    assert digests[0] == digests[1] == report["scenes"]["uninterrupted"]["digest"]


# -------------------------------------------------------------------------------- where the kill falls


KILLS = ((1, 0), (2, 1), (9, 0), (9, 5), (9, 8))
"""Of how many claims, after how many decisions."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[int, int], Future[Told]]]:
    """A demo for each of the kills, some of them at the same time: they mostly wait."""

    def tell(claims: int, kill_after: int, folder: Path) -> Told:
        file = claims_file(folder, claims)
        return typed(folder, "demo", "--claims", file, "--kill-after", str(kill_after), "--json")

    with ThreadPoolExecutor(LANES) as lanes:
        yield {kill: lanes.submit(tell, *kill, tmp_path_factory.mktemp("kill")) for kill in KILLS}


@pytest.mark.parametrize("claims, kill_after", KILLS)
def test_it_may_be_killed_at_any_point(
    killed: dict[tuple[int, int], Future[Told]], claims: int, kill_after: int
) -> None:
    told = killed[claims, kill_after].result()
    assert told.code == 0, told.out
    assert told.checks == dict.fromkeys(CHECKS, True)
    [first, second] = told.report["processes"]
    assert kill_after <= first["decisions"]
    assert first["decisions"] + second["decisions"] == claims


def test_a_single_claim_is_interrupted_while_it_is_being_decided(tmp_path: Path) -> None:
    told = typed(tmp_path, "demo", "--claims", claims_file(tmp_path, 1))
    assert told.code == 0, told.out
    assert re.search(r"with [01] of 1 decisions recorded", told.flat)
    assert re.search(r"the run came to its end: [01] more decisions?, 1 in all", told.flat)


# ------------------------------------------------------------------------- what it refuses beforehand


@pytest.mark.parametrize(
    "words, code, said",
    [
        (
            ["--claims", "bad.csv"],
            2,
            "bad.csv cannot be taken, and nothing of it was: line 3, column amount: found",
        ),
        (["--claims", "absent.csv"], 3, "There is no file absent.csv."),
        (["--model", "openai/gpt-4o"], 2, "OPENAI_API_KEY"),
        (["--model", "nobody-knows-this"], 2, "No provider is known for the model 'nobody-knows-this'."),
        (["--model", "openai/x", "--api-base", "127.0.0.1"], 2, "it has to be an address like http://"),
        (["--api-base", "http://127.0.0.1:1/v1"], 2, "name the model too"),
        (["--kill-after", "48"], 2, "the kill can come after 0 to 47 decisions"),
        (["--kill-after", "-1"], 2, "the kill can come after 0 to 47 decisions"),
        (["--dir", "bad.csv"], 2, "bad.csv is not a folder"),
        (["--dir", "bad.csv/below"], 2, "is not a folder"),
    ],
)
def test_what_cannot_be_done_is_explained_and_nothing_created(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    bad = claims_file(tmp_path, 3)
    text = bad.read_text("utf-8")
    bad.rename(tmp_path / "bad.csv").write_text(text.replace(",22.00,", ',"22,00",'), "utf-8")
    told = typed(tmp_path, "demo", *words)
    assert (told.code, told.out) == (code, "")
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "home"]


# --------------------------------------------------------------------------------------- interruptions


class Watched:
    """A demo that goes on while a test looks at it, until its worker is there."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        (cwd / "home").mkdir()
        self.process = subprocess.Popen(
            [EVRT, "demo", "--claims", claims_file(cwd, 6), "--kill-after", "5"],
            cwd=cwd,
            env=environment(cwd / "home"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self.worker = int(line.split()[1].rstrip(":"))
        self.log = cwd / "evrt-demo" / "1" / "log.db"

    def until(self, happened: Callable[[], bool]) -> None:
        for _ in range(POLLS_MAX):
            if happened():
                return
            time.sleep(POLL_SECONDS)
        raise AssertionError("it did not happen")


def test_control_c_stops_the_worker_too_and_leaves_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.until(
        lambda: watched.log.exists() and ("run.emitted",) in rows(watched.log, "SELECT type FROM events")
    )
    watched.process.send_signal(signal.SIGINT)
    out, err = watched.process.communicate()
    assert watched.process.returncode == 130
    assert not alive(watched.worker)
    assert "Interrupted; the worker process has been stopped." in err
    assert "Traceback" not in out + err
    listed = typed(tmp_path, command=err.splitlines()[-1].strip() + " --json")
    [run] = json.loads(listed.out)
    assert run["status"] == "running"

    # Ledger and tray lie beside the log, so whoever names the log resumes with the right ones.
    resumed = typed(tmp_path, "runs", "resume", run["run"], "--db", watched.log, "--app", "evrt.demo.app")
    assert resumed.code == 0, resumed.err
    entries = [path.parent for path in tmp_path.rglob("ledger.db")]
    assert entries == [watched.log.parent]
    query = "SELECT claim FROM entries"
    decided = rows(watched.log.with_name("ledger.db"), query) + rows(watched.log.with_name("tray.db"), query)
    assert sorted(claim for (claim,) in decided) == [claim.claim for claim in SAMPLE[:6]]


def test_a_worker_does_not_outlive_a_demo_that_is_killed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.process.kill()
    watched.process.communicate()
    watched.until(lambda: not alive(watched.worker))
    # It would have decided six claims; being orphaned, it did not come to its end.
    if watched.log.exists():
        assert ("run.succeeded",) not in rows(watched.log, "SELECT type FROM events")
