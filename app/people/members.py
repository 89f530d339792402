"""The people of a department: list, invite, change role, close and open an account."""

from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.core import audit
from app.core.errors import Conflict, Invalid, NotFound, Problems
from app.core.models import Role, User, WebSession
from app.people import auth

ROLE_WORDS = {
    Role.MEMBER: "member: adds data and starts jobs",
    Role.LEAD: "lead: also decides about colleagues' jobs and models",
    Role.VIEWER: "viewer: sees the department's work and asks released models, changes nothing",
    Role.ADMIN: "admin: manages people, models and machines",
}


def list_people(db: Session, admin: User) -> list[User]:
    """Return the department's accounts by address; those of programs too."""
    auth.require_role(admin, Role.ADMIN)
    return list(
        db.scalars(
            select(User).where(User.department_id == admin.department_id).order_by(User.email)
        )
    )


def get(db: Session, admin: User, user_id: int) -> User:
    """Return one account of the administrator's department.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    auth.require_role(admin, Role.ADMIN)
    person = db.get(User, user_id)
    if person is None or person.department_id != admin.department_id:
        raise NotFound("There is no such person here.")
    return person


def invite(db: Session, admin: User, email: str, name: str, role: str) -> tuple[User, str]:
    """Add an account and make the one-time link with which its owner sets a password.

    Raises:
        Invalid, Conflict: with the field it is about.
    """
    auth.require_role(admin, Role.ADMIN)
    problems = Problems()
    with problems:
        auth.checked_email(email)
    with problems:
        wanted = _role(role)
    problems.check()
    person = auth.create_user(db, admin, email, wanted, name=name.strip()[:120])
    return person, auth.create_setup_link(db, person, admin)


def new_link(db: Session, admin: User, person: User) -> str:
    """Make a one-time link for somebody who has forgotten the password.

    Raises:
        Conflict: programs have no password, and a closed account gets no link.
    """
    auth.require_role(admin, Role.ADMIN)
    return auth.create_setup_link(db, person, admin)


def set_role(db: Session, admin: User, person: User, role: str) -> None:
    """Give a person another role.

    Raises:
        Conflict: the last administrator stays one.
    """
    auth.require_role(admin, Role.ADMIN)
    wanted = _role(role)
    if wanted is not Role.ADMIN:
        _keep_an_administrator(db, person)
    before, person.role = person.role, wanted
    db.flush()
    audit.record(
        db, admin, "account.role", f"user {person.id}", before=before.value, after=wanted.value
    )


def disable(db: Session, admin: User, person: User) -> None:
    """Close an account: its sessions and tokens stop at once, its work stays.

    Raises:
        Conflict: it is one's own, or the last administrator's.
    """
    auth.require_role(admin, Role.ADMIN)
    if person.id == admin.id:
        raise Conflict("You cannot deactivate your own account; ask another administrator.")
    _keep_an_administrator(db, person)
    person.disabled_at = datetime.now(UTC)
    db.execute(delete(WebSession).where(WebSession.user_id == person.id))
    db.flush()
    audit.record(db, admin, "account.disable", f"user {person.id}")


def enable(db: Session, admin: User, person: User) -> None:
    """Open a closed account again, with the password it had."""
    auth.require_role(admin, Role.ADMIN)
    person.disabled_at = None
    db.flush()
    audit.record(db, admin, "account.enable", f"user {person.id}")


def _keep_an_administrator(db: Session, person: User) -> None:
    # Two administrators who demote each other at once: the second one waits here, and is told.
    admins = db.scalars(
        select(User.id)
        .where(User.role == Role.ADMIN, User.disabled_at.is_(None), User.is_service.is_(False))
        .with_for_update()
    ).all()
    if person.role is Role.ADMIN and set(admins) <= {person.id}:
        raise Conflict("This is the only administrator; make somebody else an administrator first.")


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise Invalid("Choose one of the roles.", field="role") from None
