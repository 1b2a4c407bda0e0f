"""A conversation to test with: an app whose workflow answers with what it was shown, and what was said, in short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evrt
from evrt.effects.contract import ModelRequest
from evrt.testing import ScriptedModel, call

Ctx = evrt.Context[Any]


@evrt.tool(effect="read")
async def look_up(word: str) -> str:
    """A word in the dictionary."""
    return f"{word} is a word"


@evrt.tool(effect="read", trusted=True)
async def clock(word: str) -> str:
    """The time, of our own clock."""
    return "noon"


def answer(request: ModelRequest) -> Any:
    """``look ...`` and ``clock ...`` call that tool; ``fail`` fails; anything else is answered by how much was shown."""
    last = request.messages[-1]
    if last["role"] == "user":
        text = str(last["content"])
        if text.startswith("fail"):
            raise KeyError("no such thing")
        for name, tool in (("look", "look_up"), ("clock", "clock")):
            if text.startswith(name):
                return [call(tool, word=f"{text}-{number}") for number in (1, 2)]
    return f"to {text_of(request.messages)[-1]}: shown {len(request.messages)}"


def text_of(messages: Sequence[Any]) -> list[str]:
    """Messages in short: what was said, or the tools that are called."""
    return [
        f"{message['role'][0]}:{message['content']}"
        if message.get("content") is not None
        else f"{message['role'][0]}:{len(message['tool_calls'])} calls"
        for message in messages
    ]


def talking(url: str) -> evrt.App:
    """An app with the workflow ``chat``, whose runs see up to 100 messages of what was said before."""
    app = evrt.App(url)
    add_chat(app)
    return app


def add_chat(app: evrt.App) -> None:
    """Have an app have that workflow."""
    app.models["m"] = ScriptedModel(answer)

    @app.workflow
    async def chat(ctx: Ctx, text: str) -> list[str]:
        transcript = ctx.transcript()
        transcript.extend(await ctx.history())
        shown = text_of(transcript.messages)
        transcript.add("user", text)
        while True:
            reply = await ctx.model(transcript, model="m", tools=[look_up, clock])
            transcript.add_reply(reply)
            if not reply.tool_calls:
                return shown
            for wanted in reply.tool_calls:
                transcript.add_result(await ctx.perform(wanted, [look_up, clock]))


async def say(app: evrt.App, *texts: str, to: str = "c") -> list[str]:
    """Say these things one after another; what the last run was shown of what was said before."""
    shown: list[str] = []
    for text in texts:
        result = await app.run("chat", text, conversation=to)
        shown = result.output if isinstance(result.output, list) else []
    return shown


async def said(app: evrt.App, conversation: str = "c") -> list[str]:
    """What was said in a conversation, in short."""
    return text_of(await app.message_history(conversation))
