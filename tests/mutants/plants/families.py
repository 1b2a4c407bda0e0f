"""Bugs in child runs, in runs that begin anew, and in runs whose code has changed."""

from __future__ import annotations

from mutants.mutant import mutant

CHILDREN = "tests/runtime/test_children.py::"
CONTINUE = "tests/runtime/test_continue_as.py::"
PATCHED = "tests/runtime/test_patched.py::"
FOLDS = "tests/pure/test_folds.py::"

FAMILIES = (
    mutant(
        "a child that is recorded in another append than its request",
        "runtime/children.py",
        "    writer.record(writer.draft(started), draft, beside=[queued])\n",
        "    writer.record(writer.draft(started))\n"
        '    writer._log.append(__import__("evrt.log").log.Append([draft], {}, beside=[queued]))\n',
        f"{CHILDREN}test_children_started_at_once_are_one_append",
    ),
    mutant(
        "a child that is not put into the queue",
        "runtime/children.py",
        "draft, beside=[queued])",
        "draft)",
        f"{CHILDREN}test_a_child_is_queued_with_its_start_and_leaves_the_queue_with_its_end",
    ),
    mutant(
        "a child that waits in the conversation of the parent that waits for it",
        "folds/queued.py",
        'return None if conversation == meta.get("parent_correlation") else conversation',
        "return conversation",
        f"{CHILDREN}test_a_child_with_a_conversation_of_its_own_belongs_to_that",
    ),
    mutant(
        "an end that its parent is not told of",
        "runtime/runner.py",
        "writer.record(writer.draft(terminal), *follows.drafts, beside=beside)",
        "writer.record(writer.draft(terminal), beside=beside[:1])",
        f"{CHILDREN}test_a_parent_waits_for_its_children_and_gets_what_they_came_to",
    ),
    mutant(
        "a parent that is not woken by its child's end",
        "endings.py",
        "return Consequences((draft,), (Wake(requested.parent),))",
        "return Consequences((draft,), ())",
        f"{CHILDREN}test_workers_execute_a_family_and_claim_its_parent_no_oftener_than_something_came",
    ),
    mutant(
        "an output that is too large for the parent's history as well",
        "endings.py",
        "    if len(payload) > PAYLOAD_BYTES_MAX:\n        # Twice the output",
        "    if False:\n        # Twice the output",
        f"{CHILDREN}test_an_output_that_has_no_room_beside_its_story_is_read_from_the_child",
    ),
    mutant(
        "a cancelled child that cancels its parent",
        "folds/journal.py",
        "            and not isinstance(event, ChildEnded)  # Of a child it says that somebody cancelled that.\n",
        "",
        f"{CHILDREN}test_that_a_child_was_cancelled_is_no_cancellation_of_its_parent",
    ),
    mutant(
        "a wait for a child that is cut off without a record",
        "runtime/children.py",
        "cancelled=lambda took: WaitCancelled(operation=wait, latency_ms=took),",
        "cancelled=lambda took: WaitCancelled(operation=identity, latency_ms=took),",
        f"{CHILDREN}test_a_wait_that_is_cut_off_leaves_the_child_as_it_is",
    ),
    mutant(
        "an end that counts for whoever has the identity now",
        "folds/journal.py",
        "            return self.started.get(identity) == event.child\n",
        "            return True\n",
        f"{FOLDS}test_a_child_s_end_counts_for_the_operation_that_started_this_child_only",
    ),
    mutant(
        "a late report that settles what a later chapter does",
        "folds/journal.py",
        "            return event.epoch >= self.continued_epoch\n",
        "            return True\n",
        f"{FOLDS}test_a_late_report_of_an_earlier_chapter_settles_nothing_in_a_later_one",
    ),
    mutant(
        "code that may continue before its history does",
        "runtime/execution.py",
        '        self.check_all_asked()\n        return self.stop(Stop("continued", state=shown))',
        '        return self.stop(Stop("continued", state=shown))',
        f"{CONTINUE}test_code_that_would_continue_before_its_history_does_is_parked",
    ),
    mutant(
        "a chapter that does not say where it began",
        "runtime/runner.py",
        "        if journal.continued:\n            meta[CONTINUED] = journal.continued\n",
        "",
        f"{CONTINUE}test_code_begins_anew_with_its_state_and_the_same_input",
    ),
    mutant(
        "a resume that reads everything",
        "history.py",
        "rows = await log.read_stream(run, after=head - TAIL_EVENTS) if head else []",
        "rows = await log.read_stream(run) if head else []",
        f"{CONTINUE}test_a_resume_reads_from_where_the_code_continued",
    ),
    mutant(
        "a resume that reads from the tail on only",
        "history.py",
        "    if rows[0].version > max(begins, 1):\n",
        "    if False:\n",
        f"{CONTINUE}test_the_last_chapter_is_found_however_long_it_is",
    ),
    mutant(
        "signals that are lost where the code continues",
        "history.py",
        "return LastChapter(run, [*first, *envelopes(kept), *events])",
        "return LastChapter(run, [*first, *events])",
        f"{CONTINUE}test_signals_that_a_chapter_has_not_received_are_there_for_the_next",
    ),
    mutant(
        "something from outside that slips in before the code continues",
        "runtime/runner.py",
        "{journal.run: Exact(writer.version)}, too_late=partial(late.append, True)",
        "{}, too_late=partial(late.append, True)",
        f"{CONTINUE}test_what_came_just_before_the_code_continued_is_taken_in_first",
    ),
    mutant(
        "a branch that continues the run",
        "runtime/execution.py",
        "return not self.scope().path and len(self.tasks) <= 1",
        "return len(self.tasks) <= 99",
        f"{CONTINUE}test_only_the_run_s_own_code_can_continue_and_with_nothing_under_way",
    ),
    mutant(
        "a replay of the last chapter only",
        "replaying.py",
        "for chapter in history.chapters:",
        "for chapter in history.chapters[-1:]:",
        f"{CONTINUE}test_a_replay_reports_what_differs_in_any_chapter",
    ),
    mutant(
        "a digest of the last chapter only",
        "history.py",
        "return history_digest(self.chapters)",
        "return history_digest(self.chapters[-1:])",
        f"{CONTINUE}test_what_a_chapter_did_counts_for_the_digest",
    ),
    mutant(
        "changed code whose mark is not recorded",
        "runtime/execution.py",
        "            if answer:\n                mark = ",
        "            if False:\n                mark = ",
        f"{PATCHED}test_a_new_run_goes_the_new_way_and_says_so_once",
    ),
    mutant(
        "a change that looks at its own branch's past only once",
        "runtime/execution.py",
        "answer = not self.unasked and self.journal.terminal is None",
        "answer = not self.unasked.has_begun(self.scope().path, None) and self.journal.terminal is None",
        f"{PATCHED}test_every_place_that_asks_gets_the_same_answer_whichever_asks_first",
    ),
    mutant(
        "an answer that may change in the middle of a run",
        "runtime/execution.py",
        "            self.patches[change] = answer\n",
        "",
        f"{PATCHED}test_in_a_loop_that_was_cut_off_in_the_middle_every_round_goes_one_way",
    ),
    mutant(
        "an ended run that is led the new way",
        "runtime/execution.py",
        "answer = not self.unasked and self.journal.terminal is None",
        "answer = not self.unasked",
        f"{PATCHED}test_runs_that_have_ended_replay_with_a_question_at_their_end",
    ),
    mutant(
        "a mark that the code has to ask for",
        "folds/journal.py",
        "            self.patches.add(str(event.value))\n            return False\n",
        "            self.patches.add(str(event.value))\n",
        f"{PATCHED}test_what_asked_for_a_change_can_go_when_no_run_from_before_is_left",
    ),
    mutant(
        "chapters whose steps are taken for one another",
        "folds/operation.py",
        "if identity and isinstance(continued, int) else identity",
        "if False else identity",
        "tests/projections/test_documents.py::test_an_identity_that_a_later_chapter_uses_again_is_another_step",
    ),
)
