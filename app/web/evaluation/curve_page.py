"""What pages show of a learning curve: the form that starts one, and how far it is."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core.errors import Invalid
from app.core.models import Arm, DatasetVersion, EvaluationStatus, LearningCurve, User
from app.core.sentences import counted
from app.core.status_words import StatusWord
from app.evaluation import curves, reading, words
from app.evaluation.curves import Outlook, Point
from app.jobs import states
from app.people.auth import can_edit
from app.web.evaluation.page import Bar, Link, bar_of

_OUTLOOKS = {
    Outlook.LIKELY: ("More examples are likely to help", "The more of them it practised, the more "
                     "answers are right, and the rise has not ended."),
    Outlook.UNLIKELY: ("More examples are unlikely to help by themselves", "Twice as many brought "
                       "few more right answers, if any. Look at what the wrong answers are about, "
                       "or try a larger starting model."),
    Outlook.UNKNOWN: ("It cannot be told whether more examples would help", "The differences "
                      "between the three are within what chance brings about. More test questions "
                      "would show smaller differences."),
}  # fmt: skip


@dataclass(frozen=True)
class CurveCard:
    """On the page of a version or of a job: what is asked, and what was found last."""

    address: str  # where the form goes; empty: none can be started
    last: Link | None


@dataclass(frozen=True)
class PointView:
    name: str
    bar: Bar | None
    between: str  # the interval
    state: StatusWord | None  # while nothing is counted
    problem: str
    links: list[Link]


@dataclass(frozen=True)
class CurvePage:
    """evaluation/curve.html: right answers by how many rows were practised."""

    curve: LearningCurve
    title: str
    lead: str
    points: list[PointView]
    is_live: bool
    crumbs: list[Link]


def card(db: Session, user: User, version: DatasetVersion, address: str) -> CurveCard | None:
    """Return what a page shows; None where no curve can be made and none was."""
    last = curves.newest(db, version)
    try:
        curves.require_usable(db, version)
    except Invalid:
        address = ""
    if not can_edit(user):
        address = ""
    if not address and last is None:
        return None
    return CurveCard(address, None if last is None else _last(db, last))


def curve_page(db: Session, user: User, curve: LearningCurve) -> CurvePage:
    """Gather what the page of a curve shows."""
    found = curves.points(db, curve)
    is_over = curves.is_over(found)
    title, lead = _said(db, found)
    version = curve.version
    return CurvePage(
        curve=curve,
        title=title,
        lead=lead,
        points=[_point_view(db, user, one) for one in found],
        is_live=not is_over,
        crumbs=[
            Link("Data", "/datasets"),
            Link(version.dataset.name, f"/versions/{version.id}"),
            Link("Enough data?", ""),
        ],
    )


def _said(db: Session, found: list[Point]) -> tuple[str, str]:
    if not curves.is_over(found):
        num = sum(one.tally is not None for one in found)
        return "Is it enough data?", counted(
            num,
            "1 of the 3 short jobs is counted. You can close this page.",
            "{n} of the 3 short jobs are counted. You can close this page.",
        )
    if any(one.tally is None for one in found):
        return (
            "It cannot be told whether more examples would help",
            "One of the three short jobs brought no count. Try that one again, or start anew.",
        )
    return _OUTLOOKS[curves.outlook(db, found)]


def _last(db: Session, curve: LearningCurve) -> Link:
    found = curves.points(db, curve)
    said = f"{_said(db, found)[0]}." if curves.is_over(found) else "It is being tried now."
    return Link(said, f"/curves/{curve.id}")


def _point_view(db: Session, user: User, point: Point) -> PointView:
    evaluation, job = point.evaluation, point.job
    bar, links = None, []
    if job is not None:
        links.append(Link("Job", f"/jobs/{job.id}"))
        if job.adapter is not None:
            links.append(Link("Trained model", f"/adapters/{job.adapter.id}"))
    if evaluation is not None:
        links.append(Link("Its result", f"/evaluations/{evaluation.id}"))
    name = f"{point.percent}%: {counted(point.num_rows, '1 row', '{n} rows')}"
    between = ""
    if point.tally is not None and evaluation is not None and point.between is not None:
        may_read = reading.may_read_rows(db, user, evaluation)
        bar = bar_of(evaluation, Arm.TUNED, point.tally, may_read=may_read)._replace(words=name)
        low, high = (round(100 * bound) for bound in point.between)
        between = f"The true share right lies between {low} and {high}%"
    return PointView(
        name=name,
        bar=bar,
        between=between,
        state=None if bar else _state(point),
        problem="" if bar else _problem(point),
        links=links,
    )


def _state(point: Point) -> StatusWord:
    if point.job is None:
        return StatusWord("Its job was deleted", "wait")
    if point.evaluation is not None:
        return words.STATUSES[point.evaluation.status]
    standing = states.of(point.job)
    return StatusWord(standing.word, standing.dot)


def _problem(point: Point) -> str:
    if point.evaluation is not None and point.evaluation.status is EvaluationStatus.FAILED:
        return point.evaluation.reason or ""
    return (point.job.reason or "") if point.job is not None else ""
