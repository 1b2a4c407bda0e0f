"""Restate: a server with its own log (RocksDB, synced), steps are ``ctx.run`` in a service of the Python SDK.

The worker starts the server and the service's process on loopback, drives them, and stops both; the clock
runs in the service's process. Actions are coroutines: plain functions go through a thread pool and were
slower. As it comes the server has 24 partitions; the variant ``one`` has a single one, so that runs which
are on their way together share commits.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from against.systems.worker import (
    RUNS,
    WARM_SECONDS,
    Sample,
    Task,
    folder_bytes,
    now,
    serve,
)

PACKAGES = Path(__file__).parents[1] / ".venvs" / "restate-server" / "node_modules" / "@restatedev"
START_SECONDS = 10
COMPLETED = "SELECT count(*) AS n FROM sys_journal WHERE entry_type = 'Notification: Run'"


def server_binary() -> Path:
    """The server itself, out of the package for this platform. What npm links as a command is a wrapper in Node:
    a signal would end the wrapper and leave the server."""
    [found] = PACKAGES.glob("restate-server-*/bin/restate-server")
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def request(method: str, url: str, body: object = None) -> Any:
    """The answer's JSON. Raises OSError."""
    headers = {"content-type": "application/json", "accept": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, content, headers, method=method), timeout=60
    ) as answer:
        return json.loads(answer.read() or b"null")


def until_it_works(attempt: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> Any:
    """Repeat while OSError comes, for some seconds, and as long as the process that is waited for lives."""
    give_up = now() + START_SECONDS
    while True:
        try:
            return attempt()
        except OSError:
            if now() > give_up or (process is not None and process.poll() is not None):
                raise
            time.sleep(0.01)


class Restate:
    """A server and a service's process, both ours, on ports of their own."""

    def __init__(self, task: Task, **settings: str) -> None:
        self.folder = task.folder
        self.ingress, self.admin, self.node, self.endpoint = (free_port() for _ in range(4))
        self.settings = settings | {
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{self.node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{self.node}",
            "RESTATE_DEFAULT_NUM_PARTITIONS": "1" if task.variant == "one" else "24",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_LOG_FILTER": "error",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def start_server(self) -> subprocess.Popen[bytes]:
        command: list[str | Path] = [
            server_binary(),
            "--base-dir",
            self.folder / "restate",
            "--node-name",
            "against",
            "--no-logo",
        ]
        with (self.folder / "server.log").open("ab") as log:
            server = subprocess.Popen(
                command, env=os.environ | self.settings, stdout=log, stderr=subprocess.STDOUT
            )
        self.started.append(server)
        for url in (f"{self.admin}/health", f"{self.ingress}/restate/health"):
            until_it_works(partial(request, "GET", f"http://127.0.0.1:{url}"), server)
        return server

    def start_endpoint(self) -> subprocess.Popen[bytes]:
        module = "against.systems.restate_service"
        process = subprocess.Popen([sys.executable, "-m", module, str(self.endpoint), str(self.folder)])
        self.started.append(process)
        until_it_works(lambda: socket.create_connection(("127.0.0.1", self.endpoint)).close(), process)
        return process

    def __enter__(self) -> Restate:
        self.server = self.start_server()
        self.process = self.start_endpoint()
        uri = {"uri": f"http://127.0.0.1:{self.endpoint}"}
        until_it_works(lambda: request("POST", f"http://127.0.0.1:{self.admin}/deployments", uri))
        return self

    def call(self, handler: str, argument: object) -> Any:
        return request("POST", f"http://127.0.0.1:{self.ingress}/against/{handler}", argument)

    def completed(self) -> int:
        """Steps whose outcome is in the server's journal."""
        query = f"http://127.0.0.1:{self.admin}/query"
        return int(until_it_works(lambda: request("POST", query, {"query": COMPLETED}))["rows"][0]["n"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def rate(task: Task, runs: int) -> Sample:
    with Restate(task) as restate, ThreadPoolExecutor(runs) as pool:
        warmed = restate.call("for_a_while", now() + WARM_SECONDS)
        start = now()
        steps = sum(pool.map(lambda _: restate.call("for_a_while", start + task.seconds), range(runs)))
        spent = now() - start
        return Sample(steps / spent, steps, restate.completed() - warmed)


@contextmanager
def crashed(task: Task) -> Any:
    """A server whose only invocation lost its process in the step after so many, and is not tried again."""
    settings = {"RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL": "30m"}
    settings["RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL"] = "1h"
    (task.folder / "crash").touch()
    with Restate(task, **settings) as restate:
        invocation = restate.call("so_many/send", task.steps)["invocationId"]
        restate.process.wait(60)
        (task.folder / "crash").unlink()
        yield restate, invocation


def resume(task: Task) -> Sample:
    """From telling the server to go on, with the service's new process ready, to the first live step."""
    with crashed(task) as (restate, invocation):
        restate.start_endpoint()
        stored = restate.completed()
        start = now()
        until_it_works(
            lambda: request("PATCH", f"http://127.0.0.1:{restate.admin}/invocations/{invocation}/resume")
        )
        live_at = request("GET", f"http://127.0.0.1:{restate.ingress}/restate/invocation/{invocation}/attach")
        return Sample(1_000 * (live_at - start), task.steps, stored)


def kept(task: Task) -> Sample:
    """The server is killed together with the service's process."""
    with crashed(task) as (restate, _):
        restate.server.kill()
        restate.server.wait()
        restate.start_server()
        give_up = now() + START_SECONDS
        # It answers before it has read its log to the end.
        while (stored := restate.completed()) < task.steps and now() < give_up:
            time.sleep(0.05)
        return Sample(stored, task.steps, stored)


def size(task: Task) -> Sample:
    """Bytes of the server's folder after it was stopped."""
    with Restate(task) as restate:
        restate.call("so_many", task.steps)
        stored = restate.completed() - 1
    return Sample(folder_bytes(task.folder / "restate"), task.steps, stored)


if __name__ == "__main__":
    printed = subprocess.run(
        [server_binary(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    serve(
        {
            "steps": lambda task: rate(task, 1),
            "many": lambda task: rate(task, RUNS),
            "resume": resume,
            "kept": kept,
            "bytes": size,
        },
        ["restate-sdk"],
        server=printed.split()[-1],
    )
