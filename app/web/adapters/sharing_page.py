"""What the page “Sharing” of an adapter shows to those who decide who may ask it."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import sharing, states
from app.adapters.sharing import Day
from app.core import settings
from app.core.errors import AppError, Invalid
from app.core.models import Adapter, AnswerReport, KeptQuestion, User
from app.core.sentences import counted
from app.evaluation import releasing
from app.web.forms import ShareForm


@dataclass(frozen=True)
class ReportView:
    """A reported answer, with who showed it."""

    report: AnswerReport
    reporter: str


@dataclass(frozen=True)
class SharingPage:
    adapter: Adapter
    state: str
    dot: str
    form: ShareForm
    days: list[Day]
    reports: list[ReportView]  # what nobody has looked at first
    kept: list[KeptQuestion]
    keeps: bool
    objection: str  # why it is not ready for colleagues; empty: it is ready for a trial
    keeps_help: str  # what keeping means here; empty: this site keeps nothing
    error: AppError | None


def sharing_page(
    db: Session,
    user: User,
    adapter: Adapter,
    *,
    form: ShareForm | None = None,
    error: AppError | None = None,
) -> SharingPage:
    """Gather the page; `form` and `error` are of words that were refused."""
    state, dot = states.of_release(adapter.release)
    return SharingPage(
        adapter=adapter,
        state=state,
        dot=dot,
        form=form or _form_of(adapter),
        days=sharing.uses(db, adapter),
        reports=[_report_view(db, one) for one in sharing.reports(db, user, adapter)],
        kept=sharing.kept(db, user, adapter),
        keeps=sharing.keeps(adapter),
        objection=releasing.objection(db, adapter),
        keeps_help=_keeps_help(),
        error=error,
    )


def asks_per_day(typed: str) -> int:
    """Return a limit as it was typed.

    Raises:
        Invalid: it is no number; with its field.
    """
    number = typed.strip()
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise Invalid(
            f"Enter a number from 1 to {sharing.MAX_ASKS_PER_DAY:,}.", field="asks_per_day"
        )
    return int(number)


def _form_of(adapter: Adapter) -> ShareForm:
    return ShareForm(
        purpose=adapter.purpose,
        limits=adapter.limits,
        reason=adapter.release_reason,
        asks_per_day=str(adapter.asks_per_day),
        keeps_questions="yes" if adapter.keeps_questions else "",
    )


def _report_view(db: Session, report: AnswerReport) -> ReportView:
    reporter = db.get(User, report.reporter_id) if report.reporter_id else None
    name = (reporter.name or reporter.email) if reporter else "Somebody whose account is gone"
    return ReportView(report, name)


def _keeps_help() -> str:
    if not sharing.may_keep():
        return ""
    return counted(
        max(1, round(settings.get().conversation_days)),
        "You then see here what was asked for 1 day, without names; the page says so to everybody "
        "before they ask. Turning it off deletes what was kept.",
        "You then see here what was asked in the last {n} days, without names; the page says so to "
        "everybody before they ask. Turning it off deletes what was kept.",
    )
