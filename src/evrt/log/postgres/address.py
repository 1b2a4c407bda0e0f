"""Where a log on PostgreSQL is: its URL taken apart, and shown without what is secret in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from evrt.errors import UsageError

DEFAULT_SCHEMA = "evrt"

SCHEMES = ("postgresql://", "postgres://")

NAME_BYTES_MAX = 63
"""Longer names are cut by the server, without a word."""

_SECRET = (
    "password",
    "sslpassword",
    "passfile",
    "scram_client_key",
    "scram_server_key",
    "oauth_client_secret",
)

_SCHEMA = re.compile(r"[\w.-]+")

_NEVER = ("none", "off", "0")


class Address(NamedTuple):
    """Where a log is.

    ``parameters`` are libpq's, as keywords; ``shown`` is the URL for people, without password.
    ``ask_password`` is asked for it each time that a connection is opened, where it changes.
    ``pooled``: between here and the server stands a pooler that gives each transaction another session, so
    nothing may be left in one (``?prepare_threshold=none``).
    """

    parameters: dict[str, str]
    schema: str
    pooled: bool
    shown: str
    ask_password: Callable[[], str] | None = None

    @property
    def quoted_schema(self) -> str:
        """The schema's name as SQL has it."""
        return '"' + self.schema.replace('"', '""') + '"'

    @property
    def channel(self) -> str:
        """What is notified of commits; it names the log, for channels belong to the whole database."""
        return f"evrt {self.schema}"[:NAME_BYTES_MAX]

    def without_secrets(self, text: str) -> str:
        """A text of somebody else's, in case it repeats what it was given."""
        for name in _SECRET:
            if secret := self.parameters.get(name):
                text = text.replace(secret, "***")
        return text


def parse_postgres_url(url: str) -> Address:
    """Take a URL apart. Raises UsageError, whose text has no password in it."""
    _, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    authority, slash, database = place.partition("/")
    who, at, hosts = authority.rpartition("@")
    user, colon, password = who.partition(":")
    parameters: dict[str, str] = {}
    try:
        if "@" in database + query:
            # More likely than not what stands before it is a password, which would be taken for a name and shown.
            raise ValueError("an '@' stands behind its host")
        if user:
            parameters["user"] = _decoded(user)
        if colon and password:
            parameters["password"] = _decoded(password)
        if hosts:
            parameters |= _hosts(hosts)
        if database:
            parameters["dbname"] = _decoded(database)
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError as error:
        raise UsageError(
            f"The URL of a log on PostgreSQL cannot be read: {error}. Write "
            "postgresql://user:password@host:port/database?schema=name, with %40 for '@', %2F for '/' and %3F for '?' "
            "in a password."
        ) from None
    schema, pooled = DEFAULT_SCHEMA, False
    for name, value in given:
        if name == "schema":
            schema = value
        elif name == "prepare_threshold":
            pooled = _is_never(value)
        elif name in ("options", "service") or value:
            parameters[name] = value
    check_schema(schema)
    return Address(parameters, schema, pooled, _shown(user, at, hosts, slash, database, given))


def shown_url(url: str) -> str:
    """The URL of a log as people may see it: one on PostgreSQL without its password."""
    if not url.startswith(SCHEMES):
        return url
    try:
        return parse_postgres_url(url).shown
    except UsageError:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://…@{rest.rpartition('@')[2].partition('?')[0]}" if "@" in rest else f"{scheme}://…"


@contextmanager
def needing_psycopg() -> Iterator[None]:
    """While what stands on psycopg is imported, which not everybody has. Raises UsageError."""
    try:
        yield
    except ImportError as error:
        if error.name is None or not error.name.startswith("psycopg"):
            raise
        raise UsageError(
            "A log on PostgreSQL needs psycopg, which is not installed: pip install 'evrt[postgres]'."
        ) from None


def _decoded(text: str) -> str:
    decoded = unquote(text, errors="strict")
    if "\x00" in decoded:
        raise ValueError("it has a zero character in it")
    return decoded


def _hosts(text: str) -> dict[str, str]:
    """Hosts and ports, several parted by commas, an IPv6 address in brackets."""
    hosts: list[str] = []
    ports: list[str] = []
    for one in text.split(","):
        host, colon, port = one.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = one, ""
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            # It may be the end of a password with an '@' or a '/' in it.
            raise ValueError("what stands for the port is no number from 1 to 65535")
        hosts.append(_decoded(host.removeprefix("[").removesuffix("]")))
        ports.append(port)
    found = {"host": ",".join(hosts)} if any(hosts) else {}
    return found | ({"port": ",".join(ports)} if any(ports) else {})


def _is_never(value: str) -> bool:
    if value.lower() in _NEVER:
        return True
    if value.isascii() and value.isdigit():
        return False
    raise UsageError(
        f"prepare_threshold={value} cannot be taken. Write prepare_threshold=none where a pooler such as PgBouncer "
        "gives each transaction another session; else leave it out."
    )


def check_schema(schema: str) -> None:
    """Raises UsageError for a name that no schema of a log has."""
    if not _SCHEMA.fullmatch(schema) or len(schema.encode()) > NAME_BYTES_MAX:
        raise UsageError(
            f"{schema[:80]!r} cannot name the schema of a log: it takes letters, digits, '_', '-' and '.', and at most "
            f"{NAME_BYTES_MAX} bytes."
        )
    if schema.startswith("pg_") or schema == "information_schema":
        raise UsageError(f"The schema {schema} belongs to PostgreSQL. Take another for the log.")


def _shown(user: str, at: str, hosts: str, slash: str, database: str, given: list[tuple[str, str]]) -> str:
    kept = [(name, value) for name, value in given if name not in _SECRET]
    query = urlencode(kept, quote_via=quote, safe="/")
    return f"postgresql://{user}{at}{hosts}{slash}{database}" + (f"?{query}" if query else "")
