"""Which rows a starting model takes: counted over all of a version, once, and kept."""

from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Example
from app.datasets import fits
from tests.app.datasets.test_lengths import byte_model
from tests.factories import make_dataset_version
from tests.worker.trainer.conftest import TEMPLATES

HI, YES = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}
GEMMA = (TEMPLATES / "gemma.jinja").read_text()


def put(db: Session, version: DatasetVersion, index: int, messages: list[dict[str, Any]]) -> None:
    row = Example.version_id == version.id, Example.index == index
    db.execute(update(Example).where(*row).values(messages=messages, flags={"row": index + 1}))


def test_rows_are_counted_and_named_and_what_is_counted_is_kept(db: Session) -> None:
    version = make_dataset_version(db, num_train=9, num_validation=1)
    for index in (1, 2, 3):
        put(db, version, index, [HI, HI, YES])
    put(db, version, 5, [YES, HI, YES])
    thinks = YES | {"reasoning_content": "I look."}
    put(db, version, 7, [HI, thinks])
    db.commit()
    model = byte_model(db, GEMMA)
    found = fits.of(db, version, model)
    assert (found.num_joined, found.num_refused, found.num_thoughts_dropped) == (3, 1, 1)
    assert found.rows == [2, 3, 4, 6]
    assert "roles must alternate" in found.problem
    said = fits.sentences(db, version, model)
    assert "does not take 4 examples as they are" in said[0]
    assert "(rows 2, 3, 4, 6)" in said[0]
    assert said[1].startswith("Of 3, turns that follow each other are joined")
    assert said[2] == "1 cannot be joined and is left out."
    assert said[3].startswith("1 example has reasoning")
    db.commit()
    db.execute(text("DELETE FROM example"))
    db.commit()
    db.expire_all()
    assert fits.of(db, version, model) == found


def test_rows_of_too_many_shapes_are_said(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "_MAX_SHAPES", 1)
    version = make_dataset_version(db, num_train=9, num_validation=1)
    put(db, version, 1, [HI, HI, YES])
    put(db, version, 2, [HI, YES, HI, YES])
    db.commit()
    said = fits.sentences(db, version, byte_model(db, GEMMA))
    assert len(said) == 1
    assert said[0].startswith("2 examples have orders of turns that were not tried with")


def test_nothing_is_said_of_a_version_that_is_taken_whole(db: Session) -> None:
    version = make_dataset_version(db, num_train=9, num_validation=1)
    assert fits.sentences(db, version, byte_model(db)) == []
