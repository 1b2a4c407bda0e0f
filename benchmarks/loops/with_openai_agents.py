"""One run of an agent of the OpenAI Agents SDK with a model that calls a tool in every turn: ms per turn, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled

TURNS = int(sys.argv[1])
WINDOW = int(sys.argv[2])
marks: list[float] = []
set_tracing_disabled(True)


class Scripted(Model):
    """The next call, or the end."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        marks.append(time.perf_counter())
        number = len(marks)
        item: ResponseOutputItem
        if number > TURNS:
            said = ResponseOutputText(type="output_text", text="done", annotations=[])
            item = ResponseOutputMessage(
                id="m", type="message", role="assistant", status="completed", content=[said]
            )
        else:
            item = ResponseFunctionToolCall(
                call_id=f"c{number}", name="look", arguments=f'{{"number": {number}}}', type="function_call"
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@function_tool
def look(number: int) -> int:
    """Give back what was given."""
    return number


asyncio.run(Runner.run(Agent(name="a", model=Scripted(), tools=[look]), "go", max_turns=TURNS + 5))
print(
    json.dumps(
        [1_000 * (marks[WINDOW] - marks[0]) / WINDOW, 1_000 * (marks[-1] - marks[-1 - WINDOW]) / WINDOW]
    )
)
