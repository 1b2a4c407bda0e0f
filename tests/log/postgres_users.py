"""Users of a log on PostgreSQL, each with one of the roles that ``evrt db roles`` makes."""

from __future__ import annotations

import secrets

import psycopg
from psycopg import sql

from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.roles import Roles, roles_sql
from evrt.projector.roles import views_roles_sql
from postgres import shared


class Users:
    """Three users of one log, each with a role of its own."""

    def __init__(self, url: str) -> None:
        end = secrets.token_hex(4)
        self.roles = Roles(*[f"{name}_{end}" for name in Roles._fields])
        self.url = url
        with psycopg.connect(shared().superuser, autocommit=True) as connection:
            self.grant(connection)
            for role in self.roles:
                self._make(connection, f"user_of_{role}", role)

    def grant(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        """What `evrt db roles | psql` does."""
        address = parse_postgres_url(self.url)
        for text in (roles_sql(address, self.roles), views_roles_sql(address, self.roles)):
            connection.execute(text.encode())

    def another(self, role: str) -> str:
        """The URL of a further user with this role."""
        name = f"user_{secrets.token_hex(4)}"
        with psycopg.connect(shared().superuser, autocommit=True) as connection:
            self._make(connection, name, role)
        return self.url.replace("://evrt@", f"://{name}@")

    def _make(self, connection: psycopg.Connection[tuple[object, ...]], name: str, role: str) -> None:
        made = sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(sql.Identifier(name), sql.Identifier(role))
        connection.execute(made)

    def url_of(self, role: str) -> str:
        return self.url.replace("://evrt@", f"://user_of_{role}@")
