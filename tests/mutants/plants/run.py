"""Bugs in runs: intents, outcomes, replay, and the claim that one worker has."""

from __future__ import annotations

from mutants.mutant import Edit, Mutant, mutant

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
        '            if not self.tool.repeatable:\n                self._unknown = "timeout"\n                return None\n',
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
        "tests/runtime/test_interleaving.py::test_a_replay_goes_through_the_branches_in_the_order_of_the_first_execution",
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
                "self._log.append(Append(drafts, {self._run: own, **expect}, beside=beside))",
                "self._log.append(Append(drafts, {**({} if isinstance(own, Fence) else {self._run: own}), **expect}, beside=beside))",
            ),
            # The second wall: an event names the epoch it was written under.
            Edit("log/plan.py", "if named is not None and named != epoch:", "if False:"),
        ),
        "tests/runtime/test_fencing.py::test_the_first_worker_is_fenced_and_tells_what_its_write_came_to",
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
        "tests/pure/test_folds.py::test_what_came_from_outside_counts_where_the_run_saw_it",
    ),
    mutant(
        "results that are not redacted",
        "runtime/tool_calls.py",
        "result = self.execution.admit(self.tool.result_to_json(returned))",
        "result = self.tool.result_to_json(returned)",
        "tests/runtime/test_redaction.py::test_no_row_and_no_page_of_the_file_holds_the_secret",
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
        "runtime/facts.py",
        "{stream: Exact(version)}",
        "{}",
        "tests/runtime/test_memory.py::test_of_many_who_write_on_the_same_condition_one_succeeds",
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
