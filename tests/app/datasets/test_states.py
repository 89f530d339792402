"""Each way in which data can stand: one word, one thing to do, and no word of what is not so."""

import time
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import Conflict, Invalid
from app.core.models import PrivacyReview, ReviewStatus, VersionStatus
from app.datasets import part_uploads, states, versions
from app.datasets.part_uploads import PartUpload
from app.datasets.privacy import reviews
from app.datasets.states import State
from tests.factories import make_dataset_version, make_user

MODES = ("required", "advised", "off")
STANDS = list(product(VersionStatus, [None, *ReviewStatus], [False, True], MODES))
TWO_ROWS = {"num_rows": 2, "way": None}


def test_each_state_has_its_words() -> None:
    assert set(states.WORDS) == set(State)
    assert len({word for word, _ in states.WORDS.values()}) == len(State), "two have one name"
    for word, dot in states.WORDS.values():
        assert word[0].isupper()
        assert (word == "Ready") == (dot == "good")


def test_over_every_state(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words, the gate's own refusal and /v1 say one thing of each."""
    version = make_dataset_version(db, decided=False)
    met = set()
    for status, of_review, is_stated, mode in STANDS:
        monkeypatch.setenv("ETUDE_PRIVACY_GATE", mode)
        settings.get.cache_clear()
        review = None
        if of_review is not None:
            review = PrivacyReview(
                version_id=version.id, status=of_review, is_stated=is_stated, reason="a disk fault"
            )
        version.status = status
        how = states.standing(version, review)
        met.add(how.state)
        where = f"{status} {of_review} {is_stated} {mode}"
        if review is not None:
            db.add(review)
        with db.no_autoflush:
            monkeypatch.setattr(reviews, "of", lambda *_, found=review: found)
            is_refused = _is_refused(db, version)
        if review is not None:
            db.expunge(review)
        if status is VersionStatus.MAPPING:
            version.inspection = TWO_ROWS
            met.add(states.standing(version, review).state)
            version.inspection = None
        assert how.may_learn == (not is_refused and not how.is_unusable), where
        assert bool(how.why_not) != how.may_learn, where
        assert how.needs_person == (how.step is not None), where
        assert not (how.needs_person and how.is_busy), where
        if how.state is State.READY:
            assert how.may_learn, where
        if mode == "required" and status is VersionStatus.READY:
            is_through = of_review is ReviewStatus.DECIDED
            assert (how.word == "Ready") == is_through, where
        assert how.has_rows == (status is VersionStatus.READY), where
        if how.in_v1 == "uploaded":
            assert how.details, where
        if how.state is State.UNDECIDED:
            assert how.in_v1 == "processed", where
    assert met == set(State) - {State.DELETED}


def _is_refused(db: Session, version: object) -> bool:
    try:
        reviews.check(db, version)  # type: ignore[arg-type]
    except Conflict as refusal:
        assert refusal.code == reviews.UNDECIDED
        return True
    return False


@pytest.mark.parametrize("mode", MODES)
def test_a_list_finds_each_version_by_its_state(
    db: Session, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("ETUDE_PRIVACY_GATE", mode)
    settings.get.cache_clear()
    until = datetime.now(UTC) + timedelta(hours=1)
    user = make_user(db)
    for status, of_review in product(VersionStatus, [None, *ReviewStatus]):
        if of_review is not None and status is not VersionStatus.READY:
            continue
        is_held = status in (VersionStatus.INSPECTING, VersionStatus.BUILDING)
        lease: dict[str, Any] = {"lease_until": until} if is_held else {}
        version = make_dataset_version(db, user=user, status=status, decided=False, **lease)
        if of_review is not None:
            is_held = of_review in (ReviewStatus.SCANNING, ReviewStatus.REPLACING)
            lease = {"lease_until": until} if is_held else {}
            db.add(PrivacyReview(version_id=version.id, status=of_review, **lease))
    for way, num_rows in ((None, 2), (None, 10), ("text", 2)):
        version = make_dataset_version(db, user=user, status=VersionStatus.MAPPING, decided=False)
        version.inspection = TWO_ROWS | {"way": way, "num_rows": num_rows}
    db.commit()
    rows = db.execute(versions.newest(user.department_id)).all()
    by_state = {version.id: states.standing(version, review).state for version, review in rows}
    for wanted in [{state} for state in State] + [group for _, group in states.GROUPS.values()]:
        found = db.scalars(versions.newest(user.department_id).where(states.where(wanted)))
        assert {version.id for version in found} == {
            number for number, state in by_state.items() if state in wanted
        }, wanted


def test_a_file_with_too_few_rows_is_of_no_use(db: Session) -> None:
    version = make_dataset_version(db, name="Two", status=VersionStatus.MAPPING, decided=False)
    version.inspection = TWO_ROWS
    how = states.of(db, version)
    assert (how.state, how.may_learn, how.is_unusable) == (State.TOO_FEW, False, True)
    assert how.step is not None
    assert how.step.at(version.id) == "/datasets/new"
    assert how.in_v1 == "error"
    assert how.details is not None
    assert how.details.startswith("This has only 2 rows, and training needs at least 10.")
    version.inspection = TWO_ROWS | {"way": "text"}  # it can be cut into more pieces
    assert states.standing(version, None).state is State.COLUMNS


def test_deleted_data_is_called_deleted(db: Session) -> None:
    version = make_dataset_version(db)
    version.dataset.deleted_at = version.created_at
    how = states.of(db, version)
    assert (how.state, how.may_learn) == (State.DELETED, False)
    assert "was deleted" in how.why_not


def test_many_versions_are_asked_about_at_once(db: Session) -> None:
    ready, held = make_dataset_version(db), make_dataset_version(db, decided=False)
    found = states.of_many(db, [ready, held])
    assert found[ready.id].state is State.READY
    assert found[held.id].state is State.NOT_SEARCHED
    assert states.of_many(db, []) == {}


def test_an_upload_in_parts_goes_on_in_one_state_alone() -> None:
    now = time.time()
    met = set()
    for state, age in product(("pending", "completed", "cancelled"), (0.0, 7200.0)):
        upload = PartUpload.model_validate(
            {
                "id": "upload_1",
                "owner_id": 1,
                "filename": "a.csv",
                "size_bytes": 1,
                "created_at": now - age,
                "state": state,
            }
        )
        met.add(upload.status)
        if upload.status == "pending":
            part_uploads.require_pending(upload)
            continue
        with pytest.raises(Invalid, match=f"This upload is {upload.status}; make a new one."):
            part_uploads.require_pending(upload)
    assert met == {"pending", "completed", "cancelled", "expired"}
