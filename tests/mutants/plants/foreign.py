"""Bugs in keeping the events of applications that are written with the eventsourcing library."""

from __future__ import annotations

from mutants.mutant import mutant

RECORDING = "tests/eventsourcing_cases/test_recording.py::"
RECORDERS = "tests/eventsourcing_cases/test_recorders.py::"

FOREIGN = (
    mutant(
        "an application that may write the streams of evrt",
        "log/foreign/events.py",
        "if stream.startswith(OWN_PREFIXES) or stream == OWN_STREAM:",
        "if stream == OWN_STREAM:",
        f"{RECORDING}test_the_streams_of_evrt_are_not_written_by_others",
    ),
    mutant(
        "a gap within one save",
        "log/foreign/events.py",
        "elif version != last[stream] + 1:",
        "elif version <= last[stream]:",
        f"{RECORDING}test_versions_have_no_gaps_and_begin_at_0_or_1",
    ),
    mutant(
        "an event of evrt, read as one of the application's",
        "log/foreign/events.py",
        "    if payload is not None and meta == META:\n        return StoredEvent(",
        "    if payload is not None:\n        return StoredEvent(",
        "tests/eventsourcing_cases/test_beside_evrt.py::"
        "test_a_run_can_be_read_as_a_stream_of_the_events_that_evrt_recorded",
    ),
    mutant(
        "a model that nobody validates",
        "log/foreign/mapper.py",
        "return type(domain_event).model_validate(vars(domain_event))",
        "return domain_event",
        "tests/eventsourcing_cases/test_mapper.py::test_a_model_is_read_as_the_one_that_was_stored",
    ),
    mutant(
        "tracking in a transaction of its own",
        "log/foreign/recorders.py",
        "self._log.write(checked if place is None else Tracked(checked, place))",
        "self._log.write(checked)\n            if place is not None:\n                self._log.write(place)",
        f"{RECORDING}test_events_and_tracking_are_recorded_both_or_neither",
    ),
    mutant(
        "tracking that is looked at when the events are planned already",
        "log/sqlite/transaction.py",
        "        request.place.check(self._ask)\n",
        "",
        f"{RECORDING}test_what_is_refused_for_its_tracking_leaves_nothing_in_the_batch_of_others",
    ),
    mutant(
        "a place that may be dealt with twice",
        "log/foreign/kept.py",
        "recorded >= self.notification_id",
        "recorded > self.notification_id",
        f"{RECORDING}test_events_and_tracking_are_recorded_both_or_neither",
    ),
    mutant(
        "notifications that begin behind their start",
        "log/foreign/recorders.py",
        "0 if start is None else start - inclusive_of_start",
        "0 if start is None else start",
        f"{RECORDERS}TestApplicationRecorder::test_insert_select",
    ),
    mutant(
        "notifications that begin with what was had already",
        "log/foreign/recorders.py",
        "0 if start is None else start - inclusive_of_start",
        "0 if start is None else start - 1",
        f"{RECORDING}test_a_subscription_misses_nothing_however_much_there_is",
    ),
    mutant(
        "streams without their event 0",
        "log/foreign/recorders.py",
        "_nearest(-1 if gt is None else gt)",
        "_nearest(gt or 0)",
        f"{RECORDERS}TestAggregateRecorderFromVersion0::test_insert_and_select",
    ),
    mutant(
        "a subscription that searches through the rest again and again",
        "log/foreign/recorders.py",
        "self._after = page[-1].id if len(page) == PAGE_EVENTS else head",
        "self._after = page[-1].id if page else self._after",
        f"{RECORDING}test_a_subscription_to_rare_topics_does_not_search_twice_through_the_rest",
    ),
    mutant(
        "a log of the parent's in a forked child",
        "log/blocking.py",
        "        if self._process != os.getpid():\n            raise",
        "        if False:\n            raise",
        f"{RECORDING}test_a_forked_child_is_told_to_open_the_log_itself",
    ),
    mutant(
        "a factory that opens the log when it is made",
        "log/foreign/factory.py",
        "        self._originator_ids = self._read_originator_ids()\n",
        "        self._originator_ids = self._read_originator_ids()\n        _ = self._log\n",
        "tests/eventsourcing_cases/test_places.py::test_making_a_factory_opens_nothing",
    ),
)
