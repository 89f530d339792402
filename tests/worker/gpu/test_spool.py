"""What a trainer gets of a derived version: its examples as they count, and their hash."""

import json
from collections import Counter
from typing import Any

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import Example, Job, Split
from app.datasets import changes, deletion, examples
from app.datasets.changes import Change
from app.jobs import fence, practice, start
from tests.factories import first_user, make_adapter, make_dataset_version, make_job
from worker.gpu import spool


def test_a_derived_version_is_spooled_as_it_reads(db: Session) -> None:
    user, base = first_user(db), make_dataset_version(db)
    said = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    version = changes.derive(db, user, base, [Change(0, is_removed=True), Change(2, said)], "x")
    offered = examples.at(db, version, [3])[0]
    offered.tools = [{"type": "function", "function": {"name": "look"}}]
    version.examples_sha256 = examples.sha256(db, version)
    digest, version.examples_sha256 = version.examples_sha256, None
    job = make_job(db, user=user, version=version)
    job.validation_version_id = base.id
    db.commit()
    beats: list[int] = []
    spool.write_examples(db, job, lambda: beats.append(1))
    assert job.version.examples_sha256 == digest == examples.sha256(db, version)
    assert beats
    with pa.memory_map(str(spool.job_dir(job.id) / "examples.arrow")) as file:
        rows = pa.ipc.open_file(file).read_all().to_pylist()
    assert [row["index"] for row in rows] == [*range(1, 24), *range(24)]  # as pages count them
    assert [row["split"] for row in rows] == ["train"] * 23 + ["validation"] * 24
    assert [row["tools"] and json.loads(row["tools"]) for row in rows[1:3]] == [None, offered.tools]
    assert [json.loads(row["messages"])[0]["content"] for row in rows[:2]] == [
        "What is rule 1?",
        "Who?",
    ]


def further(db: Session, **columns: Any) -> Job:
    """A job that starts from an adapter which has practised the rows 0 to 19."""
    adapter = make_adapter(db, name="First")
    lineage = start.lineage(adapter)
    return make_job(db, start_adapter_id=adapter.id, lineage=lineage, **columns)


def spooled(job: Job) -> list[tuple[str, str]]:
    with pa.memory_map(str(spool.job_dir(job.id) / "examples.arrow")) as file:
        rows = pa.ipc.open_file(file).read_all().to_pylist()
    return [(row["split"], json.loads(row["messages"])[0]["content"]) for row in rows]


def counts(**found: int | bool) -> dict[str, int | bool]:
    none = {"num_test": 0, "num_moved": 0, "num_left_out": 0, "num_check_moved": 0}
    return {**none, "is_checked": True, **found}


def test_test_rows_that_were_practised_before_are_practised_again(db: Session) -> None:
    version = make_dataset_version(db, num_train=10, num_validation=20)
    job = further(db, version=version)
    spool.write_examples(db, job, lambda: None)
    sides = [side for side, _ in spooled(job)]
    assert sides == ["train"] * 20 + ["validation"] * 10
    told = counts(num_test=20, num_moved=10)
    assert spool.practised_before(job.id) == told
    rows = spool.practised_rows(job.id)
    assert rows is not None
    assert len(rows) == 20
    # What was told stays, whoever asks again.
    (spool.job_dir(job.id) / "examples.arrow").touch()
    spool.write_examples(db, job, lambda: None)
    assert spool.practised_before(job.id) == told


def test_those_of_a_file_for_testing_are_left_out(db: Session) -> None:
    held_out = make_dataset_version(db, num_train=25, num_validation=0)
    job = further(db, version=make_dataset_version(db, num_train=15, num_validation=0))
    job.validation_version_id = held_out.id
    db.commit()
    spool.write_examples(db, job, lambda: None)
    assert [side for side, _ in spooled(job)] == ["train"] * 15 + ["validation"] * 5
    assert [asked for _, asked in spooled(job)[15:]] == [
        f"What is rule {index}?" for index in range(20, 25)
    ]
    found = spool.practised_before(job.id)
    assert found == counts(num_test=25, num_left_out=20)


def test_test_rows_never_reach_a_trainer(db: Session) -> None:
    version = make_dataset_version(db, num_train=12, num_validation=5, num_test=7)
    job = make_job(db, version=version)
    spool.write_examples(db, job, lambda: None)
    assert [side for side, _ in spooled(job)] == ["train"] * 12 + ["validation"] * 5
    asked = {f"What is rule {index}?" for index in range(17, 24)}
    everything = b"".join(path.read_bytes() for path in spool.job_dir(job.id).rglob("*.*"))
    assert not [question for question in asked if question.encode() in everything]
    rows = spool.practised_rows(job.id)
    assert rows is not None
    assert len(rows) == 12
    claim = fence.Claim(job.id, 1, "gpu-0", 0)
    assert spool.write_spec(job, claim, "cpu", 1, None).checks_on == "check"


def test_a_test_set_of_its_own_never_reaches_a_trainer_and_other_rows_check(db: Session) -> None:
    version = make_dataset_version(db, num_train=12, num_validation=5, num_test=7)
    tests = make_dataset_version(db, num_train=30, num_validation=0)
    job = make_job(db, version=version, validation_version_id=tests.id)
    spool.write_examples(db, job, lambda: None)
    sides = spooled(job)
    assert [side for side, _ in sides] == ["train"] * 12 + ["validation"] * 5 + ["train"] * 7
    assert {asked for _, asked in sides} == {f"What is rule {index}?" for index in range(24)}


def test_two_parts_choose_by_their_test_set_as_before(db: Session) -> None:
    job = make_job(db, version=make_dataset_version(db, num_train=12, num_validation=5))
    spool.write_examples(db, job, lambda: None)
    assert [side for side, _ in spooled(job)] == ["train"] * 12 + ["validation"] * 5
    claim = fence.Claim(job.id, 1, "gpu-0", 0)
    assert spool.write_spec(job, claim, "cpu", 1, None).checks_on == "test"


def test_rows_of_three_parts_that_were_practised_before_are_practised_again(db: Session) -> None:
    version = make_dataset_version(db, num_train=10, num_validation=6, num_test=20)
    job = further(db, version=version)  # the adapter has practised the rows 0 to 19
    spool.write_examples(db, job, lambda: None)
    assert [side for side, _ in spooled(job)] == ["train"] * 20
    assert spool.practised_before(job.id) == counts(num_test=20, num_moved=4, num_check_moved=6)


def test_rows_to_test_on_are_counted_though_no_trainer_gets_them(db: Session) -> None:
    tests = make_dataset_version(db, num_train=25, num_validation=0)
    version = make_dataset_version(db, num_train=40, num_validation=5, num_test=5)
    job = further(db, version=version, validation_version_id=tests.id)
    spool.write_examples(db, job, lambda: None)
    assert len(spooled(job)) == 50
    found = spool.practised_before(job.id)
    assert found is not None
    assert (found["num_test"], found["num_left_out"], found["num_moved"]) == (25, 20, 0)


def test_what_cannot_be_looked_at_any_more_is_said(db: Session) -> None:
    job = further(db, version=make_dataset_version(db, num_train=10, num_validation=20))
    assert job.start_adapter is not None
    assert job.start_adapter.job is not None
    deletion.delete_dataset(db, first_user(db), job.start_adapter.job.version.dataset)
    db.commit()
    spool.write_examples(db, job, lambda: None)
    found = spool.practised_before(job.id)
    assert found == counts(num_test=20, is_checked=False)
    job.practised_before = found
    assert "data was deleted" in practice.sentences(job)[0]


def test_rows_of_a_job_are_unknown_where_its_examples_cannot_be_read(db: Session) -> None:
    job = make_job(db)
    assert spool.practised_rows(job.id) is None
    spool.write_examples(db, job, lambda: None)
    assert spool.practised_before(job.id) is None  # nothing came before it
    file = spool.job_dir(job.id) / "examples.arrow"
    assert len(spool.practised_rows(job.id) or []) == 20
    file.write_bytes(file.read_bytes()[:100])
    assert spool.practised_rows(job.id) is None


def test_parts_for_a_learning_curve_lie_in_one_another(db: Session) -> None:
    version = make_dataset_version(db, num_train=80, num_validation=6, num_test=10)
    parts: list[set[str]] = []
    for percent in (25, 50, 100):
        job = make_job(db, version=version, rows_percent=percent)
        spool.write_examples(db, job, lambda: None)
        rows = spooled(job)
        parts.append({asked for side, asked in rows if side == "train"})
        # All of them check on the same rows.
        assert [asked for side, asked in rows if side == "validation"] == [
            f"What is rule {index}?" for index in range(80, 86)
        ]
        assert practice.sizes(job, None) == practice.Sizes(len(parts[-1]), 6, 10)
    assert [len(part) for part in parts] == [20, 40, 80]
    assert parts[0] < parts[1] < parts[2]
    assert parts[0] != {f"What is rule {index}?" for index in range(20)}  # not the first ones


def test_equal_rows_stand_in_one_part(db: Session) -> None:
    version = make_dataset_version(db, num_train=80, num_validation=0, num_test=10)
    for row in db.scalars(select(Example).where(Example.version_id == version.id)):
        if row.split is Split.TRAIN:
            row.messages = db.get_one(Example, (version.id, row.index // 8 * 8)).messages
    db.commit()
    job = make_job(db, version=version, rows_percent=25)
    spool.write_examples(db, job, lambda: None)
    asked = Counter(asked for _, asked in spooled(job))
    assert sum(asked.values()) in (24, 32)  # as many as are wanted, or a few more
    assert set(asked.values()) == {8}
