"""One worker at a time holds a row, whoever dies; on the clock of the database."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import db as database
from app.core import leases
from app.core.leases import BASE_MODELS, VERSIONS, LeaseLost
from app.core.models import (
    BaseModel,
    DatasetCheck,
    DatasetVersion,
    ModelStatus,
    PrivacyReview,
    VersionStatus,
)
from tests.factories import make_base_model, make_dataset_version, make_user


def claim(db: Session, worker_id: str = "cpu-0") -> leases.Lease:
    lease = leases.claim(db, VERSIONS, worker_id)
    db.commit()
    assert lease is not None
    return lease


def let_run_out(db: Session) -> None:
    for table in ("dataset_version", "base_model"):
        db.execute(text(f"UPDATE {table} SET lease_until = lease_until - interval '10 minutes'"))
    db.commit()


def row(db: Session, version: DatasetVersion) -> DatasetVersion:
    db.refresh(version)
    return version


def test_the_oldest_waiting_row_is_held_by_one(db: Session) -> None:
    first = make_dataset_version(db, status=VersionStatus.UPLOADED)
    second = make_dataset_version(db, status=VersionStatus.CONFIRMED)
    make_dataset_version(db, status=VersionStatus.MAPPING)
    one, two = claim(db, "cpu-0"), claim(db, "cpu-1")
    assert (one.id, one.status, one.attempt) == (first.id, VersionStatus.INSPECTING, 1)
    assert (two.id, two.status, two.came_from) == (
        second.id,
        VersionStatus.BUILDING,
        VersionStatus.CONFIRMED,
    )
    assert leases.claim(db, VERSIONS, "cpu-2") is None


def test_many_workers_at_once_share_the_rows_out(db: Session) -> None:
    for _ in range(20):
        make_dataset_version(db, status=VersionStatus.UPLOADED)

    def work(worker: int) -> list[int]:
        held = []
        with database.session() as own:
            while lease := leases.claim(own, VERSIONS, f"cpu-{worker}"):
                held.append(lease.id)
                own.commit()
        return held

    with ThreadPoolExecutor(4) as pool:
        taken = [found for held in pool.map(work, range(4)) for found in held]
    assert len(taken) == 20
    assert len(set(taken)) == 20


def test_a_lease_that_ran_out_goes_back_and_the_late_worker_is_fenced(db: Session) -> None:
    version = make_dataset_version(db, status=VersionStatus.UPLOADED)
    late = claim(db)
    assert leases.reap(db, VERSIONS) == []
    let_run_out(db)
    assert leases.reap(db, VERSIONS) == [version.id]
    db.commit()
    assert (row(db, version).status, version.strikes) == (VersionStatus.UPLOADED, 1)
    with pytest.raises(LeaseLost):
        leases.renew(db, late, {"rows": 1})
    with pytest.raises(LeaseLost):
        leases.release(db, late, VersionStatus.MAPPING)
    again = claim(db, "cpu-1")
    assert again.attempt == 2
    with pytest.raises(LeaseLost):
        leases.renew(db, late)
    leases.release(db, again, VersionStatus.MAPPING, mapping={"columns": []})
    db.commit()
    assert (row(db, version).status, version.strikes, version.worker_id) == (
        VersionStatus.MAPPING,
        0,
        None,
    )


def test_renewing_keeps_a_lease_alive_and_tells_how_far_it_is(db: Session) -> None:
    version = make_dataset_version(db, status=VersionStatus.UPLOADED)
    lease = claim(db)
    let_run_out(db)
    leases.renew(db, lease, {"rows": 5000})
    db.commit()
    assert leases.reap(db, VERSIONS) == []
    assert row(db, version).progress == {"rows": 5000}


def test_the_last_strike_fails_with_a_sentence(db: Session) -> None:
    version = make_dataset_version(db, status=VersionStatus.CONFIRMED)
    for strikes in (1, 2):
        claim(db)
        let_run_out(db)
        leases.reap(db, VERSIONS)
        assert (row(db, version).status, version.strikes) == (VersionStatus.CONFIRMED, strikes)
    claim(db)
    let_run_out(db)
    leases.reap(db, VERSIONS)
    assert row(db, version).status is VersionStatus.FAILED
    assert version.reason is not None
    assert version.reason.startswith("Reading this file was cut off 3 times")
    assert leases.claim(db, VERSIONS, "cpu-0") is None


def test_handing_back_costs_no_strike(db: Session) -> None:
    version = make_dataset_version(db, status=VersionStatus.UPLOADED)
    lease = claim(db)
    leases.release(db, lease, lease.came_from)
    assert (row(db, version).status, version.strikes) == (VersionStatus.UPLOADED, 0)


def test_a_worker_that_starts_anew_takes_back_what_it_held(db: Session) -> None:
    version = make_dataset_version(db, status=VersionStatus.UPLOADED)
    claim(db, "cpu-0")
    assert leases.take_back(db, VERSIONS, "cpu-1") == []
    assert leases.take_back(db, VERSIONS, "cpu-0") == [version.id]
    assert (row(db, version).status, version.strikes) == (VersionStatus.UPLOADED, 1)


def test_models_go_the_same_way(db: Session) -> None:
    model = make_base_model(db, status=ModelStatus.WAITING, folder=None)
    lease = leases.claim(db, BASE_MODELS, "cpu-0")
    assert lease is not None
    assert lease.status is ModelStatus.IMPORTING
    leases.release(db, lease, ModelStatus.READY, folder="tiny")
    db.commit()
    found = db.get(BaseModel, model.id, populate_existing=True)
    assert found is not None
    assert (found.status, found.folder, found.lease_until) == (ModelStatus.READY, "tiny", None)


def test_people_take_turns_however_much_one_of_them_has_sent(db: Session) -> None:
    many, few = make_user(db), make_user(db)
    of_many = [
        make_dataset_version(db, user=many, status=VersionStatus.UPLOADED).id for _ in range(4)
    ]
    of_few = [
        make_dataset_version(db, user=few, status=VersionStatus.UPLOADED).id for _ in range(2)
    ]
    taken = [claim(db, f"cpu-{number}").id for number in range(6)]
    assert taken == [of_many[0], of_few[0], of_many[1], of_few[1], *of_many[2:]]


@pytest.mark.parametrize(
    ("rules", "make"),
    [(leases.PRIVACY, PrivacyReview), (leases.CHECKS, DatasetCheck)],
    ids=["privacy", "checks"],
)
def test_peoples_data_is_looked_at_in_turn(
    rules: leases.Rules, make: type[PrivacyReview] | type[DatasetCheck], db: Session
) -> None:
    many, few = make_user(db), make_user(db)
    whose = []
    for user in (many, many, many, few):
        version = make_dataset_version(db, user=user, decided=False)
        row = make(version_id=version.id)
        db.add(row)
        db.commit()
        whose.append(row.id)
    taken = []
    for number in range(4):
        lease = leases.claim(db, rules, f"cpu-{number}")
        db.commit()
        assert lease is not None
        taken.append(lease.id)
    assert taken == [whose[0], whose[3], whose[1], whose[2]]
