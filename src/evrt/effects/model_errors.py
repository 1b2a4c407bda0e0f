"""What a failed model call means: one type, one paragraph, and whether trying again may help.

litellm turns a hundred providers' failures into its own classes, but wraps what it does not know as
if the connection had failed or the server had. What really happened is further down the chain of
causes: an HTTP status, a refused connection, a text that is not JSON.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import cast
from urllib.parse import urlsplit, urlunsplit

from evrt.effects.contract import ModelError
from evrt.events.calls import Usage

TEXT_CHARACTERS_MAX = 5_000
SECRET_CHARACTERS_MIN = 8
"""Shorter ones are stand-ins ("x"), found in any text."""

DETAIL_CHARACTERS_MAX = 600
RETRIABLE_STATUSES = frozenset({408, 409, 425, 429})
"""Besides all from 500: too slow, somebody else is at it, too early, too many."""

NETWORK_TYPES = frozenset({"connection", "timeout"})

CLASS_NAME = r"(?:litellm\.)?\w*(?:Error|Exception|Timeout)"
PREFIX = re.compile(rf"(?:{CLASS_NAME}\s+)*{CLASS_NAME}\s*[:-]\s*")
NOISE = re.compile(r" at 0x[0-9a-f]+| For further information visit https?://\S+")
"""Addresses in memory, and where pydantic explains itself."""

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


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a call went to. ``secrets`` are what the texts of its failures must not repeat."""

    model: str
    api_base: str | None = None
    secrets: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.model} at {self._address(self.api_base)}" if self.api_base else self.model

    @staticmethod
    def _address(api_base: str) -> str:
        """Without a user's name, a password or a query, any of which may hold a key."""
        parts = urlsplit(api_base)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def without_secrets(self, text: str) -> str:
        """Some servers repeat the key they refuse, and what fails is recorded for good."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= SECRET_CHARACTERS_MIN:
                text = text.replace(secret, "[key]")
        return text


def explain_failure(
    error: Exception,
    causes: Sequence[BaseException],
    addressee: Addressee,
    *,
    unset_variables: list[str],
    begun: bool,
    usage: Usage | None,
) -> ModelError:
    """What litellm raised, explained. ``causes`` are those of ``causes_of``; ``usage`` is what was paid for.

    ``begun`` says that a stream had begun: what goes wrong then is the provider's, not the request's.
    """
    status = _http_status(causes)
    if "LLM Provider NOT provided" in str(error):
        return ModelError("unknown_model", unknown_model_text(addressee.model), retriable=False)
    error_type, retriable = _kind(causes, status, begun)
    unasked = status is None and error_type not in NETWORK_TYPES
    if unset_variables and (unasked or error_type == "authentication"):
        return ModelError(
            "missing_credentials", missing_credentials_text(addressee.model, unset_variables), retriable=False
        )
    detail = (
        _connection_detail(causes, addressee) if error_type == "connection" else _detail(error, addressee)
    )
    return ModelError(
        error_type,
        _text(error_type, addressee, detail, status),
        retriable=retriable,
        usage=usage,
        retry_after_seconds=_retry_after_seconds(causes) if retriable else None,
    )


def incomplete_reply(addressee: Addressee, usage: Usage | None) -> ModelError:
    """The provider stopped in the middle without saying so."""
    text = _text("incomplete_reply", addressee, "", None)
    return ModelError("incomplete_reply", text, retriable=True, usage=usage)


def malformed_reply(addressee: Addressee, detail: str, usage: Usage | None) -> ModelError:
    """The provider's reply has no message in it."""
    text = _text("malformed_reply", addressee, _one_line(detail, addressee), None)
    return ModelError("malformed_reply", text, retriable=True, usage=usage)


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


def causes_of(error: BaseException, handled: BaseException | None) -> list[BaseException]:
    """The error and what it was raised from, outermost first.

    ``handled`` is what the caller was handling already, which is not a cause.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause is not handled:
        causes.append(cause)
    return causes


def _http_status(causes: Sequence[BaseException]) -> int | None:
    """The status that the provider sent, if it sent any: litellm's classes claim one in any case."""
    import httpx

    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code
    return None


def _kind(causes: Sequence[BaseException], status: int | None, begun: bool) -> tuple[str, bool]:
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
    return _kind_of_status(status) if status is not None else _kind_without_status(causes, names, begun)


def _kind_of_status(status: int) -> tuple[str, bool]:
    kinds = {401: "authentication", 403: "permission", 404: "not_found"}
    kind = kinds.get(status, "server_error" if status >= 500 else "bad_request")
    return kind, status >= 500 or status in RETRIABLE_STATUSES


def _kind_without_status(causes: Sequence[BaseException], names: set[str], begun: bool) -> tuple[str, bool]:
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
    if type(causes[-1]) is Exception:
        # An error that was sent with status 200. litellm keeps its text and its code, or 422 where it has none.
        claimed = getattr(causes[-1], "status_code", None)
        known = isinstance(claimed, int) and claimed != 422
        return _kind_of_status(cast(int, claimed)) if known else ("server_error", True)
    if any(type(cause) is openai.OpenAIError for cause in inner):
        return "bad_request", False  # What its client needs before it can ask at all, is missing.
    if "InternalServerError" in names:
        return "malformed_reply", True
    if getattr(causes[0], "status_code", 500) < 500:
        return "bad_request", False
    if begun:
        return "malformed_reply", True  # Whatever litellm stumbled over: not Unicode, a number for a list.
    return type(causes[-1]).__name__, not isinstance(causes[-1], ImportError | TypeError | ValueError)


def _text(error_type: str, addressee: Addressee, detail: str, status: int | None) -> str:
    return TEXTS.get(error_type, "The call of {model} failed: {detail}.").format(
        model=addressee,
        status=f" (HTTP {status})" if status else "",
        detail=detail or "it does not say why",
    )


def _retry_after_seconds(causes: Sequence[BaseException]) -> float | None:
    """How long the provider asks to be left alone: seconds or a date in its header Retry-After."""
    import httpx

    response = next((c.response for c in causes if isinstance(c, httpx.HTTPStatusError)), None)
    text = response.headers.get("retry-after") if response is not None else None
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _connection_detail(causes: Sequence[BaseException], addressee: Addressee) -> str:
    """litellm says "Connection error." for all of them; the innermost cause says which host and why."""
    import httpx

    if any(isinstance(cause, httpx.ReadError | httpx.RemoteProtocolError) for cause in causes):
        return "the server hung up before its reply was complete"
    return _detail(causes[-1], addressee)


def _detail(error: BaseException, addressee: Addressee) -> str:
    """The error's own words: one line, without litellm's names of classes and what changes at every run."""
    # An error in the middle of a stream repeats its message; the original says it once.
    return _one_line(str(getattr(error, "original_exception", None) or error), addressee)


def _one_line(text: str, addressee: Addressee) -> str:
    # Before anything is cut off: half a key is still too much of it.
    text = addressee.without_secrets(text)
    text = " ".join(text[:TEXT_CHARACTERS_MAX].partition("Traceback (most recent call last)")[0].split())
    while prefix := PREFIX.match(text):
        text = text[prefix.end() :]
    text = NOISE.sub("", text).rstrip(". ")
    return text if len(text) <= DETAIL_CHARACTERS_MAX else f"{text[:DETAIL_CHARACTERS_MAX]}…"
