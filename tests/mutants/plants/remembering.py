"""Bugs in memory: whose it is, what is found in it, what of it may be trusted, and what a prompt makes of it."""

from __future__ import annotations

from mutants.mutant import Mutant, mutant

ITEMS = "tests/runtime/test_memory_items.py"
TOOLS = "tests/agents/test_memory_tools.py"
BLOCK = "tests/agents/test_memory_block.py"
OUTSIDE = "tests/app/test_memory.py"
ANY_SEQUENCE = (
    f"{OUTSIDE}::test_any_sequence_over_scopes_users_and_systems_is_what_plain_dictionaries_would_be"
)

REMEMBERING: tuple[Mutant, ...] = (
    mutant(
        "shared memory that all systems of a user share",
        "folds/memory.py",
        'sha256(f"{system}\\n{user}".encode())',
        "sha256(user.encode())",
        ANY_SEQUENCE,
    ),
    mutant(
        "shared memory that all users of a system share",
        "folds/memory.py",
        'sha256(f"{system}\\n{user}".encode())',
        "sha256(system.encode())",
        f"{TOOLS}::test_the_system_s_memory_is_shared_by_its_agents_and_by_nobody_else",
    ),
    mutant(
        "memory of a conversation that is the user's where there is none",
        "runtime/memory_access.py",
        "        return found\n\n    def _without(",
        '        found.setdefault("conversation", found.get("user", ""))\n        return found\n\n    def _without(',
        f"{TOOLS}::test_memory_crosses_conversations_only_in_the_scopes_that_say_so",
    ),
    mutant(
        "a memory of its own for somebody who has not logged in",
        "principal.py",
        'return ref.startswith(f"{ANONYMOUS}-")',
        "return False",
        f"{TOOLS}::test_somebody_who_has_not_logged_in_has_the_memory_of_the_conversation_only",
    ),
    mutant(
        "a name that leads to a nameplate",
        "folds/memory.py",
        "if plain or not prefix or",
        "if True or not prefix or",
        f"{TOOLS}::test_the_model_is_answered_word_for_word",
    ),
    mutant(
        "a recall that adds to an exact match what begins with it",
        "folds/memory.py",
        "return [exact] if exact is not None else list(",
        "return list(",
        f"{TOOLS}::test_recall_searches_the_user_then_the_system_then_the_conversation",
    ),
    mutant(
        "one more item than a recall may find",
        "folds/memory.py",
        "RECALLED_MAX = 20",
        "RECALLED_MAX = 21",
        f"{TOOLS}::test_recall_finds_at_most_twenty_items_of_each_scope",
    ),
    mutant(
        "a value that is seen after it has expired",
        "folds/memory.py",
        "moment < self.expires_at",
        "True",
        f"{ITEMS}::test_what_has_expired_is_not_seen_and_reads_the_same_on_replay",
    ),
    mutant(
        "an expiry that has passed already",
        "remembering.py",
        "self.until <= moment",
        "self.until < 0",
        f"{ITEMS}::test_an_expiry_that_has_passed_is_refused_and_nothing_is_written",
    ),
    mutant(
        "a retention that a longer expiry gets around",
        "remembering.py",
        "for seconds in (self.lasts_seconds, retention_seconds)",
        "for seconds in (self.lasts_seconds or retention_seconds,)",
        f"{ITEMS}::test_an_app_limits_how_long_and_how_much_is_remembered",
    ),
    mutant(
        "a memory that holds one key too many",
        "remembering.py",
        "if new and len(held) + len(new) > memories_max:",
        "if new and len(held) > memories_max:",
        f"{ITEMS}::test_an_app_limits_how_long_and_how_much_is_remembered",
    ),
    mutant(
        "a read that does not see the run's own writes",
        "runtime/facts.py",
        "if writer.landed < execution.facts_recorded:",
        "if False:",
        f"{ITEMS}::test_several_keys_are_got_set_and_forgotten_at_once",
    ),
    mutant(
        "a fact without the run's note of it",
        "runtime/facts.py",
        "writer.record(*facts, writer.draft(note))",
        "writer.record(*facts)",
        f"{ITEMS}::test_a_run_killed_between_the_two_sides_of_anything_it_writes_loses_and_doubles_nothing",
    ),
    mutant(
        "what a tainted run sets and everybody trusts",
        "runtime/memory_access.py",
        'return "untrusted" if self._execution.untrusted else "trusted"',
        'return "trusted"',
        f"{ITEMS}::test_what_a_run_sets_after_it_has_read_from_outside_is_untrusted_and_taints_who_reads_it",
    ),
    mutant(
        "an untrusted memory that leaves its reader trusted",
        "runtime/memory_access.py",
        "self._execution.untrusted.setdefault(source)",
        "pass",
        f"{BLOCK}::test_a_run_that_was_shown_something_untrusted_is_not_trusted_either",
    ),
    mutant(
        "a remembered heading that opens one in the prompt",
        "agents/memory_block.py",
        'spelt = BREAKS.sub(lambda found: BREAK_NAMES.get(found[0]) or f"\\\\x{ord(found[0]):02x}", text)',
        "spelt = text",
        f"{BLOCK}::test_nothing_in_a_value_or_a_key_opens_a_heading_or_a_fence",
    ),
    mutant(
        "the oldest memories in the prompt",
        "folds/memory.py",
        "for item in reversed(self.items.values())",
        "for item in self.items.values()",
        f"{BLOCK}::test_of_each_scope_the_newest_fifty_are_shown_newest_first",
    ),
    mutant(
        "a prompt whose memories are recorded at every turn",
        "runtime/memory.py",
        "same = before is not None and moment is None and before.streams == versions",
        "same = before = None",
        f"{BLOCK}::test_what_the_prompt_was_made_of_is_recorded_once_and_then_only_that_it_is_the_same",
    ),
    mutant(
        "memory tools for whoever asks",
        "agents/memory_tools.py",
        "    if ctx.user is None:\n        return NOT_AVAILABLE\n",
        "",
        f"{TOOLS}::test_without_a_user_every_call_is_answered_with_the_reason",
    ),
    mutant(
        "a log of what was remembered",
        "agents/memory_tools.py",
        'ctx.log(f"Remembered {key!r} (scope: {scope})"',
        'ctx.log(f"Remembered {key!r} = {value!r} (scope: {scope})"',
        f"{TOOLS}::test_the_log_names_key_and_scope_and_never_a_value",
    ),
    mutant(
        "a write from outside that passes over another's",
        "memory.py",
        "Append(drafts, {owned.stream: Exact(memory.version)})",
        "Append(drafts, {})",
        f"{OUTSIDE}::test_of_many_who_write_at_the_same_time_on_one_condition_one_succeeds",
    ),
)
