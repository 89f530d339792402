"""What the page of safeguards shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core.models import User
from app.core.sentences import counted, listed
from app.machines import safeguards

_PURPOSES = {
    "hub": "downloads of models",
    "mail": "mail",
    "webhooks": "webhooks",
    "mlflow": "the site's MLflow",
    "inference": "the site's model server",
    "answering": "the process that answers",
    "database": "the database",
    "broker": "the broker",
    "storage": "the shared storage",
}


@dataclass(frozen=True)
class Process:
    """What one process has tried, in words."""

    tried: safeguards.Tried
    allowed: str
    unexpected: list[str]


@dataclass(frozen=True)
class SafeguardsPage:
    lead: str
    walls: Sequence[safeguards.Wall]
    openings: list[safeguards.Opening]
    processes: list[Process]
    num_unexpected: int
    backup: safeguards.Backup


def safeguards_page(db: Session, admin: User) -> SafeguardsPage:
    """Gather the page's parts; for administrators."""
    safeguards.may_see(admin)
    openings = safeguards.openings(db)
    processes = [
        Process(
            tried,
            ", ".join(f"{_PURPOSES.get(name, name)}: {n:,}" for name, n in tried.allowed.items()),
            [
                f"{target} ({counted(n, 'once', '{n} times')})"
                for target, n in tried.unexpected.items()
            ],
        )
        for tried in safeguards.tried(db)
    ]
    num_unexpected = sum(sum(each.tried.unexpected.values()) for each in processes)
    return SafeguardsPage(
        _lead(openings, num_unexpected),
        safeguards.walls(),
        openings,
        processes,
        num_unexpected,
        safeguards.last_backup(db),
    )


def _lead(openings: list[safeguards.Opening], num_unexpected: int) -> str:
    if num_unexpected:
        return "Something here tried to reach another machine, and no setting allows that."
    names = [opening.name[0].lower() + opening.name[1:] for opening in openings if opening.is_open]
    if not names:
        return "No setting lets anything leave this machine, and nothing has tried to."
    return f"Other machines are reached only for what is switched on: {listed(names)}."
