"""The library's settings for PostgreSQL, as a log takes them: ``POSTGRES_DBNAME`` and its like.

What can be taken is taken in the library's meaning. What would harm a log is refused; what is about the library's own
pool of connections holds for views.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from eventsourcing.utils import Environment, resolve_topic, strtobool

from evrt.errors import UsageError
from evrt.log import LOCK_TIMEOUT_SECONDS
from evrt.log.foreign.factory import whole_number
from evrt.log.postgres.address import SCHEMES, Address, check_schema, parse_postgres_url

DBNAME = "POSTGRES_DBNAME"
HOST = "POSTGRES_HOST"
PORT = "POSTGRES_PORT"
USER = "POSTGRES_USER"
PASSWORD = "POSTGRES_PASSWORD"
GET_PASSWORD_TOPIC = "POSTGRES_GET_PASSWORD_TOPIC"
SCHEMA = "POSTGRES_SCHEMA"
CONNECT_TIMEOUT = "POSTGRES_CONNECT_TIMEOUT"
LOCK_TIMEOUT = "POSTGRES_LOCK_TIMEOUT"
POOL_SIZE = "POSTGRES_POOL_SIZE"
MAX_OVERFLOW = "POSTGRES_MAX_OVERFLOW"
ENABLE_DB_FUNCTIONS = "POSTGRES_ENABLE_DB_FUNCTIONS"

PORT_DEFAULT = "5432"
POOL_SIZE_DEFAULT = 5
MAX_OVERFLOW_DEFAULT = 10
"""The library's own."""


class Settings(NamedTuple):
    """Where the log is, and how it is used."""

    address: Address
    lock_timeout_seconds: float
    connections_max: int
    """That read at once."""


def read_settings(env: Environment) -> Settings:
    """Raises OSError."""
    if strtobool(env.get(ENABLE_DB_FUNCTIONS) or "no"):
        raise OSError(
            f"{ENABLE_DB_FUNCTIONS} cannot be switched on: the library's database functions insert events without the "
            "lock that puts commits into the order of their positions. Whoever follows the log could read position 8 "
            "before 7 is committed, go on from there, and never see 7. A log of evrt writes all events of a moment in "
            f"one transaction anyway, which is what the functions are for: leave {ENABLE_DB_FUNCTIONS} out."
        )
    try:
        address = _read_address(env)
    except UsageError as error:
        raise OSError(str(error)) from error
    seconds = whole_number(env, CONNECT_TIMEOUT, None, " of seconds")
    if seconds is not None:
        address = address._replace(parameters={**address.parameters, "connect_timeout": str(seconds)})
    topic = env.get(GET_PASSWORD_TOPIC)
    if topic:
        ask_password: Callable[[], str] = resolve_topic(topic)
        address = address._replace(ask_password=ask_password)
    # With the library 0 means as long as it takes. A save that waits for ever helps nobody.
    lock_timeout = whole_number(env, LOCK_TIMEOUT, 0, " of seconds") or LOCK_TIMEOUT_SECONDS
    connections = (whole_number(env, POOL_SIZE, POOL_SIZE_DEFAULT) or 0) + (
        whole_number(env, MAX_OVERFLOW, MAX_OVERFLOW_DEFAULT) or 0
    )
    return Settings(address, float(lock_timeout), max(connections, 1))


def _read_address(env: Environment) -> Address:
    """Raises OSError, UsageError."""
    name = _required(env, DBNAME)
    schema = (env.get(SCHEMA) or "").strip()
    if name.startswith(SCHEMES):
        address = parse_postgres_url(name)
        if schema:
            check_schema(schema)
            address = address._replace(schema=schema)
        return address
    user = quote(_required(env, USER), safe="")
    password = "" if env.get(GET_PASSWORD_TOPIC) else quote(_required(env, PASSWORD), safe="")
    # A folder of a socket begins with a slash.
    hosts = quote(_required(env, HOST), safe=",:[]")
    port = (env.get(PORT) or "").strip() or PORT_DEFAULT
    places = ",".join([_place(host, port) for host in hosts.split(",")])
    query = f"?schema={quote(schema)}" if schema else ""
    return parse_postgres_url(f"postgresql://{user}:{password}@{places}/{quote(name, safe='')}{query}")


def _place(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _required(env: Environment, name: str) -> str:
    """What a setting says. One that is empty counts as said, except for the name of the database."""
    text = env.get(name)
    if text is None or (name == DBNAME and not text.strip()):
        also = (
            ", or name everything in one URL: POSTGRES_DBNAME=postgresql://user:password@host:port/database"
        )
        raise OSError(f"No log is named: set {' or '.join(env.create_keys(name))}{also}.")
    return text
