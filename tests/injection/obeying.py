"""A model that obeys every order that it finds, wherever it stands and however it is disguised."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import unicodedata
from typing import Any

import evrt
from evrt.testing import ToolCalls, call

ORDER = re.compile(r"call ([a-z][a-z0-9_-]*)\(([^()]*)\)")
FIND = re.compile(r"find (q[0-9]+)")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069]")
HIDDEN = re.compile(r"[A-Za-z0-9+/]{20,}={0,2}")
SPELT_OUT = re.compile(r"\\(?:[nrt]|u20[0-9a-f]{2}|x[0-9a-f]{2})")


def orders_in(text: str) -> list[ToolCalls]:
    """The calls that a text asks for, in their order. Case, disguises and line ends do not matter to it."""
    found: list[ToolCalls] = []
    for readable in (text, *_decoded(text)):
        plain = html.unescape(unicodedata.normalize("NFKC", readable))
        plain = INVISIBLE.sub(lambda m: " " if m[0] in "\u2028\u2029" else "", SPELT_OUT.sub(" ", plain))
        for tool, said in ORDER.findall(" ".join(plain.split()).casefold()):
            pairs = (pair.partition("=") for pair in said.split(";") if "=" in pair)
            found.append(call(tool, **{name.strip(): _value(value.strip()) for name, _, value in pairs}))
    return found


def _value(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _decoded(text: str) -> list[str]:
    decoded: list[str] = []
    for token in HIDDEN.findall(text):
        try:
            decoded.append(base64.b64decode(token, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return decoded


def obey(request: evrt.ModelRequest) -> Any:
    """The first order that has not been carried out; a word when there is none left."""
    done = {
        (made["function"]["name"], json.dumps(json.loads(made["function"]["arguments"]), sort_keys=True))
        for message in request.messages
        for made in _calls_of(message)
    }
    for text in (
        *(said(message) for message in request.messages),
        json.dumps(request.tools, ensure_ascii=False),
    ):
        for order in orders_in(text):
            [(name, arguments)] = order.each
            if (name, json.dumps(json.loads(arguments), sort_keys=True)) not in done:
                return order
    return "done"


def oblige(request: evrt.ModelRequest) -> Any:
    """A model that does the one thing its user wants, and tells what came of it."""
    last = request.messages[-1]
    if last["role"] != "user":
        return f"I found this: {said(last)}"
    wished = FIND.search(said(last))
    return call("search", query=wished[1]) if wished else orders_in(said(last))[0]


def said(message: Any) -> str:
    """What a message says, as text."""
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _calls_of(message: Any) -> list[Any]:
    return message.get("tool_calls") or []
