"""Who may ask which model, decided here for pages and programs alike."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.adapters import sharing
from app.base_models import registry as base_models
from app.core.errors import Invalid, NotFound
from app.core.models import Adapter, BaseModel, ExampleKind, ModelStatus, User
from app.datasets import examples


@dataclass(frozen=True)
class Asked:
    """A starting model, or an adapter on it."""

    base: BaseModel
    adapter: Adapter | None

    @property
    def name(self) -> str:
        return self.adapter.public_name if self.adapter else self.base.name


def by_name(db: Session, user: User, name: str) -> Asked:
    """Return what a program names, `house/model` or `ft:…`, if that person may ask it.

    Raises:
        NotFound: there is none, or it is another department's; with the code `model_not_found`.
        Forbidden: it is not for this person.
        Invalid: it is not ready to be asked.
    """
    adapter = None
    try:
        if name.startswith("ft:"):
            adapter = adapters.by_public_name(db, user, name)
            base = adapter.base_model
        else:
            base = base_models.by_name(db, name)
    except NotFound:
        raise NotFound(
            f"The model {name!r} does not exist here; GET /v1/models lists those that do.",
            field="model",
            code="model_not_found",
        ) from None
    if adapter is not None:
        sharing.require_asking(user, adapter)
    if base.status is not ModelStatus.READY:
        raise Invalid(
            f"The model {base.name!r} is not ready to be asked; GET /v1/models/{base.name} says "
            "how far its import is.",
            field="model",
            code="model_not_ready",
        )
    return Asked(base, adapter)


def continues_text(db: Session, adapter: Adapter | None) -> bool:
    """Say whether a model learned plain text, which it goes on with instead of answering."""
    if adapter is None or adapter.job is None:
        return False
    return examples.kind(db, adapter.job.version) is ExampleKind.TEXT
