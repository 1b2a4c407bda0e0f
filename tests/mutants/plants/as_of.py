"""Bugs in reading as of a moment: where it begins, where it ends, and what it believes."""

from __future__ import annotations

from mutants.mutant import mutant

AS_OF_TESTS = "tests/projector/test_as_of.py::"
MARKED = f"{AS_OF_TESTS}test_a_long_key_is_read_from_its_last_mark_on"
MOMENTS = "tests/projector/test_moments.py::"
SOURCES = "tests/projector/test_sources.py::"
RANGES = f"{SOURCES}test_every_range_of_every_source_is_what_lies_in_it"
CORRELATIONS = "tests/log/test_correlation_reads.py::"

AS_OF = (
    mutant(
        "a tail that begins one event late",
        "projector/asof.py",
        "after=known.position, upto=position, version=known.version",
        "after=known.position + 1, upto=position, version=known.version and known.version + 1",
        MARKED,
    ),
    mutant(
        "a tail that goes on behind the moment",
        "projector/asof.py",
        "after=known.position, upto=position,",
        "after=known.position, upto=position + 2,",
        MARKED,
    ),
    mutant(
        "a mark behind the moment",
        "projector/reading.py",
        'WHERE key = ? AND position <= ? "\n            "ORDER BY',
        'WHERE key = ? AND position <= ? + 15 "\n            "ORDER BY',
        MARKED,
    ),
    mutant(
        "a document that has changed since, taken for what it was",
        "projector/asof.py",
        "documents[key, part].position <= position:",
        "True:",
        f"{AS_OF_TESTS}test_no_statement_scans_a_table[talks]",
    ),
    mutant(
        "a view that is behind, taken for the present",
        "projector/asof.py",
        "        return _Known(documents, generation.cursor)\n",
        "        return _Known(documents, position)\n",
        f"{AS_OF_TESTS}test_no_statement_scans_a_table[streams]",
    ),
    mutant(
        "a key of source Everything looked for along the log though its versions are kept",
        "projector/asof.py",
        "if isinstance(projection.source(key), Everything):",
        "if False:",
        MARKED,
    ),
    mutant(
        "a view believed that is of another history",
        "projector/asof.py",
        "if seen is None or not await is_of_this_history(log, seen.generation):",
        "if seen is None:",
        f"{AS_OF_TESTS}test_a_view_of_another_history_is_not_believed",
    ),
    mutant(
        "a view that was replaced in the middle, told of as damage",
        "projector/asof.py",
        "if live is not None and live.id == seen.generation.id:",
        "if True:",
        f"{AS_OF_TESTS}test_a_view_that_is_replaced_while_it_is_read_is_read_anew",
    ),
    mutant(
        "pages of a stream with what lies behind the end",
        "projector/sources.py",
        "within = [row for row in rows if row.position <= upto]",
        "within = rows",
        RANGES,
    ),
    mutant(
        "a stream begun behind its first event of the range",
        "projector/sources.py",
        "rows[0].position <= position:",
        "rows[0].position <= position + 1:",
        RANGES,
    ),
    mutant(
        "a source of which one page is read",
        "projector/sources.py",
        "        if len(page) < PAGE_EVENTS:\n            return\n",
        "        return\n",
        RANGES,
    ),
    mutant(
        "a stream read a whole page beyond the end",
        "projector/sources.py",
        "limit = min(page_events, upto - after)",
        "limit = page_events",
        f"{SOURCES}test_a_stream_that_is_alone_is_read_to_the_row",
    ),
    mutant(
        "a time without the events of it",
        "projector/moments.py",
        "if await _time_of(log, middle) <= time:",
        "if await _time_of(log, middle) < time:",
        f"{MOMENTS}test_a_time_is_every_event_of_it_or_before",
    ),
    mutant(
        "a time to come that is answered with the present",
        "projector/moments.py",
        "        if time > now:\n",
        "        if False:\n",
        f"{MOMENTS}test_a_time_behind_the_last_event_is_the_head_until_now_and_unknown_after",
    ),
    mutant(
        "a correlation read along its whole stream",
        "log/sqlite/store.py",
        "    AND version >= (SELECT low FROM halved WHERE low = high AND beyond = :after)\n",
        "    AND position > :after\n",
        f"{CORRELATIONS}test_what_lies_outside_costs_nothing",
    ),
    mutant(
        "the end of a correlation's range found one event early",
        "log/sqlite/store.py",
        "beyond, 0, last + 1 FROM named",
        "beyond, 0, last FROM named",
        f"{CORRELATIONS}test_every_range_of_a_correlation_is_what_lies_in_it",
    ),
)
