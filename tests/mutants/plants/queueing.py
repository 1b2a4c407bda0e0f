"""Bugs in the queue: who is given what, lanes, leases, keys, what rides in an append, what is made from the log."""

from __future__ import annotations

from mutants.mutant import mutant

QUEUE = "tests/log/test_coordination.py::"
PLANS = "tests/log/test_coordination_plans.py::"
PROCESSES = "tests/log/test_coordination_processes.py::"
REQUEUE = "tests/app/test_requeue.py::"

QUEUEING = (
    mutant(
        "caps that nobody looks at",
        "log/claiming.py",
        "None if cap is None else max(cap - counts[target], 0)",
        "None",
        f"{QUEUE}test_caps_hold_for_all_workers_together",
    ),
    mutant(
        "a cap that counts what was left behind",
        "log/claiming.py",
        "0 if name in lapsed else count",
        "count",
        f"{QUEUE}test_caps_hold_for_all_workers_together",
    ),
    mutant(
        "a claim that never goes to the oldest",
        "log/claiming.py",
        "(number * _GOLDEN) % 2**64 < 2**64 // OLDEST_FIRST_EVERY",
        "False",
        f"{QUEUE}test_the_oldest_is_given_in_the_end_however_many_more_urgent_ones_come",
    ),
    mutant(
        "the oldest first in a fixed rhythm",
        "log/claiming.py",
        "(number * _GOLDEN) % 2**64 < 2**64 // OLDEST_FIRST_EVERY",
        "number % OLDEST_FIRST_EVERY == 0",
        f"{QUEUE}test_no_rhythm_of_claims_misses_the_turns_of_the_oldest",
    ),
    mutant(
        "entries given by priority alone",
        "log/claiming.py",
        '_BY_PRIORITY = "priority DESC, place, run"',
        '_BY_PRIORITY = "priority DESC, place DESC, run"',
        f"{QUEUE}test_entries_are_given_by_priority_and_then_as_they_came",
    ),
    mutant(
        "entries that are kept by a worker whose lease ran out",
        "log/claiming.py",
        "lapsed = [name for name, begun, ends in leases if not begun <= now.leases < ends]",
        "lapsed = [name for name, begun, ends in leases if name == worker and not begun <= now.leases < ends]",
        f"{QUEUE}test_what_a_worker_had_whose_lease_ran_out_is_given_to_the_next_who_asks",
    ),
    mutant(
        "a lease that outlives the machine",
        "log/claiming.py",
        "not begun <= now.leases < ends",
        "not now.leases < ends",
        f"{PROCESSES}test_a_lease_of_before_the_machine_was_started_has_run_out",
    ),
    mutant(
        "news that are told again and again",
        "log/claiming.py",
        "UPDATE queue SET news = 0 WHERE worker = :worker AND news = 1",
        "UPDATE queue SET news = 1 WHERE worker = :worker AND news = 1",
        f"{QUEUE}test_a_worker_is_told_once_of_what_was_woken_or_paused",
    ),
    mutant(
        "a lane that stands still when its first has ended",
        "log/changing.py",
        'return [Statement(_MOVE_UP, {"run": run, "now": now}), Statement(_REMOVE, {"run": run})]',
        'return [Statement(_REMOVE, {"run": run})]',
        f"{QUEUE}test_a_lane_goes_on_when_its_first_has_ended_and_not_before",
    ),
    mutant(
        "one that is unpaused and passes those before it",
        "log/changing.py",
        "CASE WHEN {_NOT_FIRST} THEN 'behind' WHEN due",
        "CASE WHEN due",
        f"{QUEUE}test_one_paused_in_the_middle_of_its_lane_waits_for_its_turn_again",
    ),
    mutant(
        "a cause that is forgotten while a run is paused",
        "log/changing.py",
        "\"due = NULL, news = CASE WHEN state = 'claimed' THEN 1 ELSE 0 END WHERE run = :run\"",
        "\"news = CASE WHEN state = 'claimed' THEN 1 ELSE 0 END WHERE run = :run\"",
        f"{QUEUE}test_what_was_woken_while_it_was_paused_or_behind_is_not_delayed_afterwards",
    ),
    mutant(
        "an entry held by whoever says so",
        "log/coordinating.py",
        'if rows and rows[0] == ("claimed", change.worker):',
        'if rows and rows[0][0] == "claimed":',
        f"{PROCESSES}test_a_process_that_was_stopped_for_long_begins_nothing_that_was_given_to_another",
    ),
    mutant(
        "a key that two of one batch can have",
        "log/changing.py",
        '        facts.make(("key", *key), [(run,)])\n',
        "",
        f"{QUEUE}test_later_requests_of_a_batch_see_what_earlier_ones_changed",
    ),
    mutant(
        "a rate that only counts",
        "log/coordinating.py",
        "        if bisect_left(begins, begin + span) - first < count:",
        "        if True:",
        f"{QUEUE}test_a_rate_delays_those_who_come_too_fast_in_their_order",
    ),
    mutant(
        "a run for next year that holds up its rate",
        "log/coordinating.py",
        "[slot[0] for slot in slots if not slot[1]]",
        "[slot[0] for slot in slots]",
        f"{QUEUE}test_one_that_is_to_begin_later_does_not_hold_up_its_rate",
    ),
    mutant(
        "a queue without an order to be read in",
        "log/queue_tables.py",
        "queue_ready ON queue (target, priority DESC, place, run)",
        "queue_ready ON queue (target)",
        f"{PLANS}test_a_claim_costs_the_same_however_long_the_queue_is",
    ),
    mutant(
        "a lane that is looked for all over the queue",
        "log/queue_tables.py",
        '    "CREATE INDEX queue_by_lane ON queue (lane, place, run) WHERE lane IS NOT NULL",\n',
        "",
        f"{PLANS}test_every_statement_finds_what_it_needs_by_an_index",
    ),
    mutant(
        "a claim that is made twice where its commit failed",
        "log/sqlite/committing.py",
        "planned.changes is not None and self._transaction.changes() == planned.changes",
        "False",
        f"{PROCESSES}test_a_claim_whose_commit_failed_gives_what_it_says",
    ),
    mutant(
        "changes that are made though their append was there already",
        "log/memory.py",
        "                if before is not None:\n                    return before\n",
        "                if before is not None:\n"
        "                    self._queue.make(self._queue.decide(checked.beside, local_now()), lambda run: 1, local_now())\n"
        "                    return before\n",
        f"{QUEUE}test_an_append_that_is_repeated_and_found_changes_nothing_again",
    ),
    mutant(
        "a watch that hears only what comes while it waits",
        "log/subscribe.py",
        "            self.commits += 1\n",
        "",
        f"{QUEUE}test_a_watch_hears_of_what_was_committed_before_it_waits",
    ),
    mutant(
        "names of streams that are read once and asked for twice",
        "log/postgres/transaction.py",
        "        every = list(set(names))\n",
        "        every = names\n",
        f"{PROCESSES}test_each_entry_is_given_to_one_of_many_processes",
    ),
    mutant(
        "a cancel that wakes nobody in a queue made from the log",
        "folds/queued.py",
        '        "run.cancel_requested",\n',
        "",
        f"{REQUEUE}test_the_queue_is_made_from_the_log_as_it_was",
    ),
    mutant(
        "a run that is executed elsewhere put into the queue",
        "folds/queued.py",
        'state="ready" if _is_worker(worker) else None',
        'state="ready"',
        f"{REQUEUE}test_the_queue_is_made_from_the_log_as_it_was",
    ),
    mutant(
        "keys of runs that have ended forgotten",
        "requeue.py",
        "    changes += [Keep(key, run) for key, run in reading.keys.items()]\n",
        "",
        f"{REQUEUE}test_keys_and_ticks_of_runs_that_have_ended_are_made_again",
    ),
    mutant(
        "an entry taken from the worker that has it",
        "log/changing.py",
        "due = excluded.due WHERE queue.state <> 'claimed'",
        "due = excluded.due",
        f"{REQUEUE}test_what_a_worker_has_claimed_stays_with_it",
    ),
)
