"""A small file system of one's own: a script runs in a mount namespace where a folder is a tmpfs, and takes it along at its end.

Root may do that anywhere; others where the kernel lets them have namespaces of users.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent

MOUNT_AND_RUN = 'mount -t tmpfs -o "size=$2" tmpfs "$1" && exec "$3" -W error -W ignore::DeprecationWarning -c "$4" "$1" "$5"'


def run_on_small_disk(folder: Path, script: str, argument: str = "", *, size: str = "2m") -> Any:
    """What the script prints as JSON in its last line; ``sys.argv[1]`` is the folder that is the small disk, then ``argument``."""
    namespace = (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    done = subprocess.run(
        [
            *namespace,
            "sh",
            "-c",
            MOUNT_AND_RUN,
            "sh",
            str(folder),
            size,
            sys.executable,
            textwrap.dedent(script),
            argument,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
    )
    if done.returncode != 0:
        raise AssertionError(
            f"The script on a small disk ended with {done.returncode}. If mounting was refused: these tests need root, "
            f"or a kernel that lets users have namespaces.\n{done.stdout}\n{done.stderr}"
        )
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])


# For the scripts, which import it from here.


def fill(folder: str) -> None:
    """Leave no room on the disk."""
    with open(f"{folder}/filler", "ab", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


def make_room(folder: str) -> None:
    os.unlink(f"{folder}/filler")
