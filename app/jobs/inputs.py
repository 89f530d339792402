"""Jobs that wait for data or a starting model, when it turns out what becomes of those."""

from sqlalchemy import CompoundSelect, and_, or_, select, true, union, update
from sqlalchemy.orm import Session

from app import notices
from app.core import clock
from app.core.models import (
    BaseModel,
    DatasetVersion,
    Job,
    JobStatus,
    ModelStatus,
    PrivacyReview,
    ReviewStatus,
    VersionStatus,
)
from app.datasets.privacy import reviews
from app.jobs.stream import say


def fail_hopeless(db: Session) -> list[int]:
    """Fail queued jobs whose data or model turned out to be unusable, with that reason."""
    hopeless = db.scalars(_hopeless()).all()
    if not hopeless:
        return []
    jobs = db.scalars(
        select(Job)
        .where(Job.status == JobStatus.QUEUED, Job.id.in_(hopeless))
        .with_for_update(skip_locked=True, of=Job)
        .execution_options(populate_existing=True)
    ).all()
    for job in jobs:
        code, reason = _why(db, job)
        job.status, job.error_code, job.reason = JobStatus.FAILED, code, reason
        job.finished_at = clock.NOW
        db.flush()
        say(db, job.id, "status", reason, level="error", data={"code": code})
        notices.job_ended(db, job.id)
    return [job.id for job in jobs]


def _why(db: Session, job: Job) -> tuple[str, str]:
    """Return why a job can never begin: a stable word, and a sentence."""
    ids = [job.version_id] + ([job.validation_version_id] if job.validation_version_id else [])
    versions = [
        db.get_one(DatasetVersion, version_id, populate_existing=True) for version_id in ids
    ]
    found = reviews.of_many(db, ids)
    for one in found.values():
        db.refresh(one)  # it may have been written past the session
    unusable = [version.reason for version in versions if version.status is VersionStatus.FAILED]
    if job.base_model.status is ModelStatus.FAILED:
        unusable.append(job.base_model.reason)
    unusable += [one.reason for one in found.values() if one.status is ReviewStatus.FAILED]
    undecided = [
        reviews.found_sentence(version, review.found or {})
        for version in versions
        if (review := found.get(version.id)) and review.status is ReviewStatus.UNDECIDED
    ]
    if undecided and not unusable:
        return reviews.UNDECIDED, " ".join(undecided)
    detail = next(filter(None, unusable), "")
    return "invalid_input", f"Its data or starting model could not be used. {detail}".strip()


def _hopeless() -> CompoundSelect[int]:
    """Find them from what failed, which is little, and not from the queue, which may be long."""
    queued = select(Job.id).where(Job.status == JobStatus.QUEUED)
    return union(
        *(
            queued.join(DatasetVersion, DatasetVersion.id == column).where(
                DatasetVersion.status == VersionStatus.FAILED
            )
            for column in (Job.version_id, Job.validation_version_id)
        ),
        *(
            queued.join(PrivacyReview, PrivacyReview.version_id == column).where(
                or_(
                    and_(PrivacyReview.is_stated, PrivacyReview.status == ReviewStatus.FAILED),
                    and_(Job.awaits_scan, PrivacyReview.status.in_(reviews.HOPELESS)),
                )
            )
            for column in (Job.version_id, Job.validation_version_id)
        ),
        queued.join(BaseModel, BaseModel.id == Job.base_model_id).where(
            BaseModel.status == ModelStatus.FAILED
        ),
    )


def use_instead(db: Session, version_id: int, following_id: int, *, is_stated: bool) -> None:
    """Let jobs that have not begun learn from the version in which stand-ins stand.

    Args:
        is_stated: That was decided with one of them; else only those that waited for a decision.
    """
    for column in (Job.version_id, Job.validation_version_id):
        db.execute(
            update(Job)
            .where(column == version_id, Job.status == JobStatus.QUEUED, Job.attempt == 0)
            .where(true() if is_stated else Job.awaits_scan)
            .values({column: following_id})
            .execution_options(synchronize_session=False)
        )
