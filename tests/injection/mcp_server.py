"""An MCP server whose tool says, in its description, its parameters and its result, what stands in FOLDER/….

python mcp_server.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer

folder = Path(sys.argv[1])


def told(name: str) -> str:
    path = folder / name
    return path.read_text("utf-8") if path.exists() else "Looks something up."


class Telling(MCPServer):
    """Describes its tool anew each time it is asked."""

    async def list_tools(self) -> list[Any]:
        tools = await super().list_tools()
        for tool in tools:
            tool.description = told("description")
            tool.input_schema["properties"]["word"]["description"] = told("parameter")
        return tools


server = Telling("teller", log_level="CRITICAL")


@server.tool()
def lookup(word: str) -> str:
    return told("result")


server.run()
