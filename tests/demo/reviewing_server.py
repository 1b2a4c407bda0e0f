"""A small OpenAI-compatible server on loopback whose model is the scripted reviewer, in one mood or another."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from evrt.demo.scripted import reply_to
from evrt.effects.contract import ModelRequest

Mood = Callable[[str], str]
"""Changes a reply, given and returned as JSON."""


@dataclass(slots=True)
class Reviewing:
    """A running server, and the requests that came in."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def reviewing_server(mood: Mood = str, *, status: int = 200) -> Iterator[Reviewing]:
    """A server on a free port until the block ends. With a ``status`` other than 200 it refuses everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reviewing.requests.append(body)
            if status == 200:
                answer = _completion(body, mood)
            else:
                answer = {"error": {"message": "Incorrect API key provided", "type": "error", "code": None}}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        reviewing = Reviewing(f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(
            target=server.serve_forever, name="reviewing", kwargs={"poll_interval": 0.01}
        )
        thread.start()
        try:
            yield reviewing
        finally:
            server.shutdown()
            thread.join()


def _completion(body: dict[str, Any], mood: Mood) -> dict[str, Any]:
    message = reply_to(ModelRequest(body["model"], body["messages"], body.get("tools", [])))
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": json.loads(mood(json.dumps(message))),
                "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
