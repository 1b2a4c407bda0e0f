"""What secrets look like: the redaction of an app that was not given one of its own.

Keys and passwords find their way into prompts, results and error texts, and what has been recorded stays
recorded. So whatever looks like one is taken out, unless the app says otherwise. The patterns are those that
issuers publish for their keys, and names that say what a value is. What they do not know goes through.

A pattern is changed with care: a run that goes on under other patterns than it began with may find that its own
arguments look different now, and is parked as diverged.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson

from evrt.events import JsonValue


class Pattern(NamedTuple):
    """What a kind of secret looks like. ``hints``: texts one of which every such secret has in it."""

    what: str
    hints: tuple[str, ...]
    secret: str


PATTERNS = (
    Pattern(
        "private key",
        ("private key-",),
        # Lines of base64 up to its end or to where it is cut off; a text that only names the header goes on as it is.
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\s|\\[nr])*(?:[A-Za-z0-9+/=]{16,}(?:\s|\\[nr])*)+"
        r"[A-Za-z0-9+/=]*(?:\s|\\[nr])*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    ),
    Pattern("private key", ("private+key+",), r"PRIVATE\+KEY\+[^\s\"']+"),
    Pattern("api key", ("sk-",), r"\bsk-(?=[A-Za-z_-]{0,100}\d)[A-Za-z0-9_-]{20,}"),
    Pattern("api key", ("k_live_", "k_test_"), r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    Pattern("api key", ("aiza",), r"\bAIza[A-Za-z0-9_-]{35}"),
    Pattern("access key", ("akia", "asia"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    Pattern("token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    Pattern("token", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    Pattern("token", ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{20,}"),
    Pattern("token", ("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    Pattern("token", ("hf_",), r"\bhf_[A-Za-z0-9]{30,}"),
    Pattern("token", ("npm_",), r"\bnpm_[A-Za-z0-9]{36,}"),
    Pattern("token", ("ya29.",), r"\bya29\.[A-Za-z0-9_-]{20,}"),
    Pattern(
        "token", ("eyj",), r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    ),
    Pattern("token", ("bearer ",), r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{20,}"),
    Pattern(
        "password",
        ("basic ",),
        r"(?i)(?P<kept>authorization\\*[\"']?\s*[:=]\s*\\*[\"']?basic )[A-Za-z0-9+/=]+",
    ),
    # Of an address all but what stands between the colon and the @ is kept.
    Pattern("password", ("://",), r"(?P<kept>://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"),
)

NAMES = (
    "password",
    "passwd",
    "passphrase",
    "api_key",
    "apikey",
    "x_api_key",
    "secret_key",
    "secret_access_key",
    "client_secret",
    "access_token",
    "refresh_token",
    "auth_token",
    "private_key",
    "authorization",
)
"""Fields whose text is secret whatever it looks like; in any case, and with - for _."""

_NAME = "|".join(name.replace("_", "[_-]?") for name in NAMES)
_FIELD = re.compile(rf"(?i).*(?:{_NAME})")
_REDACTED = re.compile(r"\[redacted [^\]]*\]")
# In running text a value behind such a name: long enough and with a digit, for "password: required" is none. The
# digit is looked for no further than this, or a text full of such names would be read from each of them to its end.
_LABELLED = Pattern(
    "value",
    ("passw", "passphrase", "_key", "-key", "apikey", "secret", "authorization", "_token", "-token"),
    rf"(?i)(?P<kept>(?:{_NAME})\\*[\"']?\s*[:=]\s*\\*[\"']?)(?=[^\s\"',;]{{0,200}}\d)[^\s\"',;\[\\]{{8,}}",
)
_EVERY = (*PATTERNS, _LABELLED)
_SUSPICIOUS = re.compile(
    b"|".join(sorted({re.escape(hint).encode() for each in _EVERY for hint in each.hints}))
)


def _instead(pattern: Pattern) -> str:
    """What stands in the place of the secret, behind what is kept of the text around it."""
    kept = r"\g<kept>" if "(?P<kept>" in pattern.secret else ""
    return f"{kept}[redacted {pattern.what}]"


_SEARCHED = tuple((each.hints, re.compile(each.secret), _instead(each)) for each in _EVERY)


def redact_secrets(value: JsonValue) -> JsonValue:
    """The value with ``[redacted …]`` in the place of whatever looks like a secret. Pure.

    A value with nothing suspicious in it, as nearly all are, is given back as it is after one look at its bytes.
    """
    return _redacted(value) if _SUSPICIOUS.search(orjson.dumps(value).lower()) else value


def _redacted(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return _without_secrets(value)
    if isinstance(value, dict):
        redacted: dict[str, JsonValue] = {}
        for name, inner in value.items():
            shown, number = _without_secrets(name), 1
            while shown in redacted:  # Two secrets as names are two all the same.
                number += 1
                shown = f"{_without_secrets(name)} {number}"
            redacted[shown] = _field(name, inner)
        return redacted
    if isinstance(value, (list, tuple)):
        return [_redacted(inner) for inner in value]
    return value


def _field(name: str, value: JsonValue) -> JsonValue:
    if isinstance(value, str) and value and _FIELD.fullmatch(name):
        return value if _REDACTED.fullmatch(value) else f"[redacted {name.lower()}]"
    return _redacted(value)


def _without_secrets(text: str) -> str:
    folded = text.lower()
    for hints, secret, instead in _SEARCHED:
        if any(hint in folded for hint in hints):
            text = secret.sub(instead, text)
    return text
