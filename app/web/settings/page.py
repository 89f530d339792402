"""What the page Settings shows: what an administrator can set here, and how it is set now."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import MachineJoin, PrivacyPattern, QueueRule, Webhook
from app.core.sentences import counted

_GATES = {
    "required": "somebody decides about what is found before data is trained on",
    "advised": "people are told of what was found, and may train all the same",
    "off": "data is not searched",
}


@dataclass(frozen=True)
class Entry:
    """A page on which something is set."""

    title: str
    address: str
    words: str  # what it is for
    now: str  # how it stands


@dataclass(frozen=True)
class SettingsPage:
    entries: list[Entry]


def settings_page(db: Session) -> SettingsPage:
    """Gather what can be set, each with how it stands now."""

    def number(table: type[PrivacyPattern] | type[QueueRule] | type[Webhook]) -> int:
        return db.scalars(select(func.count()).select_from(table)).one()

    chosen = settings.get()
    limits, hooks = number(QueueRule), number(Webhook)
    has_joined = MachineJoin.used_at.is_not(None)
    joined = db.scalars(select(func.count(MachineJoin.id)).where(has_joined)).one()
    mail = "e-mail is set up" if chosen.smtp_host else "no e-mail"
    return SettingsPage(
        [
            Entry(
                "Your own patterns for personal details",
                "/patterns",
                "Numbers and codes that only your site knows, such as patient or student numbers.",
                f"{counted(number(PrivacyPattern), '1 pattern', '{n} patterns')}; "
                f"{_GATES[chosen.privacy_gate]}",
            ),
            Entry(
                "Usage limits",
                "/queue/limits",
                "How much each department and person may train, and when.",
                counted(limits, "1 limit", "{n} limits") if limits else "no limits",
            ),
            Entry(
                "Machines",
                "/machines",
                "Which other machines train for this site, and how one joins.",
                counted(joined, "1 machine has joined", "{n} machines have joined")
                if joined
                else "no other machine",
            ),
            Entry(
                "Webhooks and e-mail",
                "/webhooks",
                "Which programs hear of what happens, and whether notices come by e-mail.",
                f"{counted(hooks, '1 webhook', '{n} webhooks')}; {mail}",
            ),
            Entry(
                "Safeguards",
                "/settings/safeguards",
                "What keeps data on this machine, and what was tried.",
                "",
            ),
            Entry(
                "People",
                "/people",
                "Who has an account here, and with which role.",
                "",
            ),
        ]
    )
