"""Two roles of one database: its owner, who migrates, and the application, which owns nothing.

The application reads and writes rows. It cannot change a table, read the server's files or start
programs on it (`COPY … TO PROGRAM` is a superuser's), so whoever takes the web or a worker over
has the rows that it has, and not the machine. With a DATABASE_URL alone one role does both.
"""

from typing import Any, LiteralString

import psycopg
from psycopg import sql
from sqlalchemy import Connection, make_url

from app.core import settings

_ATTRIBUTES: LiteralString = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
_RIGHTS: tuple[LiteralString, ...] = (
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    # Of which version the tables are is for the owner to say.
    "REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {role}",
)
_MAY_MAKE_ROLES = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
_IS_KNOWN = "SELECT 1 FROM pg_roles WHERE rolname = %s"


def grant(owner: Connection) -> None:
    """Make the application's role, and give it what it needs of the tables that are there now.

    Nothing is done where DATABASE_URL names the owner itself. The caller holds the migrations'
    lock, since two such calls at once would change the same rows, and commits.

    Args:
        owner: A connection of the owner's.

    Raises:
        SystemExit: the owner may not do that; one sentence.
    """
    if not settings.get().database_url:
        return  # a restore of Etude's own server: the next start names the role
    raw: psycopg.Connection[Any] = owner.connection.driver_connection  # type: ignore[assignment]
    url = make_url(settings.get().database_url)
    role = url.username
    if not role or role == owner.exec_driver_sql("SELECT current_user").scalar_one():
        return
    names = {"role": sql.Identifier(role), "database": sql.Identifier(raw.info.dbname)}
    try:
        if raw.execute(_IS_KNOWN, (role,)).fetchone() is None:
            raw.execute(_with_password(raw, "CREATE", role, url.password or ""))
        elif url.password and raw.execute(_MAY_MAKE_ROLES).fetchone() == (True,):
            raw.execute(_with_password(raw, "ALTER", role, url.password))  # it may be a new one
        for right in _RIGHTS:
            raw.execute(sql.SQL(right).format(**names))
    except psycopg.Error as error:
        raise SystemExit(
            f"The role of DATABASE_OWNER_URL cannot give the role {role} of DATABASE_URL its "
            f"rights: {str(error).splitlines()[0]}. Let it own the database and create roles, or "
            "leave DATABASE_OWNER_URL empty, and one role does both."
        ) from None


def owns_nothing(connection: Connection) -> bool:
    """Say whether this connection's role is neither a superuser nor the owner of our tables."""
    found: bool = connection.exec_driver_sql(
        "SELECT NOT rolsuper AND NOT EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid) "
        "FROM pg_roles WHERE rolname = current_user"
    ).scalar_one()
    return found


def _with_password(
    raw: psycopg.Connection[Any], verb: LiteralString, role: str, password: str
) -> sql.Composed:
    # Hashed here: what the server logs of a statement that fails holds no password.
    hashed = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    command = sql.SQL(verb + " ROLE {role} LOGIN " + _ATTRIBUTES + " PASSWORD {password}")
    return command.format(role=sql.Identifier(role), password=sql.Literal(hashed.decode()))
