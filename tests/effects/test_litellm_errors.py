"""What a failed call of litellm means: its type, its text, whether another try may help."""

from __future__ import annotations

import asyncio
import socket

import pytest

from effects.asking import KEY, QUESTION, QUIETED, complete, failure_of
from effects.server import NOT_REPLIES, PIECES, Provider
from evrt.effects.contract import ModelError, ModelRequest, OnDelta
from evrt.effects.models import LiteLLM, explain_model, missing_credentials
from evrt.errors import UsageError

pytestmark = QUIETED


@pytest.mark.parametrize(
    "status, error_type, retriable",
    [
        (400, "bad_request", False),
        (401, "authentication", False),
        (402, "bad_request", False),
        (403, "permission", False),
        (404, "not_found", False),
        (408, "timeout", True),
        (409, "bad_request", True),
        (413, "bad_request", False),
        (422, "bad_request", False),
        (429, "rate_limit", True),
        (500, "server_error", True),
        (502, "server_error", True),
        (503, "server_error", True),
        (504, "timeout", True),
        (529, "server_error", True),
    ],
)
@pytest.mark.parametrize("on_delta", [None, lambda _: None], ids=["plain", "stream"])
def test_a_status_is_explained_and_litellm_does_not_try_again(
    provider: Provider, status: int, error_type: str, retriable: bool, on_delta: OnDelta | None
) -> None:
    before = len(provider.received)
    failure = failure_of(provider, f"status-{status}", on_delta=on_delta)
    assert (failure.error_type, failure.retriable) == (error_type, retriable)
    assert f"HTTP {status}" in failure.message
    assert len(provider.received) == before + 1


def test_a_key_that_the_server_repeats_is_not_in_the_error(provider: Provider) -> None:
    message = failure_of(provider, "status-401").message
    assert KEY not in message
    assert "Refused Bearer" in message


def test_a_request_that_is_too_long_is_told_from_other_bad_requests(provider: Provider) -> None:
    failure = failure_of(provider, "context-window")
    assert (failure.error_type, failure.retriable) == ("context_window", False)
    assert "9000 tokens" in failure.message


@pytest.mark.parametrize("scenario", NOT_REPLIES)
def test_what_is_no_chat_completion_is_refused(provider: Provider, scenario: str) -> None:
    failure = failure_of(provider, scenario)
    assert (failure.error_type, failure.retriable) == ("malformed_reply", True)


@pytest.mark.parametrize("scenario", NOT_REPLIES)
def test_a_stream_of_something_else_is_no_reply(provider: Provider, scenario: str) -> None:
    failure = failure_of(provider, scenario, on_delta=lambda _: None)
    assert (failure.error_type, failure.retriable) == ("incomplete_reply", True)


@pytest.mark.parametrize(
    "scenario, error_type",
    [
        ("cut", "connection"),
        ("unfinished", "incomplete_reply"),
        ("half-chunk", "malformed_reply"),
        ("error-chunk", "server_error"),
    ],
)
def test_a_stream_that_breaks_off_is_no_reply(provider: Provider, scenario: str, error_type: str) -> None:
    deltas: list[str] = []
    failure = failure_of(provider, scenario, on_delta=deltas.append)
    assert (failure.error_type, failure.retriable) == (error_type, True)
    assert deltas == list(PIECES[:2])


def test_a_connection_cut_in_the_middle_of_a_reply(provider: Provider) -> None:
    failure = failure_of(provider, "cut")
    assert (failure.error_type, failure.retriable) == ("connection", True)
    assert "hung up" in failure.message


def test_a_provider_that_does_not_reply_in_time(provider: Provider) -> None:
    with pytest.raises(ModelError, match="did not reply in time") as caught:
        asyncio.run(complete(LiteLLM(provider.url, KEY, timeout_seconds=0.2), "stall"))
    assert (caught.value.error_type, caught.value.retriable) == ("timeout", True)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        api_base = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(ModelError, match="Connect call failed") as caught:
            asyncio.run(complete(LiteLLM(api_base, KEY), "plain"))
    assert (caught.value.error_type, caught.value.retriable) == ("connection", True)
    assert api_base in caught.value.message


def test_an_error_that_is_being_handled_is_not_the_cause_of_the_next(provider: Provider) -> None:
    async def fail_while_handling() -> None:
        try:
            await complete(LiteLLM(provider.url, KEY), "status-401")
        except ModelError:
            await complete(LiteLLM(provider.url, KEY), "html")

    with pytest.raises(ModelError) as caught:
        asyncio.run(fail_while_handling())
    assert caught.value.error_type == "malformed_reply"


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="'localhost:8000'"):
        LiteLLM("localhost:8000")


def test_what_on_delta_raises_is_not_the_models_failure_and_hangs_up(provider: Provider) -> None:
    def refuse(delta: str) -> None:
        raise LookupError(delta)

    provider.left.clear()

    async def refuse_in_the_middle() -> None:
        with pytest.raises(LookupError, match=PIECES[0]):
            await LiteLLM(provider.url, KEY).complete(ModelRequest("openai/stall", QUESTION), refuse)
        assert await asyncio.to_thread(provider.left.wait, 30)

    asyncio.run(refuse_in_the_middle())


@pytest.mark.parametrize("on_delta", [None, lambda _: None], ids=["plain", "stream"])
def test_a_cancelled_call_ends_as_cancelled_and_hangs_up(
    provider: Provider, on_delta: OnDelta | None
) -> None:
    provider.stalling.clear()
    provider.left.clear()

    async def cancel_in_the_middle() -> None:
        task = asyncio.create_task(complete(LiteLLM(provider.url, KEY), "stall", on_delta))
        assert await asyncio.to_thread(provider.stalling.wait, 30)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel_in_the_middle())
    assert provider.left.wait(30)


# Which models can be called


@pytest.mark.parametrize("model", ["nonsense", "no-such-provider/model", "openai/", ""])
def test_a_model_of_no_known_provider_is_explained(model: str) -> None:
    explanation = explain_model(model)
    assert explanation is not None
    assert repr(model) in explanation
    assert "provider/model" in explanation


def test_an_unknown_model_says_the_same_when_it_is_called() -> None:
    with pytest.raises(ModelError) as caught:
        asyncio.run(LiteLLM().complete(ModelRequest("nonsense", QUESTION)))
    assert (caught.value.error_type, caught.value.retriable) == ("unknown_model", False)
    assert caught.value.message == explain_model("nonsense")


@pytest.mark.parametrize(
    "model, variables",
    [
        ("openai/gpt-4o", ["OPENAI_API_KEY"]),
        ("anthropic/claude-3-haiku-20240307", ["ANTHROPIC_API_KEY"]),
        ("gemini/gemini-1.5-pro", ["GOOGLE_API_KEY", "GEMINI_API_KEY"]),
    ],
)
def test_a_missing_key_is_named_before_and_at_the_call(model: str, variables: list[str]) -> None:
    assert missing_credentials(model) == variables
    explanation = explain_model(model)
    assert explanation is not None
    assert " or ".join(variables) in explanation
    with pytest.raises(ModelError) as caught:
        asyncio.run(LiteLLM().complete(ModelRequest(model, QUESTION)))
    assert (caught.value.error_type, caught.value.retriable) == ("missing_credentials", False)
    assert caught.value.message == explanation


def test_a_key_in_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert explain_model("openai/gpt-4o") is None


@pytest.mark.parametrize("model", ["ollama/llama3", "bedrock/anthropic.claude-v2", "hosted_vllm/mine"])
def test_a_key_is_not_asked_for_where_there_may_be_none(model: str) -> None:
    assert missing_credentials(model) == []
    assert explain_model(model) is None


def test_with_a_server_of_ones_own_no_key_is_missing() -> None:
    assert missing_credentials("openai/mine", "http://127.0.0.1:8000/v1") == []
    assert explain_model("openai/mine", "http://127.0.0.1:8000/v1") is None
