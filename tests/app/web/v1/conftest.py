"""A web server on a port of its own, and the official `openai` client that talks to it."""

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from openai import OpenAI
from sqlalchemy.orm import Session

from app.core.models import BaseModel, User
from app.main import create_app
from app.people import auth
from tests import factories, patience
from tests.app.web.v1.stand_in_answerer import StandIn, standing_in


@pytest.fixture
def user(db: Session) -> User:
    return factories.make_user(db)


@pytest.fixture
def address(database_url: str, broker: str) -> Iterator[str]:
    """The address of a running Etude web server on the test's database."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(), host="127.0.0.1", port=0, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + patience.seconds(20)
    while not server.started:
        assert thread.is_alive(), "the web server ended at its start"
        assert time.monotonic() < deadline, "the web server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=patience.seconds(20))


def connect(db: Session, address: str, user: User) -> OpenAI:
    """A client as that user, who gets a token; it does not repeat what fails."""
    token = auth.create_token(db, user, "tests")
    db.commit()
    return OpenAI(base_url=f"{address}/v1", api_key=token, max_retries=0)


@pytest.fixture
def api(db: Session, address: str, user: User) -> Iterator[OpenAI]:
    with connect(db, address, user) as client:
        yield client


@pytest.fixture
def answerer(db: Session) -> Iterator[StandIn]:
    """What answers, saying "Hello there." until a test gives it another script."""
    with standing_in(db) as stand_in:
        yield stand_in


@pytest.fixture
def model(db: Session) -> BaseModel:
    return factories.make_base_model(db, name="house/tiny")
