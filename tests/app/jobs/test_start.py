"""Jobs that start from an adapter: who may, what is kept, and which rows they are tested on."""

import threading
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import lineage
from app.adapters import registry as adapters
from app.core import db as database
from app.core import settings, storage
from app.core.errors import Conflict, Invalid, NotFound
from app.core.models import (
    Adapter,
    BaseModel,
    DatasetVersion,
    ExampleKind,
    Job,
    JobStatus,
    PractisedRows,
    User,
    VersionStatus,
)
from app.datasets import deletion
from app.jobs import practice, requests, start
from app.jobs.practice import Sizes
from app.training.config import PRESETS, TrainConfig
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
)

CONFIG = PRESETS["quick"].config


@pytest.fixture
def member(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def first(db: Session, member: User) -> Adapter:
    """Has practised the rows 0 to 19."""
    return make_adapter(db, user=member, name="First")


def create(db: Session, user: User, adapter: Adapter | None, **given: Any) -> Job:
    version = given.pop("version", None) or make_dataset_version(
        db, user=user, num_train=30, num_validation=10
    )
    model = given.pop("base_model", None) or db.scalars(select(BaseModel)).first()
    assert model is not None
    config = CONFIG.model_copy(update=given.pop("settings", {}))
    job = requests.create(
        db,
        user,
        name=given.pop("name", "Further"),
        version_id=version.id,
        base_model_id=model.id,
        config=config,
        start_adapter=adapter,
        **given,
    )
    db.commit()
    return job


def test_a_job_keeps_what_it_starts_from_and_all_before_that(
    db: Session, member: User, first: Adapter
) -> None:
    job = create(db, member, first)
    assert job.start_adapter_id == first.id
    assert [one["name"] for one in job.lineage] == ["First"]
    assert job.lineage[0]["manifest_sha256"] == first.manifest_sha256
    job.status = JobStatus.SUCCEEDED
    second = make_adapter(db, job=job, name="Second")
    third = create(db, member, second)
    assert [one["name"] for one in third.lineage] == ["Second", "First"]
    assert lineage.descendants(db, first) == [second]
    adapters.delete(db, member, first)
    db.commit()
    db.refresh(second)
    assert (second.start_adapter_id, [one["name"] for one in second.lineage]) == (None, ["First"])
    known = lineage.ancestors(db, third.lineage)
    assert [(one.id, one.name) for one in known] == [(second.id, "Second"), (None, "First")]


def test_an_ordinary_job_has_no_lineage(db: Session, member: User, first: Adapter) -> None:
    job = create(db, member, None)
    assert (job.start_adapter_id, job.lineage, job.practised_before) == (None, [], None)
    assert start.of_job(job) is None


def test_what_is_kept_is_read_from_the_adapters_own_files(
    db: Session, member: User, first: Adapter
) -> None:
    assert start.inherited(first) == {
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_targets": "all",
        "use_rslora": False,
        "use_dora": False,
    }
    assert first.job is not None
    requests.delete(db, member, first.job)  # whose settings are gone with it
    db.commit()
    db.refresh(first)
    assert start.inherited(first)["lora_targets"] == "all"
    said = storage.path(str(first.storage_key)) / "adapter_config.json"
    for modules, targets in (
        (["q_proj", "model.layers.0.attn.dense"], "attention"),
        (["up_proj", "down_proj"], "feed_forward"),
    ):
        said.write_text(
            f'{{"r": 8, "lora_alpha": 16, "use_rslora": true, "use_dora": true, '
            f'"target_modules": {str(modules).replace(chr(39), chr(34))}}}'
        )
        assert start.inherited(first)["lora_targets"] == targets
    assert start.inherited(first)["lora_rank"] == 8
    for damaged in ("{}", "no JSON", '{"r": 100000}'):
        said.write_text(damaged)
        with pytest.raises(Invalid, match="cannot be read"):
            start.inherited(first)


@pytest.mark.parametrize(
    "changed",
    [{"lora_rank": 8}, {"lora_alpha": 8}, {"use_dora": True}, {"lora_targets": "attention"}],
)
def test_settings_that_are_not_the_adapters_are_refused(
    db: Session, member: User, first: Adapter, changed: dict[str, Any]
) -> None:
    with pytest.raises(Invalid, match="stays so in a job that starts from it") as refused:
        create(db, member, first, settings=changed)
    assert refused.value.field == next(iter(changed))
    assert create(db, member, first, settings={"lora_dropout": 0.1, "num_epochs": 1})


def test_strangers_and_other_starting_models_are_refused(
    db: Session, member: User, first: Adapter
) -> None:
    stranger = make_user(db, department=make_department(db))
    theirs = make_dataset_version(db, user=stranger, num_train=30, num_validation=10)
    with pytest.raises(NotFound, match="no such trained model"):
        create(db, stranger, first, version=theirs)
    db.rollback()
    other = make_base_model(db, name="house/other")
    other.manifest_sha256 = "3" * 64
    db.commit()
    with pytest.raises(Invalid, match="was not trained on the weights of other") as refused:
        create(db, member, first, base_model=other)
    assert refused.value.field == "base_model_id"
    db.rollback()
    # The same weights under another name are the same weights.
    other.manifest_sha256 = first.base_model.manifest_sha256
    db.commit()
    assert create(db, member, first, base_model=other)


def test_an_adapter_from_which_a_job_starts_stays_until_that_is_over(
    db: Session, member: User, first: Adapter
) -> None:
    job = create(db, member, first, name="Second try")
    with pytest.raises(Conflict, match="The job “Second try” starts from this trained model"):
        adapters.delete(db, member, first)
    db.rollback()
    requests.cancel(db, member, job)
    db.commit()
    adapters.delete(db, member, first)
    db.commit()
    db.refresh(job)
    assert job.start_adapter_id is None
    with pytest.raises(
        Conflict, match="The trained model “First”, from which this job starts, was"
    ):
        requests.retry(db, member, job)


def test_trying_again_starts_from_the_same_adapter(
    db: Session, member: User, first: Adapter
) -> None:
    job = create(db, member, first)
    requests.cancel(db, member, job)
    again = requests.retry(db, member, job)
    assert (again.start_adapter_id, again.lineage) == (first.id, job.lineage)


def test_who_deletes_while_a_job_is_made_waits_and_sees_it(
    db: Session, member: User, first: Adapter
) -> None:
    version = make_dataset_version(db, user=member, num_train=30, num_validation=10)
    outcome: list[object] = []

    def delete() -> None:
        with database.session() as mine:
            try:
                adapters.delete(
                    mine, mine.get_one(User, member.id), mine.get_one(Adapter, first.id)
                )
                outcome.append("deleted")
            except Conflict as error:
                outcome.append(error.message)

    requests.create(
        db,
        member,
        name="Second",
        version_id=version.id,
        base_model_id=first.base_model_id,
        config=CONFIG,
        start_adapter=first,
    )
    thread = threading.Thread(target=delete)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    db.commit()
    thread.join()
    assert outcome == [
        "The job “Second” starts from this trained model; wait for it or cancel it, then delete."
    ]


# --- which rows are new ----------------------------------------------------------------------


def test_data_that_the_adapter_knows_is_no_test(db: Session, member: User, first: Adapter) -> None:
    known = make_dataset_version(db, user=member, num_train=10, num_validation=13)
    # Rows 10 to 22 are to be tested on; 10 to 19 were practised.
    with pytest.raises(Invalid) as refused:
        create(db, member, first, version=known)
    assert refused.value.message == (
        "The trained model “First” has already practised these rows: of the 13 to test on, only "
        "3 would "
        "be new to it, and a test needs at least 5; add new rows, or send others to test on."
    )
    assert refused.value.field == "version_id"
    db.rollback()
    assert create(db, member, None, version=known)
    enough = make_dataset_version(db, user=member, num_train=10, num_validation=15)
    assert create(db, member, first, version=enough)


def test_the_same_data_may_be_practised_again_and_has_a_test_set_of_its_own(
    db: Session, member: User, first: Adapter
) -> None:
    assert first.job is not None
    assert create(db, member, first, version=first.job.version)  # 4 of 4 are new
    without = make_dataset_version(db, user=member, num_train=20, num_validation=0)
    assert create(db, member, first, version=without)


def test_a_file_of_its_own_for_testing_is_looked_at_as_a_whole(
    db: Session, member: User, first: Adapter
) -> None:
    new = make_dataset_version(db, user=member, num_train=30, num_validation=10)
    known = make_dataset_version(db, user=member, num_train=15, num_validation=5)
    with pytest.raises(Invalid, match="of the 20 to test on, none would be new"):
        create(db, member, first, version=new, validation_version_id=known.id)
    db.rollback()
    assert create(db, member, first, version=known, validation_version_id=new.id)


def test_what_is_still_being_read_is_left_to_the_worker(
    db: Session, member: User, first: Adapter
) -> None:
    coming = make_dataset_version(db, user=member, status=VersionStatus.CONFIRMED)
    assert create(db, member, first, version=coming)


def deleted(db: Session, member: User, version: DatasetVersion) -> None:
    deletion.delete_dataset(db, member, version.dataset)
    db.commit()


def test_rows_of_an_older_adapter_are_read_from_its_data_and_kept(
    db: Session, member: User, first: Adapter
) -> None:
    assert db.get(PractisedRows, first.id) is None
    found = practice.known(db, first)
    db.commit()
    assert found is not None
    assert (len(found.rows), found.is_complete) == (20, True)
    assert first.job is not None
    deleted(db, member, first.job.version)
    again = practice.known(db, first)
    assert again is not None
    assert (len(again.rows), again.is_complete) == (20, True)
    with pytest.raises(Invalid, match="already practised"):
        create(
            db,
            member,
            first,
            version=make_dataset_version(db, user=member, num_train=1, num_validation=9),
        )


def test_rows_that_are_gone_are_said_not_to_be_known(
    db: Session, member: User, first: Adapter
) -> None:
    assert first.job is not None
    deleted(db, member, first.job.version)
    assert practice.known(db, first) is None
    job = create(db, member, first)  # a worker will say that it could not be looked at
    job.practised_before = {"num_moved": 0, "num_left_out": 0, "is_checked": False}
    assert "is not known any more" in practice.sentences(job)[0]
    job.status = JobStatus.SUCCEEDED
    second = make_adapter(db, job=job)
    found = practice.known(db, second)
    assert found is not None
    assert (len(found.rows), found.is_complete) == (30, False)


def test_each_adapter_remembers_the_rows_of_those_before_it(
    db: Session, member: User, first: Adapter
) -> None:
    second_job = create(db, member, first)
    second_job.status = JobStatus.SUCCEEDED
    second = make_adapter(db, job=second_job)
    known = practice.known(db, first)
    assert known is not None
    own = practice.known(db, second)  # rows 0 to 29, and those of the first
    assert own is not None
    assert (len(own.rows), own.is_complete) == (30, True)
    practice.keep(db, second, known.rows)  # what a worker hands over at the end
    db.commit()
    adapters.delete(db, member, first)
    db.commit()
    kept = practice.known(db, second)
    assert kept is not None
    assert (len(kept.rows), kept.is_complete) == (20, True)
    adapters.delete(db, member, second)
    db.commit()
    assert db.scalars(select(PractisedRows)).all() == []


def test_fingerprints_of_a_lost_key_are_made_anew(
    db: Session, member: User, first: Adapter
) -> None:
    practice.known(db, first)
    db.commit()
    (settings.get().secrets_dir / "row-fingerprints").unlink()  # as after a restore elsewhere
    again = practice.known(db, first)
    db.commit()
    assert again is not None
    assert len(again.rows) == 20
    assert first.job is not None
    deleted(db, member, first.job.version)
    (settings.get().secrets_dir / "row-fingerprints").unlink()
    assert practice.known(db, first) is None


def test_a_long_older_version_is_not_read_while_somebody_waits(
    db: Session, member: User, first: Adapter
) -> None:
    assert practice.known(db, first, most_rows=19) is None
    assert practice.known(db, first, most_rows=20) is not None


def test_pairs_know_the_right_answers_that_were_practised(
    db: Session, member: User, first: Adapter
) -> None:
    pairs = make_dataset_version(
        db, user=member, num_train=5, num_validation=10, kind=ExampleKind.PREFERENCE
    )
    with pytest.raises(Invalid, match="of the 10 to test on, none would be new"):
        create(db, member, first, version=pairs, settings={"objective": "dpo"})


def test_how_many_rows_a_job_practises_and_is_tested_on(
    db: Session, member: User, first: Adapter
) -> None:
    job = make_job(db, user=member)
    assert practice.sizes(job, None) == Sizes(20, 0, 4)
    assert practice.chosen_by(job) == "test"
    job.practised_before = {"num_moved": 1, "num_left_out": 0, "is_checked": True}
    assert practice.sizes(job, None) == Sizes(21, 0, 3)
    assert practice.sentences(job) == [
        "1 row of the test set had been practised by the trained model it starts from, or by one "
        "before "
        "that: this job practises it again and is not tested on it."
    ]
    held_out = make_dataset_version(db, user=member)
    job.practised_before = {"num_moved": 0, "num_left_out": 2, "is_checked": True}
    assert practice.sizes(job, held_out) == Sizes(24, 0, 22)
    assert practice.sentences(job) == [
        "2 rows to test on had been practised by the trained model it starts from, or by one "
        "before "
        "that, and were left out of the test."
    ]
    assert TrainConfig.model_validate(job.config)


def test_how_many_rows_of_three_parts_a_job_practises_chooses_by_and_is_tested_on(
    db: Session, member: User
) -> None:
    version = make_dataset_version(db, user=member, num_train=20, num_validation=3, num_test=4)
    job = make_job(db, user=member, version=version)
    assert practice.sizes(job, None) == Sizes(20, 3, 4)
    assert practice.chosen_by(job) == "check"
    job.practised_before = {
        "num_moved": 1, "num_check_moved": 2, "num_left_out": 0, "is_checked": True,
    }  # fmt: skip
    assert practice.sizes(job, None) == Sizes(23, 1, 3)
    assert practice.sentences(job)[1] == (
        "2 rows of the check set had been practised by the trained model it starts from, or by one "
        "before that: this job practises them again and chooses nothing by them."
    )
    job.practised_before["num_check_moved"] = 3
    assert practice.chosen_by(job) == "practice"
    # A test set of its own: what would test is practised, what checks still checks.
    held_out = make_dataset_version(db, user=member)
    job.practised_before, job.validation_version_id = None, held_out.id
    assert practice.sizes(job, held_out) == Sizes(24, 3, 24)
    assert practice.chosen_by(job) == "check"
