"""Real power cuts: an ext4 file system in a file, whose device is copied while a process writes to what is mounted of it.

What the process has written and the kernel has not yet sent to the device is in no copy: a mounted copy is
what a machine finds that lost its power at that moment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_BYTES = 48 * 1024 * 1024
UNMOUNT_SECONDS_MAX = 30.0


class CannotMount(Exception):
    """This machine does not let this user mount an image. The text says what it said."""


def make(image: Path) -> None:
    """A file system with nothing in it."""
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(image))


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """The file system of an image, for as long as this lasts."""
    at.mkdir(exist_ok=True)
    _run("mount", "-t", "ext4", "-o", "loop", str(image), str(at))
    try:
        yield at
    finally:
        _unmount(at)


def _unmount(at: Path) -> None:
    """Once the last of those who were killed has let go of it."""
    until = time.monotonic() + UNMOUNT_SECONDS_MAX
    while subprocess.run(["umount", str(at)], capture_output=True, check=False).returncode:
        assert time.monotonic() < until, f"{at} cannot be unmounted: somebody uses it."
        time.sleep(0.02)


def cut(image: Path, copy: Path) -> None:
    """What the device holds at one moment, without waiting for anything."""
    before, now = _copy(image, copy), b""
    while now != before:
        # It was being written, so that the copy might be of several moments.
        before, now = now, _copy(image, copy)


def _copy(image: Path, copy: Path) -> bytes:
    """Copy all but the holes; a digest of it."""
    digest = hashlib.sha1(usedforsecurity=False)
    with open(image, "rb") as source, open(copy, "wb") as target:
        target.truncate(IMAGE_BYTES)
        begin = _seek(source.fileno(), 0, os.SEEK_DATA)
        while begin is not None:
            end = _seek(source.fileno(), begin, os.SEEK_HOLE) or IMAGE_BYTES
            content = os.pread(source.fileno(), end - begin, begin)
            os.pwrite(target.fileno(), content, begin)
            digest.update(b"%d " % begin + content)
            begin = _seek(source.fileno(), end, os.SEEK_DATA)
    return digest.digest()


def _seek(file: int, at: int, whence: int) -> int | None:
    try:
        return os.lseek(file, at, whence)
    except OSError:
        return None  # There is nothing more.


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise CannotMount(f"{command[0]} is not on the PATH.")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMount(f"{command[0]} says: {done.stderr.strip()}")
