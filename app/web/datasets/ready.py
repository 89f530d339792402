"""What the tabs of a version with its examples show: all that the other pages say of it."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core.kinds import Severity
from app.core.models import DatasetVersion, User
from app.datasets import changes, examples, states, versions
from app.datasets.doctor import checks
from app.datasets.states import Standing
from app.people.auth import can_edit
from app.web.datasets import tabs
from app.web.datasets.page import Housekeeping, LengthsView, ModelView
from app.web.datasets.page import lengths_view as lengths_of
from app.web.datasets.page import model_view as view_of
from app.web.datasets.tabs import Next
from app.web.evaluation import curve_page, without_training
from app.web.evaluation.curve_page import CurveCard
from app.web.evaluation.without_training import Card
from app.web.examples import page as examples_page
from app.web.examples.page import DoctorCard, Fixing, Use
from app.web.privacy import page as privacy_page
from app.web.privacy.page import Gate
from app.web.questions import page as questions_page
from app.web.questions.page import Summary


@dataclass(frozen=True)
class Onward:
    """What leads on from a tab: the one thing to do next, and what may be done all the same."""

    next: Next | None
    besides: Next | None


@dataclass(frozen=True)
class OverviewTab:
    """datasets/overview.html: how many examples there are, and what the model will see of them."""

    kept: Housekeeping
    onward: Onward
    view: ModelView
    gate: Gate
    fixing: Fixing
    asked: Summary
    num_left_out: int
    left_out: list[str]
    notes: list[str]  # what was passed over in rows that became examples
    has_file_rows: bool  # its examples are rows of a file, whose columns may be chosen anew
    row_word: str
    made: str  # how this version, just made, differs from the one before


@dataclass(frozen=True)
class CheckTab:
    """datasets/check.html: what the doctor found, and how long the examples are."""

    standing: Standing
    onward: Onward
    lengths: LengthsView
    doctor: DoctorCard
    fixing: Fixing
    first_bad: str  # the kind of what has to be put right first


@dataclass(frozen=True)
class TrainTab:
    """datasets/train.html: whether training is needed, whether the data is enough, who used it."""

    standing: Standing
    onward: Onward
    uses: list[Use]
    untrained: Card | None  # looking up, and the starting model alone
    curve: CurveCard | None  # would more rows help?


@dataclass(frozen=True)
class FileTab:
    """datasets/file.html: versions, downloads, other columns, the name, and deleting."""

    kept: Housekeeping
    onward: Onward
    of_same_file: list[DatasetVersion]
    has_file_rows: bool


def overview_tab(
    db: Session,
    user: User,
    version: DatasetVersion,
    kept: Housekeeping,
    *,
    model_id: int | None,
    split: str,
    position: int,
    made: bool,
) -> OverviewTab:
    """Return what the first tab shows."""
    inspection = versions.inspection_of(version)
    gate = privacy_page.gate_of(db, version)
    return OverviewTab(
        kept=kept,
        onward=_onward(db, user, version, kept.standing, gate),
        view=view_of(db, version, model_id, split, position),
        gate=gate,
        fixing=examples_page.fixing_of(db, version),
        asked=questions_page.summary(db, version),
        num_left_out=sum((version.left_out or {}).values()),
        left_out=examples.left_out_sentences(version),
        notes=examples.note_sentences(version),
        has_file_rows=inspection is not None,
        row_word=inspection.place if inspection else "row",
        made=changes.described(version) if made else "",
    )


def check_tab(
    db: Session, user: User, version: DatasetVersion, *, model_id: int | None
) -> CheckTab:
    """Return what the page of the check shows."""
    standing = states.of(db, version)
    doctor = examples_page.doctor_card(db, version)
    gate = privacy_page.gate_of(db, version)
    onward = _onward(db, user, version, standing, gate, looks_at_check=False)
    bad = [one for one in doctor.findings if one.severity is Severity.BAD]
    if standing.state is states.State.READY and bad:
        # The first of them is the next thing here; its button stands beside it.
        onward = Onward(None, onward.next)
    else:
        bad = []
    return CheckTab(
        standing=standing,
        onward=onward,
        lengths=lengths_of(db, version, model_id),
        doctor=doctor,
        fixing=examples_page.fixing_of(db, version),
        first_bad=next((one.kind for one in bad if one.count), "") if can_edit(user) else "",
    )


def train_tab(db: Session, user: User, version: DatasetVersion) -> TrainTab:
    """Return what the page before training shows."""
    standing = states.of(db, version)
    return TrainTab(
        standing=standing,
        onward=_onward(db, user, version, standing, privacy_page.gate_of(db, version)),
        uses=examples_page.uses_of(db, user, version),
        untrained=without_training.card(db, version),
        curve=curve_page.card(db, user, version, f"/versions/{version.id}/learning-curve"),
    )


def file_tab(db: Session, user: User, version: DatasetVersion, kept: Housekeeping) -> FileTab:
    """Return what the tab with the file and its versions shows."""
    gate = privacy_page.gate_of(db, version)
    return FileTab(
        kept=kept,
        onward=_onward(db, user, version, kept.standing, gate),
        of_same_file=examples_page.of_same_file(db, user, version),
        has_file_rows=versions.inspection_of(version) is not None,
    )


def _onward(
    db: Session,
    user: User,
    version: DatasetVersion,
    standing: Standing,
    gate: Gate,
    *,
    looks_at_check: bool = True,
) -> Onward:
    found = checks.findings(db, version) if looks_at_check else []
    is_bad = any(one.severity is Severity.BAD for one in found)
    following = tabs.next_of(
        version, standing, can_edit=can_edit(user), following=gate.following, is_bad=is_bad
    )
    may_train = can_edit(user) and standing.may_learn and standing.state is states.State.READY
    return Onward(following, tabs.training(version) if is_bad and may_train else None)
