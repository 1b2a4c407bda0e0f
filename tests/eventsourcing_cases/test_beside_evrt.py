"""Applications of the library in a log in which evrt runs: each reads the other's events, in one order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.projection import (
    EventSourcedProjection,
    EventSourcedProjectionRunner,
    Projection,
    ProjectionRunner,
)
from eventsourcing.tests.projection import EventCountersView
from eventsourcing.utils import get_topic
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsourcing_cases.bank import Account, Bank, Gift, open_bank, open_evrt
from eventsourcing_cases.logs import MODULE
from eventsourcing_cases.views import CountersInTables
from evrt.events import Erased, Unknown
from evrt.events.run import RunRequested, RunSucceeded
from evrt.log import Append, Draft, Recorded, open_log
from evrt.log.check import check
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id
from evrt.log.sqlite.factory import VIEWS_SUFFIX
from log.stores import url


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "evrt.db"
    yield path
    assert check(url(path)).findings == ()


async def rows(path: Path) -> list[Recorded]:
    async with aclosing(await open_log(url(path))) as log:
        return await log.read(limit=10_000)


def run(path: Path, amount: int = 1) -> str:
    """Have evrt make a run in the log; its id."""
    result = open_evrt(url(path)).run_sync("exchange", amount, user="u-1")
    assert result.unwrap() == amount * 6
    return result.run_id


# ------------------------------------------------------------------------------- reading each other


def test_each_reads_the_others_events_in_one_order(path: Path) -> None:
    first = run(path, 2)
    bank = open_bank(path)
    account = bank.open_account()
    bank.credit(account, 10)
    second = run(path, 3)
    bank.credit(account, 5)

    everything = asyncio.run(rows(path))
    notifications = bank.recorder.select_notifications(None, 1_000)
    assert [one.id for one in notifications] == list(range(1, len(everything) + 1))
    assert [str(one.originator_id) for one in notifications] == [row.stream for row in everything]
    assert [one.originator_version for one in notifications] == [row.version for row in everything]
    assert [one.topic for one in notifications] == [row.type for row in everything]
    assert [one.state for one in notifications] == [row.payload for row in everything]

    # What evrt wrote is to the library what it is to evrt, and the other way round.
    for notification, envelope in zip(notifications, envelopes(everything), strict=True):
        domain_event: Any = bank.mapper.to_domain_event(notification)
        if envelope.stream == str(account):
            assert isinstance(envelope.event, Unknown)
            assert domain_event.originator_id == account
        else:
            assert domain_event.originator_id == envelope.stream
            assert domain_event == envelope.event
            assert type(domain_event) is type(envelope.event)
    assert bank.balance(account) == 15
    assert [type(one).__name__ for one in bank.events.get(account)] == ["Created", "Credited", "Credited"]
    bank.close()

    app = open_evrt(url(path))
    assert asyncio.run(replays(app, [first, second])) == [True, True]


async def replays(app: Any, runs: list[str]) -> list[bool]:
    async with app:
        return [(await app.replay(run)).ok for run in runs]


def test_an_erased_event_is_read_as_erased_whoever_wrote_it(path: Path) -> None:
    run(path)
    bank = open_bank(path)
    account = bank.open_account()
    last = bank.recorder.max_notification_id()
    assert last is not None

    async def erase() -> None:
        async with aclosing(await open_log(url(path))) as log:
            for position in (1, last):
                await log.erase_payload(position)

    asyncio.run(erase())
    read: Callable[[StoredEvent], Any] = bank.mapper.to_domain_event
    found = bank.recorder.select_notifications(None, 1_000)
    first, second, created = map(read, (found[0], found[1], found[-1]))
    assert first == Erased(logical_type=found[0].topic)
    assert created == Erased(logical_type=get_topic(Account.Created))
    assert type(second) is not Erased
    assert read(bank.recorder.select_events(account)[0]) == created
    bank.close()


def test_the_application_takes_no_stream_of_evrt_for_an_aggregate_it_may_write(path: Path) -> None:
    history = run(path)
    bank = open_bank(path)
    assert len(bank.recorder.select_events(history)) == len(
        [row for row in asyncio.run(rows(path)) if row.stream == history]
    )
    assert [one.originator_version for one in bank.recorder.select_events(history, desc=True, limit=1)] != [1]
    bank.close()


def test_a_run_can_be_read_as_a_stream_of_the_events_that_evrt_recorded(path: Path) -> None:
    history = run(path)
    bank = open_bank(path)
    read: Callable[[StoredEvent], Any] = bank.mapper.to_domain_event
    recorded = [one.event for one in envelopes(asyncio.run(rows(path))) if one.stream == history]
    try:
        assert [read(one) for one in bank.recorder.select_events(history)] == recorded
    finally:
        bank.close()


# --------------------------------------------------------------------------------------- projections


class Ended(POPOTrackingRecorder):
    """In memory: which runs were asked for and which have succeeded."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []
        self.succeeded: dict[str, object] = {}


class EndedRuns(Projection[Ended]):
    """Follows runs of evrt in an application of the library."""

    name = "ended"
    topics = (get_topic(RunRequested), get_topic(RunSucceeded))

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        raise AssertionError(f"{domain_event!r} was not asked for.")

    @process_event.register
    def asked(self, event: RunRequested, tracking: Tracking) -> None:
        place: Any = event
        self.view.asked.append((place.originator_id, event.target))
        self.view.insert_tracking(tracking)

    @process_event.register
    def succeeded(self, event: RunSucceeded, tracking: Tracking) -> None:
        place: Any = event
        self.view.succeeded[place.originator_id] = event.output
        self.view.insert_tracking(tracking)


def test_a_projection_follows_runs_of_evrt_before_and_while_they_happen(path: Path) -> None:
    before = run(path, 2)
    env = {
        "PERSISTENCE_MODULE": MODULE,
        "SQLITE_DBNAME": str(path),
        "ENDED_PERSISTENCE_MODULE": "eventsourcing.popo",
    }
    with ProjectionRunner(
        application_class=Bank, projection_class=EndedRuns, view_class=Ended, env=env
    ) as runner:
        account = runner.app.open_account()
        during = run(path, 3)
        runner.app.credit(account, 1)
        [end] = [
            row for row in asyncio.run(rows(path)) if (row.type, row.stream) == ("run.succeeded", during)
        ]
        runner.wait(end.position, timeout=30)
        assert runner.projection.view.asked == [(before, "exchange"), (during, "exchange")]
        assert runner.projection.view.succeeded == {before: 12, during: 18}


class CountedAccounts(Projection[EventCountersView]):
    """Counts accounts and credits, in tables beside the log."""

    name = "counted"
    topics = (get_topic(Account.Created), get_topic(Account.Credited))

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.incr_subsequent_event_counter(tracking)

    @process_event.register
    def created(self, _: Account.Created, tracking: Tracking) -> None:
        self.view.incr_created_event_counter(tracking)


def test_a_view_goes_on_where_it_was_and_is_made_anew_where_it_is_gone(path: Path) -> None:
    env = {"PERSISTENCE_MODULE": MODULE, "SQLITE_DBNAME": str(path)}
    counted: list[tuple[int, int]] = []
    for step in range(3):
        if step == 2:
            for file in path.parent.glob(f"*{VIEWS_SUFFIX}*"):
                file.unlink()
        run(path)
        with ProjectionRunner(
            application_class=Bank, projection_class=CountedAccounts, view_class=CountersInTables, env=env
        ) as runner:
            last = runner.app.credit(runner.app.open_account(), 1)
            runner.wait(last, timeout=30)
            view = runner.projection.view
            counted.append((view.get_created_event_counter(), view.get_subsequent_event_counter()))
    assert counted == [(1, 1), (2, 2), (3, 3)]


class Rewards(EventSourcedProjection[UUID]):
    """Opens an account for every run that succeeds: in the same log, in the transaction of its tracking."""

    name = "rewards"
    topics = (get_topic(RunSucceeded),)

    @singledispatchmethod
    def policy(self, domain_event: Any, processing_event: Any) -> None:
        processing_event.collect_events(Account())


def test_an_application_that_follows_runs_may_record_in_the_same_log(path: Path) -> None:
    env = {"PERSISTENCE_MODULE": MODULE, "SQLITE_DBNAME": str(path)}
    for runs in (1, 2):
        run(path)
        with EventSourcedProjectionRunner(
            application_class=Bank, projection_class=Rewards, env=env
        ) as runner:
            [*_, end] = [row for row in asyncio.run(rows(path)) if row.type == "run.succeeded"]
            runner.wait(end.position, timeout=30)
            assert (
                len([row for row in asyncio.run(rows(path)) if row.type == get_topic(Account.Created)])
                == runs
            )


# --------------------------------------------------------------------------------- at the same time


def test_runs_come_to_the_same_beside_an_application_that_saves(path: Path, tmp_path: Path) -> None:
    alone = open_evrt(url(tmp_path / "alone.db"))
    beside = open_evrt(url(path))
    bank = open_bank(path)
    ended = threading.Event()
    saved: list[UUID] = []

    def save() -> None:
        while not ended.is_set():
            account = bank.open_account()
            bank.credit(account, 1)
            saved.append(account)

    saving = threading.Thread(target=save)
    saving.start()
    try:
        digests = [asyncio.run(make_runs(app)) for app in (alone, beside)]
    finally:
        ended.set()
        saving.join()
    assert digests[0] == digests[1]
    assert len(saved) > 0
    assert {bank.balance(account) for account in saved} == {1}
    streams = [row.stream for row in asyncio.run(rows(path))]
    # They did come between.
    assert streams != sorted(streams, key=lambda stream: stream.startswith("run-"))
    bank.close()


async def make_runs(app: Any) -> list[tuple[str, list[str]]]:
    async with app:
        started = [await app.start("exchange", amount, user=f"u-{amount}") for amount in range(20)]
        for running in started:
            (await running).unwrap()
        histories = [await app.get(running.run_id) for running in started]
        return [(history.digest, [one.type for one in history.events]) for history in histories]


STREAMS = ("run-a", "run-b", "conversation-c")

Step = tuple[str, int]
steps = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["append", "save", "erase"]), st.integers(0, 2)), min_size=1, max_size=5
    ),
    max_size=6,
)


@settings(max_examples=settings().max_examples // 4)
@given(together=steps)
def test_however_they_interleave_the_log_is_sound_and_evrts_history_its_own(
    together: list[list[Step]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evrt.db"
        asyncio.run(interleave(path, together))
        assert check(url(path)).findings == ()


async def interleave(path: Path, together: list[list[Step]]) -> None:
    """Everything of one inner list happens at once."""
    bank = open_bank(path)
    accounts = [bank.open_account() for _ in range(3)]
    credited = [0, 0, 0]
    appended: dict[str, list[Draft]] = {stream: [] for stream in STREAMS}
    async with aclosing(await open_log(url(path))) as log:
        for steps in together:
            waiting: list[asyncio.Future[Any]] = []
            for number, (kind, which) in enumerate(steps):
                if kind == "append":
                    stream = STREAMS[which]
                    draft = Draft(
                        stream, "note.written", new_event_id(), "run-a", b'{"run":"a"}', b"%d" % number
                    )
                    appended[stream].append(draft)
                    waiting.append(log.append(Append([draft], {})))
                elif kind == "save" and (kind, which) not in steps[:number]:
                    credited[which] += 1
                    waiting.append(asyncio.ensure_future(asyncio.to_thread(bank.credit, accounts[which], 1)))
            await asyncio.gather(*waiting)
        for stream in STREAMS:
            found = await log.read_stream(stream)
            assert [(row.version, row.event_id, row.payload, row.meta, row.correlation) for row in found] == [
                (version, draft.event_id, draft.payload, draft.meta, draft.correlation)
                for version, draft in enumerate(appended[stream], start=1)
            ]
        assert [bank.balance(account) for account in accounts] == credited
        everything = await log.read(limit=1_000)
        assert [one.id for one in bank.recorder.select_notifications(None, 1_000)] == [
            row.position for row in everything
        ]
        assert len(everything) == 3 + sum(credited) + sum(map(len, appended.values()))
    bank.close()


# -------------------------------------------------------------------------------------------- dying

SAVE_FOR_EVER = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    from eventsourcing_cases.bank import open_bank
    bank = open_bank(Path(sys.argv[1]))
    account = bank.open_account()
    print(account, flush=True)
    amount = 0
    while True:
        amount += 1
        print(bank.credit(account, amount), flush=True)
"""


def test_what_was_saved_is_there_after_the_process_was_killed(path: Path) -> None:
    run(path)
    tests = str(Path(__file__).parent.parent)
    saving = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SAVE_FOR_EVER), str(path), tests],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert saving.stdout is not None
        account = UUID(saving.stdout.readline().strip())
        positions = [int(saving.stdout.readline()) for _ in range(50)]
        # Beside it, evrt goes on in this process.
        run(path)
    finally:
        saving.kill()
        told, _ = saving.communicate()
    assert saving.returncode == -signal.SIGKILL
    positions += [int(line) for line in told.splitlines(keepends=True) if line.endswith("\n")]
    bank = open_bank(path)
    credited = [
        one
        for one in bank.recorder.select_notifications(None, 100_000)
        if one.topic == get_topic(Account.Credited)
    ]
    # One more may have been recorded than was told.
    assert [one.id for one in credited][: len(positions)] == positions
    assert len(positions) <= len(credited) <= len(positions) + 1
    assert bank.balance(account) == len(credited) * (len(credited) + 1) // 2
    bank.credit(account, 1)
    run(path)
    bank.close()


FOLLOW = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from eventsourcing.projection import EventSourcedProjectionRunner
    from eventsourcing_cases.bank import Bank, Gifts

    class Told(Gifts):
        name = "gifts"

        def process_event(self, domain_event, tracking):
            super().process_event(domain_event, tracking)
            print(tracking.notification_id, flush=True)
            sys.stdin.readline()

    env = {"PERSISTENCE_MODULE": "evrt.log.sqlite", "SQLITE_DBNAME": sys.argv[1]}
    with EventSourcedProjectionRunner(application_class=Bank, projection_class=Told, env=env) as runner:
        runner.run_forever()
"""


def test_a_follower_that_is_killed_again_and_again_deals_with_each_event_once(path: Path) -> None:
    follow_through_kills(path, kills=3)


@pytest.mark.soak
def test_followers_deal_with_each_event_once_however_often_they_are_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    until = time.monotonic() + float(os.environ.get("EVRT_SOAK_SECONDS", "600"))
    kills = 0
    while time.monotonic() < until:
        follow_through_kills(tmp_path / f"{kills}.db", kills=6)
        assert check(url(tmp_path / f"{kills}.db")).findings == ()
        kills += 6
    with capsys.disabled():
        print(f"\n{kills} kills of a follower: each event dealt with once.")


def follow_through_kills(path: Path, *, kills: int) -> None:
    """Have accounts given gifts by one process after the other, each but the last killed at a random moment."""
    bank = open_bank(path)
    accounts = [bank.open_account() for _ in range(10 * kills)]
    chance = Random()
    told: list[int] = []
    for number in range(kills + 1):
        left = len(accounts) - len(gifts_in(bank))
        following = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FOLLOW), str(path), str(Path(__file__).parent.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert following.stdin is not None
            assert following.stdout is not None
            for _ in range(chance.randint(1, 8) if number < kills else left):
                told.append(int(following.stdout.readline()))  # It goes on when it is told to.
                following.stdin.write("\n")
                following.stdin.flush()
            # It is about to deal with the next event.
            time.sleep(chance.random() * 0.004)
        finally:
            following.kill()
            rest, _ = following.communicate()
        told += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert gifts_in(bank) == accounts
    # In order, each at most once: what was recorded just before a kill was not told.
    assert told == sorted(set(told))
    assert len(told) >= len(accounts) - kills
    bank.close()


def gifts_in(bank: Bank) -> list[UUID]:
    """The accounts that have been given something, in the order of the gifts."""
    created = [
        one
        for one in bank.recorder.select_notifications(None, 10_000)
        if one.topic == get_topic(Gift.Created)
    ]
    gifts: list[Gift] = [bank.repository.get(UUID(str(one.originator_id))) for one in created]
    return [gift.account for gift in gifts]


READ_WITHOUT_PERMISSION = """
    import os, sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    from eventsourcing.persistence import OperationalError
    import evrt.log.sqlite.factory
    from eventsourcing_cases.bank import open_bank
    if os.geteuid() == 0:
        # The superuser may write everything; nobody may not. All is imported by now.
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    bank = open_bank(Path(sys.argv[1]))
    print(bank.recorder.max_notification_id(), len(bank.recorder.select_notifications(None, 1_000)))
    try:
        bank.open_account()
    except OperationalError as error:
        print(error)
    bank.close()
"""


def test_a_log_that_may_not_be_written_is_read() -> None:
    with tempfile.TemporaryDirectory(prefix="evrt-test-") as folder:
        path = Path(folder) / "evrt.db"
        run(path)
        for file in Path(folder).iterdir():
            file.chmod(0o444)
        Path(folder).chmod(0o555)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                textwrap.dedent(READ_WITHOUT_PERMISSION),
                str(path),
                str(Path(__file__).parent.parent),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        Path(folder).chmod(0o700)
    assert done.stderr == ""
    counted, denied = done.stdout.splitlines()
    assert len(set(counted.split())) == 1
    assert "is open for reading only: this user may not write the file and its folder" in denied


FOLLOW_WITHOUT_PERMISSION = """
    import os, sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    import evrt.log.sqlite.factory
    from eventsourcing_cases.bank import open_bank
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    bank = open_bank(Path(sys.argv[1]))
    for one in bank.recorder.subscribe():
        print(one.id, flush=True)
"""


def test_who_may_only_read_a_log_hears_what_others_write() -> None:
    """It was closed when the reader opened it, so there was no WAL to look at."""
    with tempfile.TemporaryDirectory(prefix="evrt-test-") as folder:
        path = Path(folder) / "evrt.db"
        run(path)
        Path(folder).chmod(0o755)
        last = len(asyncio.run(rows(path)))
        following = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(FOLLOW_WITHOUT_PERMISSION),
                str(path),
                str(Path(__file__).parent.parent),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert following.stdout is not None
            assert [int(following.stdout.readline()) for _ in range(last)] == list(range(1, last + 1))
            run(path)
            assert int(following.stdout.readline()) == last + 1
        finally:
            following.kill()
            following.communicate()
