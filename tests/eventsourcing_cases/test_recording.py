"""What a log asks of the events that others record in it, and what becomes of them there."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    InternalError,
    Notification,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Tracking,
)

from eventsourcing_cases.logs import POSTGRES, SQLITE, STORES, Place, Store
from evrt.errors import Conflict, UnusableLog
from evrt.log import PAYLOAD_BYTES_MAX, Draft, open_log
from evrt.log.check import check
from evrt.log.foreign import kept
from evrt.log.foreign.errors import translated
from evrt.log.foreign.events import META, to_append
from evrt.log.foreign.factory import LogFactory
from evrt.log.ids import new_event_id
from evrt.log.plan import check_request
from log.stores import append


@pytest.fixture(params=STORES, ids=lambda store: store.module)
def store(request: pytest.FixtureRequest) -> Store:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def place(store: Store) -> Iterator[Place]:
    with store.place() as place:
        yield place


@pytest.fixture
def factory(store: Store, place: Place) -> Iterator[LogFactory]:
    factory = store.factory_class({**place.settings, store.lock_timeout: "1"})
    yield factory
    factory.close()


@pytest.fixture
def recorder(factory: LogFactory) -> ProcessRecorder:
    return factory.process_recorder()


HELD = {
    SQLITE: r"could not be written within 1 seconds: process \d+ holds",
    POSTGRES: r"another session holds the log's head for too long",
}


def event(originator: UUID | str = "order-1", version: int = 1, **fields: Any) -> StoredEvent:
    return StoredEvent(
        **{
            "originator_id": originator,
            "originator_version": version,
            "topic": "shop:Placed",
            "state": b"\xff",
            **fields,
        }
    )


def recorded(recorder: ProcessRecorder) -> list[tuple[UUID | str, int]]:
    found = recorder.select_notifications(None, 100)
    return [(one.originator_id, one.originator_version) for one in found]


async def test_an_event_is_recorded_as_it_is_and_says_whose_it_is(
    place: Place, recorder: ProcessRecorder
) -> None:
    account = uuid4()
    recorder.insert_events([event("order-1", 0, state=b"\x00\xff"), event(account, 1)])
    log = await open_log(place.url)
    first, second = await log.read()
    await log.aclose()
    assert (first.stream, first.version, first.type, first.payload) == (
        "order-1",
        0,
        "shop:Placed",
        b"\x00\xff",
    )
    assert (second.stream, second.version) == (str(account), 1)
    for row in (first, second):
        assert row.correlation == row.stream
        assert row.meta == META == b'{"format":"eventsourcing"}'
        assert UUID(row.event_id).version == 7
    assert first.event_id != second.event_id


@pytest.mark.parametrize(
    "events",
    [
        [event(version=2)],
        [event(version=-1)],
        [event(version=1), event(version=3)],
        [event(version=1), event(version=1)],
        [event(version=1), event("order-2", version=1), event(version=0)],
        [event("there", version=1)],
        [event("there", version=3)],
        [event("there", version=0)],
        [event("new", version=1), event("there", version=1)],
    ],
)
def test_versions_have_no_gaps_and_begin_at_0_or_1(
    recorder: ProcessRecorder, events: list[StoredEvent]
) -> None:
    recorder.insert_events([event("there", 1)])
    with pytest.raises(IntegrityError) as caught:
        recorder.insert_events(events)
    assert str(caught.value).endswith(".")
    assert recorded(recorder) == [("there", 1)]
    recorder.insert_events([event("there", 2), event("new", 0)])
    assert recorded(recorder) == [("there", 1), ("there", 2), ("new", 0)]


@pytest.mark.parametrize(
    "stream", ["run-1", "memory-user-1", "conversation-1", "agent-1", "system-1", "journey-1", "log"]
)
def test_the_streams_of_evrt_are_not_written_by_others(recorder: ProcessRecorder, stream: str) -> None:
    with pytest.raises(ProgrammingError, match=f"^{stream} is a stream of evrt, and only evrt writes to it"):
        recorder.insert_events([event("runner-1"), event(stream)])
    assert recorded(recorder) == []
    assert recorder.insert_events([event("runner-1"), event("logs")]) == [1, 2]


def test_the_types_of_evrt_are_no_topics_of_others(recorder: ProcessRecorder) -> None:
    with pytest.raises(ProgrammingError, match=r"topic run.requested is a type of evrt's own events"):
        recorder.insert_events([event(topic="run.requested")])


def test_what_no_log_takes_is_a_data_error(recorder: ProcessRecorder) -> None:
    wrong: Any = "text"
    for refused, words in (
        (event(state=b"x" * (PAYLOAD_BYTES_MAX + 1)), "Keep large things elsewhere"),
        (event(state=wrong), "must be bytes"),
        (event("a\nb"), "control characters"),
        (event(""), "not empty"),
        (event(topic="x" * 2_000), "1024 are allowed"),
    ):
        with pytest.raises(DataError, match=words):
            recorder.insert_events([refused])
    assert recorded(recorder) == []


@pytest.mark.parametrize(
    "where",
    [
        ("up", 2**63),
        ("up", -1),
        ("up", None),
        (None, 1),
        ("", 1),
        ("\ud800", 1),
        ("u\x00p", 1),
        ("x" * 1_025, 1),
    ],
)
def test_a_place_that_cannot_be_kept_is_a_data_error_of_its_own(
    recorder: ProcessRecorder, factory: LogFactory, where: Any
) -> None:
    with pytest.raises(DataError, match="has to be"):
        recorder.insert_tracking(Tracking(*where))
    for version, state in ((2**63, b""), (1, "text"), (None, b"")):
        broken: Any = StoredEvent(uuid4(), version, "topic", state)  # type: ignore[arg-type]
        with pytest.raises(DataError):
            factory.aggregate_recorder("snapshots").insert_events([broken])
    recorder.insert_tracking(Tracking("up", 1))
    assert recorder.max_tracking_id("up") == 1


def test_events_and_tracking_are_recorded_both_or_neither(recorder: ProcessRecorder) -> None:
    recorder.insert_events([event(version=1)], tracking=Tracking("upstream", 5))
    with pytest.raises(IntegrityError, match=r"was to have version 1"):
        recorder.insert_events([event(version=1)], tracking=Tracking("upstream", 6))
    assert recorder.max_tracking_id("upstream") == 5
    with pytest.raises(
        IntegrityError, match=r"Event 5 of upstream has been dealt with already: 5 is recorded"
    ):
        recorder.insert_events([event(version=2)], tracking=Tracking("upstream", 5))
    assert recorded(recorder) == [("order-1", 1)]


def test_what_is_refused_for_its_tracking_leaves_nothing_in_the_batch_of_others(
    store: Store, place: Place, recorder: ProcessRecorder
) -> None:
    recorder.insert_events([event(version=1)], tracking=Tracking("upstream", 5))
    writer = recorder._log._writer  # type: ignore[attr-defined]
    with store.held(place.url):
        # Both wait for the lock, and are written in one transaction.
        refused, taken = (
            writer.submit_from_thread(
                kept.Tracked(
                    check_request(to_append([event(stream)]), 100), kept.Place("upstream", notification_id)
                )
            )
            for stream, notification_id in (("order-2", 5), ("order-3", 6))
        )
    with pytest.raises(Conflict):
        refused.result()
    assert taken.result().versions == (1,)
    assert recorded(recorder) == [("order-1", 1), ("order-3", 1)]
    assert recorder.max_tracking_id("upstream") == 6


def test_what_is_refused_for_its_events_leaves_no_tracking_in_the_batch_of_others(
    store: Store, place: Place, recorder: ProcessRecorder
) -> None:
    recorder.insert_events([event(version=1)])
    writer = recorder._log._writer  # type: ignore[attr-defined]
    with store.held(place.url):
        refused, taken = (
            writer.submit_from_thread(
                kept.Tracked(
                    check_request(to_append([event(stream, version=1)]), 100), kept.Place(application, 5)
                )
            )
            for stream, application in (("order-1", "upstream"), ("order-2", "another"))
        )
    with pytest.raises(Conflict):
        refused.result()
    assert taken.result().versions == (1,)
    assert recorder.max_tracking_id("upstream") is None
    assert recorder.max_tracking_id("another") == 5


def test_what_was_tracked_together_with_events_is_there_for_every_recorder(factory: LogFactory) -> None:
    factory.process_recorder().insert_events([event()], tracking=Tracking("upstream", 5))
    assert factory.tracking_recorder().max_tracking_id("upstream") == 5


def test_snapshots_are_outside_of_the_order_and_may_have_gaps(
    factory: LogFactory, recorder: ProcessRecorder
) -> None:
    account = uuid4()
    snapshots, others = factory.aggregate_recorder("snapshots"), factory.aggregate_recorder("others")
    snapshots.insert_events([event(account, 7), event(account, 3)])
    with pytest.raises(IntegrityError, match=r"at version 7 among its snapshots already"):
        snapshots.insert_events([event(account, 8), event(account, 7)])
    with pytest.raises(IntegrityError, match=r"at version 9"):
        snapshots.insert_events([event(account, 9), event(account, 9)])
    others.insert_events([event(account, 7)])
    assert [one.originator_version for one in snapshots.select_events(account)] == [3, 7]
    assert [one.originator_version for one in snapshots.select_events(account, desc=True, limit=1)] == [7]
    assert [one.originator_version for one in others.select_events(account)] == [7]
    assert recorded(recorder) == []


def test_ids_are_texts_or_uuids_as_the_setting_says(store: Store, place: Place, factory: LogFactory) -> None:
    account = uuid4()
    factory.application_recorder().insert_events([event(account), event("order-1")])
    texts = store.factory_class({**place.settings, "ORIGINATOR_ID_TYPE": "text"})
    recorder = texts.process_recorder()
    assert recorded(recorder) == [(str(account), 1), ("order-1", 1)]
    assert recorded(factory.process_recorder()) == [(account, 1), ("order-1", 1)]
    assert recorder.select_events(account) == recorder.select_events(str(account)) != []
    texts.close()


def test_a_log_that_another_program_holds_is_an_operational_error(
    store: Store, place: Place, recorder: ProcessRecorder
) -> None:
    with store.held(place.url), pytest.raises(OperationalError, match=HELD[store]):
        recorder.insert_events([event()])
    assert recorder.insert_events([event()]) == [1]


def test_damage_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="damaged"), translated():
        raise UnusableLog("The file is damaged.")


def test_what_has_been_closed_says_so_and_closing_again_does_nothing(
    factory: LogFactory, recorder: ProcessRecorder
) -> None:
    factory.close()
    factory.close()
    for use in (lambda: recorder.insert_events([event()]), recorder.max_notification_id):
        with pytest.raises(ProgrammingError, match="has been closed"):
            use()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later, beside threads.
def test_a_forked_child_is_told_to_open_the_log_itself(recorder: ProcessRecorder) -> None:
    recorder.insert_events([event()])
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            try:
                recorder.max_notification_id()
            except ProgrammingError as error:
                status = 0 if "before this process was forked" in str(error) else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert recorder.max_notification_id() == 1


def test_many_threads_record_and_read_at_once(recorder: ProcessRecorder) -> None:
    def work(number: int) -> None:
        for version in range(10):
            recorder.insert_events([event(f"order-{number}", version)])
            assert len(recorder.select_events(f"order-{number}")) == version + 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(recorded(recorder)[:100]) == sorted(set(recorded(recorder)[:100]))
    assert recorder.max_notification_id() == 200


# ----------------------------------------------------------------------------------------- following


def test_a_subscription_hears_what_others_write_and_ends_with_its_log(
    store: Store, place: Place, factory: LogFactory
) -> None:
    heard: list[Notification] = []
    recorder = factory.application_recorder()

    def follow() -> None:
        with recorder.subscribe() as subscription:
            heard.extend(subscription)

    following = threading.Thread(target=follow)
    following.start()
    other = store.factory_class(place.settings)
    other.application_recorder().insert_events([event("order-1"), event("order-2")])
    other.close()
    recorder.insert_events([event("order-3")])
    while len(heard) < 3:
        pass_time()
    factory.close()
    following.join()
    assert [(one.id, one.originator_id) for one in heard] == [(1, "order-1"), (2, "order-2"), (3, "order-3")]


def pass_time() -> None:
    threading.Event().wait(0.005)


def test_a_subscription_misses_nothing_however_much_there_is(recorder: ProcessRecorder) -> None:
    topics = ["shop:Placed", "shop:Paid", "shop:Sent"]
    recorder.insert_events([event(version=number, topic=topics[number % 3]) for number in range(2_000)])
    for wanted in ([], topics[:1], topics[:2]):
        expected = [number + 1 for number in range(2_000) if not wanted or topics[number % 3] in wanted]
        with recorder.subscribe(topics=wanted) as subscription:
            assert [next(subscription).id for _ in expected] == expected


def test_a_subscription_to_rare_topics_does_not_search_twice_through_the_rest(
    recorder: ProcessRecorder,
) -> None:
    recorder.insert_events([event("order-1", version) for version in range(1, 1_501)])
    asked: list[int | None] = []
    select = recorder.select_notifications

    def watched(start: int | None, *rest: Any, **more: Any) -> Any:
        asked.append(start)
        return select(start, *rest, **more)

    recorder.select_notifications = watched  # type: ignore[method-assign]
    with recorder.subscribe(topics=["shop:Paid"]) as subscription, ThreadPoolExecutor(1) as thread:
        paid = thread.submit(next, subscription)
        while not asked:
            pass_time()
        # It looks again many times.
        for _ in range(20):
            pass_time()
        recorder.insert_events([event("order-2", topic="shop:Paid")])
        assert paid.result().id == 1_501
    assert asked == [0, 1_500]


# ------------------------------------------------------------------------------------------- closing


class Ward:
    """Something that closes an application when it is collected, as applications do themselves."""

    def __init__(self, application: Application[UUID]) -> None:
        self.application = application
        self.me = self

    def __del__(self) -> None:
        self.application.close()


def test_an_application_may_be_collected_in_the_very_thread_that_writes_for_it(
    store: Store, place: Place
) -> None:
    application = Application[UUID](env={"PERSISTENCE_MODULE": store.module, **place.settings})
    application.save(Aggregate())
    log = application.recorder._log  # type: ignore[attr-defined]
    collected = threading.Event()

    def collect(_: object) -> None:
        gc.collect()
        collected.set()

    ward = Ward(application)
    draft = Draft("order-1", "t", new_event_id(), "order-1", b"{}", b"")
    gc.disable()
    try:
        del ward
        log._writer.submit_from_thread(check_request(append(draft), 100)).add_done_callback(collect)
        assert collected.wait(30)
    finally:
        gc.enable()
    assert log.closed
    report = check(place.url)
    assert (report.findings, report.events) == ((), 2)
