"""Bugs in copying and moving logs, and in checking them on PostgreSQL."""

from __future__ import annotations

from mutants.mutant import Mutant, mutant

COPY = "tests/log/test_copy.py::"

MOVING: tuple[Mutant, ...] = (
    mutant(
        "a copy that believes the leaves",
        "moving.py",
        "                self.check_step(step, self.position + len(batch) + 1)\n",
        "",
        f"{COPY}test_an_event_that_is_not_what_was_recorded_is_named_and_not_copied",
    ),
    mutant(
        "a copy that does not look at payloads",
        "moving.py",
        "        prove_step(rows, step)\n        prove_payload(rows.place, step.event)\n",
        "        prove_step(rows, step)\n",
        f"{COPY}test_an_event_that_is_not_what_was_recorded_is_named_and_not_copied",
    ),
    mutant(
        "a copy that is not read back",
        "moving.py",
        "                prove_step(there, step)\n                prove_payload(there.place, step.event)\n",
        "",
        f"{COPY}test_a_copy_that_somebody_has_changed_is_noticed",
    ),
    mutant(
        "a copy that goes on one event too late",
        "moving.py",
        "        self.position = upto\n",
        "        self.position = upto + bool(upto)\n",
        f"{COPY}test_what_was_done_since_is_brought_over",
    ),
    mutant(
        "a copy that goes on one event too early",
        "moving.py",
        "        self.position = upto\n",
        "        self.position = upto - bool(upto)\n",
        f"{COPY}test_what_was_done_since_is_brought_over",
    ),
    mutant(
        "what is there is not held against the log",
        "moving.py",
        "            if (position, leaf) != other:",
        "            if False:",
        f"{COPY}test_a_copy_that_has_been_written_itself_is_left_as_it_is",
    ),
    mutant(
        "erased since, and still in the copy",
        "moving.py",
        "                if position != other:\n",
        "                if position == other:\n",
        f"{COPY}test_what_was_done_since_is_brought_over",
    ),
    mutant(
        "refs that stay behind",
        "log/beside.py",
        "TABLES = (\n    REFS,\n",
        "TABLES = (\n",
        f"{COPY}test_everything_is_in_the_copy_but_leases",
    ),
    mutant(
        "refs that were erased, and are still in the copy",
        "log/beside.py",
        "        while other is not None and other[: table.key] < key:\n            yield Difference(other[: table.key], None)\n",
        "        while other is not None and other[: table.key] < key:\n",
        "tests/log/test_beside.py::test_differences_make_of_what_is_there_what_is_wanted",
    ),
    mutant(
        "entries that stay with workers who are not there",
        "log/beside.py",
        '        if state == "claimed":',
        "        if False:",
        f"{COPY}test_what_a_worker_had_claimed_is_ready_for_others",
    ),
    mutant(
        "an unfinished copy that passes for a log",
        "log/sqlite/connect.py",
        "                write_standing(connection, Standing(copied_from=origin.place))\n",
        "                pass\n",
        f"{COPY}test_a_copy_that_was_killed_at_any_moment_goes_on",
    ),
    mutant(
        "a log in a file that is written after it has moved",
        "log/sqlite/transaction.py",
        "        read_standing(self._connection).check(self._path)\n",
        "",
        f"{COPY}test_a_log_moves_under_two_writers_and_nothing_is_lost_or_doubled",
    ),
    mutant(
        "a log on PostgreSQL that is written after it has moved",
        "log/postgres/transaction.py",
        "        Standing(*standing).check(self._address.shown)\n",
        "",
        f"{COPY}test_a_log_that_has_moved_can_move_back",
    ),
    mutant(
        "the rest copied before the log is sealed",
        "moving.py",
        "            self.source.seal(target.place)\n            self.teller.sealed(rows.position())\n"
        "        with rows.moment():\n            self.events_upto(rows.position())\n",
        "            end = rows.position()\n            self.source.seal(target.place)\n"
        "            self.teller.sealed(rows.position())\n"
        "        with rows.moment():\n            self.events_upto(end if switch else rows.position())\n",
        f"{COPY}test_a_log_moves_under_two_writers_and_nothing_is_lost_or_doubled",
    ),
    mutant(
        "two copies to one place that mix",
        "log/sqlite/copying.py",
        "            self._expect(connection, steps[0].event.position - 1)\n",
        "",
        f"{COPY}test_two_copies_to_one_place_do_not_mix",
    ),
    mutant(
        "a trigger of PostgreSQL that nobody misses",
        "log/postgres/rows.py",
        'elif enabled != "A" or',
        "elif False or",
        "tests/log/test_check_postgres.py::test_what_was_done_to_the_database_is_found",
    ),
    mutant(
        "a head on PostgreSQL that is believed",
        "log/postgres/rows.py",
        "        if position != last_position:",
        "        if False:",
        "tests/log/test_check_postgres.py::test_what_was_done_to_the_database_is_found",
    ),
)
