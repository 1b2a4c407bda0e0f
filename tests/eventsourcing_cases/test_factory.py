"""The shipped cases for factories and applications."""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.tests import application as shipped_applications
from eventsourcing.tests import persistence as shipped
from eventsourcing.utils import Environment

from eventsourcing_cases.logs import MODULE, new_path
from evrt.log.sqlite.factory import Factory
from evrt.log.sqlite.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogTrackingRecorder,
)


class MyTrackingRecorder(LogTrackingRecorder):
    """One that somebody has derived."""


class TestFactory(shipped.InfrastructureFactoryTestCase[Factory]):
    topic = MODULE

    def setUp(self) -> None:
        self.env = Environment(env={"PERSISTENCE_MODULE": self.topic, "SQLITE_DBNAME": new_path(self)})
        super().setUp()

    def expected_factory_class(self) -> type[Factory]:
        return Factory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return LogAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return LogApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return LogTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return MyTrackingRecorder

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        return LogProcessRecorder


class TestFactoryByItsTopic(TestFactory):
    topic = f"{MODULE}:Factory"


class TestExampleApplication(shipped_applications.ExampleApplicationTestCase):
    expected_factory_topic = "evrt.log.sqlite.factory:Factory"

    def setUp(self) -> None:
        settings = {"PERSISTENCE_MODULE": MODULE, "SQLITE_DBNAME": new_path(self)}
        self.enterContext(patch.dict(os.environ, settings))


# A case looks at a warning, which is an error in our tests unless told otherwise.
@pytest.mark.filterwarnings("always:'log' is deprecated:DeprecationWarning")
class TestApplication(shipped_applications.ApplicationTestCase):
    def setUp(self) -> None:
        settings = {"PERSISTENCE_MODULE": MODULE, "SQLITE_DBNAME": new_path(self)}
        self.enterContext(patch.dict(os.environ, settings))
