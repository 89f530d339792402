"""Which held-out rows an export is proved by: the adapter's own test rows, as far as there are any.

Rows go to a child of this machine and no further: no export, card or notice has any of them.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.core.models import Adapter, DatasetVersion, Job, Json, Split
from app.datasets import examples, parts
from app.evaluation import own_questions

# The child takes up to 20 of them: the first, or those with the longest answers.
_MOST_ROWS = 200


class HeldOut(NamedTuple):
    """Rows, and in words what they are."""

    rows: list[Json]
    words: str  # e.g. "test rows of the data"


def held_out(db: Session, adapter: Adapter) -> HeldOut:
    """Return what an adapter never practised: test rows, else check rows, else general questions.

    The last where nothing was set apart, or the data was deleted. Of pairs the preferred answer is
    the reference.
    """
    job = adapter.job
    if job is not None:
        for version, split, words in _sources(db, job):
            rows = list(islice(_rows(db, version, split), _MOST_ROWS))
            if rows:
                return HeldOut(rows, words)
    general = [
        {
            "messages": [
                {"role": "user", "content": each.question},
                {"role": "assistant", "content": each.reference},
            ]
        }
        for each in own_questions.general("en")
    ]
    return HeldOut(general, "general questions, as no rows of the data were set apart")


def _sources(db: Session, job: Job) -> Iterator[tuple[DatasetVersion, Split | None, str]]:
    if job.validation_version_id is not None:
        held_out_version = db.get(DatasetVersion, job.validation_version_id)
        if held_out_version is not None and held_out_version.dataset.deleted_at is None:
            yield held_out_version, None, "test rows"
    version = job.version
    if version.dataset.deleted_at is None:
        if job.validation_version_id is None:
            yield version, parts.test_split(version), "test rows"
        if parts.has_three(version):
            yield version, Split.VALIDATION, "check rows, as there are no test rows"


def _rows(db: Session, version: DatasetVersion, split: Split | None) -> Iterator[Json]:
    for batch in examples.stream(db, version, split):
        for row in batch:
            yield {
                "messages": [
                    {key: value for key, value in turn.items() if key != "rejected"}
                    for turn in row["messages"]
                ],
                "tools": row["tools"] or None,
            }
