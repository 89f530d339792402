"""Learning curves: three jobs on parts of the practice rows, and what is said of more rows."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import registry, sharing
from app.core import settings
from app.core.errors import Conflict, Forbidden, Invalid, NotFound, TooMany
from app.core.models import (
    Adapter,
    Arm,
    BaseModel,
    DatasetVersion,
    ExampleKind,
    Job,
    JobStatus,
    LearningCurve,
    Role,
    User,
)
from app.datasets import deletion
from app.evaluation import comparing, curves, evaluations
from app.evaluation.curves import Outlook
from app.evaluation.verdict import Difference
from app.jobs import limits, requests
from app.training.config import TrainConfig
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_department,
    make_evaluation,
    make_user,
)


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, role=Role.MEMBER)


@pytest.fixture
def model(db: Session) -> BaseModel:
    return make_base_model(db)


@pytest.fixture
def version(db: Session) -> DatasetVersion:
    return make_dataset_version(db, num_train=80, num_validation=10, num_test=30)


def jobs_of(db: Session, curve: LearningCurve) -> list[Job]:
    query = select(Job).where(Job.curve_id == curve.id).order_by(Job.id)
    return list(db.scalars(query))


def counted(db: Session, curve: LearningCurve, *marks: str) -> None:
    """Have its jobs done, and a letter's mark for each answer of their adapters."""
    for job, letters in zip(jobs_of(db, curve), marks, strict=True):
        job.status = JobStatus.SUCCEEDED
        adapter = make_adapter(db, job=job)
        make_evaluation(
            db, adapter=adapter, marks={Arm.TUNED: letters, Arm.BASE: "w" * len(letters)}
        )
        db.refresh(job)


def test_three_short_jobs_with_the_same_settings(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    curve = curves.start(db, user, version, model)
    db.commit()
    made = jobs_of(db, curve)
    assert [job.rows_percent for job in made] == [25, 50, 100]
    assert [job.name for job in made] == [
        f"Ward questions, {n}% of the rows" for n in (25, 50, 100)
    ]
    assert len({TrainConfig.model_validate(job.config) for job in made}) == 1
    found = curves.points(db, curve)
    assert [one.num_rows for one in found] == [20, 40, 80]
    assert not curves.is_over(found)
    with pytest.raises(Conflict, match="already"):
        curves.start(db, user, version, model)
    # One that is tried again takes the place of the first.
    made[0].status = JobStatus.FAILED
    again = requests.retry(db, user, made[0])
    db.commit()
    assert curves.points(db, curve)[0].job is again
    for job in jobs_of(db, curve)[1:]:
        job.status = JobStatus.CANCELLED
    db.commit()
    assert curves.is_over(curves.points(db, curve))
    assert curves.start(db, user, version, model).id != curve.id


def test_its_adapters_are_evaluated_even_where_others_are_not(
    db: Session,
    user: User,
    version: DatasetVersion,
    model: BaseModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_EVALUATE_AFTER_TRAINING", "false")
    settings.get.cache_clear()
    job = jobs_of(db, curves.start(db, user, version, model))[0]
    job.status = JobStatus.SUCCEEDED
    made = evaluations.request_after_job(db, make_adapter(db, job=job))
    assert made is not None
    assert (made.arms, made.practice_version_id) == (["tuned", "base"], None)
    assert evaluations.request_after_job(db, make_adapter(db)) is None
    settings.get.cache_clear()


def test_a_rise_that_goes_on(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    curve = curves.start(db, user, version, model)
    db.commit()
    counted(db, curve, "r" * 6 + "w" * 24, "r" * 14 + "w" * 16, "r" * 24 + "w" * 6)
    found = curves.points(db, curve)
    assert [one.tally.right for one in found if one.tally] == [6, 14, 24]
    assert found[2].between is not None
    assert found[2].between.low == pytest.approx(0.627, abs=0.001)  # Wilson's, by hand
    assert curves.is_over(found)
    assert curves.outlook(db, found) is Outlook.LIKELY


def test_more_rows_that_bring_nothing(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    curve = curves.start(db, user, version, model)
    db.commit()
    counted(db, curve, "r" * 15 + "w" * 15, "r" * 20 + "w" * 10, "r" * 20 + "w" * 10)
    assert curves.outlook(db, curves.points(db, curve)) is Outlook.UNLIKELY


def test_too_few_questions_or_one_job_that_failed_tell_nothing(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    curve = curves.start(db, user, version, model)
    db.commit()
    counted(db, curve, "w" * 19, "w" * 19, "r" * 19)
    assert curves.outlook(db, curves.points(db, curve)) is Outlook.UNKNOWN
    other = curves.start(db, user, version, model)
    db.commit()
    counted(db, other, "w" * 30, "w" * 30, "r" * 30)
    assert curves.outlook(db, curves.points(db, other)) is Outlook.LIKELY
    job = jobs_of(db, other)[1]
    db.delete(job)
    db.commit()
    found = curves.points(db, other)
    assert curves.is_over(found)
    assert curves.outlook(db, found) is Outlook.UNKNOWN


@pytest.mark.parametrize(
    ("than_quarter", "than_half", "said"),
    [
        ((0.3, 0.1, 0.5), (0.1, -0.05, 0.25), Outlook.LIKELY),
        ((0.3, 0.1, 0.5), (0.05, -0.05, 0.15), Outlook.UNKNOWN),  # it rose, and no longer does
        ((0.3, 0.1, 0.5), (0.02, -0.05, 0.1), Outlook.UNLIKELY),
        ((0.1, -0.02, 0.2), (0.08, -0.02, 0.18), Outlook.UNKNOWN),  # it may be chance
        ((-0.1, -0.3, 0.1), (-0.1, -0.2, 0.05), Outlook.UNLIKELY),
    ],
)
def test_the_rule(
    than_quarter: tuple[float, float, float], than_half: tuple[float, float, float], said: Outlook
) -> None:
    first, second = (
        Difference(mean=mean, low=low, high=high) for mean, low, high in (than_quarter, than_half)
    )
    assert curves.judged(first, second) is said


def test_what_is_refused(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    small = make_dataset_version(db, num_train=39, num_validation=0, num_test=10)
    with pytest.raises(Invalid, match="at least 40 practice rows, and these are 39"):
        curves.start(db, user, small, model)
    untested = make_dataset_version(db, num_train=80, num_validation=5, num_test=0)
    with pytest.raises(Invalid, match="no test rows"):
        curves.start(db, user, untested, model)
    text = make_dataset_version(db, num_train=80, num_test=10, kind=ExampleKind.TEXT)
    with pytest.raises(Invalid, match="no right answers"):
        curves.start(db, user, text, model)
    with pytest.raises(Forbidden):
        curves.start(db, make_user(db, role=Role.VIEWER), version, model)
    stranger = make_user(db, role=Role.LEAD, department=make_department(db))
    with pytest.raises(NotFound):
        curves.start(db, stranger, version, model)
    db.rollback()


def test_all_three_wait_or_none(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    limits.grant(db, admin, limits.Wanted(max_queued="2"), user_id=user.id)
    db.commit()
    with pytest.raises(TooMany):
        curves.start(db, user, version, model)
    db.rollback()
    assert db.scalars(select(Job)).all() == []


def test_it_goes_with_its_data(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    curve = curves.start(db, user, version, model)
    db.commit()
    stranger = make_user(db, role=Role.LEAD, department=make_department(db))
    with pytest.raises(NotFound):
        curves.get(db, stranger, curve.id)
    counted(db, curve, "r" * 24, "r" * 24, "r" * 24)
    # A point of a curve is no earlier try, with which the next one is compared.
    later = make_adapter(db, job=requests_of(db, user, version, model))
    assert comparing.earlier(db, make_evaluation(db, adapter=later)) is None
    deletion.delete_dataset(db, user, version.dataset)
    db.commit()
    with pytest.raises(NotFound):
        curves.get(db, user, curve.id)
    assert len(db.scalars(select(Adapter)).all()) == 4  # adapters stay, as always


def test_its_adapters_stand_on_its_page_until_one_is_released_or_that_page_is_gone(
    db: Session, user: User, version: DatasetVersion, model: BaseModel
) -> None:
    curve = curves.start(db, user, version, model)
    counted(db, curve, "r" * 24, "r" * 24, "r" * 24)
    later = make_adapter(db, job=requests_of(db, user, version, model))
    assert registry.list_adapters(db, user) == [later]
    assert registry.num_left_to_curves(db, user) == 3
    stranger = make_user(db, role=Role.LEAD, department=make_department(db))
    assert registry.num_left_to_curves(db, stranger) == 0
    last = jobs_of(db, curve)[2].adapter
    assert last is not None
    sharing.release(
        db, user, last, purpose="Trials", limits="Few", asks_per_day=5, keeps_questions=False
    )
    assert registry.list_adapters(db, user) == [later, last]
    sharing.withdraw(db, user, last)
    assert registry.list_adapters(db, user) == [later, last]
    deletion.delete_dataset(db, user, version.dataset)
    db.commit()
    assert len(registry.list_adapters(db, user)) == 4
    assert registry.num_left_to_curves(db, user) == 0


def requests_of(db: Session, user: User, version: DatasetVersion, model: BaseModel) -> Job:
    job = requests.create(
        db, user, name="All", version_id=version.id, base_model_id=model.id, config=TrainConfig()
    )
    job.status = JobStatus.SUCCEEDED
    db.commit()
    return job
