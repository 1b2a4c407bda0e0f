"""Bugs in what projections are made of: operations by themselves, clipping, chats, and the kit that checks a fold."""

from __future__ import annotations

from mutants.mutant import mutant

FOLDS = "tests/projections/test_pure_folds.py::"
SAID = "tests/projections/test_documents.py::"
CLIP = "tests/pure/test_clip.py::"
KIT = "tests/projections/test_check_projection.py::"

PROJECTIONS = (
    mutant(
        "what was passed over is looked at again in a step",
        "folds/operation.py",
        '"outside": known.outside[number + 1 :]',
        '"outside": known.outside[:number] + known.outside[number + 1 :]',
        f"{FOLDS}test_steps_know_what_the_journal_knows_of_a_run",
    ),
    mutant(
        "a later outcome of an operation replaces the first",
        "folds/operation.py",
        "    if known.outcome is not None:\n        return {}\n",
        "",
        f"{FOLDS}test_steps_know_what_the_journal_knows_whatever_the_order",
    ),
    mutant(
        "a retry opens a step that had succeeded",
        "folds/operation.py",
        "    if known.outcome is None or known.outcome.type not in FAILURES:\n",
        "    if known.outcome is None:\n",
        f"{SAID}test_a_retry_leaves_alone_what_had_succeeded",
    ),
    mutant(
        "a write that is to be made again counts as made",
        "folds/operation.py",
        "            if seen.type == AGAIN:\n",
        "            if False:\n",
        f"{SAID}test_a_write_that_is_to_be_made_again_is_open_and_in_doubt_no_more",
    ),
    mutant(
        "a settlement that was refused still settles",
        "folds/operation.py",
        "if one.event_id != refused",
        "if one.event_id",
        f"{SAID}test_a_settlement_that_did_not_fit_leaves_the_write_in_doubt",
    ),
    mutant(
        "a failed attempt is not the next one's intent in a step",
        "folds/operation.py",
        '    return {"attempts": attempts + 1}  #',
        '    return {"attempts": attempts}  #',
        f"{SAID}test_a_failed_attempt_leaves_a_step_open_and_the_last_one_closes_it",
    ),
    mutant(
        "control characters count as one byte each",
        "folds/clip.py",
        "JSON_BYTES_PER_CHARACTER = 6",
        "JSON_BYTES_PER_CHARACTER = 1",
        f"{CLIP}test_a_value_fits_and_is_itself_where_it_did",
    ),
    mutant(
        "a value nests deeper than can be read again",
        "folds/clip.py",
        " or is_deep(value, encoded):",
        ":",
        f"{CLIP}test_a_value_that_nests_too_deep_is_cut",
    ),
    mutant(
        "a value may look as if it had been cut",
        "folds/clip.py",
        " or is_clipped(value) or",
        " or",
        f"{CLIP}test_what_only_looks_cut_is_cut_so_that_the_look_can_be_relied_on",
    ),
    mutant(
        "failed runs are part of a conversation",
        "folds/chats.py",
        "return include_failed_runs or run.status in LISTENED_TO",
        "return True",
        f"{SAID}test_a_failed_run_is_left_out_unless_it_is_asked_for",
    ),
    mutant(
        "runs at the same time stand in each other's messages",
        "folds/chats.py",
        "lines.setdefault(one.run, [])",
        'lines.setdefault("", [])',
        f"{SAID}test_runs_at_the_same_time_do_not_stand_in_each_other_s_messages",
    ),
    mutant(
        "a run that has ended still waits for a person",
        "folds/waiting.py",
        'document.status == "open" and run not in ended',
        'document.status == "open"',
        f"{SAID}test_a_run_that_has_ended_waits_for_nothing",
    ),
    mutant(
        "a document is changed in place",
        "folds/documents.py",
        '    _put(copy, "__dict__", {**document.__dict__, **change})',
        '    document.__dict__.update(change)\n    _put(copy, "__dict__", dict(document.__dict__))',
        f"{CLIP}test_a_changed_document_is_a_copy_with_other_fields",
    ),
    mutant(
        "the kit does not see a document that is changed in place",
        "testing.py",
        "    if before is not None and encode_document(projection, before) != given:",
        "    if before is not None and encode_document(projection, before) == b'':",
        f"{KIT}test_what_is_no_pure_fold_is_refused",
    ),
    mutant(
        "the kit does not look where a key's events are",
        "testing.py",
        "        _check_sources(projection, events, whole)\n",
        "",
        f"{KIT}test_what_is_no_pure_fold_is_refused",
    ),
)
