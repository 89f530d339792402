"""From OpenAI's create body to the arguments of jobs.create, each refusal naming its parameter."""

from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.base_models import registry as base_models
from app.core.errors import AppError, NotFound
from app.core.models import (
    Adapter,
    BaseModel,
    DatasetVersion,
    ModelStatus,
    User,
    VersionStatus,
)
from app.datasets import states as data_states
from app.datasets import stored_files
from app.datasets.privacy import reviews
from app.datasets.privacy.reviews import Decision
from app.jobs import start as starting
from app.training.config import (
    INHERITED,
    PRESETS,
    Objective,
    TrainConfig,
    proposed_learning_rate,
)
from app.web.v1.errors import BadRequest, sentence, unsupported
from app.web.v1.schemas import (
    CreateJob,
    DpoHyperparameters,
    Hyperparameters,
    Options,
    Privacy,
)


def refuse_unsupported(body: CreateJob) -> None:
    """Refuse by name what OpenAI offers and Etude does not do.

    Raises:
        BadRequest: with the code `unsupported`.
    """
    if body.method is not None and body.method.type not in ("supervised", "dpo"):
        raise unsupported(
            f"method.type: Etude trains 'supervised' and 'dpo', not {body.method.type!r}.",
            "method.type",
        )
    if body.method is not None and (
        body.method.reinforcement
        or (body.method.dpo and body.method.type != "dpo")
        or (body.method.supervised and body.method.type != "supervised")
    ):
        raise unsupported(f"method: leave everything but `{body.method.type}` out.", "method")
    if body.integrations:
        raise unsupported(
            "integrations: nothing leaves this server at a request's wish; read the job's events "
            "instead.",
            "integrations",
        )


def train_config(
    body: CreateJob, model: BaseModel, start_adapter: Adapter | None = None
) -> TrainConfig:
    """Settle the settings: the preset, over it `x_etude`, over that OpenAI's own fields.

    OpenAI's multiplier has no absolute meaning; here 1 is the rate proposed for the model. Where it
    starts from an adapter, that one's settings take the place of the preset's.

    Raises:
        BadRequest: a setting is unknown or out of its range.
    """
    options = body.x_etude or Options()
    wanted = dict(options.model_extra or {})
    for name, value in wanted.items():
        if name not in TrainConfig.model_fields:
            raise BadRequest(
                f"Unknown parameter: x_etude.{name}. /help/programs lists the settings.",
                field=f"x_etude.{name}",
                code="unknown_parameter",
            )
        if isinstance(value, bool) and TrainConfig.model_fields[name].annotation in (int, float):
            raise BadRequest(f"x_etude.{name}: it has to be a number.", field=f"x_etude.{name}")
    where = {name: f"x_etude.{name}" for name in wanted}
    for name, value, source in _from_openai(body, model):
        wanted[name] = value
        where[name] = source
    try:
        objective = _objective(body, wanted.get("objective"))
        usual = PRESETS[options.preset].settings(model.config, objective).model_dump()
        kept = _kept(start_adapter) if start_adapter is not None else {}
        config = TrainConfig(**usual | kept | wanted)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        param = where.get(str(problem["loc"][0]), "x_etude")
        if param.endswith(".learning_rate_multiplier"):  # its bounds are the rate's, in its unit
            unit = proposed_learning_rate(model.config, objective)
            problem["ctx"] = {key: f"{rate / unit:.6g}" for key, rate in problem["ctx"].items()}
        raise BadRequest(f"{param}: {sentence(problem)}.", field=param) from None
    for name in INHERITED:
        if name in kept and getattr(config, name) != kept[name]:
            raise BadRequest(
                f"{where[name]}: {body.model} has {kept[name]}, and a job that starts from it "
                "keeps that; leave it out.",
                field=where[name],
            )
    return config


def _kept(adapter: Adapter) -> dict[str, Any]:
    try:
        kept = starting.inherited(adapter)
    except AppError as error:
        raise BadRequest(f"model: {error.message}", field="model") from error
    # The weights were trained beside weights that were rounded so, or not.
    method = {"method": adapter.job.config["method"]} if adapter.job else {}
    return kept | method


def _objective(body: CreateJob, wanted: object) -> Objective:
    if body.method is not None:
        return "dpo" if body.method.type == "dpo" else "supervised"
    return "dpo" if wanted == "dpo" else "supervised"


def _from_openai(body: CreateJob, model: BaseModel) -> list[tuple[str, Any, str]]:
    prefix, given = "hyperparameters", body.hyperparameters
    beta = None
    if body.method is not None:  # the older top-level field counts only where method is absent
        prefix = f"method.{body.method.type}.hyperparameters"
        chosen = body.method.dpo if body.method.type == "dpo" else body.method.supervised
        given = chosen.hyperparameters if chosen else None
    if isinstance(given, DpoHyperparameters):
        beta = given.beta
    given = given or Hyperparameters()
    objective = _objective(
        body, (body.x_etude.model_extra or {}).get("objective") if body.x_etude else None
    )
    rate = given.learning_rate_multiplier
    settings = [
        ("num_epochs", given.n_epochs, f"{prefix}.n_epochs"),
        ("batch_size", given.batch_size, f"{prefix}.batch_size"),
        (
            "learning_rate",
            None if rate is None else rate * proposed_learning_rate(model.config, objective),
            f"{prefix}.learning_rate_multiplier",
        ),
        ("dpo_beta", beta, f"{prefix}.beta"),
        ("objective", objective if body.method is not None else None, "method.type"),
        ("seed", body.seed, "seed"),
    ]
    return [setting for setting in settings if setting[1] is not None]


def starting_point(db: Session, user: User, name: str) -> tuple[BaseModel, Adapter | None]:
    """Return what a program names: a starting model, or an adapter to train further with its own.

    Raises:
        NotFound: no such model, with OpenAI's code for it.
        BadRequest: one whose import failed.
    """
    if not name.startswith("ft:"):
        return base_model(db, name), None
    try:
        adapter = adapters.by_public_name(db, user, name)
    except NotFound:
        raise NotFound(
            f"The model {name!r} does not exist here; GET /v1/models lists those that do.",
            field="model",
            code="model_not_found",
        ) from None
    return adapter.base_model, adapter


def base_model(db: Session, name: str) -> BaseModel:
    """Return the starting model that a program names; one still being imported will do.

    Raises:
        NotFound: no such model, with OpenAI's code for it.
        BadRequest: one whose import failed.
    """
    try:
        model = base_models.by_name(db, name)
    except NotFound:
        raise NotFound(
            f"The model {name!r} does not exist here; GET /v1/models lists those that do.",
            field="model",
            code="model_not_found",
        ) from None
    if model.status is ModelStatus.FAILED:
        raise BadRequest(
            f"The model {name!r} could not be imported: {model.reason}",
            field="model",
            code="model_not_ready",
        )
    return model


def privacy(stated: Privacy | None) -> Decision | None:
    """Return what the token's owner decided about personal details, if anything."""
    if stated is None:
        return None
    if stated.decision == "keep" and len(stated.reason.strip()) < reviews.MIN_REASON:
        raise BadRequest(
            "x_privacy.reason: to keep personal details, write a sentence on why that is right.",
            field="x_privacy.reason",
        )
    return Decision(default=stated.decision, reason=stated.reason.strip())


def training_data(db: Session, user: User, file_id: str, field: str) -> DatasetVersion:
    """Return the dataset version behind a file id; one still being read will do.

    Raises:
        BadRequest: no such file, not training data, or it could not be read.
    """
    try:
        file = stored_files.get(db, user, file_id)
    except NotFound:
        message = f"{field}: there is no file {file_id!r}. Upload it first, with POST /v1/files."
        raise BadRequest(message, field=field, code="invalid_file") from None
    version = stored_files.version_of(db, file)
    if version is None:
        message = f"{field}: {file_id!r} is no training data; its purpose is {file.purpose}."
        raise BadRequest(message, field=field, code="invalid_file")
    if version.status is VersionStatus.FAILED:
        message = f"{field}: {file.filename} cannot be used: {version.reason}"
        raise BadRequest(message, field=field, code="invalid_file")
    if version.status is VersionStatus.MAPPING and (too_few := data_states.too_few(version)):
        message = f"{field}: {file.filename} cannot be used: {too_few}"
        raise BadRequest(message, field=field, code="invalid_file")
    if version.status is VersionStatus.MAPPING:
        message = f"{field}: a person has to confirm the columns of {file.filename} in Etude first."
        raise BadRequest(message, field=field, code="invalid_file")
    return version
