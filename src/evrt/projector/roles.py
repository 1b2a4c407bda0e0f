"""Who may do what to the views of a log on PostgreSQL: the statements beside those for the log itself.

Writers keep the views: the schema and all that is in it belong to their role, so that nobody needs the right to make
schemas. Readers can ask the tables by SQL.
"""

from __future__ import annotations

from evrt.log.postgres.address import Address
from evrt.log.postgres.roles import Roles
from evrt.log.postgres.schema import named
from evrt.projector.postgres import MARK, views_schema

_RIGHTS = f"""
DO $$
DECLARE
    mark text;
    one text;
BEGIN
    IF to_regnamespace('@') IS NULL THEN
        CREATE SCHEMA @;
        COMMENT ON SCHEMA @ IS '{MARK}';
    END IF;
    mark := obj_description(to_regnamespace('@'), 'pg_namespace');
    IF mark IS DISTINCT FROM '{MARK}' THEN
        RAISE EXCEPTION 'The schema % is another program''s; it has been left as it is.', '@';
    END IF;
    FOR one IN SELECT format('%I', relname) FROM pg_class WHERE relnamespace = to_regnamespace('@') AND relkind = 'r' LOOP
        EXECUTE 'ALTER TABLE @.' || one || ' OWNER TO {{writer}}';
    END LOOP;
END $$;
ALTER SCHEMA @ OWNER TO {{writer}};
GRANT USAGE ON SCHEMA @ TO {{reader}};
GRANT SELECT ON ALL TABLES IN SCHEMA @ TO {{reader}};
ALTER DEFAULT PRIVILEGES FOR ROLE {{writer}} IN SCHEMA @ GRANT SELECT ON TABLES TO {{reader}};
"""


def views_roles_sql(address: Address, roles: Roles) -> str:
    """SQL for psql that makes the schema of a log's views, where it is not there, and gives each role its rights to it.

    The roles have to be there: see ``evrt.log.postgres.roles.roles_sql``.
    """
    there = views_schema(address)
    text = named(_RIGHTS.format(**roles._asdict()), there.quoted_schema).strip()
    return f"-- The rights to its views, in the schema {there.schema}.\nBEGIN;\n{text}\nCOMMIT;\n"
