"""From a program's file to examples, with the real reader and nobody there to be asked."""

import json

import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app.core.models import Job, ReviewStatus, User
from app.datasets import examples
from app.datasets.privacy import reviews
from app.datasets.privacy.reviews import Decision
from app.jobs import inputs, protocol
from tests import factories, files
from tests.app.web.v1.test_files import DECIDED, upload, version_of
from tests.app.web.v1.test_jobs import WORKER
from worker.cpu import privacy, reading

SURE = "question,answer\n" + "".join(
    f"Where is room {number}?,Room {number} is on floor {number % 5}.\n" for number in range(40)
)
UNSURE = "alpha,beta,gamma\n" + "".join(f"{n},{n * n},{n * n * n}\n" for n in range(40))


def read_all() -> None:
    while reading.read_next("cpu-0@here") or privacy.review_next("cpu-0@here"):
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
    sizes = {"practice": 36, "check": 0, "test": 4}
    assert {part: read.model_extra[f"x_num_{part}"] for part in ("check", "test")} == {
        "check": 0,
        "test": 4,
    }
    assert read.model_extra["x_num_train"] == 36
    job = api.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "queued"
    assert job.model_extra is not None
    assert (job.model_extra["x_rows"], job.model_extra["x_chosen_by"]) == (sizes, "practice")
    assert protocol.claim(db, WORKER) is not None
    assert read.model_extra["x_privacy"]["status"] == "decided"


def test_what_was_left_out_of_a_sheet_is_told(api: OpenAI, db: Session) -> None:
    rows = [("question", "answer"), *[(f"Where is room {n}?", f"Up {n}.") for n in range(12)]]
    book = files.workbook({"A": rows}, hidden_rows={"A": [3, 4]})
    sent = api.files.create(file=("a.xlsx", book), purpose="fine-tune")
    read_all()
    told = api.files.retrieve(sent.id).model_extra or {}
    assert told["x_left_out"] == {"hidden": 2}
    assert told["x_notes"] == [
        "2 rows are hidden or filtered out and were left out; take hidden rows in if they belong "
        "here.",
        "2 rows are hidden or filtered out in their sheet (rows 3, 4).",
    ]


def test_what_points_to_people_has_to_be_decided_on(api: OpenAI, db: Session) -> None:
    factories.make_base_model(db, name="house/tiny")
    text = SURE + "Is Thyra Blomqvist in?,Ask Mrs Blomqvist on 01632 960 123.\n"
    sent = api.files.create(file=("a.csv", text.encode()), purpose="fine-tune").id
    read_all()
    gate = api.files.retrieve(sent).model_extra or {}
    assert gate["x_privacy"]["status"] == "undecided"
    assert gate["x_privacy"]["found"] == {"name": 2, "phone": 1}
    with pytest.raises(openai.ConflictError) as refused:
        api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    assert refused.value.code == "privacy_undecided"
    assert gate["x_privacy"]["page"] in str(refused.value)
    with pytest.raises(openai.BadRequestError) as unsaid:
        api.fine_tuning.jobs.create(
            model="house/tiny", training_file=sent, extra_body={"x_privacy": {"decision": "keep"}}
        )
    assert unsaid.value.param == "x_privacy.reason"
    job = api.fine_tuning.jobs.create(
        model="house/tiny", training_file=sent, extra_body={"x_privacy": {"decision": "replace"}}
    )
    assert job.status == "validating_files"
    read_all()
    db.expire_all()
    version = db.get_one(Job, (job.model_extra or {})["x_job_id"]).version
    assert version.number == 2
    found = [turn["content"] for each in examples.page(db, version) for turn in each.messages]
    assert "Ask Mrs [Name 1] on [Phone number 1]." in found
    assert api.fine_tuning.jobs.retrieve(job.id).status == "queued"


def send(api: OpenAI, text: str) -> str:
    """Send a file without a decision about personal details."""
    return api.files.create(file=("ward.csv", text.encode()), purpose="fine-tune").id


def test_a_job_waits_for_the_search_and_goes_on_where_nothing_is_found(
    api: OpenAI, db: Session
) -> None:
    factories.make_base_model(db, name="house/tiny")
    sent = send(api, SURE)
    job = api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    assert job.status == "validating_files"
    while reading.read_next("cpu-0@here"):
        pass
    read = api.files.retrieve(sent)
    assert (read.status, read.status_details) == (
        "uploaded",
        "Being searched for personal details.",
    )
    job = api.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "validating_files"
    assert (job.model_extra or {})["x_why"] == "Its data is being checked for personal details."
    assert protocol.claim(db, WORKER) is None
    db.rollback()
    # One that is made now waits just so.
    second = api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    assert second.status == "validating_files"
    assert privacy.review_next("cpu-0@here")
    assert api.files.retrieve(sent).status == "processed"
    assert [each.status for each in api.fine_tuning.jobs.list()] == ["queued", "queued"]
    assert protocol.claim(db, WORKER) is not None


def test_a_job_that_waited_fails_with_what_was_found(api: OpenAI, db: Session) -> None:
    factories.make_base_model(db, name="house/tiny")
    clean = send(api, SURE)
    found = send(api, SURE + "Is Thyra Blomqvist in?,Ask Mrs Blomqvist on 01632 960 123.\n")
    of_training = api.fine_tuning.jobs.create(model="house/tiny", training_file=found)
    of_testing = api.fine_tuning.jobs.create(
        model="house/tiny", training_file=clean, validation_file=found
    )
    other = api.fine_tuning.jobs.create(model="house/tiny", training_file=clean)
    read_all()
    assert api.files.retrieve(found).status == "processed"
    for job in (of_training, of_testing):
        over = api.fine_tuning.jobs.retrieve(job.id)
        assert (over.status, over.finished_at is None) == ("failed", False)
        assert over.error is not None
        assert over.error.code == "privacy_undecided"
        assert "3 personal details" in over.error.message
        assert "2 names and 1 phone number" in over.error.message
        page = (api.files.retrieve(found).model_extra or {})["x_privacy"]["page"]
        assert page in over.error.message
    assert api.fine_tuning.jobs.retrieve(other.id).status == "queued"
    assert protocol.claim(db, WORKER) is not None
    assert protocol.claim(db, WORKER) is None


def test_a_job_on_data_that_a_person_has_decided_on_learns_from_the_stand_ins(
    api: OpenAI, db: Session, user: User
) -> None:
    factories.make_base_model(db, name="house/tiny")
    sent = send(api, SURE + "Is Thyra Blomqvist in?,Ask Mrs Blomqvist on 01632 960 123.\n")
    read_all()
    version = version_of(db, sent)
    reviews.decide(db, user, version, Decision())
    db.commit()
    job = api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    assert job.status == "validating_files"
    assert protocol.claim(db, WORKER) is None
    db.rollback()
    read_all()
    assert api.fine_tuning.jobs.retrieve(job.id).status == "queued"
    db.expire_all()
    assert db.get_one(Job, (job.model_extra or {})["x_job_id"]).version.number == 2


def test_a_search_that_cannot_be_done_is_an_error_of_the_file(api: OpenAI, db: Session) -> None:
    factories.make_base_model(db, name="house/tiny")
    sent = send(api, SURE)
    job = api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    read_all()
    review = reviews.of(db, version_of(db, sent).id)
    assert review is not None
    review.status, review.reason = ReviewStatus.FAILED, "It took too long."
    db.commit()
    shown = api.files.retrieve(sent)
    assert (shown.status, shown.status_details) == ("error", "It took too long.")
    assert inputs.fail_hopeless(db) == [(job.model_extra or {})["x_job_id"]]
    db.commit()
    over = api.fine_tuning.jobs.retrieve(job.id)
    assert over.error is not None
    assert over.error.code == "invalid_input"
    assert "It took too long." in over.error.message


def test_a_decision_that_cannot_be_read_is_refused(api: OpenAI) -> None:
    for stated in ({"decision": "sell"}, {"decision": "keep", "reason": ""}, {"who": "me"}):
        with pytest.raises(openai.BadRequestError) as refused:
            api.files.create(
                file=("a.csv", SURE.encode()),
                purpose="fine-tune",
                extra_body={"x_privacy": stated},
            )
        assert (refused.value.param or "").startswith("x_privacy")


def test_an_unsure_mapping_is_an_error_that_says_so(api: OpenAI, db: Session) -> None:
    factories.make_base_model(db, name="house/tiny")
    sent = upload(api, content=UNSURE.encode())
    job = api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)
    read_all()
    failed = api.files.wait_for_processing(sent)
    assert failed.status == "error"
    assert failed.status_details
    assert "columns" in failed.status_details
    inputs.fail_hopeless(db)
    db.commit()
    over = api.fine_tuning.jobs.retrieve(job.id)
    assert over.status == "failed"
    assert over.error is not None
    assert failed.status_details in over.error.message
    with pytest.raises(openai.BadRequestError):
        api.fine_tuning.jobs.create(model="house/tiny", training_file=sent)


def test_words_for_roles_are_explained_and_what_is_passed_over_is_told(api: OpenAI) -> None:
    lines = [
        {
            "messages": [
                {"role": "Student", "content": f"Where is room {number}?"},
                {"role": "Teacher", "content": f"On floor {number}.", "mood": "kind"},
            ]
        }
        for number in range(40)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    roles = {"student": "user", "teacher": "assistant"}
    sent = api.files.create(
        file=("a.jsonl", content),
        purpose="fine-tune",
        extra_body={**DECIDED, "x_roles": roles},
    ).id
    unsaid = upload(api, "b.jsonl", content + b"\n")
    read_all()
    read = api.files.retrieve(sent)
    assert read.status == "processed"
    assert (read.model_extra or {})["x_notes"] == [
        "40 rows have turns with fields that are not used: “mood” (lines 1, 2, 3, 4, 5, …)."
    ]
    assert api.files.retrieve(unsaid).status == "error"
    with pytest.raises(openai.BadRequestError, match="x_roles: give an object"):
        api.files.create(
            file=("c.jsonl", content), purpose="fine-tune", extra_body={"x_roles": {"a": "nobody"}}
        )
