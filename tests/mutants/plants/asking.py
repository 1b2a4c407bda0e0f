"""Bugs in how the system is asked: conversations, lists, sums, and commands that look after views."""

from __future__ import annotations

from mutants.mutant import mutant

HISTORY = "tests/app/test_conversations.py::test_the_history_of_a_conversation_is_all_that_was_said_whole_and_in_order"
RUNS = "tests/cli/test_runs.py::test_filters_of_the_list_of_runs_combine"
PAGES = "tests/cli/test_listing_index.py::test_of_many_runs_those_asked_for_are_found_page_by_page"
DOCTOR = "tests/cli/test_doctor.py::test_views_that_nobody_keeps_and_a_rebuild_that_was_left_are_told"

ASKING = (
    mutant(
        "long messages that stay cut",
        "conversations/reading.py",
        "for position in to_be_read(said):",
        "for position in to_be_read(said)[:0]:",
        HISTORY,
    ),
    mutant(
        "what failed runs said, whether asked for or not",
        "conversations/reading.py",
        "include_failed_runs=include_failed_runs, events",
        "include_failed_runs=True, events",
        HISTORY,
    ),
    mutant(
        "a user who comes to be by being asked for",
        "history.py",
        "ref = await log.ref(kind, name, create=False)",
        "ref = await log.ref(kind, name)",
        "tests/app/test_conversations.py::test_a_conversation_or_moment_that_there_is_not_is_told",
    ),
    mutant(
        "a ref that only its id stands for",
        "history.py",
        'return name.startswith(f"{kind}-") and REF.fullmatch(name) is not None',
        "return False",
        RUNS,
    ),
    mutant(
        "a list that goes on past what was asked for",
        "cli/listing.py",
        'until={} if asked.until is None else {"requested_at": asked.until},',
        "until={},",
        RUNS,
    ),
    mutant(
        "a list that forgets whose runs are asked for",
        "cli/listing.py",
        'where: dict[str, object] = {"status": wanted.status, "target": wanted.agent}',
        'where: dict[str, object] = {"status": wanted.status}',
        "tests/cli/test_runs.py::test_runs_are_listed_newest_first_and_filtered",
    ),
    mutant(
        "a list of no more than one page",
        "cli/viewing.py",
        "if more is None or len(found) == limit:",
        "if True:",
        PAGES,
    ),
    mutant(
        "failed attempts that are not told apart",
        "cli/summing.py",
        "came = [attempt for attempt in call.attempts if attempt.error_type is None]",
        "came = list(call.attempts)",
        "tests/cli/test_views.py::test_usage_sums_tokens_and_cost_with_failed_attempts_apart",
    ),
    mutant(
        "usage of the whole first day",
        "cli/summing.py",
        "return [document for document in documents if asked.holds(document.value.began_at)]",
        "return documents",
        "tests/cli/test_views.py::test_usage_of_a_time_is_that_of_the_calls_begun_in_it",
    ),
    mutant(
        "a forgotten key that is still there",
        "cli/remembering.py",
        'text = short(event.value) if isinstance(event, MemorySet) else "(forgotten)"',
        'text = short(getattr(event, "value", None))',
        "tests/cli/test_views.py::test_the_history_of_a_key_says_every_value_when_and_in_which_run",
    ),
    mutant(
        "a large value printed as what stands for it",
        "cli/remembering.py",
        "if not is_clipped(value):",
        "if True:",
        "tests/cli/test_views.py::test_memory_says_what_a_key_holds_now_and_what_it_held_then",
    ),
    mutant(
        "too much lag that nobody hears of",
        "cli/keeping.py",
        "if lag_max is None or all(lag.events <= lag_max for lag in lags):",
        "if lag_max is None or any(lag.events <= lag_max + 99 for lag in lags):",
        "tests/cli/test_projections.py::test_lag_is_told_in_events_and_seconds_and_too_much_of_it_exits_with_one",
    ),
    mutant(
        "views that differ and are called equal",
        "cli/rebuilding.py",
        "return EQUAL if all(one.agrees for one in found) else DIFFERENT",
        "return EQUAL",
        "tests/cli/test_projections.py::test_a_view_that_is_not_what_the_log_says_is_found_and_mended_by_a_rebuild",
    ),
    mutant(
        "a doctor who does not mind views that nobody keeps",
        "projector/doctor.py",
        'return row.stage == "building" or head - row.cursor > FAR_BEHIND_EVENTS',
        'return row.stage == "building"',
        DOCTOR,
    ),
    mutant(
        "a doctor who passes over a rebuild that was left",
        "projector/doctor.py",
        'return row.stage == "building" or head - row.cursor > FAR_BEHIND_EVENTS',
        "return head - row.cursor > FAR_BEHIND_EVENTS * 2",
        DOCTOR,
    ),
    mutant(
        "a file of another program taken for views",
        "projector/doctor.py",
        "if application != APPLICATION_ID:",
        "if False:",
        "tests/cli/test_doctor.py::test_a_file_that_is_no_file_of_views_and_one_that_is_damaged_are_told",
    ),
    mutant(
        "a parked view that the doctor calls well",
        "projector/doctor.py",
        "parked = [row for row in rows if row.error is not None]",
        "parked: list[_Row] = []",
        "tests/cli/test_doctor.py::test_a_projection_that_failed_is_told_with_the_event_and_what_to_do",
    ),
)
