"""Learning curves: is it enough data? Three short jobs, and what they say."""

from typing import Annotated, cast

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import wakeup
from app.core.errors import Conflict
from app.core.models import JobStatus, LearningCurve
from app.datasets import versions
from app.evaluation import curves
from app.jobs import requests
from app.training.config import Objective
from app.web import stepper
from app.web.dependencies import CurrentUser, Db
from app.web.evaluation.curve_page import curve_page
from app.web.render import page

router = APIRouter()


@router.post("/versions/{version_id}/learning-curve")
def of_version(
    db: Db, user: CurrentUser, version_id: int, base_model: Annotated[str, Form()] = ""
) -> Response:
    """Start a learning curve of a version's practice rows."""
    version = versions.get_version(db, user, version_id)
    model = base_models.get_chosen(db, base_model)
    return _begun(db, curves.start(db, user, version, model))


@router.post("/jobs/{job_id}/learning-curve")
def of_job(db: Db, user: CurrentUser, job_id: int) -> Response:
    """Start a learning curve of a finished job's data, with its starting model."""
    job = requests.get(db, user, job_id)
    if job.status is not JobStatus.SUCCEEDED:
        raise Conflict("A learning curve can be made once the job has succeeded.")
    held_out = job.validation_version_id
    made = curves.start(
        db,
        user,
        versions.get_version(db, user, job.version_id),
        job.base_model,
        held_out=versions.get_version(db, user, held_out) if held_out is not None else None,
        objective=cast("Objective", job.config["objective"]),
    )
    return _begun(db, made)


@router.get("/curves/{curve_id}")
def show(db: Db, user: CurrentUser, curve_id: int) -> Response:
    """Show right answers by how many rows were practised, and whether more would help."""
    curve = curves.get(db, user, curve_id)
    shown = curve_page(db, user, curve)
    way = stepper.of_version(db, curve.version, "Result")
    return page("evaluation/curve.html", user, page=shown, stepper=way)


def _begun(db: Session, curve: LearningCurve) -> Response:
    curve_id = curve.id
    db.commit()
    wakeup.hint("gpu")
    return RedirectResponse(f"/curves/{curve_id}", status_code=303)
