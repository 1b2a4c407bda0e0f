"""Bugs in keeping views: whose they are, what is folded, what is kept, which generation is read."""

from __future__ import annotations

from mutants.mutant import mutant

PROJECTOR = (
    # ------------------------------------------------------------------------------- whose it is
    mutant(
        "a cursor that is not compared before it is moved",
        "projector/transactions.py",
        '"WHERE id = ? AND cursor = ? AND leaf IS ? AND stage = ? AND',
        '"WHERE id = ? AND ? IS NOT NULL AND (? IS NULL OR TRUE) AND stage = ? AND',
        "tests/projector/test_ownership.py::test_an_owner_that_was_frozen_in_a_fold_is_refused_when_it_goes_on",
    ),
    mutant(
        "an owner that was overtaken and goes on as if nothing had been",
        "projector/transactions.py",
        "    if moved.rowcount != 1:\n",
        "    if moved.rowcount > 1:\n",
        "tests/projector/test_ownership.py::test_an_owner_that_was_frozen_in_a_fold_is_refused_when_it_goes_on",
    ),
    mutant(
        "a cursor of another history taken for the same",
        "projector/transactions.py",
        "AND leaf IS ? AND stage = ?",
        "AND (leaf IS ? OR TRUE) AND stage = ?",
        "tests/projector/test_ownership.py::test_the_same_position_in_another_history_is_not_the_same_cursor",
    ),
    mutant(
        "batches of several views that are committed one by one",
        "projector/transactions.py",
        "    for change in changes:\n        _move(connection, change, owner)\n",
        '    for change in changes:\n        connection.execute("COMMIT")\n'
        '        connection.execute("BEGIN IMMEDIATE")\n        _move(connection, change, owner)\n',
        "tests/projector/test_ownership.py::test_who_is_overtaken_in_one_view_writes_nothing_of_the_others_in_that_batch",
    ),
    mutant(
        "an owner that keeps what it does not work on any more",
        "projector/projector.py",
        "                await asyncio.shield(self._store.release(self.id))",
        "                await asyncio.sleep(0)",
        "tests/projector/test_ownership.py::test_what_an_owner_releases_is_taken_up_by_those_that_stand_by",
    ),
    mutant(
        "nobody goes on with the views of the dead",
        "projector/projector.py",
        "return now - seen.since >= STALLED_SECONDS",
        "return False",
        "tests/projector/test_ownership.py::test_an_owner_that_was_frozen_in_a_fold_is_refused_when_it_goes_on",
    ),
    mutant(
        "a cancellation that is lost where a page comes with it",
        "projector/projector.py",
        "                    async with asyncio.timeout(left):\n"
        "                        page = await subscription.page()\n",
        "                    try:\n"
        "                        page = await asyncio.wait_for(subscription.page(), left)\n"
        "                    except asyncio.CancelledError:\n"
        "                        continue\n",
        "tests/projector/test_projector.py::test_views_are_left_to_others_when_they_are_closed",
    ),
    # ------------------------------------------------------------------------- what is folded and kept
    mutant(
        "events folded a second time when they come again",
        "projector/folding.py",
        "if not wanted or row.position <= cursor:",
        "if not wanted or row.position < cursor:",
        "tests/projector/test_property.py::test_rows_that_come_again_change_nothing",
    ),
    mutant(
        "events passed over where a batch begins too late",
        "projector/folding.py",
        "if rows[0].position > self.generation.cursor + 1:",
        "if rows[0].position > self.generation.cursor + 2:",
        "tests/projector/test_property.py::test_rows_that_would_leave_a_gap_are_refused",
    ),
    mutant(
        "a document begun again that keeps its old beginning",
        "projector/folding.py",
        "            if before is None:\n                slot.first = row.position\n",
        "            if before is None and not slot.first:\n                slot.first = row.position\n",
        "tests/projector/test_property.py::test_a_document_that_begins_again_has_a_new_beginning",
    ),
    mutant(
        "a deletion that the marks to come do not hear of",
        "projector/folding.py",
        "elif value is None and before is not None and counted.mark:",
        "elif False and value is None and before is not None and counted.mark:",
        "tests/projector/test_property.py::test_a_deletion_between_two_marks_is_known_at_the_second",
    ),
    mutant(
        "a mark that keeps only what its own batch has touched",
        "projector/folding.py",
        "            if since <= self._cursor:\n",
        "            if since < 0:\n",
        "tests/projector/test_property.py::test_several_marks_of_one_key_in_one_batch_keep_what_was_before_the_batch",
    ),
    mutant(
        "counts of keys that begin at nothing in every process",
        "projector/folding.py",
        "self._keys[key].take_up(families.get(key) or Family())",
        "self._keys[key].take_up(Family())",
        "tests/projector/test_property.py::test_events_of_a_key_are_counted_from_process_to_process",
    ),
    mutant(
        "documents of a view that are all held in memory",
        "projector/folding.py",
        "if len(self._slots) > CACHED_DOCUMENTS_MAX or self._bytes > CACHED_BYTES_MAX:",
        "if self._bytes > 10 * CACHED_BYTES_MAX:",
        "tests/projector/test_projector.py::test_many_keys_and_a_key_with_many_parts_are_kept_with_a_bounded_memory",
    ),
    mutant(
        "a fold that does not leave its turn",
        "projector/folding.py",
        "            events = max(1, min(in_turn, 8 * events, TURN_EVENTS))\n            await asyncio.sleep(0)\n",
        "            events = TURN_EVENTS + 0 * in_turn\n            await asyncio.sleep(0)\n",
        "tests/projector/test_projector.py::test_while_a_batch_is_folded_others_have_their_turn",
    ),
    # --------------------------------------------------------------------------------- parking
    mutant(
        "a document that cannot be read back and is kept all the same",
        "projection.py",
        '    if b"null" in encoded or encoded.count(b"[") + encoded.count(b"{") > NESTING_READ:\n',
        "    if False:\n",
        "tests/projector/test_parking.py::test_whatever_it_does_wrong_parks_it_at_the_event_and_nobody_else",
    ),
    mutant(
        "generations of a new file that are numbered like those of the one before",
        "projector/opening.py",
        "secrets.randbits(FIRST_ID_BITS)",
        "0",
        "tests/projector/test_files.py::test_a_view_that_stood_still_is_built_again_where_its_file_was_removed",
    ),
    mutant(
        "a generation of something else that is written into",
        "projector/transactions.py",
        "AND stage = ? AND name = ? AND version = ? AND shape = ?",
        "AND stage = ? AND (name = ? OR version = ? OR shape = ? OR TRUE)",
        "tests/projector/test_files.py::test_a_generation_of_the_same_number_is_not_written_into_where_it_is_of_something_else",
    ),
    mutant(
        "a view that fails and takes the others with it",
        "projector/folding.py",
        "            except RAISED as error:  # As above.\n",
        "            except LookupError as error:\n",
        "tests/projector/test_parking.py::test_whatever_it_does_wrong_parks_it_at_the_event_and_nobody_else",
    ),
    mutant(
        "a failed view that passes over the event that was too much",
        "projector/folding.py",
        "            change.cursor = trouble.position - 1\n",
        "            change.cursor = trouble.position\n",
        "tests/projector/test_parking.py::test_a_view_that_fails_stands_before_its_event_and_the_others_go_on",
    ),
    mutant(
        "an old failure told before anybody has tried again",
        "projector/keeping.py",
        "if generation.error is not None and self._projector.gave_up(generation):",
        "if generation.error is not None:",
        "tests/projector/test_parking.py::test_mended_it_goes_on_from_its_place_and_folds_nothing_again",
    ),
    mutant(
        "a program that failed once and never goes on with the view",
        "projector/projector.py",
        "return generation.cursor <= self._gave_up.get(generation.id, -1)",
        "return generation.id in self._gave_up",
        "tests/projector/test_parking.py::test_a_program_that_can_do_better_goes_on_at_once_and_the_one_that_failed_later_too",
    ),
    mutant(
        "a key that no file can hold",
        "projector/folding.py",
        "    if not text.isascii():\n        text.encode()\n",
        "",
        "tests/projector/test_parking.py::test_whatever_it_does_wrong_parks_it_at_the_event_and_nobody_else",
    ),
    # ----------------------------------------------------------------------------- generations
    mutant(
        "a view that is built and takes its place before it has come as far",
        "projector/transactions.py",
        "if cursor > change.cursor or version > built.version:",
        "if version > built.version:",
        "tests/projector/test_rebuild.py"
        "::test_readers_see_one_or_the_other_never_a_mix_never_backward_at_full_speed_of_writing",
    ),
    mutant(
        "an older version that takes the place of a newer one",
        "projector/transactions.py",
        "if cursor > change.cursor or version > built.version:",
        "if cursor > change.cursor:",
        "tests/projector/test_rebuild.py::test_an_older_version_never_takes_the_place_of_a_newer_one",
    ),
    mutant(
        "a view that waits for one more event to take its place",
        "projector/projector.py",
        "        await self._switch_idle()\n",
        "",
        "tests/projector/test_rebuild.py::test_it_takes_its_place_in_an_empty_log_too",
    ),
    mutant(
        "a rebuild that begins again whenever it is asked for",
        "projector/transactions.py",
        "if fits(building, projection) and not anew:",
        "if fits(building, projection) and anew:",
        "tests/projector/test_rebuild.py::test_a_rebuild_that_was_interrupted_goes_on_where_it_stopped",
    ),
    mutant(
        "a rebuild that was begun anew taken for done",
        "projector/keeping.py",
        '                found = next((g for g in of_view if g.stage == "building" and fits(g, projection)), None)\n',
        "",
        "tests/projector/test_rebuild.py::test_who_builds_and_is_begun_anew_by_another_waits_for_that",
    ),
    mutant(
        "an older program that builds its own beside a newer view",
        "projector/transactions.py",
        "        if known is not None and known.version > projection.version:\n            raise newer(",
        "        if known is not None and known.version > projection.version + 9:\n            raise newer(",
        "tests/projector/test_rebuild.py::test_an_older_program_leaves_a_newer_view_alone_and_says_so",
    ),
    # ---------------------------------------------------------------- the log, and the file of the views
    mutant(
        "views that are ahead of a log which was put back",
        "projector/views.py",
        "        for generation in await of_other_histories(log, await store.generations(), found):\n"
        "            await store.remove(generation)\n",
        "        pass\n",
        "tests/projector/test_rebuild.py::test_when_the_log_is_put_back_from_a_copy_views_are_of_what_is_there",
    ),
    mutant(
        "another history that is not noticed while running",
        "projector/projector.py",
        "        strange = await of_other_histories(self._log, there, self._projections)\n",
        "        strange: list[Generation] = []\n",
        "tests/projector/test_rebuild.py::test_views_of_another_history_are_noticed_while_running",
    ),
    mutant(
        "views of another log that are gone on with",
        "projector/opening.py",
        'return connection.execute("SELECT id FROM log").fetchall() == [(log,)]',
        'return len(log) == 36 and connection.execute("SELECT id FROM log").fetchone() is not None',
        "tests/projector/test_rebuild.py::test_views_of_another_log_are_thrown_away",
    ),
    mutant(
        "a file that was removed and is written to for ever",
        "projector/files.py",
        "if self._connection is not None and self._identity == identity(self.place):",
        "if self._connection is not None:",
        "tests/projector/test_files.py"
        "::test_views_that_are_removed_while_they_are_kept_and_read_are_built_again_for_all",
    ),
    mutant(
        "the database of another program made use of",
        "projector/opening.py",
        "if application != APPLICATION_ID and (application or tables):",
        "if application != APPLICATION_ID and application:",
        "tests/projector/test_files.py::test_what_is_in_the_way_is_left_as_it_is",
    ),
    mutant(
        "a fork that takes its parent's folder along",
        "projector/places.py",
        "    if os.getpid() == process:\n        shutil",
        "    if process:\n        shutil",
        "tests/projector/test_projector.py::test_a_forked_child_is_told_and_takes_nothing_from_its_parent",
    ),
    mutant(
        "large events that are read by the thousand",
        "projector/projector.py",
        "1, min(BATCH_EVENTS, BATCH_BYTES * len(recorded) // max(read_bytes, 1), 2 * self._limit)",
        "1, min(BATCH_EVENTS, BATCH_EVENTS + 0 * read_bytes)",
        "tests/projector/test_projector.py::test_a_batch_is_small_where_events_are_large",
    ),
    mutant(
        "a read that is content with less than it was asked for",
        "projector/views.py",
        "if seen is not None and seen.generation.cursor >= min_position:",
        "if seen is not None:",
        "tests/projector/test_projector.py::test_what_was_appended_is_read_at_once",
    ),
    mutant(
        "a full disk that nobody hears of",
        "projector/keeping.py",
        "    if trouble is not None:\n        detail = str(trouble)\n    elif",
        "    if trouble is not None and False:\n        detail = str(trouble)\n    elif",
        "tests/projector/test_projector.py::test_a_full_disk_is_told_and_when_there_is_room_views_go_on",
    ),
    # ------------------------------------------------------------------------------ verifying
    mutant(
        "a verification that compares a view with itself",
        "projector/verify.py",
        "    rebuilt = await _rebuilt(views.log, projection, generation.cursor, advance)\n",
        "    rebuilt = incremental\n",
        "tests/projector/test_verify.py::test_a_document_that_was_changed_is_noticed",
    ),
    mutant(
        "a verification that does not look at what was kept",
        "projector/verify.py",
        "        if mark is None:\n            async for row",
        "        if mark is None or True:\n            async for row",
        "tests/projector/test_verify.py::test_what_was_kept_as_of_a_mark_and_changed_is_noticed",
    ),
    mutant(
        "a verification of several moments",
        "projector/files.py",
        '            await fetch("BEGIN")\n',
        "",
        "tests/projector/test_verify.py::test_what_is_committed_after_the_first_look_is_not_seen",
    ),
)
