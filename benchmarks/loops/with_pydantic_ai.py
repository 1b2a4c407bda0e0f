"""One run of an agent of pydantic-ai with a model that calls a tool in every turn: milliseconds per turn, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits

TURNS = int(sys.argv[1])
WINDOW = int(sys.argv[2])
marks: list[float] = []


def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The next call, or the end."""
    marks.append(time.perf_counter())
    number = len(marks)
    if number > TURNS:
        return ModelResponse(parts=[TextPart("done")])
    return ModelResponse(parts=[ToolCallPart("look", {"number": number})])


agent = Agent(FunctionModel(reply))


@agent.tool_plain
def look(number: int) -> int:
    """Give back what was given."""
    return number


asyncio.run(agent.run("go", usage_limits=UsageLimits(request_limit=None)))
print(
    json.dumps(
        [1_000 * (marks[WINDOW] - marks[0]) / WINDOW, 1_000 * (marks[-1] - marks[-1 - WINDOW]) / WINDOW]
    )
)
