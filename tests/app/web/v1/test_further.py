"""OpenAI's way to train a tuned model further: its name as the model; with the official client."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app.core.models import Adapter, DatasetVersion, Job, JobStatus, Role, User
from app.training.config import PRESETS
from tests import factories
from tests.app.web.v1.conftest import connect


@pytest.fixture
def first(db: Session, user: User) -> Adapter:
    config = PRESETS["thorough"].config.model_copy(update={"method": "lora"})
    job = factories.make_job(db, user=user, status=JobStatus.SUCCEEDED, config=config)
    return factories.make_adapter(db, job=job)


@pytest.fixture
def version(db: Session, user: User) -> DatasetVersion:
    return factories.make_dataset_version(db, user=user, num_train=40, num_validation=10)


def test_a_tuned_model_is_named_as_the_model(
    api: OpenAI, db: Session, first: Adapter, version: DatasetVersion
) -> None:
    made = api.fine_tuning.jobs.create(
        model=first.public_name, training_file=version.file.public_id, suffix="second"
    )
    assert made.model == first.public_name  # as it was asked for
    assert made.model_extra is not None
    assert made.model_extra["x_base_model"] == "house/tiny"
    assert made.model_extra["x_started_from"] == [first.public_name]
    settings = made.model_extra["x_settings"]
    assert (settings["lora_rank"], settings["lora_alpha"], settings["method"]) == (32, 64, "lora")
    assert settings["num_epochs"] == PRESETS["balanced"].config.num_epochs
    assert api.fine_tuning.jobs.retrieve(made.id) == made
    with pytest.raises(openai.ConflictError, match="starts from this trained model"):
        api.models.delete(first.public_name)
    job = db.get_one(Job, made.model_extra["x_job_id"])
    assert job.start_adapter_id == first.id
    job.status = JobStatus.SUCCEEDED
    db.commit()
    second = factories.make_adapter(db, job=job)
    shown = api.models.retrieve(second.public_name)
    assert shown.model_extra is not None
    assert shown.model_extra["x_started_from"] == [first.public_name]
    assert shown.model_extra["x_base_model"] == "house/tiny"
    # And so on, whatever became of the first.
    api.models.delete(first.public_name)
    third = api.fine_tuning.jobs.create(
        model=second.public_name, training_file=version.file.public_id
    )
    assert third.model_extra is not None
    assert third.model_extra["x_started_from"] == [second.public_name, first.public_name]
    assert api.fine_tuning.jobs.retrieve(made.id).model == first.public_name


def test_an_ordinary_job_names_its_starting_model(
    api: OpenAI, first: Adapter, version: DatasetVersion
) -> None:
    made = api.fine_tuning.jobs.create(model="house/tiny", training_file=version.file.public_id)
    assert made.model_extra is not None
    assert (made.model, made.model_extra["x_started_from"]) == ("house/tiny", [])
    base = api.models.retrieve("house/tiny")
    assert base.model_extra is not None
    assert base.model_extra["x_started_from"] == []


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({"extra_body": {"x_etude": {"lora_rank": 8}}}, "x_etude.lora_rank", "keeps that"),
        ({"extra_body": {"x_etude": {"use_dora": True}}}, "x_etude.use_dora", "keeps that"),
    ],
)
def test_what_the_adapter_keeps_cannot_be_chosen(
    api: OpenAI,
    first: Adapter,
    version: DatasetVersion,
    given: dict[str, Any],
    param: str,
    words: str,
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        api.fine_tuning.jobs.create(
            model=first.public_name, training_file=version.file.public_id, **given
        )
    assert refused.value.param == param


def test_what_it_keeps_may_be_said_again(
    api: OpenAI, first: Adapter, version: DatasetVersion
) -> None:
    body = {"x_etude": {"lora_rank": 32, "method": "qlora", "preset": "quick"}}
    made = api.fine_tuning.jobs.create(
        model=first.public_name,
        training_file=version.file.public_id,
        extra_body=body,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert made.model_extra is not None
    assert made.model_extra["x_settings"]["method"] == "qlora"
    assert made.hyperparameters.n_epochs == 2


def test_strangers_and_unknown_names_are_404(
    api: OpenAI, address: str, db: Session, first: Adapter, version: DatasetVersion
) -> None:
    stranger = factories.make_user(db, department=factories.make_department(db))
    theirs = factories.make_dataset_version(db, user=stranger)
    with connect(db, address, stranger) as client:
        for name in (first.public_name, "ft:house/tiny:ward::nothing", f"{first.public_name}:ckpt"):
            with pytest.raises(openai.NotFoundError) as refused:
                client.fine_tuning.jobs.create(model=name, training_file=theirs.file.public_id)
            assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    viewer = factories.make_user(db, role=Role.VIEWER)
    with connect(db, address, viewer) as client, pytest.raises(openai.PermissionDeniedError):
        client.fine_tuning.jobs.create(
            model=first.public_name, training_file=version.file.public_id
        )


def test_other_weights_and_known_data_are_400(
    api: OpenAI, db: Session, user: User, first: Adapter, version: DatasetVersion
) -> None:
    known = factories.make_dataset_version(db, user=user, num_train=2, num_validation=18)
    with pytest.raises(openai.BadRequestError, match="has already practised these rows"):
        api.fine_tuning.jobs.create(model=first.public_name, training_file=known.file.public_id)
    first.base_model.manifest_sha256 = "9" * 64  # imported anew, from other files
    db.commit()
    with pytest.raises(openai.BadRequestError, match="not trained on the weights") as refused:
        api.fine_tuning.jobs.create(model=first.public_name, training_file=version.file.public_id)
    assert refused.value.param == "model"
