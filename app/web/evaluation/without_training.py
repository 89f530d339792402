"""The card “Is training needed?” on the page of a ready version."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core.models import (
    DatasetVersion,
    Evaluation,
    EvaluationStatus,
    ExampleKind,
    Job,
    ModelStatus,
)
from app.datasets import examples, parts
from app.evaluation import reading, verdict, words


@dataclass(frozen=True)
class Card:
    """The form that tries the starting model and looking up, and what was found last."""

    models: list[tuple[str, str]]
    model_id: str
    evaluation: Evaluation | None
    found: str  # by that evaluation, in a sentence


def card(db: Session, version: DatasetVersion) -> Card | None:
    """Return what the card shows; None where there are no test questions to ask."""
    models = [model for model in base_models.list_models(db) if model.status is ModelStatus.READY]
    if not models or not parts.num_test(version):
        return None
    if examples.kind(db, version) is ExampleKind.TEXT:
        return None
    last = reading.untrained(db, version)
    return Card(
        models=[(str(model.id), model.label) for model in models],
        model_id=str(_preset(db, version, [model.id for model in models])),
        evaluation=last,
        found=_found(last),
    )


def _preset(db: Session, version: DatasetVersion, ids: list[int]) -> int:
    """Return the model of the version's last job, else the starter, else the first."""
    job = select(Job.base_model_id).where(Job.version_id == version.id).order_by(Job.id.desc())
    used = db.scalars(job.limit(1)).first()
    if used in ids:
        return used
    starters = [
        one.id for one in base_models.list_models(db) if one.name == base_models.STARTER_NAME
    ]
    return next((one for one in starters if one in ids), ids[0])


def _found(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return ""
    if evaluation.status is EvaluationStatus.DONE:
        said = words.untrained(verdict.figures_of(evaluation))
        return f"{said.headline}." if said else ""
    return f"{words.STATUSES[evaluation.status].word}."
