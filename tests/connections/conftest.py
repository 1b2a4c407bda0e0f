"""What tests of connections share: a server of the tests' own, and its port on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from connections.proxy import Proxy
from postgres import shared


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of the session's server."""
    port = urlsplit(shared().network).port
    assert port is not None
    with Proxy(port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy) -> Callable[[str], str]:
    """A URL of the server, but by way of the proxy."""
    return lambda url: by_way_of(proxy, url)


def by_way_of(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.port}/", f":{proxy.port}/")
