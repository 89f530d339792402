"""`etude models cancel` on the server."""

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
