"""The zip that a person takes home: its card says how many answers are right, as it stands now."""

from sqlalchemy.orm import Session

from app.adapters import registry
from app.core import storage
from app.core.models import Adapter, EvaluationStatus, StoredFile, User
from app.evaluation import reading, verdict, words


def archive(db: Session, user: User, adapter: Adapter) -> StoredFile:
    """Return an adapter's zip with the present count in its card; commits.

    Raises:
        NotFound: the zip was deleted.
    """
    old = None
    evaluation = reading.of_adapter(db, adapter.id)
    if evaluation is not None and evaluation.status is EvaluationStatus.DONE:
        counted = words.summary(evaluation, verdict.figures_of(evaluation))
        old = registry.renew_card(db, adapter, counted)
    file = registry.archive(db, user, adapter)
    db.commit()  # the audit log says who took it
    if old is not None:
        storage.delete(old)
    return file
