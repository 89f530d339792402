"""What the page of a ready version shows: its examples, and what the other pages say of it."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, User
from app.datasets import changes, examples, versions
from app.web.datasets.page import Housekeeping, ModelView
from app.web.datasets.page import model_view as view_of
from app.web.evaluation import curve_page, without_training
from app.web.evaluation.curve_page import CurveCard
from app.web.evaluation.without_training import Card
from app.web.examples import page as examples_page
from app.web.examples.page import DoctorCard, Fixing, Uses
from app.web.privacy import page as privacy_page
from app.web.privacy.page import Gate
from app.web.questions import page as questions_page
from app.web.questions.page import Summary


@dataclass(frozen=True)
class ReadyPage:
    """datasets/ready.html: a version with its examples."""

    kept: Housekeeping
    view: ModelView
    gate: Gate
    doctor: DoctorCard
    fixing: Fixing
    uses: Uses
    asked: Summary
    untrained: Card | None  # looking up, and the starting model alone
    curve: CurveCard | None  # would more rows help?
    num_left_out: int
    left_out: list[str]
    notes: list[str]  # what was passed over in rows that became examples
    has_file_rows: bool  # its examples are rows of a file, whose columns may be chosen anew
    row_word: str
    made: str  # how this version, just made, differs from the one before


def ready_page(
    db: Session,
    user: User,
    version: DatasetVersion,
    kept: Housekeeping,
    *,
    model_id: int | None,
    split: str,
    position: int,
    made: bool,
) -> ReadyPage:
    """Return what the page of a ready version shows."""
    inspection = versions.inspection_of(version)
    return ReadyPage(
        kept=kept,
        view=view_of(db, version, model_id, split, position),
        gate=privacy_page.gate_of(db, version),
        doctor=examples_page.doctor_card(db, version),
        fixing=examples_page.fixing_of(db, version),
        uses=examples_page.uses_of(db, user, version),
        asked=questions_page.summary(db, version),
        untrained=without_training.card(db, version),
        curve=curve_page.card(db, user, version, f"/versions/{version.id}/learning-curve"),
        num_left_out=sum((version.left_out or {}).values()),
        left_out=examples.left_out_sentences(version),
        notes=examples.note_sentences(version),
        has_file_rows=inspection is not None,
        row_word=inspection.place if inspection else "row",
        made=changes.described(version) if made else "",
    )
