"""Model calls through litellm, which is imported at the first call because that takes seconds.

litellm knows a hundred providers; evrt wants one call, one reply, one error. Retries, callbacks and
prints of litellm are off: evrt tries again by itself and records what happened.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, cast

import orjson

from evrt.effects.contract import ModelError, ModelReply, ModelRequest, OnDelta
from evrt.effects.model_errors import (
    Addressee,
    causes_of,
    explain_failure,
    incomplete_reply,
    malformed_reply,
    missing_credentials_text,
    unknown_model_text,
)
from evrt.effects.model_usage import usage_of_failure, usage_of_reply, usages_in, usages_in_errors
from evrt.errors import UsageError
from evrt.events import JsonObject

CREDENTIALS_ELSEWHERE = frozenset({"azure", "bedrock", "sagemaker", "vertex_ai"})
"""Providers that also find credentials in profiles and metadata servers: a variable not set proves nothing."""

SECRET_VARIABLES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
"""How the names of environment variables end that hold what no text may repeat."""


class LiteLLM:
    """Calls any model that litellm knows, by its name there: ``openai/gpt-4o``, ``ollama/llama3``.

    ``api_base`` sends every call to another server with the same API. Without ``api_key`` litellm
    takes the provider's own environment variable, e.g. OPENAI_API_KEY.
    """

    def __init__(
        self, api_base: str | None = None, api_key: str | None = None, *, timeout_seconds: float | None = None
    ) -> None:
        if api_base is not None and not api_base.startswith(("http://", "https://")):
            raise UsageError(
                f"api_base is {api_base!r}; it has to be an address like http://127.0.0.1:8000/v1."
            )
        self.api_base = api_base
        self._api_key = api_key
        self._timeout_seconds = timeout_seconds

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        """One chat completion; streams when ``on_delta`` is given. Raises ModelError."""
        litellm = await _loaded()
        arguments = self._arguments(request)
        if on_delta is None:
            answer = await self._answer(litellm, request, arguments)
            said = usages_in([answer])
            return self._reply(litellm, request, answer, getattr(answer, "model", None), said)
        chunks: list[Any] = []
        said = []
        model_returned: str | None = None
        async with aclosing(self._chunks(litellm, request, arguments, said)) as stream:
            async for chunk, name in stream:
                chunks.append(chunk)
                model_returned = name
                # Outside of what maps errors: what on_delta raises is not the model's failure.
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    on_delta(_mended(text))
        answer = await self._assembled(litellm, request, chunks, said)
        return self._reply(litellm, request, answer, model_returned, said, _calls_begun(chunks))

    async def aclose(self) -> None:
        """Close the connections that litellm keeps open for the running event loop."""
        if not _load.cache_info().currsize:
            return
        cache = _load().in_memory_llm_clients_cache
        # litellm's own close_litellm_async_clients closes those of other loops too, and leaves the closed
        # clients in the cache, where the next call would find them.
        of_this_loop = cache.update_cache_key_with_event_loop("")  # What it adds to each key.
        for key in [key for key in cache.cache_dict if key.endswith(of_this_loop)]:
            client = cache.cache_dict.pop(key)
            cache.ttl_dict.pop(key, None)
            close = getattr(client, "close", None) or getattr(client, "aclose", None)
            if close is not None and inspect.isawaitable(closing := close()):
                await closing

    def _arguments(self, request: ModelRequest) -> dict[str, Any]:
        # A copy as plain JSON: some of litellm's adapters rewrite messages in place, and these are the run's.
        arguments: dict[str, Any] = _plain(
            {**request.parameters, "messages": _for_provider(request.messages)}
        )
        if request.tools:
            # Without the second, litellm looks for its MCP gateway behind every call with tools, and the call
            # fails where the package mcp is not installed (1.106.2).
            arguments |= {"tools": _plain(list(request.tools)), "_skip_mcp_handler": True}
        own = {"api_base": self.api_base, "api_key": self._api_key, "timeout": self._timeout_seconds}
        arguments |= {name: value for name, value in own.items() if value is not None}
        if self.api_base and not self._api_key and _unset_variables(request.model) == ["OPENAI_API_KEY"]:
            # OpenAI's client does not start without a key; a server of one's own seldom asks for one.
            arguments["api_key"] = "none"
        if not request.model.startswith("huggingface/"):
            # To Hugging Face litellm would send the option itself, and it does not try again there anyway.
            arguments["num_retries"] = 0
        return arguments | {"model": request.model, "stream": False}

    async def _answer(self, litellm: Any, request: ModelRequest, arguments: dict[str, Any]) -> Any:
        handled = sys.exception()
        try:
            return await litellm.acompletion(**arguments)
        except Exception as error:
            raise self._failure(litellm, request, error, handled) from error

    async def _chunks(
        self, litellm: Any, request: ModelRequest, arguments: dict[str, Any], said: list[Any]
    ) -> AsyncGenerator[tuple[Any, str | None], None]:
        """The chunks of a stream, each with the name that the provider gives its model.

        ``said`` receives what the provider says of usage: litellm takes it out of the chunks.
        """
        handled = sys.exception()
        arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        stream: Any = None
        try:
            stream = await litellm.acompletion(**arguments)
            async with aclosing(stream):
                async for chunk in stream:
                    # litellm puts the requested name into the chunks and keeps the provider's here.
                    yield chunk, getattr(stream, "_provider_response_model", None) or chunk.model
        except Exception as error:
            raise self._failure(litellm, request, error, handled, stream) from error
        finally:
            said += usages_in(getattr(stream, "chunks", ()))
        # When a stream merely stops (an error page, a proxy's time-out) litellm adds a "stop" of its own
        # and calls it a reply; only here can one see that the provider never said so.
        if not getattr(stream, "received_finish_reason", True) and not stream.intermittent_finish_reason:
            usage = usage_of_failure(litellm, request.model, said)
            raise incomplete_reply(self._addressee(request), usage)

    async def _assembled(
        self, litellm: Any, request: ModelRequest, chunks: list[Any], said: list[Any]
    ) -> Any:
        try:
            # Goes over all chunks several times: in a thread, so that other runs go on.
            return await asyncio.to_thread(litellm.stream_chunk_builder, chunks)
        except Exception as error:
            raise self._malformed(litellm, request, str(error), said) from error

    def _reply(
        self,
        litellm: Any,
        request: ModelRequest,
        answer: Any,
        model_returned: str | None,
        said: list[Any],
        calls_begun: int = 0,
    ) -> ModelReply:
        try:
            choice = answer.choices[0]
            message = _message(choice.message)
        except (AttributeError, IndexError, TypeError) as error:
            raise self._malformed(litellm, request, "it has no message", said) from error
        calls = cast(list[JsonObject], message.get("tool_calls") or [])
        promised = choice.finish_reason == "tool_calls" and not message["content"]
        # litellm leaves out, without a word, what streamed in without an id or a name.
        if len(calls) < max(calls_begun, int(promised)):
            raise self._malformed(litellm, request, "it calls a tool without saying which", said)
        return ModelReply(
            message=message,
            finish_reason=choice.finish_reason,
            provider=answer._hidden_params.get("custom_llm_provider"),
            model_returned=model_returned,
            response_id=answer.id,
            usage=usage_of_reply(litellm, request.model, answer, said),
        )

    def _malformed(self, litellm: Any, request: ModelRequest, detail: str, said: list[Any]) -> ModelError:
        usage = usage_of_failure(litellm, request.model, said)
        return malformed_reply(self._addressee(request), detail, usage)

    def _failure(
        self,
        litellm: Any,
        request: ModelRequest,
        error: Exception,
        handled: BaseException | None,
        stream: Any = None,
    ) -> ModelError:
        causes = causes_of(error, handled)
        said = usages_in(getattr(stream, "chunks", ()))
        return explain_failure(
            error,
            causes,
            self._addressee(request),
            begun=stream is not None,
            unset_variables=[] if self._api_key else missing_credentials(request.model, self.api_base),
            usage=usage_of_failure(litellm, request.model, [*said, *usages_in_errors(causes)]),
        )

    def _addressee(self, request: ModelRequest) -> Addressee:
        # Without a key of one's own, litellm takes the provider's from the environment.
        secrets = [value for name, value in os.environ.items() if name.upper().endswith(SECRET_VARIABLES)]
        return Addressee(request.model, self.api_base, [*secrets, self._api_key or ""])


def missing_credentials(model: str, api_base: str | None = None) -> list[str]:
    """Names of environment variables that hold the model's key and are not set; one of them is enough.

    Empty where none is needed, where the model is unknown, and with an ``api_base``, whose server alone
    knows what it asks for. Imports litellm.
    """
    return [] if api_base else _unset_variables(model)


def explain_model(model: str, api_base: str | None = None) -> str | None:
    """Why the model cannot be called, as a paragraph for a person; None where nothing speaks against it.

    Imports litellm.
    """
    if _provider(model, api_base) is None:
        return unknown_model_text(model)
    unset = missing_credentials(model, api_base)
    return missing_credentials_text(model, unset) if unset else None


def _provider(model: str, api_base: str | None) -> str | None:
    try:
        name, provider, _, _ = _load().get_llm_provider(model=model, api_base=api_base)
    except Exception:  # noqa: BLE001  # It raises a bad request, of a call that nobody has made.
        return None
    return provider if name else None


def _unset_variables(model: str) -> list[str]:
    if _provider(model, None) in CREDENTIALS_ELSEWHERE:
        return []
    variables = _load().validate_environment(model)["missing_keys"]
    # It also lists addresses (OLLAMA_API_BASE), which have defaults.
    unset = [variable for variable in variables if variable.endswith(("_KEY", "_TOKEN"))]
    if not unset:
        # Set but empty is what a shell leaves of a variable that it was given nothing for.
        unset = [name for name in _key_variables(model) if os.environ.get(name) == ""]
    return unset


def _key_variables(model: str) -> list[str]:
    """Names of the variables that hold the key of a model's provider, where they follow the usual form."""
    provider = _provider(model, None)
    return [] if provider is None else [f"{provider.upper()}_API_KEY"]


def _calls_begun(chunks: Iterable[Any]) -> int:
    """How many tool calls a stream began, by their numbers in it."""
    deltas = (choice.delta for chunk in chunks for choice in chunk.choices[:1])
    return len({call.index for delta in deltas for call in getattr(delta, "tool_calls", None) or ()})


def _message(message: Any) -> JsonObject:
    """The assistant's message as plain JSON, without the many fields that are None."""
    calls = [_tool_call(call) for call in message.tool_calls or ()]
    # A stream of tool calls may begin with an empty text; the same reply in one piece has none.
    plain: JsonObject = {
        "role": "assistant",
        "content": message.content or (None if calls else message.content),
    }
    if calls:
        plain["tool_calls"] = calls
    # Some providers refuse the next request of a conversation unless they get their thoughts back.
    for name in ("reasoning_content", "thinking_blocks"):
        if value := getattr(message, name, None):
            plain[name] = value
    if refusal := getattr(message, "refusal", None):
        plain["refusal"] = refusal
    return cast(JsonObject, _plain(plain))


def _tool_call(call: Any) -> JsonObject:
    """Arguments stay the text that the model wrote, JSON or not: whoever validates them can then say so."""
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _for_provider(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """Messages without what evrt notes beside them, such as that one is a summary: providers refuse what they do not know."""
    return [
        {name: value for name, value in message.items() if name != "metadata"}
        if isinstance(noted := message.get("metadata"), dict) and "kind" in noted
        else message
        for message in messages
    ]


def _plain(value: Any) -> Any:
    """A copy of nothing but JSON, and of nothing that cannot be written as UTF-8."""
    try:
        return orjson.loads(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return json.loads(_mended(json.dumps(value, ensure_ascii=False)))


def _mended(text: str) -> str:
    """Halves of surrogate pairs joined, as a stream may cut them in two; lone ones made U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def _loaded() -> Any:
    if not _load.cache_info().currsize:
        await asyncio.to_thread(_load)  # Seconds, in which the loop has other things to do.
    return _load()


@functools.cache
def _load() -> Any:
    """litellm, imported and quiet."""
    imported_by_the_program = "litellm" in sys.modules
    # Read at import. Without them litellm fetches a price list at import and a list of headers at the first
    # call to Anthropic, each from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")

    import litellm

    litellm.suppress_debug_info = True  # Else it prints "Give Feedback / Get Help" on stdout at every error.
    # What a provider got wrong is found out by evrt; pydantic would say it on stderr.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
    if not imported_by_the_program:  # Whoever uses litellm besides evrt has set it up to his own liking.
        litellm.turn_off_message_logging = True
        # Where a provider does not count tokens litellm estimates, and would download a tokenizer for it.
        litellm.disable_hf_tokenizer_download = True
        if "LITELLM_LOG" not in os.environ:
            # Everything worth knowing is in the error; without handlers, warnings would go to stderr.
            for name in ("LiteLLM", "litellm"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm
