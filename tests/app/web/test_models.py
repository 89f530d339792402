"""The page of starting models: an import can be cancelled there, by an administrator alone."""

from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.base_models import registry as base_models
from app.core.models import ModelStatus, Role
from tests.app.web.pages import sign_in
from tests.factories import make_base_model, make_user


def test_an_administrator_cancels_an_import(client: TestClient, db: Session) -> None:
    model = make_base_model(db, status=ModelStatus.WAITING, folder=None)
    address = f"/models/{model.id}/cancel"
    sign_in(client, db, make_user(db))
    assert "Cancel the import" not in client.get("/models").text
    assert client.post(address).status_code == 403
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert f'action="{address}"' in client.get("/models").text
    page = client.post(address)
    assert page.url.path == "/models"
    assert "Import cancelled" in page.text
    assert "Import again" in page.text
    db.refresh(model)
    assert (model.status, model.reason) == (ModelStatus.FAILED, base_models.CANCELLED)
    assert client.post(address).status_code == 409
