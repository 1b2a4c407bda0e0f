"""Bugs in proofs, the tree they are taken from, and the keys that sign."""

from __future__ import annotations

from mutants.mutant import mutant

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
