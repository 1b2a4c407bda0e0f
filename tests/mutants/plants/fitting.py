"""Bugs in what a model is sent and by which model: compaction, pruning, tiers, the ledger, a run told, the turn log."""

from __future__ import annotations

from mutants.mutant import mutant

COMPACTION = "tests/agents/test_compaction.py::"
FITTING_TESTS = "tests/agents/test_context_fitting.py::"
TOLD = "tests/agents/test_run_events.py::"
TURNS = "tests/projections/test_turns.py::"

FITTING = (
    mutant(
        "a context is compacted at its threshold already",
        "agents/compaction.py",
        "self.count(messages) > self.threshold",
        "self.count(messages) >= self.threshold",
        f"{COMPACTION}test_compaction_fires_above_four_fifths_of_the_budget_and_never_for_five_messages",
    ),
    mutant(
        "the tail is cut between a result and its call",
        "agents/compaction.py",
        "            start = min(start, max(caller, 1))",
        "            start = min(start, max(index, 1))",
        f"{COMPACTION}test_the_tail_is_the_last_four_messages_and_no_result_in_it_is_without_its_call",
    ),
    mutant(
        "a tail may begin with a result whose call is nowhere",
        "agents/compaction.py",
        "    while start < len(messages) and _is_result(messages[start]) and _caller(messages, start) is None:\n"
        "        start += 1\n",
        "",
        f"{COMPACTION}test_the_tail_is_the_last_four_messages_and_no_result_in_it_is_without_its_call",
    ),
    mutant(
        "a summary is made at every step",
        "agents/compaction.py",
        "if len(new) == len(middle) or self.count(new) >= GAIN_SHARE * self.budget:",
        "if True:",
        f"{FITTING_TESTS}test_every_request_stays_within_the_budget_and_every_original_can_be_rebuilt",
    ),
    mutant(
        "floor and tail over the budget are sent as they are",
        "agents/compaction.py",
        "        if self.count(after) <= self.budget:\n            return plan\n",
        "        return plan\n",
        f"{COMPACTION}test_whatever_the_messages_they_end_within_the_budget_or_in_the_error",
    ),
    mutant(
        "what the model has not read is shortened as what it has",
        "agents/compaction.py",
        '        last = max((at for at, one in enumerate(after) if one.get("role") == "assistant"), default=0)\n',
        "        last = len(after)\n",
        f"{COMPACTION}test_one_batch_of_eight_large_results_is_shortened_where_there_is_no_middle_to_summarise",
    ),
    mutant(
        "a floor over the budget is found out by the provider",
        "agents/compaction.py",
        "        if alone > self.budget:\n",
        "        if alone > 1_000 * self.budget:\n",
        f"{COMPACTION}test_a_floor_that_alone_is_over_the_budget_is_an_error_before_any_call",
    ),
    mutant(
        "results of the last steps are pruned too",
        "agents/pruning.py",
        "enumerate(messages[:first])",
        "enumerate(messages)",
        "tests/agents/test_pruning.py::test_results_of_steps_before_the_last_ones_are_shortened",
    ),
    mutant(
        "a history of ten turns is summarised",
        "agents/history_compaction.py",
        "if len(turns) <= self.turns_max:",
        "if len(turns) < self.turns_max:",
        f"{FITTING_TESTS}test_of_more_than_ten_turns_of_history_the_last_five_are_kept",
    ),
    mutant(
        "small talk goes before a first turn",
        "agents/routing.py",
        "    if facts.turn == 0:\n",
        "    if facts.turn == 0 and not is_boilerplate(facts.text):\n",
        "tests/agents/test_routing.py::test_a_turn_goes_by_pin_first_turn_small_talk_identity_and_else_to_mid",
    ),
    mutant(
        "another tier stands in from the top",
        "agents/tiers.py",
        "        for tier in TIERS:\n            if tier in self._configs:\n",
        "        for tier in reversed(TIERS):\n            if tier in self._configs:\n",
        "tests/agents/test_tiers.py::test_the_first_of_small_mid_and_frontier_stands_in_for_a_tier_that_is_missing",
    ),
    mutant(
        "a read is served after another tool has run",
        "agents/ledger.py",
        "self._results = _of_tool(tool, self._results) if tool in self.reads else {}",
        "self._results = dict(self._results)",
        "tests/agents/test_ledger.py::test_a_read_is_served_until_any_other_tool_has_run",
    ),
    mutant(
        "of two things told of one event a cursor tells one",
        "feed.py",
        "            if one.cursor > after:\n",
        "            if one.cursor[0] > after[0]:\n",
        f"{TOLD}test_who_comes_back_with_a_cursor_is_told_what_came_after_it",
    ),
    mutant(
        "a final text is told as reasoning",
        "agents/run_events.py",
        "            self._unsaid = (self._step, text) if text else None\n            return\n",
        '            yield RunEventType.REASONING, self._step, {"content": text}\n            return\n',
        f"{TOLD}test_a_run_with_tools_is_told_in_these_words",
    ),
    mutant(
        "files of the turn log are named by the users' ids",
        "turn_log.py",
        "lines.setdefault(record.conversation_ref or ALONE, [])",
        "lines.setdefault(record.conversation_id or ALONE, [])",
        f"{TURNS}test_the_turn_log_of_real_runs_and_its_files_named_by_refs",
    ),
    mutant(
        "unfinished turns are not counted",
        "folds/turns.py",
        "        counts[document.key] = index + 1\n        if document.value.status is not None:\n",
        "        if document.value.status is not None:\n            counts[document.key] = index + 1\n",
        f"{TURNS}test_turns_are_counted_in_their_conversation_from_zero_and_unfinished_ones_count_and_are_not_told",
    ),
    mutant(
        "a run that is executed here hears of its cancellation when it writes",
        "control.py",
        "        await self._look_outside(found)\n        return cancelled\n",
        "        return cancelled\n",
        "tests/agents/test_run_outcomes.py::test_a_cancel_during_the_last_step_is_a_cancel_and_no_step_limit",
    ),
)
