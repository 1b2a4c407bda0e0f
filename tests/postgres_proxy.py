"""A way to a PostgreSQL server that can be cut at the worst moment, or fall silent; loopback to the server's socket."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Literal
from urllib.parse import parse_qs, urlsplit

COMMITTED = b"COMMIT\x00"
"""Within what the server says when it has committed, and within what it is asked while the statement is not prepared."""

How = Literal["before the commit", "after the commit", "silent after the commit"]


class Proxy:
    """Forwards whatever comes until it is told to cut; then it cuts once, and forwards again."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        query = parse_qs(parts.query)
        self._server = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._user, self._database = parts.username, parts.path
        self._how: How | None = None
        self.cuts = 0
        self.keep_server = False
        """Whether the server is left to believe that its client is still there."""
        self._silent = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def url(self, schema: str) -> str:
        port = self._listening.getsockname()[1]
        return f"postgresql://{self._user}@127.0.0.1:{port}{self._database}?schema={schema}"

    def cut(self, how: How) -> None:
        """Cut the next session that commits."""
        self._how = how

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._open += [client, server]
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        # A socket that was closed in between has no number.
        with suppress(OSError, ValueError):
            while True:
                for one in select.select([client, server], [], [])[0]:
                    said = one.recv(1 << 16)
                    if not said:
                        raise ConnectionError
                    other = server if one is client else client
                    if not self._cuts(said, asked=one is client):
                        other.sendall(said)
                    elif self._silent:
                        # Whoever asked waits for ever; the server has done its work.
                        while True:
                            select.select([client], [], [])
                            if not client.recv(1 << 16):
                                raise ConnectionError
                    else:
                        raise ConnectionError
        client.close()
        if not self.keep_server:
            server.close()

    def _cuts(self, said: bytes, *, asked: bool) -> bool:
        how = self._how
        if how is None or COMMITTED not in said:
            return False
        if asked != (how == "before the commit"):
            return False
        self._silent = how == "silent after the commit"
        self._how = None
        self.cuts += 1
        return True
