"""The bin: jobs and adapters that were deleted, to be restored or erased for good."""

from collections.abc import Callable

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.adapters import bin as adapter_bin
from app.adapters import registry
from app.core import wakeup
from app.core.errors import NotFound
from app.core.models import Base, User
from app.jobs import bin as job_bin
from app.jobs import requests
from app.web.bin.page import bin_page
from app.web.dependencies import CurrentUser, Db
from app.web.render import page

router = APIRouter(prefix="/bin")


@router.get("")
def show(db: Db, user: CurrentUser) -> Response:
    """Show what was deleted and can be had back."""
    return page("bin/show.html", user, bin_page(db, user))


@router.post("/jobs/{job_id}/restore")
def restore_job(db: Db, user: CurrentUser, job_id: int) -> RedirectResponse:
    """Take a job out of the bin and show it."""
    if not _is_back(requests.get, db, user, job_id):
        job_bin.restore(db, user, job_bin.get(db, user, job_id))
        db.commit()
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


@router.post("/jobs/{job_id}/erase")
def erase_job(db: Db, user: CurrentUser, job_id: int) -> RedirectResponse:
    """Erase a job for good."""
    job_bin.erase(db, user, job_bin.get(db, user, job_id))
    db.commit()
    return RedirectResponse("/bin", status_code=303)


@router.post("/adapters/{adapter_id}/restore")
def restore_adapter(db: Db, user: CurrentUser, adapter_id: int) -> RedirectResponse:
    """Take an adapter out of the bin and show it."""
    if not _is_back(registry.get, db, user, adapter_id):
        adapter_bin.restore(db, user, adapter_bin.get(db, user, adapter_id))
        db.commit()
    return RedirectResponse(f"/adapters/{adapter_id}", status_code=303)


@router.post("/adapters/{adapter_id}/erase")
def erase_adapter(db: Db, user: CurrentUser, adapter_id: int) -> RedirectResponse:
    """Erase an adapter and its files for good."""
    adapter_bin.erase(db, user, adapter_bin.get(db, user, adapter_id))
    db.commit()
    wakeup.hint("cpu")  # the worker removes the bytes
    return RedirectResponse("/bin", status_code=303)


def _is_back(
    get: Callable[[Session, User, int], Base], db: Session, user: User, row_id: int
) -> bool:
    """Say whether it is out of the bin already: who presses twice is led to it as well."""
    try:
        get(db, user, row_id)
    except NotFound:
        return False
    return True
