"""The page on which a job is made: data, starting model, how thorough, review."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.core import wakeup
from app.core.errors import AppError, Invalid
from app.core.models import ExampleKind, Role, User
from app.jobs import requests
from app.people.auth import require_role
from app.training import failpoints
from app.training.config import TrainConfig
from app.web import stepper
from app.web.dependencies import CurrentUser, Db
from app.web.forms import sent_fields
from app.web.jobs import new_page
from app.web.jobs.new_form import JobForm
from app.web.jobs.page import closest_preset
from app.web.render import fragment, page, rendered

router = APIRouter(prefix="/jobs/new")
_EDITORS = (Role.ADMIN, Role.LEAD, Role.MEMBER)


async def _sent(request: Request) -> JobForm:
    return JobForm.read(await sent_fields(request))


SentForm = Annotated[JobForm, Depends(_sent)]


@router.get("")
def ask(
    db: Db,
    user: CurrentUser,
    version: Annotated[str, Query()] = "",
    copy_of: Annotated[int | None, Query()] = None,
    start_adapter: Annotated[int | None, Query()] = None,
    base_model: Annotated[str, Query()] = "",
) -> Response:
    """Show the form: for a version of data, an adapter to start from, or like an earlier job."""
    require_role(user, *_EDITORS)
    if copy_of is None:
        form = JobForm(
            version_id=version,
            start_adapter_id=str(start_adapter or ""),
            base_model_id=base_model,
        )
        if start_adapter is not None:
            made_by = adapters.get(db, user, start_adapter).job
            form.suggest(made_by.config["method"] if made_by else "")
        return _page(db, user, form)
    job = requests.get(db, user, copy_of)
    preset = closest_preset(TrainConfig.model_validate(job.config), job.base_model.config)
    errors = {}
    if job.lineage and job.start_adapter_id is None:
        errors["start_adapter_id"] = (
            f"The trained model “{job.lineage[0]['name']}”, from which that job started, was "
            "deleted: "
            "this one would start from the starting model alone."
        )
    return _page(db, user, JobForm.of_job(job, preset.name), errors=errors)


@router.post("")
def create(db: Db, user: CurrentUser, form: SentForm) -> Response:
    """Queue the job, or show the form again with a word beside what is wrong."""
    require_role(user, *_EDITORS)
    asks_for_pairs = new_page.kind(db, user, form) is ExampleKind.PREFERENCE
    if not asks_for_pairs:  # what was asked of other data that had been chosen before
        form.changes.pop("objective", None)
    try:
        start = new_page.chosen_start(db, user, form)
    except AppError as error:
        return _page(db, user, form, errors={"start_adapter_id": error.message}, status=422)
    config, errors = form.config(new_page.chosen_model(db, form), start.settings if start else None)
    if asks_for_pairs and "objective" not in form.changes:
        errors["objective"] = "Choose what the model should learn from these pairs."
        config = None
    try:
        requests.check_name(form.name)
    except Invalid as error:
        errors["name"] = error.message
    try:
        version_id, base_model_id, validation_version_id = form.ids()
        if config is not None and not errors:
            job = requests.create(
                db,
                user,
                name=form.name,
                version_id=version_id,
                base_model_id=base_model_id,
                config=config,
                validation_version_id=validation_version_id,
                start_adapter=start.adapter if start else None,
            )
            failpoints.commit(db, "web.submit")
            wakeup.hint("gpu")
            return RedirectResponse(f"/jobs/{job.id}", status_code=303)
    except AppError as error:
        db.rollback()
        errors |= {each.field or "form": each.message for each in error.all}
    return _page(db, user, form, errors=errors, status=422)


@router.post("/objective")
def objective(db: Db, user: CurrentUser, form: SentForm) -> Response:
    """Ask what to learn from pairs, where the data chosen now has them."""
    require_role(user, *_EDITORS)
    pairs = new_page.pairs(db, user, form)
    return fragment("jobs/new.html", "objective", user, pairs=pairs, form=form, errors={})


@router.post("/estimate")
def estimate(request: Request, db: Db, user: CurrentUser, form: SentForm) -> Response:
    """Say what the job would need, each time that something in the form changes."""
    require_role(user, *_EDITORS)
    if "HX-Request" not in request.headers:  # without JavaScript it is asked for by a button
        return _page(db, user, form, errors=form.config(new_page.chosen_model(db, form))[1])
    needs = new_page.estimate(db, user, form)
    choice = new_page.choice(db, user, form)  # the lengths that were counted for the estimate
    html = rendered("jobs/new.html", "estimate", user=user, estimate=needs)
    return HTMLResponse(html + rendered("jobs/choice.html", "anew", choice=choice))


def _page(
    db: Session,
    user: User,
    form: JobForm,
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    shown = new_page.new_job_page(db, user, form, errors=errors)
    chosen = next((one for one in shown.versions if str(one.id) == form.version_id), None)
    return page(
        "jobs/new.html",
        user,
        status=status,
        page=shown,
        stepper=stepper.of_new_job(db, chosen) if chosen else None,
    )
