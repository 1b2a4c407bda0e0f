"""The shipped cases for recorders, over a log; ``test_on_postgres`` has them in the other store."""

from __future__ import annotations

from uuid import UUID, uuid4

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.tests import persistence as shipped

from eventsourcing_cases.logs import SQLITE, new_factory


class TestAggregateRecorder(shipped.AggregateRecorderTestCase):
    store = SQLITE

    def create_recorder(self) -> AggregateRecorder:
        return new_factory(self, self.store).aggregate_recorder()


class TestAggregateRecorderForSnapshots(shipped.AggregateRecorderTestCase):
    store = SQLITE

    def create_recorder(self) -> AggregateRecorder:
        return new_factory(self, self.store).aggregate_recorder(purpose="snapshots")


class TestAggregateRecorderFromVersion0(TestAggregateRecorder):
    INITIAL_VERSION = 0


class TestApplicationRecorder(shipped.ApplicationRecorderTestCase[ApplicationRecorder]):
    store = SQLITE

    def create_recorder(self) -> ApplicationRecorder:
        return new_factory(self, self.store).application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderWithTextIds(TestApplicationRecorder):
    INITIAL_VERSION = 0

    def new_originator_id(self) -> UUID | str:
        return f"thing-{uuid4()}"

    def create_recorder(self) -> ApplicationRecorder:
        return new_factory(self, self.store, ORIGINATOR_ID_TYPE="text").application_recorder()


class TestProcessRecorderAsApplicationRecorder(TestApplicationRecorder):
    def create_recorder(self) -> ApplicationRecorder:
        return new_factory(self, self.store).process_recorder()


class TestTrackingRecorder(shipped.TrackingRecorderTestCase):
    store = SQLITE

    def create_recorder(self) -> TrackingRecorder:
        return new_factory(self, self.store).tracking_recorder()


class TestProcessRecorderAsTrackingRecorder(shipped.TrackingRecorderTestCase):
    store = SQLITE

    def create_recorder(self) -> TrackingRecorder:
        return new_factory(self, self.store).process_recorder()


class TestProcessRecorder(shipped.ProcessRecorderTestCase):
    store = SQLITE

    def create_recorder(self) -> ProcessRecorder:
        return new_factory(self, self.store).process_recorder()


class TestNonInterleaving(shipped.NonInterleavingNotificationIDsBaseCase):
    store = SQLITE

    def create_recorder(self) -> ApplicationRecorder:
        return new_factory(self, self.store).application_recorder()
