"""What the page of people shows."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core.errors import AppError
from app.core.models import User
from app.people import members
from app.people.auth import LINK_HOURS
from app.web.forms import PersonForm


@dataclass(frozen=True)
class PeoplePage:
    people: list[User]
    roles: list[tuple[str, str]]  # with their words
    form: PersonForm
    error: AppError | None
    link_for: User | None
    link: str  # a new one-time link, shown this once
    link_hours: float = LINK_HOURS


def people_page(
    db: Session,
    admin: User,
    *,
    form: PersonForm | None = None,
    error: AppError | None = None,
    link_for: User | None = None,
    link: str = "",
) -> PeoplePage:
    """Gather who has an account in an administrator's department."""
    return PeoplePage(
        people=members.list_people(db, admin),
        roles=[(role.value, words) for role, words in members.ROLE_WORDS.items()],
        form=form or PersonForm(),
        error=error,
        link_for=link_for,
        link=link,
    )
