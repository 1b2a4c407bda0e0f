"""A provider on loopback, and no key but the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from effects.server import Provider, provider_on_loopback
from evrt.effects.models import _load


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with provider_on_loopback() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def litellm_loaded() -> None:
    """It takes seconds, which are no part of any time-out here."""
    _load()


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
