"""The page on which a job is made: data, starting model, how thorough, review."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import wakeup
from app.core.db import Db
from app.core.errors import AppError
from app.core.models import (
    BaseModel,
    DatasetVersion,
    ExampleKind,
    ModelStatus,
    Role,
    User,
    VersionStatus,
)
from app.datasets import examples, versions
from app.datasets.privacy import reviews
from app.jobs import energy, plans, progress, requests
from app.people.auth import CurrentUser, require_role
from app.training import failpoints
from app.training.config import PRESETS, TrainConfig
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo
from app.web.jobs.new_form import FIELDS, PAIR_FIELDS, JobForm
from app.web.jobs.page import closest_preset
from app.web.render import fragment, page

router = APIRouter(prefix="/jobs/new")
_EDITORS = (Role.ADMIN, Role.LEAD, Role.MEMBER)
_USABLE = (
    VersionStatus.READY,
    VersionStatus.BUILDING,
    VersionStatus.CONFIRMED,
)


async def _sent(request: Request) -> JobForm:
    sent = await request.form()
    return JobForm.read({name: value for name, value in sent.items() if isinstance(value, str)})


SentForm = Annotated[JobForm, Depends(_sent)]


@dataclass(frozen=True)
class Estimate:
    """What the chosen job would need; or, in `sentence`, why nobody can say yet."""

    plan: Plan | None
    device: DeviceInfo | None
    sentence: str
    rate: str = ""  # which learning rate, and why
    taken: energy.Before | None = None  # where like jobs say something of it

    @property
    def time(self) -> str:
        return progress.duration(self.plan.seconds) if self.plan else ""


@router.get("")
def ask(
    db: Db,
    user: CurrentUser,
    version: Annotated[str, Query()] = "",
    copy_of: Annotated[int | None, Query()] = None,
) -> Response:
    """Show the form: for a version of data, or filled in like an earlier job."""
    require_role(user, *_EDITORS)
    if copy_of is None:
        return _page(db, user, JobForm(version_id=version))
    job = requests.get(db, user, copy_of)
    preset = closest_preset(TrainConfig.model_validate(job.config), job.base_model.config)
    return _page(db, user, JobForm.of_job(job, preset.name))


@router.post("")
def create(db: Db, user: CurrentUser, form: SentForm) -> Response:
    """Queue the job, or show the form again with a word beside what is wrong."""
    require_role(user, *_EDITORS)
    asks_for_pairs = _kind(db, user, form) is ExampleKind.PREFERENCE
    if not asks_for_pairs:  # what was asked of other data that had been chosen before
        form.changes.pop("objective", None)
    config, errors = form.config(_model(db, form))
    if asks_for_pairs and "objective" not in form.changes:
        errors["objective"] = "Choose what it is to learn from these pairs."
        config = None
    try:
        version_id, base_model_id, validation_version_id = form.ids()
        if config is not None:
            job = requests.create(
                db,
                user,
                name=form.name,
                version_id=version_id,
                base_model_id=base_model_id,
                config=config,
                validation_version_id=validation_version_id,
            )
            failpoints.commit(db, "web.submit")
            wakeup.hint("gpu")
            return RedirectResponse(f"/jobs/{job.id}", status_code=303)
    except AppError as error:
        db.rollback()
        errors[error.field or "form"] = error.message
        if error.code == reviews.UNDECIDED:
            return _page(db, user, form, errors=errors, status=422, gate_version=form.version_id)
    return _page(db, user, form, errors=errors, status=422)


@router.post("/objective")
def objective(db: Db, user: CurrentUser, form: SentForm) -> Response:
    """Ask what to learn from pairs, where the data chosen now has them."""
    require_role(user, *_EDITORS)
    return fragment(
        "jobs/new.html", "objective", user, **_pairs(db, user, form), form=form, errors={}
    )


@router.post("/estimate")
def estimate(request: Request, db: Db, user: CurrentUser, form: SentForm) -> Response:
    """Say what the job would need, each time that something in the form changes."""
    require_role(user, *_EDITORS)
    if "HX-Request" not in request.headers:  # without JavaScript it is asked for by a button
        return _page(db, user, form, errors=form.config(_model(db, form))[1])
    return fragment("jobs/new.html", "estimate", user, estimate=_estimate(db, user, form))


def _page(
    db: Session,
    user: User,
    form: JobForm,
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
    gate_version: str = "",
) -> Response:
    choices = _versions(db, user)
    models = [
        model for model in base_models.list_models(db) if model.status is not ModelStatus.FAILED
    ]
    undecided = reviews.undecided(db, choices)
    if not form.version_id and choices:
        # The newest that may be learned from.
        first = next((one for one in choices if one.id not in undecided), choices[0])
        form.version_id = str(first.id)
    ready = [model for model in models if model.status is ModelStatus.READY]
    if not form.base_model_id and ready:
        form.base_model_id = str(ready[0].id)
    if not form.name:
        chosen = next((one for one in choices if str(one.id) == form.version_id), None)
        form.name = chosen.dataset.name if chosen and not errors else ""
    pairs = _pairs(db, user, form)
    if pairs["has_pairs"]:  # as the page offers it, so that its estimate is of that
        form.changes.setdefault("objective", "dpo")
    devices = plans.devices(db)
    return page(
        "jobs/new.html",
        user,
        status=status,
        form=form,
        errors=errors or {},
        versions=choices,
        held_out=next((one for one in choices if str(one.id) == form.validation_version_id), None),
        undecided=undecided,
        gate_version=gate_version,
        models=[(model, plans.fits(model, devices)) for model in models],
        presets=list(PRESETS.values()),
        fields=[field for field in FIELDS if field.name not in PAIR_FIELDS],
        **pairs,
        is_changed=any(name not in PAIR_FIELDS for name in form.changes),
        advanced_open=any(
            field.is_advanced and (field.name in form.changes or field.name in (errors or {}))
            for field in FIELDS
        ),
        estimate=_estimate(db, user, form),
    )


def _pairs(db: Session, user: User, form: JobForm) -> dict[str, Any]:
    kind = _kind(db, user, form)
    return {
        "has_pairs": kind is ExampleKind.PREFERENCE,
        "is_text": kind is ExampleKind.TEXT,
        "pair_fields": {field.name: field for field in FIELDS if field.name in PAIR_FIELDS},
    }


def _kind(db: Session, user: User, form: JobForm) -> ExampleKind | None:
    """Return of which kind the chosen data is; None where nobody can say."""
    try:
        return examples.kind(db, versions.get_version(db, user, int(form.version_id)))
    except (AppError, ValueError):
        return None


def _versions(db: Session, user: User) -> list[DatasetVersion]:
    return [
        version
        for dataset in versions.list_datasets(db, user)
        for version in reversed(dataset.versions)
        if version.status in _USABLE
    ]


def _estimate(db: Session, user: User, form: JobForm) -> Estimate:
    model = _model(db, form)
    config, errors = form.config(model)
    if config is None:
        return Estimate(None, None, next(iter(errors.values())))
    rate = form.rate_sentence(config, model)
    try:
        version_id, base_model_id, _ = form.ids()
        version = versions.get_version(db, user, version_id)
        model = base_models.get_model(db, base_model_id)
    except AppError as error:
        return Estimate(None, None, error.message, rate)
    devices = plans.devices(db)
    if not devices:
        return Estimate(None, None, "No machine to train on has been seen yet.", rate)
    if version.status is not VersionStatus.READY:
        return Estimate(None, None, "The estimate comes when the data has been read.", rate)
    try:
        plan = plans.predict(db, version, model, config)
    except AppError as error:  # e.g. the model's template refuses these examples
        return Estimate(None, None, error.message, rate)
    db.commit()  # the token lengths that were counted for it
    if plan is None:
        sentence = "The estimate comes when the starting model is imported."
        return Estimate(None, None, sentence, rate)
    device = plans.device_of(plan, devices)
    taken = energy.before(db, model.id, config, plan, device.name)
    return Estimate(plan, device, "", rate, taken)


def _model(db: Session, form: JobForm) -> BaseModel | None:
    """Return the chosen starting model; None where the form names none that there is."""
    return db.get(BaseModel, int(form.base_model_id)) if form.base_model_id.isdecimal() else None
