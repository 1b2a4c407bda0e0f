"""The proxy does what the tests with it believe: shown with a plain client of the database."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from connections.conftest import by_way_of
from connections.proxy import Answers, Proxy, Requests
from postgres import shared


@pytest.fixture
def table() -> Iterator[str]:
    name = f"proxied_{secrets.token_hex(8)}"
    with psycopg.connect(shared().network, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} (number int)")
        yield name
        connection.execute(f"DROP TABLE {name}")


def numbers(table: str) -> list[int]:
    with psycopg.connect(shared().network, autocommit=True) as connection:
        return [row[0] for row in connection.execute(f"SELECT number FROM {table} ORDER BY number")]


def insert(connection: psycopg.Connection, table: str, number: int, *, pipelined: bool) -> None:
    if pipelined:
        with connection.pipeline():
            connection.execute("BEGIN")
            connection.execute(f"INSERT INTO {table} VALUES (%s)", [number])
            connection.execute("COMMIT")
    else:
        with connection.transaction():
            connection.execute(f"INSERT INTO {table} VALUES (%s)", [number])


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_commit_whose_answer_is_cut_has_happened_and_its_client_cannot_know(
    proxy: Proxy, through: Callable[[str], str], table: str, pipelined: bool
) -> None:
    with psycopg.connect(through(shared().network), autocommit=True) as connection:
        insert(connection, table, 1, pipelined=pipelined)
        proxy.cut_commit = lambda: True
        with pytest.raises(psycopg.OperationalError):
            insert(connection, table, 2, pipelined=pipelined)
        assert connection.broken
    assert (proxy.commits, proxy.cuts, numbers(table)) == (2, 1, [1, 2])


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_commit_that_is_lost_on_its_way_has_not_happened(
    proxy: Proxy, through: Callable[[str], str], table: str, pipelined: bool
) -> None:
    with psycopg.connect(through(shared().network), autocommit=True) as connection:
        for number in range(10):  # Until every statement is prepared, and no longer spelt out.
            insert(connection, table, number, pipelined=pipelined)
        proxy.lose_commit = lambda: True
        with pytest.raises(psycopg.OperationalError):
            insert(connection, table, 10, pipelined=pipelined)
    assert (proxy.lost, proxy.commits, numbers(table)) == (1, 10, list(range(10)))


def test_a_dropped_connection_takes_what_was_not_committed_with_it(
    proxy: Proxy, through: Callable[[str], str], table: str
) -> None:
    with psycopg.connect(through(shared().network), autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO {table} VALUES (1)")
        assert proxy.drop_one(lambda count: count - 1)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("COMMIT")
    assert (proxy.connections, numbers(table)) == (0, [])


def test_a_stalled_connection_goes_on_where_it_was_when_it_flows_again(
    proxy: Proxy, through: Callable[[str], str], table: str
) -> None:
    with (
        psycopg.connect(through(shared().network), autocommit=True) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        proxy.stall()
        waiting = pool.submit(connection.execute, f"INSERT INTO {table} VALUES (7)")
        assert numbers(table) == []
        assert not waiting.done()
        proxy.flow()
        waiting.result()
    assert numbers(table) == [7]


def test_who_is_refused_hears_so_at_once(proxy: Proxy, through: Callable[[str], str]) -> None:
    proxy.refuses = True
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(through(shared().network))


def test_messages_are_found_however_the_bytes_are_cut_up() -> None:
    answer = b"C" + (11).to_bytes(4, "big") + b"COMMIT\0"
    for at in range(1, len(answer)):
        answers = Answers()
        answers.bytes_expected = 1
        found = [*answers.take(b"N" + answer[:at]), *answers.take(answer[at:] + answer)]
        assert found == [b"N", answer, answer]


def test_a_client_that_asks_for_encryption_and_begins_anew_is_understood() -> None:
    asks = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
    begins = (12).to_bytes(4, "big") + (196608).to_bytes(4, "big") + b"user"
    requests = Requests()
    assert [requests.take(piece)[0] for piece in (asks[:3], asks[3:], begins, asks)] == [0, 1, 0, 0]


def test_the_way_by_the_proxy_leads_to_the_same_database(proxy: Proxy) -> None:
    url = by_way_of(proxy, shared().network)
    assert f":{proxy.port}/" in url
