"""What a trainer gets of a derived version: its examples as they count, and their hash."""

import json

import pyarrow as pa
from sqlalchemy.orm import Session

from app.datasets import changes, examples
from app.datasets.changes import Change
from tests.factories import first_user, make_dataset_version, make_job
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
    assert [row["index"] for row in rows] == list(range(23 + 24))
    assert [row["split"] for row in rows] == ["train"] * 23 + ["validation"] * 24
    assert [row["tools"] and json.loads(row["tools"]) for row in rows[1:3]] == [None, offered.tools]
    assert [json.loads(row["messages"])[0]["content"] for row in rows[:2]] == [
        "What is rule 1?",
        "Who?",
    ]
