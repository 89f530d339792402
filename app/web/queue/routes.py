"""The queue: what trains, what waits, the machines that do it, and what may be done about it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Query, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.core import wakeup
from app.core.errors import AppError, NotFound
from app.core.models import Job, User
from app.jobs import limits, ordering, requests
from app.machines import devices
from app.web import confirmations
from app.web.dependencies import CurrentUser, Db
from app.web.forms import DeviceForm, LimitsForm
from app.web.queue import limits_page
from app.web.queue.page import queue_page
from app.web.render import page

router = APIRouter(prefix="/queue")

_OPERATIONS: dict[str, Callable[[Session, User, Job], None]] = {
    "pause": requests.pause,
    "resume": requests.resume,
    "raise": ordering.raise_,
    "lower": ordering.lower,
    "top": ordering.to_top,
}


@router.get("")
def show(db: Db, user: CurrentUser) -> Response:
    """Show the jobs, the machines and the workers."""
    return _page(db, user)


@router.post("/jobs/{job_id}/cancel")
def cancel(db: Db, user: CurrentUser, job_id: int, why: Annotated[str, Form()] = "") -> Response:
    """Stop a job for good; its owner is told by whom, and why."""
    job = requests.get_any(db, user, job_id)
    requests.cancel(db, user, job, why)
    confirmations.did("" if job.status.is_final else "stopping")
    return _done(db)


@router.post("/jobs/{job_id}/{operation}")
def do(db: Db, user: CurrentUser, job_id: int, operation: str) -> Response:
    """Pause, resume or move a job; an administrator those of every department."""
    if operation not in _OPERATIONS:
        raise NotFound("There is no such page.")
    _OPERATIONS[operation](db, user, requests.get_any(db, user, job_id))
    return _done(db)


@router.post("/workers/{worker_id}/drain")
def drain(db: Db, user: CurrentUser, worker_id: str) -> Response:
    """Keep a worker free, for maintenance."""
    devices.drain(db, user, devices.get_worker(db, user, worker_id))
    return _done(db)


@router.post("/workers/{worker_id}/activate")
def activate(db: Db, user: CurrentUser, worker_id: str) -> Response:
    """Let a drained worker take jobs again."""
    devices.activate(db, user, devices.get_worker(db, user, worker_id))
    return _done(db)


@router.post("/machines/{host}/drain")
def drain_machine(db: Db, user: CurrentUser, host: str) -> Response:
    """Keep all workers of a machine free."""
    for worker in devices.of_host(db, user, host):
        devices.drain(db, user, worker)
    return _done(db)


@router.post("/machines/{host}/activate")
def activate_machine(db: Db, user: CurrentUser, host: str) -> Response:
    """Let all workers of a machine take jobs again."""
    for worker in devices.of_host(db, user, host):
        devices.activate(db, user, worker)
    return _done(db)


@router.post("/workers/{worker_id}/quarantine")
def quarantine(
    db: Db, user: CurrentUser, worker_id: str, form: Annotated[DeviceForm, Form()]
) -> Response:
    """Take a device out of use."""
    worker = devices.get_worker(db, user, worker_id)
    try:
        devices.quarantine(db, user, worker, form.device, form.reason)
    except AppError as error:
        db.rollback()
        return _page(db, user, error=error)
    return _done(db)


@router.post("/workers/{worker_id}/release")
def release(
    db: Db, user: CurrentUser, worker_id: str, form: Annotated[DeviceForm, Form()]
) -> Response:
    """Put a device back in use."""
    devices.release(db, user, devices.get_worker(db, user, worker_id), form.device)
    return _done(db)


@router.get("/limits")
def show_limits(db: Db, user: CurrentUser, person: Annotated[str, Query()] = "") -> Response:
    """Show what departments and people may have; for administrators."""
    return _limits(db, user, person)


@router.post("/limits/departments/{department_id}")
def limit_department(
    db: Db, user: CurrentUser, department_id: int, form: Annotated[LimitsForm, Form()]
) -> Response:
    """Set what a department may have."""
    wanted = limits_page.wanted(form)
    try:
        limits.grant(db, user, wanted, department_id=department_id)
    except AppError as error:
        return _wrong(db, user, error, wanted, f"department-{department_id}")
    return _done(db, "/queue/limits")


@router.post("/limits/people/{user_id}")
def limit_person(
    db: Db, user: CurrentUser, user_id: int, form: Annotated[LimitsForm, Form()]
) -> Response:
    """Set what a person may have."""
    wanted = limits_page.wanted(form)
    try:
        limits.grant(db, user, wanted, user_id=user_id)
    except AppError as error:
        return _wrong(db, user, error, wanted, f"person-{user_id}", person=str(user_id))
    return _done(db, "/queue/limits")


def _done(db: Session, to: str = "/queue") -> RedirectResponse:
    db.commit()
    wakeup.hint("gpu")  # whatever was done, a job may be free to go now
    return RedirectResponse(to, status_code=303)


def _page(db: Session, user: User, *, error: AppError | None = None) -> Response:
    status = error.status if error else 200
    return page("queue/show.html", user, status=status, page=queue_page(db, user, error))


def _limits(
    db: Session,
    user: User,
    person: str,
    *,
    status: int = 200,
    error: AppError | None = None,
    typed: limits.Wanted | None = None,
    wrong: str = "",
) -> Response:
    chosen = int(person) if person.isdecimal() and len(person) < 10 else None
    shown = limits_page.limits_page(db, user, chosen, typed, wrong, error)
    return page("queue/limits.html", user, status=status, page=shown)


def _wrong(
    db: Session, user: User, error: AppError, typed: limits.Wanted, whose: str, person: str = ""
) -> Response:
    db.rollback()
    if error.field is None:  # not about what was typed
        raise error
    return _limits(db, user, person, status=error.status, error=error, typed=typed, wrong=whose)
