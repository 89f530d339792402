"""The word after a deletion: what became of it, and the way back while there is one."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import bin as adapter_bin
from app.core import bins, site_time
from app.core.errors import NotFound
from app.core.models import Adapter, Job, User
from app.jobs import bin as job_bin
from app.jobs import rights
from app.web.forms import row_number

ERASED = "Erased for good."
DATA_ERASED = "The data was erased for good, with its file and its examples."
_BINNED = "“{name}” is in the bin until {until}."


@dataclass(frozen=True)
class Gone:
    """What was just deleted: a sentence, and where Undo leads; empty: it cannot be undone."""

    sentence: str
    undo: str = ""


def job(db: Session, user: User, binned: str, erased: str) -> Gone | None:
    """Say what became of a job.

    Args:
        binned: The number of the job that was put into the bin, as the address has it.
        erased: Whether one was erased at once.
    """
    number = row_number(binned)
    try:
        found = job_bin.get(db, user, number) if number is not None else None
    except NotFound:  # it was restored since
        return None
    if found is None:
        return Gone(ERASED) if erased else None
    may = rights.may_control(user, found)
    return _of(found, found.name, f"/bin/jobs/{found.id}/restore" if may else "")


def adapter(db: Session, user: User, binned: str, erased: str) -> Gone | None:
    """Say what became of an adapter; the arguments are as for `job`."""
    number = row_number(binned)
    try:
        found = adapter_bin.get(db, user, number) if number is not None else None
    except NotFound:
        return None
    if found is None:
        return Gone(ERASED) if erased else None
    may = adapter_bin.may_restore(user)
    return _of(found, found.name, f"/bin/adapters/{found.id}/restore" if may else "")


def _of(row: Job | Adapter, name: str, undo: str) -> Gone:
    until = f"{site_time.local(bins.kept_until(row)):%-d %b}"
    return Gone(_BINNED.format(name=name, until=until), undo)
