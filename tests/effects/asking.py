"""What the tests of litellm's path share: a question, and ways to ask it of the provider on loopback."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from effects.server import Provider
from evrt.effects.contract import ModelError, ModelReply, ModelRequest, OnDelta
from evrt.effects.models import LiteLLM
from evrt.events import JsonObject

# litellm silences these itself when it is imported; pytest's own filters undo that.
QUIETED = [
    pytest.mark.filterwarnings(
        "ignore:Item '.*' on TypedDict class '.*' is using the `ReadOnly` qualifier:UserWarning"
    ),
    pytest.mark.filterwarnings(
        "ignore:Accessing the 'model_.*' attribute on the instance:DeprecationWarning:litellm"
    ),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

KEY = "key-of-the-test"
QUESTION: list[JsonObject] = [
    {"role": "system", "content": "Sei höflich. 日本語 🌦"},
    {"role": "user", "content": "Weather in Zürich?"},
]


async def complete(
    model: LiteLLM, scenario: str, on_delta: OnDelta | None = None, **fields: Any
) -> ModelReply:
    async with aclosing(model):
        return await model.complete(ModelRequest(f"openai/{scenario}", QUESTION, **fields), on_delta)


def reply_to(provider: Provider, scenario: str, **fields: Any) -> ModelReply:
    return asyncio.run(complete(LiteLLM(provider.url, KEY), scenario, **fields))


def streamed(provider: Provider, scenario: str, **fields: Any) -> tuple[ModelReply, list[str]]:
    deltas: list[str] = []
    return reply_to(provider, scenario, on_delta=deltas.append, **fields), deltas


def failure_of(provider: Provider, scenario: str, **fields: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        reply_to(provider, scenario, **fields)
    for noise in ("\n", "litellm", "OpenAIException", "Traceback", " at 0x"):
        assert noise not in caught.value.message
    assert caught.value.message.endswith(".")
    assert str(caught.value) == caught.value.message
    return caught.value
