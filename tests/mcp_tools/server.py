"""An MCP server for tests, made with the SDK: over its standard streams, or over HTTP on a port of the loopback.

    python server.py FOLDER [PORT]

What its tools really do is a line each in FOLDER/ledger; FOLDER/pid has the process of the last one that was started.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    ToolAnnotations,
)

folder = Path(sys.argv[1])
server = MCPServer("shop", log_level="CRITICAL")
READS = ToolAnnotations(read_only_hint=True)


def enter(line: str) -> None:
    with (folder / "ledger").open("a") as ledger:
        ledger.write(f"{line}\n")


@server.tool(annotations=READS)
def price(item: str) -> str:
    """The price of an item."""
    enter(f"price {item}")
    if (folder / "die").exists():
        (folder / "die").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{item} costs {len(item)} €"


@server.tool(annotations=READS)
def stock(item: str) -> dict[str, int]:
    """How many there are."""
    return {item: 3}


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def order(item: str) -> str:
    """Orders an item, and may be the death of the server or take for ever."""
    enter(f"order {item}")
    if item == "bomb":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "tree":
        time.sleep(600)
    return f"ordered {item}"


@server.tool()
def put(item: str, ctx: Context) -> str:
    """Puts an item into the basket, once for each key."""
    meta: Any = ctx.request_context.meta or {}
    key = meta.get("evrt.dev/idempotency-key")
    enter(f"put {item}")
    if (folder / "die").exists():
        (folder / "die").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"put {item} under {key}"


@server.tool()
def refuse() -> str:
    """Always fails."""
    raise ToolError("out of stock")


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """A picture, a file, a link, and a word on them."""
    encoded = base64.b64encode(b"\x89PNG").decode()
    return [
        TextContent(text="A fig."),
        ImageContent(data=encoded, mime_type="image/png"),
        EmbeddedResource(
            resource=BlobResourceContents(uri="shop://fig", blob=encoded, mime_type="application/x-fig")
        ),
        ResourceLink(uri="shop://pear", name="pear"),
    ]


@server.tool()
def secret() -> str:
    """What nobody was allowed to be offered."""
    enter("secret")
    return "secret"


(folder / "pid").write_text(str(os.getpid()))
if len(sys.argv) > 2:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
else:
    server.run()
