"""The rights to a log on PostgreSQL: ``evrt db roles``."""

from __future__ import annotations

from evrt.cli.output import out
from evrt.cli.place import Place, default_url
from evrt.errors import UsageError
from evrt.log.address import is_postgres
from evrt.log.postgres.address import needing_psycopg, parse_postgres_url
from evrt.log.postgres.roles import Roles, roles_sql


def print_roles(place: Place, *, owner: str, writer: str, reader: str) -> None:
    """Print the statements; they are the answer, so they go where a shell can pass them on. Raises UsageError."""
    app = place.load_app_if_named() if place.url is None else None
    url = place.url or (default_url() if app is None else app.url)
    if not is_postgres(url):
        raise UsageError(
            "Only a log on PostgreSQL has roles; name it with --db postgresql://… or in EVRT_DB. Of a log in a file, "
            "the rights are those of the file and its folder."
        )
    with needing_psycopg():
        from evrt.projector.roles import views_roles_sql
    address, roles = parse_postgres_url(url), Roles(owner, writer, reader)
    out((roles_sql(address, roles) + views_roles_sql(address, roles)).removesuffix("\n"))
