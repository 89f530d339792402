"""From a program's file to examples, with the real reader and nobody there to be asked."""

import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app import jobs
from tests import factories
from tests.app.v1.test_files import upload
from tests.app.v1.test_jobs import WORKER
from worker import reading

SURE = "question,answer\n" + "".join(
    f"Where is room {number}?,Room {number} is on floor {number % 5}.\n" for number in range(40)
)
UNSURE = "alpha,beta,gamma\n" + "".join(f"{n},{n * n},{n * n * n}\n" for n in range(40))


def read_all() -> None:
    while reading.read_next("cpu-0@here"):
        pass


def test_a_sure_mapping_is_accepted_and_the_waiting_job_can_begin(api: OpenAI, db: Session) -> None:
    factories.make_base_model(db, name="house/tiny")
    sent = upload(api, content=SURE.encode())
    job = api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    assert job.status == "validating_files"
    read_all()
    read = api.files.retrieve(sent)
    assert read.status == "processed"
    assert read.model_extra is not None
    assert read.model_extra["x_num_train"] + read.model_extra["x_num_validation"] == 40
    assert api.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert jobs.claim(db, WORKER) is not None


def test_an_unsure_mapping_is_an_error_that_says_so(api: OpenAI, db: Session) -> None:
    factories.make_base_model(db, name="house/tiny")
    sent = upload(api, content=UNSURE.encode())
    job = api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    read_all()
    failed = api.files.wait_for_processing(sent)
    assert failed.status == "error"
    assert failed.status_details
    assert "columns" in failed.status_details
    jobs.fail_hopeless(db)
    db.commit()
    over = api.fine_tuning.jobs.retrieve(job.id)
    assert over.status == "failed"
    assert over.error is not None
    assert failed.status_details in over.error.message
    with pytest.raises(openai.BadRequestError):
        api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
