"""Bugs that somebody could make, and the test that notices each: what a suite is worth is what it catches.

A mutant is a small change of the source. Its edits are given as text that occurs once, so that a list which
has grown older than the code is noticed too (``test_mutants.py``). ``make mutants`` tries all of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """In this file below src/evrt, this text, which occurs once, becomes that."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A bug: what it is, how it is made, and the test that has to fail because of it."""

    what: str
    edits: tuple[Edit, ...]
    caught_by: str


def mutant(what: str, file: str, old: str, new: str, caught_by: str) -> Mutant:
    return Mutant(what, (Edit(file, old, new),), caught_by)


STORE = (
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
        "a migration without a copy",
        "log/migrate.py",
        "        backup(url, copy, copying=copying, checking=checking)\n",
        "",
        "tests/log/test_migrate.py::test_it_gets_todays_schema_and_a_copy_of_it_as_it_was_stays",
    ),
    mutant(
        "a check that believes the leaves",
        "log/check.py",
        "if entry and leaf != event.leaf:",
        "if entry and len(event.leaf) != 32:",
        "tests/log/test_check.py",
    ),
)

RUN = (
    mutant(
        "a tool that starts before its intent is durable",
        "runtime/tool_calls.py",
        "            return refused\n        await self.execution.barrier()\n        while True:\n",
        "            return refused\n        while True:\n",
        "tests/runtime/test_durability.py::test_a_tool_starts_only_when_its_intent_is_in_the_file",
    ),
    mutant(
        "a write without a key that is made again after a crash",
        "runtime/tool_calls.py",
        "return interrupted is not None and (is_unkeyed_write(interrupted) or not self.tool.repeatable)",
        "return False",
        "tests/runtime/test_effects.py::test_after_a_crash_a_write_without_a_key_is_in_doubt",
    ),
    mutant(
        "a write without a key that is called failed when it times out",
        "runtime/tool_calls.py",
        "            if not self.tool.repeatable:\n                return None\n",
        "",
        "tests/runtime/test_effects.py::test_a_write_without_a_key_that_times_out_is_in_doubt_and_settled_with_its_result",
    ),
    mutant(
        "another key at every attempt",
        "runtime/tool_calls.py",
        'f"{self.execution.run}:{self.identity}"',
        'f"{self.execution.run}:{self.identity}:{self.execution.chance()}"',
        "tests/runtime/test_effects.py::test_a_key_stays_the_same_over_attempts_and_resumes",
    ),
    mutant(
        "a clock that is not recorded",
        "runtime/context.py",
        "        self._execution.note(event)\n        return event.value\n",
        "        return event.value\n",
        "tests/runtime/test_operations.py::test_clock_ids_and_chance_are_recorded_and_the_same_again",
    ),
    mutant(
        "arguments that may differ from the history",
        "runtime/differences.py",
        "if digest is not None and known.digest is not None and known.digest != digest:",
        "if False:",
        "tests/runtime/test_replay.py::test_a_divergence_in_a_branch_stops_the_others_without_a_trace",
    ),
    mutant(
        "code that may end before its history does",
        "runtime/runner.py",
        "            execution.check_all_asked()\n",
        "",
        "tests/runtime/test_replay.py::test_a_replay_tells_where_changed_code_leaves_its_history",
    ),
    mutant(
        "outcomes released in the order of asking",
        "runtime/progress.py",
        "            blocked = self._asked.pop(self._order[self._next], None)\n",
        "            blocked = self._asked.pop(next(iter(self._asked), ''), None)\n",
        "tests/runtime/test_interleaving.py",
    ),
    mutant(
        "effects that start before the past is complete",
        "runtime/progress.py",
        "        if not self.live:\n            blocked = Blocked(task, Landing())\n",
        "        if False:\n            blocked = Blocked(task, Landing())\n",
        "tests/runtime/test_replay.py::test_a_replay_tells_where_changed_code_leaves_its_history",
    ),
    Mutant(
        "a worker that goes on without a claim",
        (
            Edit(
                "runtime/journal.py",
                "self._log.append(Append(drafts, {**expect, self._run: own}))",
                "self._log.append(Append(drafts, {**expect, **({} if isinstance(own, Fence) else {self._run: own})}))",
            ),
            # The second wall: an event names the epoch it was written under.
            Edit("log/plan.py", "if named is not None and named != epoch:", "if False:"),
        ),
        "tests/runtime/test_fencing.py",
    ),
    mutant(
        "a failed attempt taken for the last",
        "folds/journal.py",
        "            if event.final:\n                self._close(operation, envelope)\n",
        "            if True:\n                self._close(operation, envelope)\n",
        "tests/runtime/test_effects.py::test_a_key_stays_the_same_over_attempts_and_resumes",
    ),
    mutant(
        "an answer that is taken from before it was seen",
        "folds/journal.py",
        "        elif kind in OUTSIDE:\n            operation.outside.append(envelope)\n",
        "        elif kind in OUTSIDE:\n            self._close(operation, envelope)\n",
        "tests/runtime/test_questions.py",
    ),
    mutant(
        "results that are not redacted",
        "runtime/tool_calls.py",
        "result = self.execution.admit(self.tool.result_to_json(returned))",
        "result = self.tool.result_to_json(returned)",
        "tests/runtime/test_redaction.py",
    ),
    mutant(
        "a retry without an end",
        "runtime/tool_calls.py",
        "number < policy.attempts_max)",
        "number <= policy.attempts_max)",
        "tests/runtime/test_effects.py::test_after_the_last_attempt_the_code_sees_the_error",
    ),
    mutant(
        "memory that is written whatever version was expected",
        "runtime/memory.py",
        "{stream: Exact(memory.version)}",
        "{}",
        "tests/runtime/test_memory.py",
    ),
    mutant(
        "a cut-off call whose append nobody hears the end of",
        "runtime/journal.py",
        "        finally:\n            if landing.done():",
        "        else:\n            if landing.done():",
        "tests/runtime/test_durability.py::"
        "test_what_follows_a_call_that_was_cut_off_while_its_intent_was_written_is_written_too",
    ),
)

CODEC = (
    mutant(
        "false and zero taken for nothing",
        "codec.py",
        "if value is not None}",
        "if value}",
        "tests/pure/test_codec.py::test_every_event_comes_back_as_it_was",
    ),
    mutant(
        "older shapes taken for the present one",
        "codec.py",
        "    for version in range(schema, cls.class_version):\n",
        "    for version in range(0):\n",
        "tests/pure/test_codec.py::test_older_shapes_are_turned_into_the_present_one_step_by_step",
    ),
    mutant(
        "a newer shape that is guessed at",
        "codec.py",
        "not 1 <= schema <= cls.class_version",
        "not 1 <= schema",
        "tests/pure/test_codec.py::test_a_newer_version_of_a_known_type_is_kept_and_not_guessed_at",
    ),
    mutant(
        "the version of a shape left out",
        "codec.py",
        'return orjson.dumps({**orjson.loads(meta), "schema": event.class_version})',
        "return meta",
        "tests/pure/test_codec.py::test_the_version_of_a_shape_travels_in_meta",
    ),
    mutant(
        "digests that depend on the order of keys",
        "events/canonical.py",
        "option=orjson.OPT_SORT_KEYS",
        "option=0",
        "tests/pure/test_canonical.py::test_the_order_of_keys_does_not_count",
    ),
    mutant(
        "a history's digest that leaves outcomes out",
        "folds/digest.py",
        "    return event.type, _fields(event)\n",
        "    return event.type, {}\n",
        "tests/pure/test_digest.py::test_another_outcome_gives_another_digest",
    ),
    mutant(
        "a value that is walked twice on its way to JSON",
        "seal.py",
        "orjson.dumps(value, option=LEFT_TO_PYDANTIC)",
        "orjson.dumps(value, default=to_jsonable, option=LEFT_TO_PYDANTIC)",
        "tests/pure/test_seal.py::test_what_has_a_json_shape_takes_it",
    ),
)

MODEL = (
    mutant(
        "what a failed attempt used up is not recorded",
        "runtime/model_calls.py",
        "            usage=usage,\n",
        "",
        "tests/effects/test_failed_attempts.py::test_what_a_failed_attempt_used_up_is_recorded_and_counted",
    ),
    mutant(
        "what a failed attempt used up is not counted",
        "folds/run.py",
        "isinstance(event, ModelCallCompleted | ModelCallFailed)",
        "isinstance(event, ModelCallCompleted)",
        "tests/effects/test_failed_attempts.py::test_what_a_failed_attempt_used_up_is_recorded_and_counted",
    ),
    mutant(
        "a stream that was cut is taken for a whole reply",
        "effects/models.py",
        "        except Exception as error:\n"
        "            raise self._failure(litellm, request, error, handled, stream) from error\n",
        "        except Exception as error:\n"
        "            if stream is None:\n"
        "                raise self._failure(litellm, request, error, handled, stream) from error\n"
        '            stream.received_finish_reason = "stop"\n',
        "tests/effects/test_lying_network.py::test_a_lie_is_a_failure_that_is_tried_again",
    ),
    mutant(
        "tool calls that litellm drops are not missed",
        "effects/models.py",
        "if len(calls) < max(calls_begun, int(promised)):",
        "if False:",
        "tests/effects/test_lying_network.py::test_a_lie_is_a_failure_that_is_tried_again",
    ),
    mutant(
        "the key stays in the text of a failure",
        "effects/model_errors.py",
        "if len(secret) >= SECRET_CHARACTERS_MIN:",
        "if False:",
        "tests/effects/test_failed_attempts.py::test_the_key_is_in_no_text_of_a_failure",
    ),
    mutant(
        "the key is taken out of a text that has been cut off",
        "effects/model_errors.py",
        "    text = addressee.without_secrets(text)\n",
        "    text = addressee.without_secrets(text[:DETAIL_CHARACTERS_MAX])\n",
        "tests/effects/test_failed_attempts.py::test_the_key_is_in_no_text_of_a_failure",
    ),
    mutant(
        "a refused key is tried again",
        "effects/model_errors.py",
        "return kind, status >= 500 or",
        "return kind, status >= 401 or",
        "tests/effects/test_failed_attempts.py::test_what_will_not_pass_is_not_tried_again",
    ),
    mutant(
        "connections to a provider stay open",
        "effects/models.py",
        'cache.update_cache_key_with_event_loop("")',
        '"nowhere"',
        "tests/effects/test_lying_network.py::test_what_is_only_odd_is_a_reply",
    ),
)

AUDIT = (
    mutant(
        "a proof of inclusion of any length",
        "audit/tree.py",
        "    if len(path) != inner + (index >> inner).bit_count():\n        return False\n",
        "",
        "tests/audit/test_tree.py::test_an_inclusion_proof_with_anything_changed_is_rejected",
    ),
    mutant(
        "a proof of consistency that need not lead to the old root",
        "audit/tree.py",
        "return old == old_root and new == new_root",
        "return new == new_root",
        "tests/audit/test_tree.py::test_every_pair_of_sizes_is_consistent_and_no_two_others_with_its_proof",
    ),
    mutant(
        "inner nodes hashed like leaves",
        "audit/tree.py",
        'NODE_PREFIX = b"\\x01"',
        'NODE_PREFIX = b"\\x00"',
        "tests/audit/test_tree.py::test_the_known_roots_come_out",
    ),
    mutant(
        "a note that nobody has signed, taken for signed",
        "audit/note.py",
        "bool(of_key) and all(",
        "all(",
        "tests/audit/test_note.py::test_signatures_of_strangers_count_for_nothing_and_spoil_nothing",
    ),
    mutant(
        "base64 in more than one spelling",
        "audit/note.py",
        "return content if to_base64(content) == text else None",
        "return content",
        "tests/audit/test_note.py::test_a_proof_with_any_single_bit_flipped_proves_nothing",
    ),
    mutant(
        "tiles written where they are read",
        "audit/folder.py",
        'passing = path.with_name(f".{path.name}.new")',
        "passing = path",
        "tests/audit/test_crash.py::test_a_growth_that_is_killed_anywhere_is_gone_on_with",
    ),
    mutant(
        "tiles that get their names before they are on the disk",
        "audit/folder.py",
        "        os.fsync(descriptor)\n    finally",
        "        pass\n    finally",
        "tests/audit/test_crash.py::test_everything_is_synced_before_the_head_names_it",
    ),
    mutant(
        "a tree that is overwritten where the log says otherwise",
        "audit/folder.py",
        "if path.read_bytes() != content:",
        "if False:",
        "tests/audit/test_growth.py::test_a_log_whose_last_full_tile_was_rewritten_is_refused",
    ),
    mutant(
        "a tree that goes on from a log that was rewritten",
        "audit/growth.py",
        "if tree.root() != self.head.root:",
        "if False:",
        "tests/audit/test_growth.py::test_a_log_whose_last_events_were_rewritten_is_refused",
    ),
    mutant(
        "a checkpoint that contradicts the one before",
        "audit/growth.py",
        "if old.size > head.size or root_at(old.size, folder.subtrees(head.size)) != old.root:",
        "if False:",
        "tests/audit/test_growth.py::test_what_was_signed_is_never_contradicted",
    ),
    mutant(
        "leaves that are believed as they stand in the rows",
        "log/walk.py",
        "if leaf_hash(entry) != event.leaf:",
        "if False:",
        "tests/audit/test_growth.py::test_an_event_that_is_not_what_was_recorded_is_named_and_ends_the_tree_before_it",
    ),
    mutant(
        "a kept checkpoint that is not held against the log",
        "audit/verifying.py",
        "elif self.roots[size] != checkpoint.root:",
        "elif False:",
        "tests/audit/test_verifying.py::test_a_checkpoint_whose_root_was_doctored_is_not_signed",
    ),
    mutant(
        "an anchor that nobody has signed",
        "audit/verifying.py",
        "if one.checkpoint.signed_by(key)]",
        "if True]",
        "tests/audit/test_verifying.py::test_a_checkpoint_that_another_key_has_signed_anchors_nothing",
    ),
    mutant(
        "bundles of entries that nobody compares",
        "audit/verifying.py",
        "if head is None or tile.number",
        "if head is None or tile.level < 0 or tile.number",
        "tests/audit/test_verifying.py::test_every_file_of_the_tree_is_compared",
    ),
    mutant(
        "a private key for everybody's eyes",
        "cli/auditing.py",
        "KEY_MODE = 0o600",
        "KEY_MODE = 0o644",
        "tests/cli/test_audit.py::test_a_key_is_for_its_owners_eyes_and_its_vkey_is_printed",
    ),
    mutant(
        "a log that is called anchored by itself",
        "cli/verifying.py",
        '"UNANCHORED" if verdict.anchored is None else "ANCHORED"',
        '"ANCHORED"',
        "tests/cli/test_audit.py::test_without_anything_from_outside_a_log_is_unanchored_and_it_says_so",
    ),
)

MUTANTS = (*STORE, *RUN, *CODEC, *MODEL, *AUDIT)
