"""What the card of a zip says of how many answers are right, as it stands now."""

from sqlalchemy.orm import Session

from app.adapters import registry
from app.core import storage
from app.core.models import Adapter, EvaluationStatus
from app.evaluation import reading, verdict, words


def renew(db: Session, adapter: Adapter) -> None:
    """Let the card in the zip of an adapter's job say the present count; commits."""
    said = counted(db, adapter)
    old = registry.renew_card(db, adapter, said) if said else None
    db.commit()
    if old is not None:
        storage.delete(old)


def counted(db: Session, adapter: Adapter) -> str:
    """Say in sentences how many answers are right; empty where nobody has counted."""
    evaluation = reading.of_adapter(db, adapter.id)
    if evaluation is None or evaluation.status is not EvaluationStatus.DONE:
        return ""
    return words.summary(evaluation, verdict.figures_of(evaluation))
