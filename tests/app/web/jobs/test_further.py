"""Pages of a job that starts from an adapter: the button, the form, what is kept, the lineage."""

import re
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.adapters import registry as adapters
from app.core import storage
from app.core.models import Adapter, Job, JobStatus, Role, User
from app.jobs import requests, start
from app.training.config import PRESETS, TrainConfig
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
)

THOROUGH = PRESETS["thorough"].config


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db)


@pytest.fixture
def first(db: Session, owner: User) -> Adapter:
    """Of another rank and method than the default preset's."""
    config = THOROUGH.model_copy(update={"method": "lora"})
    job = make_job(db, user=owner, status=JobStatus.SUCCEEDED, config=config, name="Ward & co")
    return make_adapter(db, job=job)


def form_of(db: Session, owner: User, adapter: Adapter, **changes: Any) -> dict[str, str]:
    version = make_dataset_version(db, user=owner, name="New", num_train=40, num_validation=10)
    form = {
        "version_id": str(version.id),
        "base_model_id": str(adapter.base_model_id),
        "start_adapter_id": str(adapter.id),
        "preset": "quick",
        "name": "Second",
    }
    return form | changes


def newest(db: Session) -> Job:
    return db.scalars(select(Job).order_by(Job.id.desc()).limit(1)).one()


def test_from_the_adapters_page_to_a_job_that_keeps_what_must_stay(
    client: TestClient, db: Session, owner: User, first: Adapter
) -> None:
    sign_in(client, db, owner)
    make_dataset_version(db, user=owner, name="New")
    page = client.get(f"/adapters/{first.id}").text
    (link,) = re.findall(r'href="([^"]*)">Train it further', page)
    form = client.get(link).text
    assert f'name="start_adapter_id" value="{first.id}"' in form
    assert f'<a href="/adapters/{first.id}">Ward &amp; co</a>' in form
    kept = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", form.split("step-preset")[0]))
    assert kept == {
        "Adapter rank": "32",
        "Adapter alpha": "64",
        "Layers with an adapter": "all layers",
        "Rank-stabilized scaling (rsLoRA)": "no",
        "Separate size and direction (DoRA)": "no",
    }
    for name in ("lora_rank", "lora_alpha", "lora_targets", "use_rslora", "use_dora"):
        assert f'name="{name}"' not in form
    assert 'name="lora_dropout"' in form
    # Learned beside weights in 16 bits, so that is proposed, and may be changed.
    assert re.search(r'value="lora" selected', form)
    assert re.findall(r'name="base_model_id" value="(\d+)" checked', form) == [
        str(first.base_model_id)
    ]
    answer = client.post("/jobs/new", data=form_of(db, owner, first), follow_redirects=False)
    assert answer.status_code == 303
    job = newest(db)
    assert (job.start_adapter_id, job.lineage[0]["name"]) == (first.id, "Ward & co")
    wanted = {name: getattr(THOROUGH, name) for name in start.inherited(first)}
    assert job.config == PRESETS["quick"].config.model_dump(mode="json") | wanted
    # A copy of it starts from there as well.
    copied = client.get(f"/jobs/new?copy_of={job.id}").text
    assert f'name="start_adapter_id" value="{first.id}"' in copied


def test_the_estimate_is_of_such_a_job(
    client: TestClient, db: Session, owner: User, first: Adapter
) -> None:
    sign_in(client, db, owner)
    form = form_of(db, owner, first)
    assert "Learning rate" in client.post("/jobs/new/estimate", data=form).text
    gone = client.post(
        "/jobs/new/estimate",
        data=form | {"start_adapter_id": "999"},
        headers={"HX-Request": "true"},
    )
    assert "There is no such trained model" in gone.text


@pytest.mark.parametrize("typed", ["999", "x", "1e3"])
def test_an_adapter_that_is_not_there_is_a_sentence_beside_the_form(
    client: TestClient, db: Session, owner: User, first: Adapter, typed: str
) -> None:
    sign_in(client, db, owner)
    count = len(db.scalars(select(Job)).all())
    answer = client.post("/jobs/new", data=form_of(db, owner, first, start_adapter_id=typed))
    assert answer.status_code == 422
    assert answer.text.count("There is no such trained model; it may have been deleted.") == 2
    assert 'start_adapter_id" value' not in answer.text
    assert len(db.scalars(select(Job)).all()) == count


def test_data_that_it_knows_is_refused_beside_the_data(
    client: TestClient, db: Session, owner: User, first: Adapter
) -> None:
    sign_in(client, db, owner)
    known = make_dataset_version(db, user=owner, num_train=2, num_validation=18)
    form = form_of(db, owner, first, version_id=str(known.id))
    answer = client.post("/jobs/new", data=form)
    assert answer.status_code == 422
    assert re.search(
        r'id="version_id-error">The trained model “Ward &amp; co” has already', answer.text
    )
    assert f'name="start_adapter_id" value="{first.id}"' in answer.text  # filled in as it was


def test_strangers_and_viewers_cannot_train_it_further(
    client: TestClient, db: Session, owner: User, first: Adapter
) -> None:
    form = form_of(db, owner, first)
    stranger = make_user(db, role=Role.ADMIN, department=make_department(db))
    theirs = make_dataset_version(db, user=stranger, num_train=40, num_validation=10)
    sign_in(client, db, stranger)
    assert client.get(f"/jobs/new?start_adapter={first.id}").status_code == 404
    answer = client.post("/jobs/new", data=form | {"version_id": str(theirs.id)})
    assert (answer.status_code, "no such trained model" in answer.text) == (422, True)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    page = client.get(f"/adapters/{first.id}")
    assert (page.status_code, "Train it further" in page.text) == (200, False)
    assert client.get(f"/jobs/new?start_adapter={first.id}").status_code == 403
    assert client.post("/jobs/new", data=form).status_code == 403
    assert newest(db).start_adapter_id is None


def test_pages_say_what_came_from_what_and_what_before_means(
    client: TestClient, db: Session, owner: User, first: Adapter
) -> None:
    sign_in(client, db, owner)
    version = make_dataset_version(db, user=owner, num_train=40, num_validation=10)
    given = TrainConfig.model_validate(first.job.config) if first.job else THOROUGH
    job = requests.create(
        db,
        owner,
        name="Second",
        version_id=version.id,
        base_model_id=first.base_model_id,
        config=given,
        start_adapter=first,
    )
    job.practised_before = {"num_moved": 3, "num_left_out": 0, "is_checked": True}
    db.commit()
    waiting = client.get(f"/jobs/{job.id}").text
    assert f'Started from <a href="/adapters/{first.id}">Ward &amp; co</a>.' in waiting
    assert "could already do, not the starting model alone" in waiting
    assert "“Ward &amp; co” and yours answer three test questions here" in waiting
    assert "(43 examples to practise, 7 to test)" in waiting
    assert "3 rows of the test set had been practised" in waiting
    refused = client.post(f"/adapters/{first.id}/delete")
    assert refused.status_code == 409
    assert "The job “Second” starts from this trained model" in refused.text
    db.refresh(job)
    job.status, job.samples = (
        JobStatus.SUCCEEDED,
        [{"question": "q", "reference": "r", "base": "b", "tuned": "t"}],
    )
    second = make_adapter(db, job=job)
    second.metrics = second.metrics | {"validation_loss_after": 3.5}
    db.commit()
    assert "Before this job" in client.get(f"/jobs/{job.id}").text
    shown = client.get(f"/adapters/{second.id}").text
    assert f'Started from <a href="/adapters/{first.id}">Ward &amp; co</a>.' in shown
    assert "Before: Ward &amp; co</h4>" in shown
    assert "no better on the test questions than the trained model that it started from" in shown
    assert f'Trained further from it: <a href="/adapters/{second.id}">Second</a>' in (
        client.get(f"/adapters/{first.id}").text
    )
    assert "Trained further from it" in client.get(f"/jobs/{first.job_id}").text
    # What is gone is still named.
    gone = client.post(f"/adapters/{first.id}/delete", data={"at_once": "1"})
    assert "Erased for good." in gone.text
    assert "Started from Ward &amp; co (deleted since)." in (
        client.get(f"/adapters/{second.id}").text
    )
    copied = client.get(f"/jobs/new?copy_of={job.id}").text
    assert "The trained model “Ward &amp; co”, from which that job started, was deleted" in copied


def test_an_ordinary_adapter_says_nothing_of_it(
    client: TestClient, db: Session, owner: User, first: Adapter
) -> None:
    sign_in(client, db, owner)
    for address in (f"/adapters/{first.id}", f"/jobs/{first.job_id}"):
        html = client.get(address).text
        assert "Started from" not in html
        assert "Trained further from" not in html
    assert "<h4>Starting model</h4>" in client.get(f"/adapters/{first.id}").text


def test_files_that_cannot_be_read_are_said(
    client: TestClient, db: Session, owner: User, first: Adapter
) -> None:
    sign_in(client, db, owner)
    make_dataset_version(db, user=owner)
    (storage.path(str(first.storage_key)) / "adapter_config.json").unlink()
    html = client.get(f"/jobs/new?start_adapter={first.id}").text
    assert "cannot be read, so nothing can start from it" in html
    assert adapters.get(db, owner, first.id)
