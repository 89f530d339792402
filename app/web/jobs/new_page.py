"""What the page shows on which a job is made: the choices there are, and what they would need."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from app.adapters import answer_speed
from app.adapters import registry as adapters
from app.base_models import catalog
from app.base_models import registry as base_models
from app.base_models import states as model_states
from app.core.errors import AppError
from app.core.models import (
    Adapter,
    BaseModel,
    DatasetVersion,
    ExampleKind,
    ModelStatus,
    User,
    VersionStatus,
)
from app.datasets import examples, fits, lengths, parts, versions
from app.datasets import states as data_states
from app.datasets.doctor import checks, language_names
from app.jobs import afterwards, energy, model_proposals, plans, progress
from app.jobs import start as starting
from app.training.config import INHERITED, PRESETS, Preset
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import LengthHistogram
from app.web.forms import row_number
from app.web.jobs.new_form import FIELDS, PAIR_FIELDS, JobForm, SettingField
from app.web.jobs.page import in_words as setting_in_words
from app.web.models.needs import NeedsLine, in_words

_NUM_LISTED = 50  # versions of data to choose from; what is older begins on its own page
_NUM_CARDS = 8  # of more starting models a list is easier to choose from
_USABLE = (
    VersionStatus.READY,
    VersionStatus.BUILDING,
    VersionStatus.CONFIRMED,
)


@dataclass(frozen=True)
class Obstacle:
    """Why the chosen data may not be learned from, and where something is done about it."""

    sentence: str
    words: str = ""  # of the button; empty: it has to be waited for
    address: str = ""


@dataclass(frozen=True)
class Estimate:
    """What the chosen job would need; or, in `sentence`, why nobody can say yet."""

    plan: Plan | None
    device: DeviceInfo | None
    sentence: str
    rate: str = ""  # which learning rate, and why
    taken: energy.Before | None = None  # where similar jobs say something of it
    afterwards: str = ""  # what its adapter answers once it is there
    unfit: Sequence[str] = ()  # what the model does not take of the data, a sentence each
    obstacle: Obstacle | None = None  # whatever it would need, it cannot start

    @property
    def time(self) -> str:
        return progress.duration(self.plan.seconds) if self.plan else ""

    @property
    def device_words(self) -> str:
        if self.device is None:
            return ""
        name = self.device.name or ("the CPU" if self.device.kind == "cpu" else "the GPU")
        return f"{self.device.num_devices} × {name}" if self.device.num_devices > 1 else name


@dataclass(frozen=True)
class Pairs:
    """What is asked only of data that has pairs of a better and a worse answer."""

    has_pairs: bool
    is_text: bool
    fields: dict[str, SettingField]


@dataclass(frozen=True)
class Start:
    """The adapter that the job starts from, and what it keeps of it."""

    adapter: Adapter
    settings: dict[str, Any]

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Name the settings that stay, each with its value in words."""
        labels = {field.name: field.label for field in FIELDS}
        return [
            (labels[name], setting_in_words(name, value)) for name, value in self.settings.items()
        ]


@dataclass(frozen=True)
class ModelProposal:
    """The starting model of the catalogue that suits the data and the machine."""

    label: str  # as it is called here, where it is
    reason: str
    model: BaseModel | None  # where it is here, or on its way

    @property
    def is_ready(self) -> bool:
        return self.model is not None and self.model.status is ModelStatus.READY


@dataclass(frozen=True)
class ModelChoice:
    """What helps to choose a starting model for the data, with the settings as they are now."""

    proposal: ModelProposal | None
    # How each stands, and what it needs where anybody can say.
    models: list[tuple[BaseModel, model_states.Standing, NeedsLine | None]]

    @property
    def is_long(self) -> bool:
        """Whether they are so many that a list is easier to choose from."""
        return len(self.models) > _NUM_CARDS


@dataclass(frozen=True)
class NewJobPage:
    """The form as it was filled in, with what there is to choose from."""

    form: JobForm
    errors: dict[str, str]  # by field
    versions: list[DatasetVersion]
    is_cut: bool  # there are older ones, too
    held_out: DatasetVersion | None
    stands: dict[int, data_states.Standing]  # how each of them stands, by its id
    start: Start | None
    choice: ModelChoice
    presets: list[Preset]
    fields: list[SettingField]
    pairs: Pairs
    settings_open: bool  # something in them differs from the preset, or is wrong
    advanced_open: bool
    estimate: Estimate


def new_job_page(
    db: Session,
    user: User,
    form: JobForm,
    *,
    errors: dict[str, str] | None = None,
) -> NewJobPage:
    """Fill in what the form leaves open, and gather what there is to choose from."""
    wrong = dict(errors or {})
    start = None
    try:
        start = chosen_start(db, user, form)
    except AppError as error:
        wrong.setdefault("start_adapter_id", error.message)
        form.start_adapter_id = ""
    choices, is_cut = _data(db, user, form)
    models = _models(db, start)
    if start is not None:
        form.base_model_id = str(start.adapter.base_model_id)
    stands = data_states.of_many(db, choices)
    if not form.version_id and choices:
        # The newest that may be learned from.
        first = next((one for one in choices if stands[one.id].may_learn), choices[0])
        form.version_id = str(first.id)
    chosen_version = next((one for one in choices if str(one.id) == form.version_id), None)
    if chosen_version is not None:
        db.refresh(chosen_version)  # all of it is looked at below
    if not form.name:
        form.name = chosen_version.dataset.name if chosen_version and not wrong else ""
    asked = pairs(db, user, form)
    if asked.has_pairs:  # as the page offers it, so that its estimate is of that
        form.changes.setdefault("objective", "dpo")
    proposal = None if start else _proposal(db, form, chosen_version, models)
    # Where none is ready yet, a job may wait for one that is on its way.
    ready = [model for model in models if model.status is ModelStatus.READY] or models
    if not form.base_model_id and proposal and proposal.model and proposal.is_ready:
        form.base_model_id = str(proposal.model.id)
    elif not form.base_model_id and ready:
        form.base_model_id = str(ready[0].id)
    held_out = next((one for one in choices if str(one.id) == form.validation_version_id), None)
    needed = estimate(db, user, form)  # counts how long the examples are for the chosen model
    return NewJobPage(
        form=form,
        errors=wrong,
        versions=choices,
        is_cut=is_cut,
        held_out=held_out,
        stands=stands,
        start=start,
        choice=_choice(db, form, chosen_version, held_out, models, start, proposal),
        presets=list(PRESETS.values()),
        fields=[
            field
            for field in FIELDS
            if field.name not in PAIR_FIELDS and not (start and field.name in INHERITED)
        ],
        pairs=asked,
        settings_open=any(
            name not in PAIR_FIELDS and not (start and name in INHERITED)
            for name in (*form.changes, *(field.name for field in FIELDS if field.name in wrong))
        ),
        advanced_open=any(
            field.is_advanced and (field.name in form.changes or field.name in wrong)
            for field in FIELDS
        ),
        estimate=needed,
    )


def choice(db: Session, user: User, form: JobForm) -> ModelChoice:
    """Say anew what helps to choose a starting model, after something in the form has changed."""
    start = None
    with suppress(AppError):  # the estimate says what is wrong with it
        start = chosen_start(db, user, form)
    models = _models(db, start)
    version, held_out = (
        _version(db, user, typed) for typed in (form.version_id, form.validation_version_id)
    )
    proposal = None if start else _proposal(db, form, version, models)
    return _choice(db, form, version, held_out, models, start, proposal)


def _models(db: Session, start: Start | None) -> list[BaseModel]:
    found = [one for one in base_models.list_models(db) if one.status is not ModelStatus.FAILED]
    if start is None:
        return found
    return [model for model in found if model.id == start.adapter.base_model_id]


def _version(db: Session, user: User, typed: str) -> DatasetVersion | None:
    with suppress(AppError):
        return versions.get_version(db, user, row_number(typed) or 0)
    return None


def _data(db: Session, user: User, form: JobForm) -> tuple[list[DatasetVersion], bool]:
    """Return the newest data to choose from with what is chosen, and whether there is more."""
    found = versions.list_versions(db, user, _USABLE, limit=_NUM_LISTED + 1)
    choices, here = found[:_NUM_LISTED], {version.id for version in found[:_NUM_LISTED]}
    for typed in (form.version_id, form.validation_version_id):
        number = row_number(typed)
        if number is None or number in here:
            continue
        with suppress(AppError):  # the estimate says what is wrong with it
            chosen = versions.get_version(db, user, number)
            if chosen.status in _USABLE:
                choices.append(chosen)
                here.add(number)
    return choices, len(found) > _NUM_LISTED


def pairs(db: Session, user: User, form: JobForm) -> Pairs:
    """Say what is to be asked of the chosen data."""
    data_kind = kind(db, user, form)
    return Pairs(
        has_pairs=data_kind is ExampleKind.PREFERENCE,
        is_text=data_kind is ExampleKind.TEXT,
        fields={field.name: field for field in FIELDS if field.name in PAIR_FIELDS},
    )


def kind(db: Session, user: User, form: JobForm) -> ExampleKind | None:
    """Return of which kind the chosen data is; None where nobody can say."""
    try:
        return examples.kind(db, versions.get_version(db, user, row_number(form.version_id) or 0))
    except AppError:
        return None


def estimate(db: Session, user: User, form: JobForm) -> Estimate:
    """Say what the chosen job would need, and whether it may start at all."""
    return replace(_estimate(db, user, form), obstacle=_obstacle(db, user, form))


def _obstacle(db: Session, user: User, form: JobForm) -> Obstacle | None:
    chosen = (row_number(form.version_id), row_number(form.validation_version_id))
    for version_id in filter(None, chosen):
        try:
            version = versions.get_version(db, user, version_id)
        except AppError as error:
            return Obstacle(error.message)
        standing = data_states.of(db, version)
        if standing.may_learn:
            continue
        if standing.step is None:
            return Obstacle(standing.why_not)
        return Obstacle(standing.why_not, standing.step.words, standing.step.at(version.id))
    return None


def _estimate(db: Session, user: User, form: JobForm) -> Estimate:
    model = chosen_model(db, form)
    try:
        start = chosen_start(db, user, form)
    except AppError as error:
        return Estimate(None, None, error.message)
    config, errors = form.config(model, start.settings if start else None)
    if config is None:
        return Estimate(None, None, next(iter(errors.values())))
    rate = form.rate_sentence(config, model)
    try:
        version_id, base_model_id, held_out_id = form.ids()
        version = versions.get_version(db, user, version_id)
        held_out = versions.get_version(db, user, held_out_id) if held_out_id else None
        model = base_models.get_model(db, base_model_id)
    except AppError as error:
        return Estimate(None, None, error.message, rate)
    devices = plans.devices(db)
    if not devices:
        return Estimate(None, None, "No machine for training has been seen yet.", rate)
    if version.status is not VersionStatus.READY:
        sentence = "The estimate appears here once the data has been read."
        return Estimate(None, None, sentence, rate)
    try:
        plan = plans.predict(
            db, version, model, config, held_out=held_out, from_adapter=start is not None
        )
    except AppError as error:  # e.g. the model's template refuses these examples
        return Estimate(None, None, error.message, rate)
    unfit = fits.sentences(db, version, model) if model.status is ModelStatus.READY else []
    db.commit()  # what was counted for it
    if plan is None:
        sentence = "The estimate appears here once the starting model has been imported."
        return Estimate(None, None, sentence, rate)
    device = plans.device_of(plan, devices)
    taken = energy.before(db, model.id, config, plan, device.name)
    then = ""
    if examples.kind(db, version) is not ExampleKind.TEXT:
        then = afterwards.sentence(parts.num_test(version), plan.seconds)
    return Estimate(plan, device, "", rate, taken, then, unfit)


def chosen_start(db: Session, user: User, form: JobForm) -> Start | None:
    """Return the adapter that the job is to start from, if it is not a fresh one.

    Raises:
        NotFound: there is none, or it belongs to another department.
        Invalid: its files cannot be read.
    """
    if not form.start_adapter_id:
        return None
    # What is no number is nobody's id.
    adapter = adapters.get(db, user, row_number(form.start_adapter_id) or 0)
    return Start(adapter, starting.inherited(adapter))


def chosen_model(db: Session, form: JobForm) -> BaseModel | None:
    """Return the chosen starting model; None where the form names none that there is."""
    return db.get(BaseModel, row_number(form.base_model_id) or 0)


def _choice(
    db: Session,
    form: JobForm,
    version: DatasetVersion | None,
    held_out: DatasetVersion | None,
    models: list[BaseModel],
    start: Start | None,
    proposal: ModelProposal | None,
) -> ModelChoice:
    needed: dict[int, NeedsLine] = {}
    config, _ = form.config(None, start.settings if start else None)
    if config is not None and (devices := plans.devices(db)):
        known = _lengths(db, version)
        measured = answer_speed.measured(db)
        factors = plans.corrections(db, config.method, config.objective)
        for model in models:
            if model.config is None or not model.num_parameters:
                continue
            histogram = known
            if version is not None and known is not None:
                counted = (version.token_lengths or {}).get(str(model.id))
                own = LengthHistogram.model_validate(counted) if counted else known
                histogram = plans.practised(own, version, held_out)
            needs = model_proposals.needs(
                model.config,
                model.num_parameters,
                devices,
                histogram or model_proposals.THOUSAND_ROWS,
                config,
                measured,
                from_adapter=start is not None,
            )
            needs = needs.corrected(
                {name: by for (of, name), by in factors.items() if of == model.id}
            )
            needed[model.id] = in_words(needs, is_timed=histogram is not None)
    shown = [(model, model_states.of(model), needed.get(model.id)) for model in models]
    return ModelChoice(proposal, shown)


def _lengths(db: Session, version: DatasetVersion | None) -> LengthHistogram | None:
    if version is None or version.status is not VersionStatus.READY:
        return None
    return lengths.known(db, version, checks.report_of(checks.of(db, version)))


def _proposal(
    db: Session,
    form: JobForm,
    version: DatasetVersion | None,
    models: list[BaseModel],
) -> ModelProposal | None:
    """Choose a model of the catalogue, once it is known how long the data's examples are."""
    config, _ = form.config(None)
    histogram = _lengths(db, version)
    if config is None or version is None or histogram is None:
        return None
    report = checks.report_of(checks.of(db, version))
    by_name = {model.name: model for model in models}
    found = model_proposals.offers(
        catalog.entries(), frozenset(by_name), plans.devices(db), histogram, config
    )
    spoken = report.language if report else ""
    proposal = model_proposals.propose(found, language_names.code_of(spoken), spoken, histogram)
    if proposal is None:
        return None
    entry = proposal.offer.entry
    model = by_name.get(entry.name)
    return ModelProposal(model.label if model else entry.label, proposal.reason, model)
