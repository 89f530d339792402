"""What the page of starting models shows."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import settings
from app.core.models import BaseModel, Role, User
from app.jobs import plans


@dataclass(frozen=True)
class ModelsPage:
    models: list[tuple[BaseModel, Literal["yes", "tight", "no"] | None]]  # whether it fits
    is_admin: bool
    may_download: bool
    cancelled: str  # the reason of a model whose import somebody cancelled
    typed: dict[str, str]  # into a form that was refused, by field
    errors: dict[str, str]  # by field


def models_page(
    db: Session, user: User, typed: dict[str, str] | None, errors: dict[str, str] | None
) -> ModelsPage:
    """Gather every starting model, and whether training it fits the site's memory."""
    devices = plans.devices(db)
    return ModelsPage(
        models=[(model, plans.fits(model, devices)) for model in base_models.list_models(db)],
        is_admin=user.role is Role.ADMIN,
        may_download=settings.get().hub_downloads,
        cancelled=base_models.CANCELLED,
        typed=typed or {},
        errors=errors or {},
    )
