"""Jobs: the list, a job's page, and what people do to a job."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse

from app.core import db as database
from app.core import wakeup
from app.core.db import Db
from app.core.errors import AppError
from app.core.models import Job
from app.jobs import metrics, progress, requests, tensorboard
from app.people.auth import CurrentUser, can_edit
from app.training import failpoints
from app.web import stepper
from app.web.jobs.page import ListPage, job_page
from app.web.render import page

router = APIRouter(prefix="/jobs")


_PAGE_JOBS = 50


@router.get("")
def list_jobs(db: Db, user: CurrentUser, before: str = "") -> Response:
    """Show the department's jobs, the newest first, or those older than one."""
    before_id = int(before) if before.isdecimal() and len(before) < 10 else None
    jobs = requests.list_jobs(
        db, user, before_id=before_id, limit=_PAGE_JOBS + 1, options=requests.IN_LIST
    )
    shown = jobs[:_PAGE_JOBS]
    listed = ListPage(
        rows=progress.in_list(db, shown),
        older=shown[-1].id if len(jobs) > len(shown) else None,
        is_older=before_id is not None,
        can_edit=can_edit(user),
    )
    return page("jobs/list.html", user, page=listed)


@router.get("/{job_id}")
def show(db: Db, user: CurrentUser, job_id: int, beside: str = "") -> Response:
    """Show one job: how it stands, its curve, its settings and its log.

    Args:
        beside: The number of another job, whose curve is laid over this one's.
    """
    return _show(db, user, requests.get(db, user, job_id), beside=beside)


@router.get("/{job_id}/metrics.csv")
def download_metrics(db: Db, user: CurrentUser, job_id: int) -> Response:
    """Hand over every point of the curve."""
    job = requests.get(db, user, job_id)
    return PlainTextResponse(
        metrics.csv(db, job.id),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="job-{job.id}-metrics.csv"'},
    )


@router.get("/{job_id}/tensorboard")
def download_event_file(db: Db, user: CurrentUser, job_id: int) -> Response:
    """Hand over the curves and settings as an event file, which TensorBoard opens."""
    job = requests.get(db, user, job_id)

    def body() -> Iterator[bytes]:
        # The request's own session ends before its body does.
        with database.session() as session:
            there = session.get(Job, job_id)
            if there is not None:
                yield from tensorboard.event_file(session, there)

    return StreamingResponse(
        body(),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{tensorboard.filename(job)}"'},
    )


@router.post("/{job_id}/cancel")
def cancel(
    db: Db, user: CurrentUser, job_id: int, why: Annotated[str, Form()] = ""
) -> RedirectResponse:
    """Stop a job for good; its owner is told by whom, and why."""
    requests.cancel(db, user, requests.get(db, user, job_id), why)
    failpoints.commit(db, "web.cancel")
    return _to(job_id)


@router.post("/{job_id}/pause")
def pause(db: Db, user: CurrentUser, job_id: int) -> RedirectResponse:
    """Let a job wait and free its machine."""
    requests.pause(db, user, requests.get(db, user, job_id))
    db.commit()
    return _to(job_id)


@router.post("/{job_id}/resume")
def resume(db: Db, user: CurrentUser, job_id: int) -> RedirectResponse:
    """Put a paused job back in the queue."""
    requests.resume(db, user, requests.get(db, user, job_id))
    db.commit()
    wakeup.hint("gpu")
    return _to(job_id)


@router.post("/{job_id}/retry")
def retry(db: Db, user: CurrentUser, job_id: int) -> RedirectResponse:
    """Queue the same again as a new job."""
    again = requests.retry(db, user, requests.get(db, user, job_id))
    db.commit()
    wakeup.hint("gpu")
    return _to(again.id)


@router.post("/{job_id}/rename")
def rename(db: Db, user: CurrentUser, job_id: int, name: Annotated[str, Form()] = "") -> Response:
    """Give a job another name; a wrong one comes back with what was typed."""
    job = requests.get(db, user, job_id)
    try:
        requests.rename(db, user, job, name)
    except AppError as error:
        db.rollback()
        return _show(db, user, job, status=error.status, typed=name, error=error.message)
    db.commit()
    return _to(job_id)


@router.post("/{job_id}/delete")
def delete(db: Db, user: CurrentUser, job_id: int) -> RedirectResponse:
    """Delete a job that is over; its adapter stays."""
    requests.delete(db, user, requests.get(db, user, job_id))
    db.commit()
    return RedirectResponse("/jobs", status_code=303)


def _to(job_id: int) -> RedirectResponse:
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


def _show(
    db: Db,
    user: CurrentUser,
    job: Job,
    *,
    status: int = 200,
    beside: str = "",
    typed: str | None = None,
    error: str = "",
) -> Response:
    shown = job_page(db, user, job, beside=beside, typed=typed, error=error)
    return page("jobs/show.html", user, status=status, page=shown, stepper=stepper.of_job(db, job))
