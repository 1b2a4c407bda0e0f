"""Bugs in what operations come to: races and what loses them, retries, doubts that settle themselves."""

from __future__ import annotations

from mutants.mutant import mutant

RACE = "tests/runtime/test_race.py::"
RETRY = "tests/runtime/test_run_retry.py::"
RECONCILE = "tests/runtime/test_reconcile.py::"
FOLDS = "tests/pure/test_folds.py::"

OUTCOMES = (
    mutant(
        "a race of which nobody records who won",
        "runtime/race.py",
        "execution.record(RaceWon(operation=branches.identity, winner=winner, branches=len(branches.tasks)))",
        "pass",
        f"{RACE}test_whoever_won_wins_again_on_a_resume_though_another_is_faster_now",
    ),
    mutant(
        "a race that is won by whoever is faster this time",
        "runtime/race.py",
        "    if known is not None:\n        return known if known in branches.ended else None\n",
        "",
        f"{RACE}test_a_loser_that_needs_nothing_of_the_run_wins_on_no_replay_either",
    ),
    mutant(
        "a loser that gets further on replay than it did",
        "runtime/race.py",
        "scope.lost = index != event.winner",
        "scope.lost = False",
        f"{RACE}test_what_won_by_a_sleep_of_its_own_wins_on_replay_whatever_the_clock_does",
    ),
    mutant(
        "a race that does not wait for its losers",
        "runtime/race.py",
        "if await branches.until(lambda: branches.all_ended) or cancelled:",
        "if cancelled:",
        f"{RACE}test_a_loser_may_tidy_up_with_operations_and_the_race_waits_for_it",
    ),
    mutant(
        "a lost write without a key that is called failed",
        "runtime/tool_calls.py",
        "        while self.identity in execution.under_way or self.identity in execution.in_doubt:\n",
        "        while self.identity in execution.in_doubt:\n",
        f"{RACE}test_a_write_without_a_key_that_loses_is_in_doubt_and_the_run_waits",
    ),
    mutant(
        "a branch that is cut off on one level only",
        "runtime/branches.py",
        "            cut_all(before)\n",
        "            pass\n",
        f"{RACE}test_no_branch_of_a_loser_goes_on_when_the_race_is_decided",
    ),
    mutant(
        "a branch that is cut off before it began, without a trace",
        "runtime/branches.py",
        "            self._execution.late_cancels.keep_for(task)\n",
        "            task.cancel()\n",
        f"{RACE}test_a_loser_that_is_cut_off_before_it_began_is_recorded_as_cut_off",
    ),
    mutant(
        "a late cancellation that nobody delivers",
        "runtime/late_cancels.py",
        "            raise asyncio.CancelledError\n",
        "            return\n",
        f"{RACE}test_a_loser_that_had_its_outcome_already_keeps_it_and_is_cut_off_at_its_next_operation",
    ),
    mutant(
        "a late cancellation that the branches do not hear of",
        "runtime/late_cancels.py",
        "            self._numbers.update(dict.fromkeys(tasks, 0))\n",
        "            pass\n",
        f"{RACE}test_a_loser_that_had_its_outcome_already_keeps_it_and_is_cut_off_at_its_next_operation",
    ),
    mutant(
        "a late cancellation that the code has taken back",
        "runtime/late_cancels.py",
        "        if number is not None and task.cancelling() >= number:\n            if work",
        "        if number is not None:\n            if work",
        "tests/runtime/test_cancellation.py::"
        "test_a_cancellation_that_came_too_late_and_was_taken_back_strikes_nobody",
    ),
    mutant(
        "a run that goes on beside who has claimed it",
        "attempts.py",
        "if history.journal.epoch != journal.epoch:",
        "if False:",
        f"{RETRY}test_a_run_waits_for_its_next_attempt_and_any_process_can_go_on_with_it",
    ),
    mutant(
        "a retry that takes back what others came to",
        "folds/journal.py",
        "        self.order.remove(operation.identity)\n",
        "        self.order.clear()\n",
        f"{FOLDS}test_a_retry_reopens_the_operation_it_names_and_nothing_else",
    ),
    mutant(
        "a retry that makes a write without a key again",
        "folds/journal.py",
        " or is_unkeyed_write(known):\n            return False",
        ":\n            return False",
        f"{FOLDS}test_what_may_be_reopened",
    ),
    mutant(
        "a retry behind the back of code that has acted on the failure",
        "folds/journal.py",
        "return all(other is known or other.began < failure.version for other in self.operations.values())",
        "return True",
        f"{FOLDS}test_nothing_may_have_begun_after_a_failure_in_whichever_branch",
    ),
    mutant(
        "attempts of a run that are never reset",
        "folds/journal.py",
        "established(envelope.event)[0]:\n                    self.failed_attempts = 0\n",
        "established(envelope.event)[0]:\n                    pass\n",
        f"{FOLDS}test_attempts_count_from_the_last_operation_that_came_to_a_result",
    ),
    mutant(
        "attempts of a run that a failure resets",
        "folds/journal.py",
        "                if operation.reopened is not None and established(envelope.event)[0]:\n",
        "                if operation.reopened is not None:\n",
        "tests/runtime/test_run_retry.py::test_only_the_operation_whose_error_escaped_is_made_again",
    ),
    mutant(
        "attempts of a tool that count on from the run's last",
        "folds/journal.py",
        "        operation.attempts_before = operation.attempts\n",
        "",
        f"{RETRY}test_every_attempt_has_the_tools_own_attempts",
    ),
    mutant(
        "a run that comes to an end twice",
        "folds/run.py",
        "    if state.status in ENDED:\n        return changed(state, change)",
        "    if False:\n        return changed(state, change)",
        f"{FOLDS}test_the_first_end_of_a_run_is_its_end",
    ),
    mutant(
        "a settlement that gives the history another digest",
        "folds/digest.py",
        "isinstance(event, ToolCallSettled | ToolCallReported)",
        "isinstance(event, ToolCallReported)",
        "tests/runtime/test_effects.py::test_settled_or_not_interrupted_at_all_gives_the_same_digest",
    ),
    mutant(
        "a finding that nobody records",
        "runtime/tool_calls.py",
        "        return execution.settle(settled)\n",
        "        return await execution.from_outside(self.identity, 'in_doubt')\n",
        f"{RECONCILE}test_a_write_that_times_out_and_happened_is_settled_by_its_own_function",
    ),
    mutant(
        "a finding that goes before a person's word",
        "runtime/tool_calls.py",
        "        if settled is None or self._has_been_settled():  # A person was faster.\n",
        "        if settled is None:\n",
        f"{RECONCILE}test_a_person_who_is_faster_than_the_function_has_the_last_word",
    ),
    mutant(
        "a function that is asked though a person has told",
        "runtime/tool_calls.py",
        "self._checked is None or self._has_been_settled():",
        "self._checked is None:",
        f"{RECONCILE}test_a_persons_word_counts_where_the_function_cannot_tell",
    ),
    mutant(
        "a function that is asked for ever",
        "runtime/reconciling.py",
        "final = not (retry and number < RECONCILE_RETRY.attempts_max)",
        "final = not retry",
        f"{RECONCILE}test_a_function_that_goes_on_raising_leaves_it_to_a_person",
    ),
    mutant(
        "a write that is made for ever by its function's word",
        "runtime/reconciling.py",
        "case NotDone() if self.attempt >= WRITE_ATTEMPTS_MAX:",
        "case NotDone() if self.attempt > WRITE_ATTEMPTS_MAX:",
        f"{RECONCILE}test_a_write_is_made_again_three_times_at_most_by_the_functions_word",
    ),
    mutant(
        "a finding that the tool could not have returned",
        "runtime/reconciling.py",
        "            self.tool.result_from(result)\n",
        "",
        f"{RECONCILE}test_what_is_no_finding_is_recorded_in_clear_words_and_left_to_a_person",
    ),
)
