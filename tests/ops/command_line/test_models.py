"""`etude models list` and `cancel` on the server."""

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from app.core.models import ModelStatus
from tests.factories import make_base_model
from tests.ops.command_line.conftest import Etude


def test_an_import_is_cancelled_from_the_terminal(db: Session, etude: Etude) -> None:
    model = make_base_model(db, status=ModelStatus.WAITING, folder=None, name="house/waits")
    done = etude("models", "cancel", "house/waits")
    assert (done.returncode, done.stdout) == (0, "The import of house/waits is cancelled.\n")
    db.refresh(model)
    assert model.status is ModelStatus.FAILED
    again = etude("models", "cancel", "house/waits")
    assert again.returncode != 0
    assert "waits is not being imported, so there is nothing to cancel." in again.stderr
    assert "does not exist here" in etude("models", "cancel", "house/none").stderr


def test_the_list_says_how_far_an_import_is(db: Session, etude: Etude) -> None:
    far = {"doing": "downloading", "done_bytes": 3_100_000_000, "whole_bytes": 14_500_000_000}
    until = datetime.now(UTC) + timedelta(minutes=1)
    status = ModelStatus.IMPORTING
    make_base_model(db, status=status, folder=None, lease_until=until, progress=far)
    assert "Downloading: 3.1 GB of 14.5 GB" in etude("models", "list").stdout
    [model] = json.loads(etude("models", "list", "--json").stdout)
    assert model["progress"] == far


def test_the_catalogue_says_what_is_not_known(etude: Etude) -> None:
    lines = etude("models", "catalog").stdout.splitlines()
    [mistral] = [line for line in lines if "Mistral-7B" in line]
    assert "14.5 GB" in mistral and "token" in mistral
    [med42] = [line for line in lines if "Med42" in line]
    assert "about 16.1 GB" in med42 and "may ask for an agreement" in med42
