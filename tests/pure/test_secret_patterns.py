"""What looks like a secret is taken out, wherever it stands; what does not is given back as it was."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.secret_patterns import NAMES, PATTERNS, redact_secrets

LETTERS = string.ascii_letters + string.digits


def some(length: int, alphabet: str = LETTERS) -> str:
    """Made by lot, with a digit early in it, as a real one has."""
    return "7" + "".join(random.choices(alphabet, k=length - 1))


SECRETS: dict[str, Callable[[], str]] = {
    "OpenAI": lambda: f"sk-proj-{some(48)}",
    "Anthropic": lambda: f"sk-ant-api03-{some(90)}-AA",
    "Stripe": lambda: f"rk_live_{some(24)}",
    "Google": lambda: f"AIza{some(35)}",
    "Google OAuth": lambda: f"ya29.{some(60)}",
    "AWS": lambda: f"ASIA{some(16, string.ascii_uppercase + string.digits)}",
    "GitHub": lambda: f"ghs_{some(36)}",
    "GitHub, fine-grained": lambda: f"github_pat_{some(22)}_{some(59)}",
    "GitLab": lambda: f"glpat-{some(20)}",
    "Slack": lambda: f"xoxb-{some(12, string.digits)}-{some(24)}",
    "Hugging Face": lambda: f"hf_{some(34)}",
    "npm": lambda: f"npm_{some(36)}",
    "JWT": lambda: f"eyJ{some(20)}.eyJ{some(40)}.{some(43)}",
    "PEM": lambda: f"-----BEGIN EC PRIVATE KEY-----\n{some(64)}\n{some(40)}==\n-----END EC PRIVATE KEY-----",
    "PEM, cut off": lambda: f"-----BEGIN PRIVATE KEY-----\n{some(64)}\n{some(40)}",
    "signed note": lambda: f"PRIVATE+KEY+evrt+{some(8, '0123456789abcdef')}+{some(44)}",
}
"""Made up, in the shape that each issuer publishes."""


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for name, inner in value.items() for text in (name, *texts_in(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in texts_in(inner)]
    return [value] if isinstance(value, str) else []


def test_every_pattern_has_an_example_here() -> None:
    made = "\n".join(f"{make()}" for make in SECRETS.values()) + "\nBearer \nBasic \npostgres://a:b@c"
    for pattern in PATTERNS:
        assert any(hint in made.lower() for hint in pattern.hints), pattern


@pytest.mark.parametrize("issuer", SECRETS)
@given(before=st.text(max_size=20), after=st.text(max_size=20), shape=st.integers(0, 3))
def test_a_secret_goes_wherever_it_stands(issuer: str, before: str, after: str, shape: int) -> None:
    secret = SECRETS[issuer]()
    text = f"{before} {secret} {after}"
    value: Any = [text, [1, text], {"a": {"b": text}}, {text: None}][shape]
    json.dumps(value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    found = redact_secrets(value)
    assert not any(secret in told or secret[8:-8] in told for told in texts_in(found))
    assert any("[redacted " in told for told in texts_in(found))
    if "PRIVATE KEY-----\n" not in secret or "END" in secret:
        assert any(told.startswith(f"{before} ") and told.endswith(f" {after}") for told in texts_in(found))


@pytest.mark.parametrize(
    "text, redacted",
    [
        ("Authorization: Bearer abcdefghijklmnop0123456789", "Authorization: Bearer [redacted token]"),
        ("postgres://ann:s3cr3t@db.local/x", "postgres://ann:[redacted password]@db.local/x"),
        ("redis://:s3cr3t@db.local", "redis://:[redacted password]@db.local"),
        ("the api_key = 'abc12345678' is", "the api_key = '[redacted value]' is"),
        ('{"client-secret": "abc12345678"}', '{"client-secret": "[redacted value]"}'),
        ("DB_PASSWORD=hunter2hunter2 run", "DB_PASSWORD=[redacted value] run"),
        ('{"a": "{\\"api_key\\": \\"abc12345678\\"}"}', '{"a": "{\\"api_key\\": \\"[redacted value]\\"}"}'),
        ("Authorization: Basic YW5uOnMzY3JldA==", "Authorization: Basic [redacted password]"),
        ("AUTHORIZATION: BEARER ABCDEFGHIJKLMNOPQRST", "AUTHORIZATION: BEARER [redacted token]"),
        ("access_token=abc12345678&x=1", "access_token=[redacted value]"),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, redacted: str) -> None:
    assert redact_secrets(text) == redacted


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_a_field_with_such_a_name_goes_whatever_it_looks_like(name: str) -> None:
    for written in (name, name.upper(), name.replace("_", "-"), f"db_{name}"):
        assert redact_secrets({"n": [{written: "x"}]}) == {"n": [{written: f"[redacted {written.lower()}]"}]}
    assert redact_secrets({name: ""}) == {name: ""}
    assert redact_secrets({name: None, f"{name}_set": True}) == {name: None, f"{name}_set": True}


@pytest.mark.parametrize(
    "value",
    [
        "password: required",
        "A key begins with -----BEGIN PRIVATE KEY----- and then come lines of base64.",
        "https://evrt.example/sk-slovensko-a-cesko-v-kocke-na-jeden-den",
        "A basic understanding of authorization, and the bearer of good news.",
        "Mind the sk-iing lesson, and ask for the task-management-board-of-everything.",
        {"task-key": "sk", "asia": "Akihabara", "keyboard": "qwerty", "secretary": "Ann", "token": 7},
        "https://evrt.example/a@b:c",
        ["a" * 200, "eyJhbGciOiJIUzI1NiJ9", "Bearer of news", 1.5, None, True],
        {"author": "Zoë", "authorization_code_sent": "yes"},
    ],
)
def test_what_only_reminds_of_one_stays(value: Any) -> None:
    assert redact_secrets(value) == value


def test_a_text_that_begins_a_secret_over_and_over_is_looked_through_in_the_end() -> None:
    """As long as a payload may be: looking to its end from each beginning would take a quarter of an hour."""
    text = "password=" * 100_000
    assert redact_secrets(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        *(f"gh{letter}_{'a1' * 18}" for letter in "pousr"),
        *(f"xox{letter}-{'1' * 12}" for letter in "abeoprs"),
        *(f"{letter}k_{kind}_{'a1' * 12}" for letter in "sr" for kind in ("live", "test")),
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
    ],
)
def test_every_kind_that_an_issuer_has_is_known(secret: str) -> None:
    assert secret not in str(redact_secrets(f"it is {secret}, I think"))


@pytest.mark.parametrize("between", ["\n", "\r\n", "\\n"], ids=["lines", "CRLF", "escaped"])
def test_every_line_of_a_private_key_goes(between: str) -> None:
    lines = [some(64), some(64), some(64), f"{some(22)}=="]
    key = between.join(["-----BEGIN RSA PRIVATE KEY-----", *lines, "-----END RSA PRIVATE KEY-----"])
    assert redact_secrets(f"It is {key} of mine") == "It is [redacted private key] of mine"


def test_names_that_are_secrets_stay_as_many_as_they_were() -> None:
    found = redact_secrets({SECRETS["OpenAI"](): 1, SECRETS["OpenAI"](): 2, "x": 3})
    assert found == {"[redacted api key]": 1, "[redacted api key] 2": 2, "x": 3}
    assert redact_secrets({"password": "[redacted x] secret"}) == {"password": "[redacted password]"}
    assert redact_secrets({"dbPassword": "x"}) == {"dbPassword": "[redacted dbpassword]"}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.sampled_from(sorted(SECRETS)), st.booleans())
def test_redacting_twice_is_redacting_once(value: Any, issuer: str, with_secret: bool) -> None:
    if with_secret:
        value = [value, {"password": SECRETS[issuer](), "text": f"key {SECRETS[issuer]()}"}]
    once = redact_secrets(value)
    assert redact_secrets(once) == once
