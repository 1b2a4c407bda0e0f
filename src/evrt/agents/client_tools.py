"""Client tools: tools that the client of a run executes, so that the run waits for it to send the result.

A call is an open question of the run, with the tool's name, its arguments and the id of the call; ``app.tool_result``
answers it.
"""

from __future__ import annotations

from typing import Any

from evrt.effects.tools import Tool
from evrt.events import JsonObject, JsonValue
from evrt.runtime.context import Context

NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}


def client_tool(
    name: str, description: str, parameters: JsonObject | None = None, *, trusted: bool = False
) -> Tool:
    """A tool that an agent offers to its model, and the client of the run executes.

    ``parameters`` is the JSON schema of its arguments, an object's. The run waits until ``app.tool_result`` gives what
    came of a call, for as long as that takes. What a client sends makes the run distrusted, unless it is ``trusted``.
    Raises UsageError.
    """
    return Tool.from_schema(
        _asked_of_client,
        name=name,
        description=description,
        parameters=NO_PARAMETERS if parameters is None else parameters,
        trusted=trusted,
        client=True,
    )


async def _asked_of_client(ctx: Context[Any], **arguments: JsonValue) -> JsonValue:
    """Stands for the client, which is not here: ``runtime.in_run`` asks it in place of calling this."""
    raise NotImplementedError
