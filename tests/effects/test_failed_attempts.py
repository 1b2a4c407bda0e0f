"""Attempts that failed: which are made again and when, what they cost, and what their texts must not say."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evrt
from effects.asking import QUIETED
from effects.lied_to import ALONE, AT_ONCE, KEY, ask, spent
from effects.lying import (
    GOOD,
    GOOD_STREAM,
    PIECES,
    RESET,
    REST,
    SOON,
    TEXT,
    USAGE,
    USED,
    Answer,
    chunk,
    event,
    http,
    lying,
    refusal,
    reply_of,
    stream,
)
from evrt.effects.models import LiteLLM

pytestmark = QUIETED

BUSY: Answer = (refusal("429 Too Many Requests"),)


# Trying again


async def test_an_error_that_passes_is_followed_by_the_reply() -> None:
    for streaming, good in ((False, GOOD), (True, (stream(GOOD_STREAM),))):
        came = await ask(
            BUSY,
            (refusal("500 Internal Server Error"),),
            (RESET,),
            good,
            streaming=streaming,
            retry=replace(AT_ONCE, attempts_max=4),
        )
        types = [failed.failure.error_type for failed in came.failures]
        assert types == ["rate_limit", "server_error", "connection"]
        assert came.message == {"role": "assistant", "content": TEXT}


@pytest.mark.parametrize(
    "status, fields, error_type",
    [
        ("400 Bad Request", {}, "bad_request"),
        ("401 Unauthorized", {}, "authentication"),
        ("403 Forbidden", {}, "permission"),
        ("404 Not Found", {}, "not_found"),
        ("422 Unprocessable", {}, "bad_request"),
        (
            "400 Bad Request",
            {"text": "This model's maximum context length is 8192 tokens."},
            "context_window",
        ),
        ("302 Found", {}, "bad_request"),
        ("101 Switching Protocols", {}, "bad_request"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
async def test_what_will_not_pass_is_not_tried_again(
    status: str, fields: dict[str, Any], error_type: str, streaming: bool
) -> None:
    came = await ask((refusal(status, **fields),), streaming=streaming)
    assert came.outcome == error_type
    assert len(came.liar.requests) == 1
    assert came.failures[0].delay_ms is None


@pytest.mark.parametrize(
    "asked, waited_ms",
    [("0.02", 20.0), ("3600", 40.0), ("0", 0.0), ("-1", 0.0), ("soon", 0.0), ("1e999", 0.0), ("nan", 0.0)],
)
async def test_a_wait_that_the_provider_asks_for_is_kept_up_to_the_cap(asked: str, waited_ms: float) -> None:
    busy = (refusal("429 Too Many Requests", headers=[f"Retry-After: {asked}"]),)
    came = await ask(busy, GOOD, retry=evrt.Retry(2, base_seconds=0.0, cap_seconds=0.04))
    assert [failed.delay_ms for failed in came.failures] == [waited_ms]


async def test_a_wait_may_be_asked_for_as_a_date() -> None:
    busy = (refusal("503 Busy", headers=["Retry-After: Wed, 21 Oct 2099 07:28:00 GMT"]),)
    came = await ask(busy, GOOD, retry=evrt.Retry(2, base_seconds=0.0, cap_seconds=0.04))
    assert [failed.delay_ms for failed in came.failures] == [40.0]


# What failed and was paid for


PAID: dict[str, tuple[Answer, bool]] = {
    "a stream without end": ((stream(*PIECES, REST, USED),), True),
    "a stream that counts as it goes, cut": (
        (stream(PIECES[0], event(chunk({"content": "x"}, usage=USAGE)), PIECES[1]), SOON, RESET),
        True,
    ),
    "a stream that counts as it goes, spoiled": (
        (stream(event(chunk({"content": "x"}, usage=USAGE)), b"data: {\n\n"),),
        True,
    ),
    "a stream that ends in an error": (
        (stream(*PIECES, REST, USED, event({"error": {"message": "Overloaded"}})),),
        True,
    ),
    "an error in a stream that says so": (
        (stream(*PIECES, event({"error": {"message": "Overloaded", "usage": USAGE}})),),
        True,
    ),
    "an error that says so": ((refusal("500 Internal Server Error", usage=USAGE),), False),
    "an error before a stream that says so": ((refusal("500 Internal Server Error", usage=USAGE),), True),
    "a reply without choices": (reply_of(choices=[]), False),
    "a reply that calls no tool": (
        reply_of(choices=[{"index": 0, "message": {"content": None}, "finish_reason": "tool_calls"}]),
        False,
    ),
}


@pytest.mark.parametrize("name", PAID)
async def test_what_a_failed_attempt_used_up_is_recorded_and_counted(name: str) -> None:
    answer, streaming = PAID[name]
    good: Answer = (stream(GOOD_STREAM),) if streaming else GOOD
    came = await ask(answer, answer, good, streaming=streaming, retry=replace(AT_ONCE, attempts_max=3))
    assert spent(came.failures) == [(11, 7), (11, 7)]
    assert came.completed is not None
    price = came.completed.usage.cost_usd
    assert price is not None
    assert [failed.usage and failed.usage.cost_usd for failed in came.failures] == [price, price]
    assert (came.state.input_tokens, came.state.output_tokens) == (33, 21)
    assert came.state.cost_usd == pytest.approx(3 * price)


async def test_what_nobody_counted_is_not_made_up() -> None:
    came = await ask((stream(*PIECES, REST),), streaming=True)
    assert spent(came.failures) == [None, None]
    assert (came.state.input_tokens, came.state.output_tokens, came.state.cost_usd) == (0, 0, None)


# Keys


LEAKS: dict[str, Answer] = {
    "in the text": (refusal("400 Bad Request", f"No: {KEY}"),),
    "wherever the text is cut off": (refusal("400 Bad Request", KEY * 40),),
    "wherever it is no longer read": (refusal("400 Bad Request", f"{KEY}{' ' * 200}" * 40),),
    "in a header": (b"HTTP/1.1 200 OK\r\n" + KEY.encode() + b"\r\n\r\n",),
    "instead of an answer": (KEY.encode() + b"\r\n\r\n",),
    "in the body": (http(f"Your key is {KEY}"),),
    "in another language": (http(json.dumps({"error": {"message": f"Schlüssel {KEY}"}}), status="400 Bad"),),
}


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("from_environment", [False, True], ids=["given", "environment"])
async def test_the_key_is_in_no_text_of_a_failure(
    name: str, from_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with lying(LEAKS[name]) as liar:
        model = LiteLLM(liar.url, None if from_environment else KEY)
        came = await ask(GOOD, model=model, retry=ALONE)
    assert KEY.encode() in liar.requests[0]
    assert KEY[:6] not in came.text


async def test_a_password_in_the_address_is_in_no_text_of_a_failure() -> None:
    async with lying((refusal("500 Internal Server Error"),)) as liar:
        address = liar.url.replace("://", f"://user:{KEY.replace('/', '_')}@")
        came = await ask(GOOD, model=LiteLLM(address, "any-other-key"), retry=ALONE)
    assert "127.0.0.1" in came.text
    assert "user" not in came.text
    assert KEY[:6] not in came.text


# On the command line


APP = """
import os
import evrt

app = evrt.App(api_base=os.environ["PROVIDER"])

@app.workflow
async def asking(ctx: evrt.Context[None]) -> str:
    return (await ctx.model("Weather?", model="openai/gpt-4o", retry=evrt.Retry(2, base_seconds=0.0))).text
"""


async def test_a_person_reads_what_went_wrong_and_what_it_cost_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "asked.py").write_text(APP)

    async def evrt_says(*words: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "evrt", *words, cwd=tmp_path, stdout=PIPE, stderr=PIPE
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async with lying(reply_of(choices=[]), (refusal("401 Unauthorized", f"No: {KEY}"),)) as liar:
        monkeypatch.setenv("PROVIDER", liar.url)
        monkeypatch.setenv("EVRT_APP", "asked")
        code, out, err = await evrt_says("runs", "start", "asking")
        run = re.search(r"run-\w+", out + err)
        assert run is not None
        _, shown, _ = await evrt_says("runs", "show", run[0])
        _, log, _ = await evrt_says("log")
    assert code == 1
    assert "were not accepted (HTTP 401): No: [key]" in " ".join((out + err).split())
    assert "11 in, 7 out" in shown
    assert "0.000098 USD" in shown
    assert "11 + 7 tokens" in log
    for text in (out, err, shown, log):
        assert "Traceback" not in text
        assert "Warning" not in text
        assert KEY not in text
