"""What a failed model call means: one type, one paragraph, and whether trying again may help.

litellm turns a hundred providers' failures into its own classes, but wraps what it does not know as
if the connection had failed or the server had. What really happened is further down the chain of
causes: an HTTP status, a refused connection, a text that is not JSON.
"""

from __future__ import annotations

import json
import re

from evrt.effects.contract import ModelError

TEXT_CHARACTERS_MAX = 5_000
DETAIL_CHARACTERS_MAX = 600
RETRIABLE_STATUSES = frozenset({408, 409, 425, 429})
"""Besides all from 500: too slow, somebody else is at it, too early, too many."""

NETWORK_TYPES = frozenset({"connection", "timeout"})

CLASS_NAME = r"(?:litellm\.)?\w*(?:Error|Exception|Timeout)"
PREFIX = re.compile(rf"(?:{CLASS_NAME}\s+)*{CLASS_NAME}\s*[:-]\s*")
ADDRESS_IN_MEMORY = re.compile(r" at 0x[0-9a-f]+")

TEXTS = {
    "bad_request": "{model} refused the request{status}: {detail}.",
    "authentication": "The credentials for {model} were not accepted{status}: {detail}. Check that they are set, "
    "and that they are this provider's.",
    "permission": "{model} may not be used with this key{status}: {detail}.",
    "not_found": "{model} does not exist there{status}: {detail}. Check the name of the model and the address.",
    "context_window": "The request is longer than {model} can read: {detail}. Send fewer or shorter messages.",
    "content_policy": "{model} refused the content of the request{status}: {detail}.",
    "rate_limit": "{model} is over its limit{status}: {detail}. Wait, or ask the provider for more.",
    "server_error": "{model} failed on the provider's side{status}: {detail}.",
    "connection": "The connection to {model} failed: {detail}. Check the network and the address.",
    "timeout": "{model} did not reply in time{status}.",
    "malformed_reply": "{model} sent something that is not a chat completion: {detail}. Check the address.",
    "incomplete_reply": "The stream from {model} ended before the reply was complete.",
}


def explain_failure(
    error: Exception,
    *,
    handled: BaseException | None,
    model: str,
    api_base: str | None,
    unset_variables: list[str],
) -> ModelError:
    """What litellm raised, explained. ``handled``: what the caller was handling already, not a cause."""
    causes = _causes(error, handled)
    status = _http_status(causes)
    if "LLM Provider NOT provided" in str(error):
        return ModelError("unknown_model", unknown_model_text(model), retriable=False)
    error_type, retriable = _kind(causes, status)
    unasked = status is None and error_type not in NETWORK_TYPES
    if unset_variables and (unasked or error_type == "authentication"):
        return ModelError(
            "missing_credentials", missing_credentials_text(model, unset_variables), retriable=False
        )
    detail = _connection_detail(causes) if error_type == "connection" else _detail(error)
    return _failure(error_type, model, api_base, detail, status, retriable=retriable)


def incomplete_reply(model: str, api_base: str | None) -> ModelError:
    """The provider stopped in the middle without saying so."""
    return _failure("incomplete_reply", model, api_base, "", None, retriable=True)


def malformed_reply(model: str, api_base: str | None, detail: str) -> ModelError:
    """The provider's reply has no message in it."""
    return _failure("malformed_reply", model, api_base, detail, None, retriable=True)


def unknown_model_text(model: str) -> str:
    return (
        f"No provider is known for the model {model!r}. Write it as provider/model, for example openai/gpt-4o, "
        "anthropic/claude-sonnet-4-5 or ollama/llama3; https://docs.litellm.ai/docs/providers lists the providers."
    )


def missing_credentials_text(model: str, unset_variables: list[str]) -> str:
    return (
        f"The model {model} needs a key, and none is set. Put it into the environment variable "
        f"{' or '.join(unset_variables)}, or name a server of your own that needs none (api_base)."
    )


def _causes(error: BaseException, handled: BaseException | None) -> list[BaseException]:
    """The error and what it was raised from, outermost first."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause is not handled:
        causes.append(cause)
    return causes


def _http_status(causes: list[BaseException]) -> int | None:
    """The status that the provider sent, if it sent any: litellm's classes claim one in any case."""
    import httpx

    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code
    return None


def _kind(causes: list[BaseException], status: int | None) -> tuple[str, bool]:
    """The type of failure, and whether it is worth another try."""
    import httpx

    names = {type(cause).__name__ for cause in causes}
    if "ContextWindowExceededError" in names:
        return "context_window", False
    if "ContentPolicyViolationError" in names:
        return "content_policy", False
    # litellm takes 413, too large, for a rate limit; but the same request will never be smaller.
    if "RateLimitError" in names and status != 413:
        return "rate_limit", True
    if "Timeout" in names or any(
        isinstance(cause, httpx.TimeoutException | TimeoutError) for cause in causes
    ):
        return "timeout", True
    # litellm notices at the end of a stream that the provider had not finished, and raises from there.
    if any(isinstance(cause, StopAsyncIteration) for cause in causes):
        return "incomplete_reply", True
    return _kind_of_status(status) if status is not None else _kind_without_status(causes, names)


def _kind_of_status(status: int) -> tuple[str, bool]:
    kinds = {401: "authentication", 403: "permission", 404: "not_found"}
    kind = kinds.get(status, "server_error" if status >= 500 else "bad_request")
    return kind, status >= 500 or status in RETRIABLE_STATUSES


def _kind_without_status(causes: list[BaseException], names: set[str]) -> tuple[str, bool]:
    """No answer came, or one that could not be read, or litellm refused to ask."""
    import httpx
    import openai

    # litellm's own exceptions descend from openai's and claim to be what they only wrap.
    inner = [cause for cause in causes if type(cause).__module__ != "litellm.exceptions"]
    if any(isinstance(cause, httpx.TransportError | openai.APIConnectionError | OSError) for cause in inner):
        return "connection", True
    if any(isinstance(cause, json.JSONDecodeError) for cause in inner):
        return "malformed_reply", True
    if any(type(cause) is openai.APIError for cause in inner):
        return "server_error", True  # Sent as an event in the middle of a stream.
    if "AuthenticationError" in names:
        return "authentication", False
    if any(type(cause) is openai.OpenAIError for cause in inner):
        return "bad_request", False  # What its client needs before it can ask at all, is missing.
    if "InternalServerError" in names:
        return "malformed_reply", True
    if getattr(causes[0], "status_code", 500) < 500:
        return "bad_request", False
    return type(causes[-1]).__name__, not isinstance(causes[-1], ImportError | TypeError | ValueError)


def _failure(
    error_type: str, model: str, api_base: str | None, detail: str, status: int | None, *, retriable: bool
) -> ModelError:
    text = TEXTS.get(error_type, "The call of {model} failed: {detail}.").format(
        model=f"{model} at {api_base}" if api_base else model,
        status=f" (HTTP {status})" if status else "",
        detail=detail or "it does not say why",
    )
    return ModelError(error_type, text, retriable=retriable)


def _connection_detail(causes: list[BaseException]) -> str:
    """litellm says "Connection error." for all of them; the innermost cause says which host and why."""
    import httpx

    if any(isinstance(cause, httpx.ReadError | httpx.RemoteProtocolError) for cause in causes):
        return "the server hung up before its reply was complete"
    return _detail(causes[-1])


def _detail(error: BaseException) -> str:
    """The error's own words: one line, without litellm's names of classes and what changes at every run."""
    # An error in the middle of a stream repeats its message; the original says it once.
    text = str(getattr(error, "original_exception", None) or error)
    text = " ".join(text[:TEXT_CHARACTERS_MAX].partition("Traceback (most recent call last)")[0].split())
    while prefix := PREFIX.match(text):
        text = text[prefix.end() :]
    text = ADDRESS_IN_MEMORY.sub("", text).rstrip(". ")
    return text if len(text) <= DETAIL_CHARACTERS_MAX else f"{text[:DETAIL_CHARACTERS_MAX]}…"
