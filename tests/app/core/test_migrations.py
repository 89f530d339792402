"""Migrations go up, match the models and go down."""

import pytest
from sqlalchemy import inspect, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core import db as database
from app.core import migrations
from app.core.models import Job, JobStatus
from tests.factories import make_job


def test_the_tables_match_the_models(database_url: str) -> None:
    migrations.check(database.engine())


def test_migrations_go_down_and_up_again(database_url: str) -> None:
    migrations.downgrade(database.engine())
    assert inspect(database.engine()).get_table_names() == ["alembic_version"]
    migrations.upgrade(database.engine())
    assert "job" in inspect(database.engine()).get_table_names()


def test_a_final_status_never_changes(db: Session) -> None:
    make_job(db, status=JobStatus.SUCCEEDED)
    with pytest.raises(DBAPIError, match="final"):
        db.execute(update(Job).values(status=JobStatus.QUEUED))
    db.rollback()
