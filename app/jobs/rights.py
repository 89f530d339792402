"""Who may do what to a job: its owner, its department's lead, and administrators."""

from typing import Literal

from app.core.errors import Forbidden
from app.core.models import Job, Role, User
from app.people.auth import can_edit

Operation = Literal["cancel", "delete", "pause", "rename", "restore", "resume", "try again"]
_SAID_TO_VIEWERS: dict[Operation, str] = {
    "cancel": "You can look at jobs, but not cancel them.",
    "delete": "You can look at jobs, but not delete them.",
    "pause": "You can look at jobs, but not pause them.",
    "rename": "You can look at jobs, but not rename them.",
    "restore": "You can look at jobs, but not restore them.",
    "resume": "You can look at jobs, but not resume them.",
    "try again": "You can look at jobs, but not try them again.",
}
_SAID_TO_OTHERS: dict[Operation, str] = {
    "cancel": "Only {owner}, your department's lead or an administrator can cancel this job.",
    "delete": "Only {owner}, your department's lead or an administrator can delete this job.",
    "pause": "Only {owner}, your department's lead or an administrator can pause this job.",
    "rename": "Only {owner}, your department's lead or an administrator can rename this job.",
    "restore": "Only {owner}, your department's lead or an administrator can restore this job.",
    "resume": "Only {owner}, your department's lead or an administrator can resume this job.",
    "try again": "Only {owner}, your department's lead or an administrator can try this job again.",
}


def may_control(user: User, job: Job) -> bool:
    """Say whether a person may pause, resume, cancel or otherwise change a job."""
    if user.role is Role.ADMIN:
        return True
    if user.department_id != job.department_id or not can_edit(user):
        return False
    return user.role is Role.LEAD or user.id == job.owner_id


def require_control(user: User, job: Job, operation: Operation) -> None:
    """Refuse those who may not.

    Raises:
        Forbidden: they are neither the job's owner, nor its department's lead, nor administrators.
    """
    if not can_edit(user):
        raise Forbidden(_SAID_TO_VIEWERS[operation])
    if not may_control(user, job):
        owner = job.owner.name or job.owner.email
        raise Forbidden(_SAID_TO_OTHERS[operation].format(owner=owner))
