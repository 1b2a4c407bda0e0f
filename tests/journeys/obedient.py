"""A model that does what the user's words say, and looks at nothing else: the same after a crash, in any process.

``!begin`` calls the tool ``begin``; ``!give_name {"name": "Ann"} !begin`` calls two at once; ``|`` parts one reply from
the next. Anything else is answered with what the prompt says.
"""

from __future__ import annotations

import json
from typing import Any

from evrt.effects.contract import ModelRequest
from evrt.testing import Reply, ToolCalls, calls


def obey(request: ModelRequest) -> Reply:
    """Call what the last words of the user say, one reply after another; then say what came of it."""
    last = max(number for number, message in enumerate(request.messages) if message["role"] == "user")
    said = str(request.messages[last]["content"])
    since = request.messages[last + 1 :]
    replies = [part.strip() for part in said.split("|")] if said.startswith("!") else []
    done = sum(message["role"] == "assistant" for message in since)
    if done < len(replies):
        return calls(*map(_call, filter(None, replies[done].split("!"))))
    results = [str(message["content"]) for message in since if message["role"] == "tool"]
    return " ".join(results) or f"({request.messages[0]['content']})"


def _call(text: str) -> ToolCalls:
    name, _, arguments = text.strip().partition(" ")
    return ToolCalls(((name, arguments or "{}"),))


def words(*tools: str | tuple[str, dict[str, Any]]) -> str:
    """Words that have these tools called, one after another."""
    each = [tool if isinstance(tool, str) else f"{tool[0]} {json.dumps(tool[1])}" for tool in tools]
    return " | ".join(f"!{one}" for one in each)
