"""Tools of MCP servers, which are real processes here: over standard streams and over HTTP, killed in the middle of a call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client

from evrt import App, Context, McpServer, NotFound, UsageError
from evrt.agents.mcp import tool_name
from evrt.effects.mcp.transports import Attempt, Telling, current_attempt
from evrt.effects.tools import Tool
from evrt.retry import NO_RETRY
from evrt.testing import ScriptedModel, call

SERVER = Path(__file__).with_name("server.py")
SHOP = ["price", "stock", "order", "put", "refuse", "picture"]


def command(folder: Path) -> list[str]:
    return [sys.executable, str(SERVER), str(folder)]


def ledger(folder: Path) -> list[str]:
    path = folder / "ledger"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def shopping(app: App) -> None:
    """A workflow that makes calls one after another: each a tool and its arguments."""

    @app.workflow(retry=NO_RETRY)
    async def shop(ctx: Context[Any], wanted: list[tuple[str, dict[str, str]]]) -> list[Any]:
        tools: list[Tool] = list((await app.toolgroups["shop"].tools(ctx)).values())
        came: list[Any] = []
        for tool, arguments in wanted:
            function: Any = {"name": f"shop__{tool}", "arguments": json.dumps(arguments)}
            outcome = await ctx.perform({"id": tool, "function": function}, tools)
            came.append(outcome.value.model_dump() if outcome.is_error else outcome.value)
        return came


BARE = """
import json, os, sys
open(sys.argv[1] + "/pid", "w").write(str(os.getpid()))
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"jsonrpc": "2.0", "id": asked.get("id")}
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            server = {"name": "bare", "version": "1"}
            answer["result"] = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
        case "tools/list":
            answer["result"] = {"tools": [{"name": "order", "inputSchema": {"type": "object"}}]}
        case "tools/call":
            answer["result"] = {"content": [{"type": "text", "text": "on its way"}]}
        case _:
            answer["error"] = {"code": -32601, "message": "no such method"}
    if answer["id"] is not None:
        print(json.dumps(answer), flush=True)
"""
"""A server without the SDK, of an earlier version of the protocol: it starts ten times faster."""


class Served:
    """A server over HTTP, as a process of its own on a port of the loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        arguments = [*command(self.folder), str(self.port)]
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return process
        raise AssertionError("The server did not start.")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served"))
    try:
        yield server
    finally:
        server.kill()


async def test_what_a_server_returns_is_recorded_and_a_replay_connects_to_nobody(
    served: Served, tmp_path: Path
) -> None:
    app = App(f"sqlite:///{tmp_path}/evrt.db")
    shopping(app)
    app.toolgroup(McpServer("shop", url=served.url, allow=SHOP))
    wanted: list[Any] = [
        ("price", {"item": "fig"}),
        ("stock", {"item": "fig"}),
        ("order", {"item": "fig"}),
        ("refuse", {}),
        ("picture", {}),
        ("price", {}),
        ("secret", {}),
    ]
    async with app:
        run = await app.run("shop", wanted)
        price, stock, order, refused, picture, unfit, secret = run.output
        assert price == {"result": "fig costs 3 €"}
        assert stock == {"fig": 3}
        assert order == {"result": "ordered fig"}
        assert refused == {
            "error_type": "McpToolFailed",
            "message": "Error executing tool refuse: out of stock",
        }
        text, image, file, link = picture["content"]
        assert text == {"type": "text", "text": "A fig."}
        assert (image["type"], image["blob"]["media_type"]) == ("image", "image/png")
        assert await app.blobs.read_all(image["blob"]["sha256"]) == b"\x89PNG"
        assert (file["uri"], file["blob"]["media_type"]) == ("shop://fig", "application/x-fig")
        assert link == {"type": "link", "uri": "shop://pear", "name": "pear"}
        assert "'item' is a required property" in unfit["message"]
        assert (secret["error_type"], "secret" in ledger(served.folder)) == ("unknown_tool", False)
        effects = {
            e.event.tool: e.event.effect  # type: ignore[attr-defined]
            for e in (await app.get(run.run_id)).events
            if e.type == "tool_call.requested"
        }
        assert (effects["shop__price"], effects["shop__order"]) == ("read", "write")
    offline = App(app.url)
    shopping(offline)
    offline.toolgroup(McpServer("shop", url="http://127.0.0.1:9/nobody", allow=SHOP))
    async with offline:
        assert (await offline.replay(run.run_id)).complete


@pytest.mark.parametrize("trusted", [False, True])
async def test_what_a_server_says_makes_the_run_distrusted_unless_it_is_trusted(
    served: Served, trusted: bool
) -> None:
    app = App("memory://")
    app.toolgroup(McpServer("shop", url=served.url, allow=["price"], confirm="*", trusted=trusted))

    @app.workflow
    async def look(ctx: Context[Any]) -> list[Any]:
        [price] = (await app.toolgroups["shop"].tools(ctx)).values()
        assert price.confirm
        listed = ctx.untrusted
        await ctx.call(price, item="fig")
        return [listed, ctx.untrusted]

    async with app:
        seen = (await app.run(look)).output
    assert seen == ([[], []] if trusted else [["mcp:shop"], ["mcp:shop", "tool:shop__price"]])


async def test_an_agent_has_the_tools_that_it_or_its_run_names(served: Served) -> None:
    """B51, S3.5"""
    app = App("memory://")
    app.toolgroup(McpServer("shop", url=served.url, allow=["price", "stock"]))
    offered: list[list[str]] = []

    def says(request: Any) -> Any:
        offered.append([tool["function"]["name"] for tool in request.tools])
        return "done" if request.messages[-1]["role"] == "tool" else call("shop__price", item="fig")

    app.models["script"] = ScriptedModel(says)
    app.agent("buyer", model="script", tools=["shop/price"])
    async with app:
        run = await app.run("buyer", "How much?")
        assert (await app.replay(run.run_id)).ok
        await app.run("buyer", "How much?", toolgroups=["shop"])
        assert offered[::2] == [
            ["shop__price"],
            ["shop__price", "shop__stock"],
        ]
        with pytest.raises(NotFound, match=r"Toolgroup shop has no tool 'order'\. It has: price, stock\."):
            await app.run("buyer", "How much?", toolgroups=["shop/order"])


async def test_a_write_that_takes_longer_than_it_may_is_in_doubt(served: Served) -> None:
    app = App("memory://")
    shopping(app)
    app.toolgroup(McpServer("shop", url=served.url, allow=["order"], timeout="200ms"))
    async with app:
        run = await app.run("shop", [("order", {"item": "tree"})])
        assert (run.reason, run.waiting_for) == ("in_doubt", ("shop__order#1",))
        await app.settle(run.run_id, result="a tree")
        assert (await app.resume(run.run_id)).output == ["a tree"]


async def test_only_a_request_that_found_no_connection_at_all_counts_as_not_sent(served: Served) -> None:
    """The rest of an answer is asked for with GET: where that finds nobody, the request itself has been there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/"
    unsent: list[bool] = []
    for requests in ([("GET", nobody)], [("POST", nobody)], [("POST", served.url), ("POST", nobody)]):
        attempt = Attempt()
        token = current_attempt.set(attempt)
        async with Telling() as client:
            for method, url in requests:
                with suppress(httpx2.ConnectError):
                    await client.request(method, url)
        current_attempt.reset(token)
        unsent.append(attempt.unsent)
    assert unsent == [False, True, False]


async def test_over_http_a_write_is_in_doubt_where_it_was_sent_and_failed_where_it_was_not(
    served: Served,
) -> None:
    app = App("memory://")
    shopping(app)
    app.toolgroup(McpServer("shop", url=served.url, allow=["price", "order"]))
    wanted: list[Any] = [
        ("price", {"item": "fig"}),
        ("order", {"item": "bomb"}),
        ("order", {"item": "pear"}),
    ]
    async with app:
        parked = await app.run("shop", wanted)
        assert (parked.reason, parked.waiting_for) == ("in_doubt", ("shop__order#1",))
        assert ledger(served.folder).count("order bomb") == 1
        served.process.wait()
        await app.settle(parked.run_id, error="it blew up")
        _, bomb, pear = (await app.resume(parked.run_id)).output
        assert bomb["message"] == "it blew up"
        assert pear["error_type"] == "Unavailable"
        assert pear["message"].startswith("MCP server shop could")
        assert "order pear" not in ledger(served.folder)


@pytest.mark.soak
@pytest.mark.parametrize("protocol", ["of now", "with sessions"])
async def test_over_http_a_server_that_was_started_again_is_connected_to_again(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if protocol == "with sessions":
        monkeypatch.setattr("mcp.Client", partial(Client, mode="legacy"))
    server = Served(tmp_path)
    app = App("memory://")
    shopping(app)
    app.toolgroup(McpServer("shop", url=server.url, allow=["order"]))
    try:
        async with app:
            assert (await app.run("shop", [("order", {"item": "fig"})])).output == [{"result": "ordered fig"}]
            server.kill()
            server.process = server.start()
            assert (await app.run("shop", [("order", {"item": "pear"})])).output == [
                {"result": "ordered pear"}
            ]
    finally:
        server.kill()
    assert ledger(tmp_path) == ["order fig", "order pear"]


async def test_a_process_that_dies_in_a_call_is_started_again_and_only_a_write_is_in_doubt(
    tmp_path: Path,
) -> None:
    app = App(f"sqlite:///{tmp_path}/evrt.db")
    shopping(app)
    app.toolgroup(
        McpServer("shop", command=command(tmp_path), allow=["order", "put"], effects={"put": "idempotent"})
    )
    async with app:
        (tmp_path / "die").touch()
        parked = await app.run("shop", [("put", {"item": "fig"}), ("order", {"item": "bomb"})])
        assert (parked.reason, parked.waiting_for) == ("in_doubt", ("shop__order#1",))
        # An idempotent write was made again, under the same key; the other one was not.
        assert ledger(tmp_path) == ["put fig", "put fig", "order bomb"]
        events = (await app.get(parked.run_id)).events
        [key] = {e.event.key for e in events if e.type == "tool_call.requested" and e.event.key}  # type: ignore[attr-defined]
        doubt = next(e.event for e in events if e.type == "tool_call.in_doubt")
        assert doubt.cause == "MCP server shop gave no answer: Connection closed."  # type: ignore[attr-defined]
        await app.settle(parked.run_id, result="counted by hand")
        ended = await app.resume(parked.run_id)
        assert ended.output == [{"result": f"put fig under {key}"}, "counted by hand"]
        assert (await app.replay(parked.run_id)).complete


async def test_a_process_that_died_while_nobody_asked_it_is_started_again_and_ended_with_the_app(
    tmp_path: Path,
) -> None:
    """A server is anything that speaks the protocol, of this version or the one before."""
    app = App("memory://")
    shop = app.toolgroup(
        McpServer("shop", command=[sys.executable, "-c", BARE, str(tmp_path)], allow=["order"])
    )

    def pid() -> int:
        return int((tmp_path / "pid").read_text())

    async def kill() -> None:
        link = shop._connection._link
        assert link is not None
        os.kill(pid(), signal.SIGKILL)
        await asyncio.wait([link._task], timeout=10)

    @app.workflow
    async def buy(ctx: Context[Any]) -> Any:
        [order] = (await shop.tools(ctx)).values()
        await ctx.step("kill", kill)
        return await ctx.call(order)

    async with app:
        run = await app.run(buy)
        assert run.output == "on its way"
        last = pid()
    with pytest.raises(ProcessLookupError):
        os.kill(last, signal.SIGTERM)


async def test_a_server_that_cannot_be_started_fails_the_run_with_a_word_on_why(tmp_path: Path) -> None:
    app = App("memory://")
    shopping(app)
    app.toolgroup(McpServer("shop", command=[str(tmp_path / "nowhere")], allow=["price"]))
    async with app:
        run = await app.run("shop", [])
        assert run.status == "failed"
        assert run.failure is not None
        assert "MCP server shop could not be connected to: " in run.failure.message
        assert "nowhere" in run.failure.message


@pytest.mark.parametrize(
    "server, tool, name",
    [
        ("shop", "price", "shop__price"),
        ("my shop", "a.b/c", "my_shop__a_b_c"),
        ("7", "up", "_7__up"),
        ("shop", "p" * 58, f"shop__{'p' * 58}"),
        ("shop", "p" * 59, f"shop__{'p' * 49}_632fdcac"),
    ],
)
def test_a_tool_is_named_after_its_server_in_64_characters(server: str, tool: str, name: str) -> None:
    assert tool_name(server, tool) == name
    assert len(name) <= 64


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda: McpServer("shop", allow=["a"]), "takes either command="),
        (lambda: McpServer("shop", command=["a"], url="http://a", allow=["a"]), "takes either command="),
        (lambda: McpServer("shop", command="a b", allow=["a"]), "takes either command="),
        (lambda: McpServer("shop", command=["a"]), "offers nothing"),
        (lambda: McpServer("shop", command=["a"], allow="a"), "takes a list of names of tools"),
        (lambda: McpServer("a/b", command=["a"], allow=["a"]), "a text without a /"),
        (
            lambda: McpServer("shop", command=["a"], allow=["a"], effects={"a": "none"}),  # type: ignore[dict-item]
            "the effect of a is 'read'",
        ),
    ],
)
def test_a_server_that_cannot_be_is_refused(made: Callable[[], McpServer], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made()


def test_what_is_said_of_a_tool_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(NotFound, match=r"Toolgroup shop has no tool 'b'\. It has: a\."):
        McpServer("shop", command=["a"], allow=["a"], confirm=["b"])
    with pytest.raises(NotFound, match=r"Toolgroup shop has no tool 'b'\. It has: a\."):
        McpServer("shop", command=["a"], allow=["a"], effects={"b": "read"})


def test_without_the_sdk_one_paragraph_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.types", None)
    with pytest.raises(UsageError, match=r'pip install "evrt\[mcp\]"'):
        McpServer("shop", command=["a"], allow=["a"])
