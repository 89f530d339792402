"""Connections that lay idle: a dead one is replaced before anybody's statement meets it."""

import psycopg
import pytest
from sqlalchemy import Connection, text

from app.core import db as database


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
