"""Bugs in what people do with a log beside running agents: copies, migrations, blobs, the doctor, settings."""

from __future__ import annotations

from mutants.mutant import Edit, Mutant, mutant

BACKUP = "tests/log/test_backup.py::"
MIGRATE = "tests/log/test_migrate.py::"
BLOBS = "tests/log/test_blobs.py::"
MOUNTS = "tests/cli/test_doctor.py::test_what_a_file_system_is_worth_is_told_from_its_mount"

OPERATING = (
    mutant(
        "a copy that is not of one moment",
        "log/backup.py",
        '            source.execute("BEGIN")\n',
        "",
        f"{BACKUP}test_what_is_written_between_two_steps_is_not_in_the_copy",
    ),
    mutant(
        "a copy that bears its name whatever the check finds",
        "log/backup.py",
        "    if not report.ok:\n        raise unsound(path, report)\n",
        "",
        f"{BACKUP}test_a_log_that_is_not_sound_is_not_passed_on_as_a_copy",
    ),
    mutant(
        "a copy that takes the place of what came meanwhile",
        "log/backup.py",
        "        os.link(part, target)\n",
        "        os.rename(part, target)\n",
        f"{BACKUP}test_what_came_meanwhile_is_left_as_it_is_too",
    ),
    mutant(
        "a migration without a copy",
        "log/migrate.py",
        "        backup(url, copy, copying=copying, checking=checking)\n",
        "",
        f"{MIGRATE}test_it_gets_todays_schema_and_a_copy_of_it_as_it_was_stays",
    ),
    Mutant(
        "a migration that is not one transaction",
        (
            Edit("log/migrate.py", '        connection.execute("BEGIN IMMEDIATE")\n', ""),
            Edit("log/migrate.py", '        connection.execute("COMMIT")\n', ""),
        ),
        f"{MIGRATE}test_a_process_that_dies_meanwhile_leaves_the_log_as_it_was_or_as_it_is_to_be",
    ),
    mutant(
        "a migration beside a writer",
        "log/migrate.py",
        "if not lock.acquire_within(lock_timeout_seconds):",
        "if lock_timeout_seconds < 0:",
        f"{MIGRATE}test_it_waits_for_who_writes_and_gives_up_in_the_end",
    ),
    mutant(
        "the same bytes kept twice",
        "log/sqlite/blobs.py",
        "            BlobGone(self.blob).make(connection)\n\n\nclass BlobGone",
        "            pass\n\n\nclass BlobGone",
        f"{BLOBS}test_the_same_bytes_are_kept_once",
    ),
    mutant(
        "a blob that is taken for a second one of itself",
        "log/sqlite/blobs.py",
        'UNFINISHED = "SELECT 1 FROM blobs WHERE id = ? AND digest IS NULL"',
        'UNFINISHED = "SELECT 1 FROM blobs WHERE id = ?"',
        f"{BLOBS}test_a_blob_is_there_once_whichever_of_its_commits_failed",
    ),
    mutant(
        "a piece that cannot be written once more",
        "log/sqlite/blobs.py",
        "INSERT OR REPLACE INTO blob_pieces",
        "INSERT INTO blob_pieces",
        f"{BLOBS}test_a_blob_is_there_once_whichever_of_its_commits_failed",
    ),
    Mutant(
        "old blobs swept away with unfinished ones",
        (
            Edit("log/sqlite/blobs.py", "WHERE digest IS NULL AND time < ?", "WHERE time < ?"),
            # The second wall: what has been finished is not given up.
            Edit("log/sqlite/blobs.py", "blobs WHERE id = ? AND digest IS NULL", "blobs WHERE id = ?"),
        ),
        f"{BLOBS}test_what_was_finished_is_never_swept_away",
    ),
    mutant(
        "other bytes than the history refers to",
        "runtime/blobs.py",
        "digest_of([known, media_type])",
        "digest_of([media_type])",
        "tests/runtime/test_blobs.py::test_other_bytes_than_the_history_refers_to_are_a_divergence",
    ),
    mutant(
        "a file system that another one was mounted upon",
        "log/doctor.py",
        "len(point) >= best[0]",
        "len(point) > best[0]",
        MOUNTS,
    ),
    mutant(
        "a neighbour's file system taken for one's own",
        "log/doctor.py",
        'folder.startswith(point.rstrip("/") + "/")',
        "folder.startswith(point)",
        MOUNTS,
    ),
    mutant(
        "an older schema that the doctor does not mind",
        "log/doctor.py",
        "if version < SCHEMA_VERSION:",
        "if version < 1:",
        "tests/cli/test_doctor.py::test_a_log_of_an_older_version_is_to_be_migrated",
    ),
    mutant(
        "a key in the configuration that nobody knows",
        "config.py",
        "if key not in KEYS:",
        "if False:",
        "tests/cli/test_config.py::test_what_is_wrong_in_it_is_named",
    ),
    mutant(
        "a configuration that a program does not read",
        "config.py",
        ' else f"sqlite:///{db}"',
        " else db",
        "tests/cli/test_config.py::test_a_program_reads_it_too",
    ),
)
