"""The shipped cases for projections: views beside a log, and applications that follow one another."""

from __future__ import annotations

from eventsourcing.dcb.msgpack import MessagePackMapper
from eventsourcing.tests import projection as shipped
from eventsourcing.utils import get_topic

from eventsourcing_cases.logs import MODULE, new_factory, new_path
from eventsourcing_cases.views import CountersInTables


class TestEventCountersView(shipped.EventCountersViewTestCase):
    def construct_event_counters_view(self) -> shipped.EventCountersView:
        view = new_factory(self).tracking_recorder(CountersInTables)
        assert isinstance(view, CountersInTables)
        return view


class TestEventCountersProjection(shipped.AggregateEventCountersProjectionTestCase):
    view_class = CountersInTables

    def setUp(self) -> None:
        type(self).env = {"PERSISTENCE_MODULE": MODULE, "SQLITE_DBNAME": new_path(self)}


class TestTaggedDecisionCountersProjection(shipped.TaggedDecisionCountersProjectionTestCase):
    """The decisions are in memory, for a log has no tags to select by; the view of them is beside a log."""

    view_class = CountersInTables

    def setUp(self) -> None:
        type(self).env = {
            "PERSISTENCE_MODULE": "eventsourcing.dcb.popo",
            "MAPPER_TOPIC": get_topic(MessagePackMapper),
            "EVENTCOUNTERS_PERSISTENCE_MODULE": MODULE,
            "EVENTCOUNTERS_SQLITE_DBNAME": new_path(self),
        }


class TestEventSourcedProjection(shipped.EventSourcedProjectionTestCase):
    """It follows without topics, so it has a log of its own: in the same one it would follow itself."""

    def setUp(self) -> None:
        type(self).env = {
            "PERSISTENCE_MODULE": MODULE,
            "APPLICATION_SQLITE_DBNAME": new_path(self),
            "COUNTERS_SQLITE_DBNAME": new_path(self),
        }
