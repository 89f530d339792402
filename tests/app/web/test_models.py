"""The page of starting models: an import can be cancelled there, by an administrator alone."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.base_models import catalog
from app.base_models import registry as base_models
from app.core import settings
from app.core.models import ModelStatus, Role, Worker
from app.training.plan.machine import DeviceInfo
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


def test_how_far_an_import_is_stands_on_the_page(client: TestClient, db: Session) -> None:
    far = {"doing": "downloading", "done_bytes": 3_100_000_000, "whole_bytes": 14_500_000_000}
    until = datetime.now(UTC) + timedelta(minutes=1)
    status = ModelStatus.IMPORTING
    model = make_base_model(db, status=status, folder=None, lease_until=until, progress=far)
    sign_in(client, db, make_user(db))
    page = client.get("/models").text
    assert "Downloading: 3.1 GB of 14.5 GB" in page
    assert 'aria-label="Import of tiny" max="1" value="0.21' in page
    model.progress = {"doing": "unpacking the weights"}
    db.commit()
    page = client.get("/models").text
    assert "Unpacking the weights</p>" in page
    assert 'aria-label="Import of tiny" max="1" ></progress>' in page


def test_the_catalogue_says_what_fits_here_and_proposes_one(
    client: TestClient, db: Session
) -> None:
    sign_in(client, db, make_user(db))
    nobody_knows = client.get("/models").text
    assert "Our proposal" not in nobody_knows
    unknown = sum(entry.gated is None for entry in catalog.entries())
    assert unknown
    cpu = DeviceInfo(free_bytes=12 * 10**9, total_bytes=16 * 10**9, num_cores=2)
    db.add(
        Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"],
               version="1", hardware=cpu.model_dump())
    )  # fmt: skip
    db.commit()
    page = client.get("/models").text
    assert "Our proposal: " in page
    assert "Qwen3 14B" in page
    assert "Too large for this CPU" in page
    assert "An administrator can bring one of these in." in page
    assert page.count("and the hub may ask for an agreement") == unknown
    assert "16.4 GB" in page and "about 3.4 GB" in page
    assert "etude models pack" not in page
    assert re.search(r"Fits this CPU, about \d", page)
    assert len(re.findall(r"Answers (?:about|less than) ", page)) > 5
    # One that is here stands above, with what it needs, and not in the catalogue.
    make_base_model(db, name="Qwen/Qwen3-14B")
    entry = catalog.entries()[0]
    here = make_base_model(
        db, name=entry.name, config=entry.config, num_parameters=entry.parameters
    )
    page = client.get("/models").text
    assert "Qwen3 14B" not in page
    own = page[page.index(f'id="model-{here.id}"') :].partition("</section>")[0]
    assert re.search(r"Fits this CPU, about \d", own)
    assert re.search(r"Answers about \d+ words a second", own)


def test_a_proposed_model_that_is_here_is_said_to_be_here(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    cpu = DeviceInfo(free_bytes=12 * 10**9, total_bytes=16 * 10**9, num_cores=2)
    db.add(
        Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"],
               version="1", hardware=cpu.model_dump())
    )  # fmt: skip
    db.commit()
    said = re.search(r"Our proposal: (.*?)\.</strong>", client.get("/models").text)
    assert said is not None
    entry = next(one for one in catalog.entries() if one.label == said[1])
    model = make_base_model(
        db, name=entry.name, config=entry.config, num_parameters=entry.parameters
    )
    assert f"Our proposal: {model.label}, which is here." in client.get("/models").text


def test_an_administrator_takes_one_from_the_catalogue(
    client: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert "etude models pack NAME" in client.get("/models").text
    entry = catalog.entries()[5]
    refused = client.post("/models/catalog", data={"name": entry.name})
    assert refused.status_code == 422
    assert "Downloads from the Hugging Face Hub are off" in refused.text
    monkeypatch.setenv("ETUDE_HUB_DOWNLOADS", "true")
    settings.get.cache_clear()
    assert client.post("/models/catalog", data={"name": "no/such"}).status_code == 404
    assert client.post("/models/catalog", data={"name": entry.name}).status_code == 200
    model = base_models.by_name(db, entry.name)
    assert model.source == {"kind": "hub", "repo": entry.name, "revision": entry.revision}
    sign_in(client, db, make_user(db))
    assert client.post("/models/catalog", data={"name": entry.name}).status_code == 403
