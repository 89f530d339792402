"""What the page Machines shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import AppError
from app.core.models import MachineJoin, User
from app.machines import joining
from app.web.forms import MachineForm


@dataclass(frozen=True)
class MachinesPage:
    machines: Sequence[MachineJoin]
    obstacle: str  # why none can join; empty where nothing is in the way
    form: MachineForm
    error: AppError | None
    token: str  # a new one, shown this once
    machine: str  # that it is for
    address: str  # of this site, as the new machine reaches it
    is_plain: bool  # that address is not https
    minutes: int = joining.TOKEN_MINUTES


def machines_page(
    db: Session,
    request: Request,
    admin: User,
    *,
    form: MachineForm | None = None,
    error: AppError | None = None,
    token: str = "",
    machine: str = "",
) -> MachinesPage:
    """Gather the page's parts; for administrators."""
    machines = joining.list_joins(db, admin)
    chosen = settings.get()
    address = chosen.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    return MachinesPage(
        machines=machines,
        obstacle=joining.obstacle(chosen),
        form=form or MachineForm(),
        error=error,
        token=token,
        machine=machine,
        address=address,
        is_plain=not address.startswith("https://"),
    )
