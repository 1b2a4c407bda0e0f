"""Every shipped case that runs over a log in a SQLite file runs over one on a real PostgreSQL server."""

from __future__ import annotations

import pytest

from eventsourcing_cases import test_factory, test_projections, test_recorders
from eventsourcing_cases.logs import POSTGRES

# ----------------------------------------------------------------------------------------- recorders


class TestAggregateRecorder(test_recorders.TestAggregateRecorder):
    store = POSTGRES


class TestAggregateRecorderForSnapshots(test_recorders.TestAggregateRecorderForSnapshots):
    store = POSTGRES


class TestAggregateRecorderFromVersion0(test_recorders.TestAggregateRecorderFromVersion0):
    store = POSTGRES


class TestApplicationRecorder(test_recorders.TestApplicationRecorder):
    store = POSTGRES


class TestApplicationRecorderWithTextIds(test_recorders.TestApplicationRecorderWithTextIds):
    store = POSTGRES


class TestProcessRecorderAsApplicationRecorder(test_recorders.TestProcessRecorderAsApplicationRecorder):
    store = POSTGRES


class TestTrackingRecorder(test_recorders.TestTrackingRecorder):
    store = POSTGRES


class TestProcessRecorderAsTrackingRecorder(test_recorders.TestProcessRecorderAsTrackingRecorder):
    store = POSTGRES


class TestProcessRecorder(test_recorders.TestProcessRecorder):
    store = POSTGRES


class TestNonInterleaving(test_recorders.TestNonInterleaving):
    store = POSTGRES


# ------------------------------------------------------------------------- factories and applications


class TestFactory(test_factory.TestFactory):
    store = POSTGRES


class TestFactoryByItsTopic(test_factory.TestFactoryByItsTopic):
    store = POSTGRES


class TestExampleApplication(test_factory.TestExampleApplication):
    store = POSTGRES


# A case looks at a warning, which is an error in our tests unless told otherwise.
@pytest.mark.filterwarnings("always:'log' is deprecated:DeprecationWarning")
class TestApplication(test_factory.TestApplication):
    store = POSTGRES


# --------------------------------------------------------------------------------------- projections


class TestEventCountersView(test_projections.TestEventCountersView):
    store = POSTGRES


class TestEventCountersProjection(test_projections.TestEventCountersProjection):
    store = POSTGRES
    view_class = POSTGRES.view_class


class TestTaggedDecisionCountersProjection(test_projections.TestTaggedDecisionCountersProjection):
    store = POSTGRES
    view_class = POSTGRES.view_class


class TestEventSourcedProjection(test_projections.TestEventSourcedProjection):
    store = POSTGRES
