"""Stands between clients and a PostgreSQL server on loopback, and is what a bad network is like.

It reads just enough of the protocol to know when the server says that it has committed: such an answer can be
kept back and the connection cut, so that the client cannot know. That is also how it is in a pipeline, where
the answer comes among others.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

ASKS_FOR_ENCRYPTION = frozenset({80877103, 80877104})
"""Codes of first packets that the server answers with one byte, after which the client begins anew."""

PIECE_BYTES = 65_536
LINGER_NOT = struct.pack("ii", 1, 0)
"""A connection closed with this setting ends with a reset: what was under way is gone."""


class Proxy:
    """Listens on a free port of loopback while it is entered.

    cut_commit
        asked each time that the server says it has committed: whether the client shall not hear of it.
    lose_commit
        asked each time that a client asks to commit: whether the server shall not hear of it.
    """

    def __init__(self, port: int) -> None:
        self.cut_commit: Callable[[], bool] = lambda: False
        self.lose_commit: Callable[[], bool] = lambda: False
        self.commits = 0
        """How often the server said that it had committed."""
        self.cuts = 0
        """How often nobody heard of it."""
        self.lost = 0
        """How often the server was not asked."""
        self.drops = 0
        self.delay_seconds = 0.0
        """How long everything takes in either direction."""
        self.refuses = False
        """Whether whoever connects now is turned away."""
        self._server_port = port
        self._flowing = threading.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *exc: object) -> None:
        # Closing alone would leave the thread in accept().
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.drop_all()
        self._flowing.set()
        self._accepting.join()

    def drop_all(self) -> None:
        """Break every connection there is."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def drop_one(self, choose: Callable[[int], int]) -> bool:
        """Break one of them, ``choose`` says which of so many. Whether there was one."""
        with self._lock:
            links = sorted(self._links, key=id)
        if links:
            links[choose(len(links))].cut()
            self.drops += 1
        return bool(links)

    def stall(self) -> None:
        """Forward nothing more, in neither direction, and tell nobody: every connection is half-open."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again, and first what has been kept back."""
        self._flowing.set()

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._links)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                client.close()
                continue
            link = _Link(self, client, server)
            with self._lock:
                self._links.add(link)
            link.start()

    def forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)

    def wait_flowing(self) -> None:
        self._flowing.wait()

    def loses(self) -> bool:
        """Whether the server shall not hear that it is asked to commit."""
        with self._lock:
            lose = self.lose_commit()
            self.lost += lose
        return lose

    def keeps_back(self, message: bytes) -> bool:
        """Whether the client shall not hear this, nor anything after it."""
        if not says_committed(message):
            return False
        with self._lock:
            self.commits += 1
            cut = self.cut_commit()
            self.cuts += cut
        return cut


class _Link:
    """One client's connection and the one that was made for it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._answers = Answers()
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for work in (self._forward_requests, self._forward_answers):
            threading.Thread(target=work, daemon=True).start()

    def cut(self) -> None:
        self._proxy.forget(self)
        for side in (self._client, self._server):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            # For whoever sits in recv() there; the other side hears of it by the close.
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _forward_requests(self) -> None:
        requests = Requests()
        with suppress(OSError):
            while piece := self._client.recv(PIECE_BYTES):
                asked, commits = requests.take(piece)
                self._answers.bytes_expected += asked
                if commits and self._proxy.loses():
                    break
                self._pass_on(self._server, piece)
        self.cut()

    def _forward_answers(self) -> None:
        with suppress(OSError):
            while piece := self._server.recv(PIECE_BYTES):
                passed = bytearray()
                for message in self._answers.take(piece):
                    if self._proxy.keeps_back(message):
                        self.cut()
                        return
                    passed += message
                self._pass_on(self._client, bytes(passed))
        self.cut()

    def _pass_on(self, side: socket.socket, piece: bytes) -> None:
        if self._proxy.delay_seconds:
            threading.Event().wait(self._proxy.delay_seconds)
        self._proxy.wait_flowing()
        side.sendall(piece)


# ---------------------------------------------------------------------------------- what passes through it


class Requests:
    """A client's bytes: does it ask for encryption, and is a COMMIT among what it asks?"""

    def __init__(self) -> None:
        self._kept = b""
        self._begun = False
        self._commits: set[bytes] = set()
        """Names of prepared statements that commit; without a name, the last one."""

    def take(self, piece: bytes) -> tuple[int, bool]:
        """How many answers of one byte this will have, and whether it asks to commit."""
        self._kept += piece
        asked = 0
        while not self._begun and len(self._kept) >= 8:
            length, code = struct.unpack("!II", self._kept[:8])
            if len(self._kept) < length:
                break
            # The first packets of a client alone have no type.
            self._begun = code not in ASKS_FOR_ENCRYPTION
            asked += not self._begun
            self._kept = self._kept[length:]
        commits = False
        while self._begun and len(self._kept) >= 5:
            length = 1 + int.from_bytes(self._kept[1:5], "big")
            if len(self._kept) < length:
                break
            commits = self._asks_to_commit(self._kept[:1], self._kept[5:length]) or commits
            self._kept = self._kept[length:]
        return asked, commits

    def _asks_to_commit(self, kind: bytes, body: bytes) -> bool:
        if kind == b"Q":
            return body == b"COMMIT\0"
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            (self._commits.add if query == b"COMMIT" else self._commits.discard)(name)
        return kind == b"B" and body.split(b"\0", 2)[1] in self._commits


class Answers:
    """The server's bytes as whole messages."""

    def __init__(self) -> None:
        self.bytes_expected = 0
        self._kept = b""

    def take(self, piece: bytes) -> Iterator[bytes]:
        self._kept += piece
        while self._kept:
            if self.bytes_expected:
                self.bytes_expected -= 1
                length = 1
            elif len(self._kept) < 5:
                return
            else:
                length = 1 + int.from_bytes(self._kept[1:5], "big")
            if len(self._kept) < length:
                return
            message, self._kept = self._kept[:length], self._kept[length:]
            yield message


def says_committed(message: bytes) -> bool:
    """Whether this is the server's word that a transaction is durable (CommandComplete, COMMIT)."""
    return message[:1] == b"C" and message[5:] == b"COMMIT\0"
