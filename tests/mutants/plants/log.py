"""Bugs in the log: what may be appended, what is recorded of it, how it is read."""

from __future__ import annotations

from mutants.mutant import mutant

LOG = (
    mutant(
        "a fence that lets everybody through",
        "log/plan.py",
        "        if epoch == expectation.epoch:\n            return head\n        raise Fenced(",
        "        if epoch >= expectation.epoch:\n            return head\n        raise Fenced(",
        "tests/log/test_contract.py::test_a_claim_raises_the_epoch_and_fences_the_one_before",
    ),
    mutant(
        "a claim that does not raise the epoch",
        "log/plan.py",
        "return head._replace(epoch=expectation.epoch)",
        "return head",
        "tests/log/test_contract.py::test_only_one_of_several_claims_at_once_succeeds",
    ),
    mutant(
        "an exact version that may be any later one",
        "log/plan.py",
        "if version == expectation.version and (version > 0 or leaf is None):",
        "if version >= expectation.version and (version > 0 or leaf is None):",
        "tests/log/test_contract.py::test_an_exact_version_must_be_the_one_expected",
    ),
    mutant(
        "a chain that forgets the event before",
        "log/plan.py",
        "                prev=prev,\n",
        "                prev=None,\n",
        "tests/log/test_contract.py::test_every_leaf_follows_from_the_row_and_the_leaf_before_it_in_the_stream",
    ),
    mutant(
        "time that runs backwards with the clock",
        "log/plan.py",
        "time = max(now, end.time)",
        "time = now",
        "tests/log/test_plan.py::test_a_clock_that_goes_back_does_not_take_time_with_it",
    ),
    mutant(
        "one salt for a whole append",
        "log/plan.py",
        "        salt = salts[at : at + SALT_BYTES]\n",
        "        salt = salts[:SALT_BYTES]\n",
        "tests/log/test_contract.py::test_every_event_has_a_salt_of_its_own",
    ),
    mutant(
        "a repetition that is not compared",
        "log/plan.py",
        "        if not _same(draft, row):\n",
        "        if False and not _same(draft, row):\n",
        "tests/log/test_contract.py::test_a_repetition_with_other_content_is_an_error",
    ),
    mutant(
        "a digest without its salt",
        "log/entry.py",
        "return sha256(salt + payload).digest()",
        "return sha256(payload).digest()",
        "tests/log/test_entry.py::test_the_golden_vectors_hold",
    ),
    mutant(
        "a leaf that could be taken for a node of the tree",
        "log/entry.py",
        'LEAF_PREFIX = b"\\x00"',
        'LEAF_PREFIX = b""',
        "tests/log/test_entry.py::test_the_golden_vectors_hold",
    ),
    mutant(
        "a trigger that does not look at versions",
        "log/sqlite/schema.py",
        "  OR NEW.version <> coalesce(\n"
        "         (SELECT max(version) + 1 FROM events WHERE stream = NEW.stream),\n"
        "         CASE WHEN NEW.version = 0 THEN 0 ELSE 1 END\n"
        "     )\n",
        "",
        "tests/log/test_sqlite.py::test_the_database_refuses_whatever_would_change_history",
    ),
    mutant(
        "a trigger that lets a payload be changed",
        "log/sqlite/schema.py",
        "  OR NEW.payload IS NOT NULL\n",
        "",
        "tests/log/test_sqlite.py::test_the_database_refuses_whatever_would_change_history",
    ),
    mutant(
        "a sync only now and then",
        "log/sqlite/connect.py",
        'connection.execute("PRAGMA synchronous = FULL")',
        'connection.execute("PRAGMA synchronous = NORMAL")',
        "tests/log/test_sqlite.py::test_the_writer_syncs_every_commit_and_never_copies_the_wal_by_itself",
    ),
    mutant(
        "heads remembered though somebody else has written",
        "log/sqlite/transaction.py",
        "if version != self._data_version:",
        "if self._data_version is None:",
        "tests/log/test_processes.py::test_of_the_same_append_by_several_processes_one_is_recorded",
    ),
    mutant(
        "heads remembered though the transaction was taken back",
        "log/sqlite/transaction.py",
        "        self._new.clear()\n        self._data_version = None\n",
        "        self._new.clear()\n",
        "tests/log/test_sqlite.py::test_heads_that_do_not_fit_the_events_stop_the_writer_not_the_log",
    ),
    mutant(
        "a lock that nobody else feels",
        "log/sqlite/lock.py",
        "fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "tests/log/test_lock.py::test_only_one_holds_it",
    ),
    mutant(
        "a subscription that skips the last event of a page",
        "log/subscribe.py",
        "        self._after = row.position\n",
        "        self._after = row.position + (not self._page)\n",
        "tests/log/test_subscribe.py::test_a_long_past_comes_in_pages",
    ),
    mutant(
        "a blob that is not checked when it is read",
        "log/blobs.py",
        "if after < BLOB_PIECE_BYTES and counted.key != wanted:",
        "if False and counted.key != wanted:",
        "tests/log/test_blobs.py::test_other_bytes_than_were_written_are_noticed",
    ),
    mutant(
        "a check that believes the leaves",
        "log/check.py",
        "if entry and leaf != event.leaf:",
        "if entry and len(event.leaf) != 32:",
        "tests/log/test_check.py::test_tampering_is_found",
    ),
)
