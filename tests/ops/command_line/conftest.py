"""A web server on the test's database, and the command as its operator runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.core.models import Adapter, BaseModel, User
from app.people import auth
from tests import factories, patience, warm
from tests.app.web.v1.conftest import address, answerer, model, user

__all__ = ["address", "answerer", "model", "user"]

Done = subprocess.CompletedProcess[str]
Etude = Callable[..., Done]


@pytest.fixture
def environment(
    db: Session, user: User, address: str, database_url: str, data_dir: Path
) -> dict[str, str]:
    """That of somebody with a token, on the machine of the web."""
    token = auth.create_token(db, user, "tests")
    db.commit()
    return {
        "ETUDE_TOKEN": token,
        "PATH": os.environ["PATH"],
        "PYTHONWARNINGS": "error",
        "DATABASE_URL": database_url,
        "ETUDE_DATA_DIR": str(data_dir),
        "ETUDE_PORT": address.rpartition(":")[2],
    }


@pytest.fixture
def etude(environment: dict[str, str]) -> Etude:
    def run(*arguments: str, typed: str = "", **more: str) -> Done:
        return warm.run(
            command(*arguments),
            input=typed,
            env=environment | more,
            timeout=patience.seconds(60),
        )

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", *arguments]


@pytest.fixture
def adapter(db: Session, user: User, model: BaseModel) -> Adapter:
    """One named “Ward questions”, which a job made from the model."""
    job = factories.make_job(db, user=user, base_model=model)
    made = factories.make_adapter(db, job=job, name="Ward questions")
    db.commit()
    return made
