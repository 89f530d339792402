"""Connections that lay idle: a dead one is replaced before anybody's statement meets it.

And what a page asks stays prepared in them.
"""

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from app.core import db as database
from app.core.models import Job
from tests import factories


def own_backend() -> int:
    with database.session() as session:
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


@pytest.fixture(params=["looked at", "asked"])
def _kinds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "asked":
        monkeypatch.setattr(database, "_TRUSTED_SECONDS", 0.0)


@pytest.mark.usefixtures("database_url", "_kinds")
def test_a_living_connection_is_used_again() -> None:
    assert own_backend() == own_backend()


@pytest.mark.usefixtures("database_url", "_kinds")
def test_a_connection_that_the_server_ended_is_replaced_unseen(owner: Connection) -> None:
    first = own_backend()
    owner.execute(text(f"SELECT pg_terminate_backend({first}, 10000)"))
    second = own_backend()
    assert second != first
    assert own_backend() == second


@pytest.mark.usefixtures("database_url")
def test_what_the_server_says_to_an_idle_connection_is_no_death(owner: Connection) -> None:
    with database.session() as session:
        kept = session.connection().connection.dbapi_connection
        assert isinstance(kept, psycopg.Connection)
        session.execute(text("LISTEN anything"))
        first = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        session.commit()
    owner.execute(text("NOTIFY anything"))
    owner.commit()
    assert own_backend() == first


@pytest.mark.usefixtures("database_url", "_kinds")
def test_a_connection_that_was_closed_here_is_replaced_unseen() -> None:
    with database.session() as session:
        first = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        kept = session.connection().connection.dbapi_connection
        assert isinstance(kept, psycopg.Connection)
        session.commit()
    kept.close()
    assert own_backend() != first


@pytest.mark.usefixtures("database_url")
def test_what_was_only_read_stays_prepared() -> None:
    question = text("SELECT count(*) FROM job WHERE id = :job_id")
    for number in range(12):
        with database.reading() as session:
            session.execute(question, {"job_id": number})
    with database.reading() as session:
        prepared = session.scalars(text("SELECT statement FROM pg_prepared_statements")).all()
    assert any("FROM job WHERE id" in each for each in prepared)


@pytest.mark.usefixtures("database_url")
def test_what_only_read_changes_no_row(db: Session) -> None:
    job = factories.make_job(db)
    name = job.name
    db.commit()
    with database.reading() as session:
        session.get_one(Job, job.id).name = "as a page shows it"
    db.refresh(job)
    assert job.name == name


@pytest.mark.usefixtures("database_url")
def test_a_server_that_went_amid_reading_is_no_error(owner: Connection) -> None:
    with database.reading() as session:
        backend = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        owner.execute(text(f"SELECT pg_terminate_backend({backend}, 10000)"))
    assert own_backend() != backend
