"""A person's own notices: how many are new, the list, and marking them as read."""

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core.errors import Invalid, NotFound
from app.core.models import Notice, NoticeKind, Role, User
from app.notices.events import FOR_ADMINISTRATORS

_SHOWN = 100


def num_unread(db: Session, user: User) -> int:
    """Count what a person has not read."""
    query = select(func.count()).where(Notice.user_id == user.id, Notice.read_at.is_(None))
    return db.scalars(query.select_from(Notice)).one()


def latest(db: Session, user: User) -> list[Notice]:
    """List a person's notices, the newest first."""
    query = select(Notice).where(Notice.user_id == user.id)
    return list(db.scalars(query.order_by(Notice.id.desc()).limit(_SHOWN)))


def open_one(db: Session, user: User, notice_id: int) -> str:
    """Mark one as read and return where it leads.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    notice = db.scalars(
        select(Notice).where(Notice.id == notice_id, Notice.user_id == user.id)
    ).one_or_none()
    if notice is None:
        raise NotFound("There is no such notice.")
    notice.read_at = notice.read_at or func.now()
    db.flush()
    return notice.link


def read_all(db: Session, user: User) -> None:
    """Mark everything as read."""
    unread = [Notice.user_id == user.id, Notice.read_at.is_(None)]
    db.execute(update(Notice).where(*unread).values(read_at=func.now()))


def mailed_to(user: User) -> list[NoticeKind]:
    """Return the kinds of notices that a person can have by mail."""
    is_admin = user.role is Role.ADMIN
    return [
        kind
        for kind in NoticeKind
        # Of a mail that could not be delivered, no mail tells.
        if kind is not NoticeKind.NOT_DELIVERED and (is_admin or kind not in FOR_ADMINISTRATORS)
    ]


def choose_mail(db: Session, user: User, kinds: list[str]) -> None:
    """Keep which kinds a person wants by mail.

    Raises:
        Invalid: one is no kind of notice.
    """
    known = {kind.value for kind in NoticeKind}
    if not set(kinds) <= known:
        raise Invalid("There is no such kind of notice; reload the page.", field="kinds")
    user.mail_kinds = sorted(set(kinds))
    db.flush()
