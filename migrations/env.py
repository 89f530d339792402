"""Alembic's entry: migrate the database that DATABASE_URL (or a caller's connection) names."""

from alembic import context
from sqlalchemy import Connection

from app.core import db, settings
from app.core.models import Base


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


# A caller (app/core/migrations.py, tests) may hand over its connection; the command line makes one.
_given = context.config.attributes.get("connection")
if _given is not None:
    _migrate(_given)
else:
    with db.make_engine(settings.get().database_url).connect() as _connection:
        _migrate(_connection)
        _connection.commit()
