"""Jobs: the list, a job's page, and what people do to a job."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse

from app.core import db as database
from app.core import wakeup
from app.core.errors import AppError
from app.core.models import Job, JobStatus
from app.jobs import bin as job_bin
from app.jobs import metrics, requests, tensorboard
from app.training import failpoints
from app.web import confirmations, stepper
from app.web.dependencies import CurrentUser, Db
from app.web.jobs.page import job_page, list_page
from app.web.render import page

router = APIRouter(prefix="/jobs")


@router.get("")
def list_jobs(db: Db, user: CurrentUser, request: Request) -> Response:
    """Show the department's jobs, the newest first, or as the address asks."""
    return page("jobs/list.html", user, page=list_page(db, user, request.query_params))


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
        with database.reading() as session:
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
    job = requests.get(db, user, job_id)
    requests.cancel(db, user, job, why)
    confirmations.did("" if job.status.is_final else "stopping")
    failpoints.commit(db, "web.cancel")
    return _to(job_id)


@router.post("/{job_id}/pause")
def pause(db: Db, user: CurrentUser, job_id: int) -> RedirectResponse:
    """Let a job wait and free its machine."""
    job = requests.get(db, user, job_id)
    requests.pause(db, user, job)
    confirmations.did("at once" if job.status is JobStatus.QUEUED else "")
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
def delete(
    db: Db, user: CurrentUser, job_id: int, at_once: Annotated[Literal["", "1"], Form()] = ""
) -> RedirectResponse:
    """Put a job that is over into the bin, or erase it at once; its adapter stays."""
    job = requests.get(db, user, job_id)
    if at_once:
        requests.delete(db, user, job)
    else:
        job_bin.put(db, user, job)
    db.commit()
    said = "erased=1" if at_once else f"binned={job_id}"
    return RedirectResponse(f"/jobs?{said}", status_code=303)


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
