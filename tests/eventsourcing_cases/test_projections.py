"""The shipped cases for projections: views beside a log, and applications that follow one another."""

from __future__ import annotations

from typing import Any

from eventsourcing.dcb.msgpack import MessagePackMapper
from eventsourcing.tests import projection as shipped
from eventsourcing.utils import get_topic

from eventsourcing_cases.logs import SQLITE, new_factory, new_settings


class TestEventCountersView(shipped.EventCountersViewTestCase):
    store = SQLITE

    def construct_event_counters_view(self) -> shipped.EventCountersView:
        view_class: Any = self.store.view_class
        view = new_factory(self, self.store).tracking_recorder(view_class)
        assert isinstance(view, shipped.EventCountersView)
        return view


class TestEventCountersProjection(shipped.AggregateEventCountersProjectionTestCase):
    store = SQLITE
    view_class = SQLITE.view_class

    def setUp(self) -> None:
        type(self).env = {"PERSISTENCE_MODULE": self.store.module, **new_settings(self, self.store)}


class TestTaggedDecisionCountersProjection(shipped.TaggedDecisionCountersProjectionTestCase):
    """The decisions are in memory, for a log has no tags to select by; the view of them is beside a log."""

    store = SQLITE
    view_class = SQLITE.view_class

    def setUp(self) -> None:
        type(self).env = {
            "PERSISTENCE_MODULE": "eventsourcing.dcb.popo",
            "MAPPER_TOPIC": get_topic(MessagePackMapper),
            "EVENTCOUNTERS_PERSISTENCE_MODULE": self.store.module,
            **_of("EVENTCOUNTERS", new_settings(self, self.store)),
        }


class TestEventSourcedProjection(shipped.EventSourcedProjectionTestCase):
    """It follows without topics, so it has a log of its own: in the same one it would follow itself."""

    store = SQLITE

    def setUp(self) -> None:
        type(self).env = {
            "PERSISTENCE_MODULE": self.store.module,
            **_of("APPLICATION", new_settings(self, self.store)),
            **_of("COUNTERS", new_settings(self, self.store)),
        }


def _of(name: str, settings: dict[str, str]) -> dict[str, str]:
    """Settings for one application alone."""
    return {f"{name}_{key}": value for key, value in settings.items()}
