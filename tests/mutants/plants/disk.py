"""Bugs in how batches reach the disk: what a failed write leaves, recoveries, locks, answers."""

from __future__ import annotations

from mutants.mutant import Edit, Mutant, mutant

RECOVERY = "tests/faults/test_recovery.py::"
EVERY_IO = "tests/faults/test_every_io.py::"

DISK = (
    mutant(
        "a connection that goes on after a failed write",
        "log/sqlite/committing.py",
        "        self.poison(error)\n        try:\n            self._recover()\n            recorded",
        "        try:\n            self._transaction.roll_back()\n            recorded",
        f"{EVERY_IO}test_what_a_failed_sync_left_is_written_anew_before_it_is_believed",
    ),
    mutant(
        "a WAL that is believed as it is read back",
        "log/sqlite/recovery.py",
        "    write_wal_anew(path)\n    connection = connect_writing",
        "    connection = connect_writing",
        f"{EVERY_IO}test_what_a_failed_sync_left_is_written_anew_before_it_is_believed",
    ),
    mutant(
        "a WAL that is written anew and not synced",
        "log/sqlite/recovery.py",
        "            os.fsync(file)\n",
        "            pass\n",
        f"{EVERY_IO}test_what_a_failed_sync_left_is_written_anew_before_it_is_believed",
    ),
    mutant(
        "a recovery without a commit over what the failed one left",
        "log/sqlite/recovery.py",
        "        prove(connection)\n",
        "",
        f"{EVERY_IO}test_nothing_recorded_stays_true_though_a_reader_keeps_the_wal_from_being_emptied",
    ),
    mutant(
        "nothing recorded, said of a commit whose sync failed",
        "log/sqlite/committing.py",
        "NOTHING if planned is None or _is_full(error) else UNKNOWN",
        "NOTHING",
        f"{EVERY_IO}test_nothing_recorded_stays_true_though_a_reader_keeps_the_wal_from_being_emptied",
    ),
    mutant(
        "a recovery that looks at nothing",
        "log/sqlite/recovery.py",
        "        verify_tail(connection, log_id, acknowledged.leaves())\n",
        "",
        f"{RECOVERY}test_what_was_acknowledged_and_is_not_there_stops_the_log_for_good_and_loudly",
    ),
    mutant(
        "a recovery that passes over what is not there",
        "log/sqlite/recovery.py",
        '            raise LostEvents(f"the event at position {position} is not there")\n',
        "            continue\n",
        f"{RECOVERY}test_what_was_acknowledged_and_is_not_there_stops_the_log_for_good_and_loudly",
    ),
    mutant(
        "a recovery that believes any event that is whole",
        "log/sqlite/recovery.py",
        "leaf_hash(entry) and acknowledged.get(position, event.leaf) == event.leaf",
        "leaf_hash(entry)",
        f"{RECOVERY}test_a_whole_event_in_the_place_of_the_one_acknowledged_is_a_loss",
    ),
    mutant(
        "a recovery that does not look at heads",
        "log/sqlite/recovery.py",
        "    _verify_heads(connection, streams)\n",
        "",
        f"{RECOVERY}test_what_was_acknowledged_and_is_not_there_stops_the_log_for_good_and_loudly",
    ),
    mutant(
        "a failed write that leaves no mark",
        "log/sqlite/committing.py",
        "        self._lock.mark()\n",
        "",
        f"{RECOVERY}test_a_process_that_dies_poisoned_leaves_a_mark_for_the_next",
    ),
    mutant(
        "a mark that the next writer does not look at",
        "log/sqlite/committing.py",
        "if self._poison is not None or self._lock.is_marked():",
        "if self._poison is not None:",
        f"{RECOVERY}test_a_process_that_dies_poisoned_leaves_a_mark_for_the_next",
    ),
    mutant(
        "heads that outlive the connection that failed",
        "log/sqlite/committing.py",
        "            self._transaction = Transaction(self._connection, self._path, self.log_id)\n"
        "            self._wal_pages",
        "            self._transaction._connection = self._connection\n            self._wal_pages",
        f"{RECOVERY}test_a_commit_that_failed_is_settled_by_what_the_log_holds",
    ),
    mutant(
        "a batch that is written once more though the log holds it",
        "log/sqlite/committing.py",
        "        if recorded and planned is not None:\n",
        "        if False and planned is not None:\n",
        f"{RECOVERY}test_a_commit_that_failed_is_settled_by_what_the_log_holds",
    ),
    mutant(
        "not found, said to who has erased it himself",
        "log/sqlite/committing.py",
        "isinstance(job.error, Conflict | NotFound)",
        "isinstance(job.error, Conflict)",
        f"{RECOVERY}test_a_commit_that_failed_is_settled_by_what_the_log_holds",
    ),
    Mutant(
        "a batch that is answered before its COMMIT",
        (
            Edit(
                "log/sqlite/transaction.py",
                '        self._connection.execute("COMMIT")\n',
                "",
            ),
            Edit(
                "log/sqlite/transaction.py",
                '        self._connection.execute("BEGIN IMMEDIATE")\n',
                "        if self._connection.in_transaction:\n"
                '            self._connection.execute("COMMIT")\n'
                '        self._connection.execute("BEGIN IMMEDIATE")\n',
            ),
        ),
        "tests/log/test_contract_use.py::test_what_was_acknowledged_is_read",
    ),
    mutant(
        "what was erased stays in the WAL",
        "log/sqlite/committing.py",
        'self._erased = not self.checkpoint("TRUNCATE")',
        "self._erased = False",
        "tests/log/test_sqlite.py::test_erased_bytes_are_in_no_file",
    ),
    mutant(
        "nothing recorded, said of a turn that broke off",
        "log/sqlite/writer.py",
        'was broken off: {error!r}."), UNKNOWN)',
        'was broken off: {error!r}."), NOTHING)',
        "tests/faults/test_memory.py::test_a_turn_of_the_writer_that_breaks_off_leaves_nobody_waiting",
    ),
    mutant(
        "a batch that is answered twice",
        "log/writing.py",
        "    if answer.done():\n        return\n",
        "",
        "tests/faults/test_memory.py::test_who_was_answered_before_a_turn_broke_off_hears_nothing_more",
    ),
    mutant(
        "a writer that goes on in a file nobody else sees",
        "log/sqlite/writer.py",
        "if file_identity(self._path) == self._file:",
        "if file_identity(self._path):",
        "tests/log/test_sqlite.py::test_a_file_that_is_replaced_while_open_takes_no_more_events",
    ),
    mutant(
        "a lock on a file that was tidied away",
        "log/sqlite/lock.py",
        "if os.fstat(self._file).st_nlink == 0:",
        "if False:",
        "tests/log/test_lock.py::test_who_holds_a_file_that_was_tidied_away_holds_no_lock",
    ),
    mutant(
        "a file that did not lie still, read as if it had",
        "log/sqlite/reader.py",
        "if self._still is None or self._still == shape(self._path):",
        "if True:",
        f"{RECOVERY}test_a_file_held_for_still_is_looked_at_again_when_somebody_writes",
    ),
    mutant(
        "a reader that is cancelled takes the connection from the others",
        "log/sqlite/reader.py",
        "return await asyncio.shield(opening)",
        "return await opening",
        "tests/log/test_sqlite.py::test_a_reader_that_is_cancelled_takes_the_connection_from_nobody",
    ),
)
