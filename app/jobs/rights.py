"""Who may do what to a job: its owner, its department's lead, and administrators."""

from app.core.errors import Forbidden
from app.core.models import Job, Role, User
from app.people.auth import can_edit


def may_control(user: User, job: Job) -> bool:
    """Say whether a person may pause, resume, cancel or otherwise change a job."""
    if user.role is Role.ADMIN:
        return True
    if user.department_id != job.department_id or not can_edit(user):
        return False
    return user.role is Role.LEAD or user.id == job.owner_id


def require_control(user: User, job: Job, operation: str) -> None:
    """Refuse those who may not.

    Raises:
        Forbidden: they are neither the job's owner, nor its department's lead, nor administrators.
    """
    if not can_edit(user):
        raise Forbidden(f"You can look at jobs, but not {operation} them.")
    if not may_control(user, job):
        raise Forbidden(
            f"Only {job.owner.name or job.owner.email}, your department's lead and administrators "
            f"can {operation} this job."
        )
