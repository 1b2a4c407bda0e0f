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

from eventsourcing_cases.logs import SQLITE, new_settings
from evrt.log.foreign.factory import LogFactory
from evrt.log.foreign.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogTrackingRecorder,
)


class MyTrackingRecorder(LogTrackingRecorder):
    """One that somebody has derived."""


class TestFactory(shipped.InfrastructureFactoryTestCase[LogFactory]):
    store = SQLITE

    def setUp(self) -> None:
        self.env = Environment(env={"PERSISTENCE_MODULE": self.topic(), **new_settings(self, self.store)})
        super().setUp()

    def topic(self) -> str:
        return self.store.module

    def expected_factory_class(self) -> type[LogFactory]:
        return self.store.factory_class

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
    def topic(self) -> str:
        return f"{self.store.module}:Factory"


class TestExampleApplication(shipped_applications.ExampleApplicationTestCase):
    store = SQLITE

    def setUp(self) -> None:
        type(self).expected_factory_topic = f"{self.store.module}.factory:Factory"
        settings = {"PERSISTENCE_MODULE": self.store.module, **new_settings(self, self.store)}
        self.enterContext(patch.dict(os.environ, settings))


# A case looks at a warning, which is an error in our tests unless told otherwise.
@pytest.mark.filterwarnings("always:'log' is deprecated:DeprecationWarning")
class TestApplication(shipped_applications.ApplicationTestCase):
    store = SQLITE

    def setUp(self) -> None:
        settings = {"PERSISTENCE_MODULE": self.store.module, **new_settings(self, self.store)}
        self.enterContext(patch.dict(os.environ, settings))
