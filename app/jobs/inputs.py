"""Jobs that wait for data or a starting model, when it turns out what becomes of those."""

from sqlalchemy import CompoundSelect, and_, select, union, update
from sqlalchemy.orm import Session, aliased

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
from app.jobs.stream import say


def fail_hopeless(db: Session) -> list[int]:
    """Fail queued jobs whose data or model turned out to be unusable, with that reason."""
    hopeless = db.scalars(_hopeless()).all()
    if not hopeless:
        return []
    validation = aliased(DatasetVersion)
    review = aliased(PrivacyReview)
    rows = db.execute(
        select(Job.id, DatasetVersion.reason, validation.reason, BaseModel.reason, review.reason)
        .join(DatasetVersion, DatasetVersion.id == Job.version_id)
        .outerjoin(validation, validation.id == Job.validation_version_id)
        .join(BaseModel, BaseModel.id == Job.base_model_id)
        .outerjoin(
            review,
            and_(
                review.version_id.in_([Job.version_id, Job.validation_version_id]),
                review.is_stated,
                review.status == ReviewStatus.FAILED,
            ),
        )
        .where(Job.status == JobStatus.QUEUED, Job.id.in_(hopeless))
        .with_for_update(skip_locked=True, of=Job)
    ).all()
    for job_id, *reasons in rows:
        detail = next((reason for reason in reasons if reason), "")
        reason = f"Its data or starting model could not be used. {detail}".strip()
        db.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                status=JobStatus.FAILED,
                error_code="invalid_input",
                reason=reason,
                finished_at=clock.NOW,
            )
            .execution_options(synchronize_session=False)
        )
        say(db, job_id, "status", reason, level="error", data={"code": "invalid_input"})
        notices.job_ended(db, job_id)
    return [row[0] for row in rows]


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
                PrivacyReview.is_stated, PrivacyReview.status == ReviewStatus.FAILED
            )
            for column in (Job.version_id, Job.validation_version_id)
        ),
        queued.join(BaseModel, BaseModel.id == Job.base_model_id).where(
            BaseModel.status == ModelStatus.FAILED
        ),
    )


def use_instead(db: Session, version_id: int, following_id: int) -> None:
    """Let jobs that have not begun learn from the version in which stand-ins stand."""
    for column in (Job.version_id, Job.validation_version_id):
        db.execute(
            update(Job)
            .where(column == version_id, Job.status == JobStatus.QUEUED, Job.attempt == 0)
            .values({column: following_id})
            .execution_options(synchronize_session=False)
        )
