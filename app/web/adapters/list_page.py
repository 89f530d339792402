"""What the pages of a list of questions show."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import conversations
from app.adapters import question_lists as lists
from app.adapters import registry as adapters
from app.core import settings
from app.core.errors import AppError, Invalid, NotFound
from app.core.models import Adapter, ListStatus, QuestionAnswer, QuestionList, User
from app.core.sentences import counted
from app.core.status_words import StatusWord
from app.datasets.privacy import typed
from app.web.adapters import ask_page
from app.web.forms import QuestionListForm
from app.web.render import duration

WORDS = {
    ListStatus.UPLOADED: StatusWord("Waiting", "wait"),
    ListStatus.READING: StatusWord("Reading", "live"),
    ListStatus.CHOOSING: StatusWord("Needs a decision", "warn"),
    ListStatus.WAITING: StatusWord("Waiting", "wait"),
    ListStatus.ANSWERING: StatusWord("Working", "live"),
    ListStatus.DONE: StatusWord("Finished", "good"),
    ListStatus.FAILED: StatusWord("Stopped", "bad"),
    ListStatus.CANCELLED: StatusWord("Cancelled", "wait"),
}
_NUM_LOOKED_AT = 100
NUM_SHOWN = 5  # rows of a sheet
NUM_LATEST = 3  # answers
_MAX_COLUMNS_SHOWN = 8
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Line:
    """One of one's lists, in the list of them."""

    row: QuestionList
    status: StatusWord
    so_far: str


@dataclass(frozen=True)
class NewPage:
    """adapters/lists.html: the form for a sheet, and one's lists."""

    adapter: Adapter | None  # none: all of one's lists
    lines: list[Line]
    max_rows: int
    max_megabytes: int
    keeps: str
    error: AppError | None


@dataclass(frozen=True)
class Column:
    """A column that may have the questions."""

    value: str
    words: str


@dataclass(frozen=True)
class Answer:
    """A row that was answered, as the page shows it."""

    question: str
    tuned: str
    base: str
    note: str


@dataclass(frozen=True)
class ListPage:
    """adapters/list_show.html: one list as it stands."""

    row: QuestionList
    adapter: Adapter | None
    status: StatusWord
    is_going: bool
    is_over: bool
    can_go_on: bool
    so_far: str
    progress: str  # what it does now, in a sentence
    keeps: str
    num_failed: int
    latest: list[Answer]
    labels: tuple[str, str]  # of the adapter and of its starting model
    # While the column is chosen.
    columns: list[Column]
    preview: list[list[str]]
    shown_columns: list[str]
    looks: str  # what in the first questions points to a person
    continues_text: bool
    form: QuestionListForm
    error: AppError | None


def new_page(
    db: Session, user: User, adapter: Adapter | None, error: AppError | None = None
) -> NewPage:
    """Gather the page with the form; without an adapter, of all of one's lists."""
    rows = lists.list_own(db, user, adapter)
    return NewPage(
        adapter=adapter,
        lines=[Line(row, WORDS[row.status], _so_far(row)) for row in rows],
        max_rows=settings.get().list_rows,
        max_megabytes=lists.MAX_SHEET_BYTES // 1024**2,
        keeps=keeps(),
        error=error,
    )


def list_page(
    db: Session,
    user: User,
    row: QuestionList,
    form: QuestionListForm | None = None,
    error: AppError | None = None,
) -> ListPage:
    """Gather the page of a list; `form` and `error` are of a start that was refused."""
    adapter = _adapter(db, user, row)
    is_choosing = row.status is ListStatus.CHOOSING
    known = conversations.source(db, user, adapter) if adapter and is_choosing else None
    shown = lists.examples_of(db, row, NUM_SHOWN) if is_choosing else []
    proposed = QuestionListForm(
        column=str(row.question_column), instruction=known.instruction if known else ""
    )
    return ListPage(
        row=row,
        adapter=adapter,
        status=WORDS[row.status],
        is_going=lists.is_going(row),
        is_over=row.status in lists.OVER,
        can_go_on=lists.can_go_on(row),
        so_far=_so_far(row),
        progress=_progress(db, row),
        keeps=keeps(),
        num_failed=lists.num_failed(db, row) if row.num_done else 0,
        labels=conversations.labels(row.adapter),
        latest=[_answer(one) for one in lists.latest_of(db, row, NUM_LATEST)],
        columns=_columns(row, shown) if is_choosing else [],
        preview=[[_short(cell) for cell in one.cells[:_MAX_COLUMNS_SHOWN]] for one in shown],
        shown_columns=[str(name) for name in row.columns[:_MAX_COLUMNS_SHOWN]],
        looks=_looks(db, row) if is_choosing else "",
        continues_text=known.continues_text if known else False,
        form=form or proposed,
        error=error,
    )


def keeps() -> str:
    """Say how long a list is kept."""
    if not conversations.is_kept():
        return (
            "Nothing is kept here: a list is deleted ten minutes after its download, or after a "
            "day. Only you can see it."
        )
    return ask_page.own_keeps()


def column_from(form: QuestionListForm) -> int:
    """Read which column has the questions.

    Raises:
        Invalid: it is none; with the field `column`.
    """
    if not (form.column.isascii() and form.column.isdigit() and len(form.column) < 5):
        raise Invalid("Choose the column that has the questions.", field="column")
    return int(form.column)


def _adapter(db: Session, user: User, row: QuestionList) -> Adapter | None:
    try:
        return adapters.get(db, user, row.adapter_id) if row.adapter_id else None
    except NotFound:
        return None


def _so_far(row: QuestionList) -> str:
    if row.status in (ListStatus.UPLOADED, ListStatus.READING) or not row.num_rows:
        return ""
    if row.status is ListStatus.CHOOSING:
        return counted(row.num_rows, "1 row", "{n} rows")
    return counted(row.num_rows, "{done} of 1 row", "{done} of {n} rows", done=f"{row.num_done:,}")


def _progress(db: Session, row: QuestionList) -> str:
    match row.status:
        case ListStatus.UPLOADED | ListStatus.READING:
            return "Reading your sheet."
        case ListStatus.WAITING:
            ahead = lists.num_ahead(db, row)
            if not ahead:
                return "Starting in a moment."
            return counted(ahead, "1 list is ahead of yours.", "{n} lists are ahead of yours.")
        case ListStatus.ANSWERING:
            said = row.progress or {}
            if said.get("waiting"):
                return f"Waiting, and trying again by itself: {said['waiting']}"
            if said.get("seconds_left") is not None:
                return f"About {duration(max(said['seconds_left'], 1))} left."
            return "Asking the first question." if not row.num_done else "Going on."
    return ""


def _looks(db: Session, row: QuestionList) -> str:
    """Say what in the proposed column points to a person, as the box does of what is typed."""
    first = lists.examples_of(db, row, _NUM_LOOKED_AT)
    index = row.question_column or 0
    questions = [str(one.cells[index]) for one in first if index < len(one.cells)]
    return typed.sentence(db, "\n".join(questions))


def _columns(row: QuestionList, shown: list[QuestionAnswer]) -> list[Column]:
    found = []
    for index, name in enumerate(row.columns):
        first = next((str(one.cells[index]) for one in shown if str(one.cells[index]).strip()), "")
        words = f"{name}: {_short(first, 60)}" if first else f"{name} (empty)"
        found.append(Column(str(index), words))
    return found


def _answer(one: QuestionAnswer) -> Answer:
    return Answer(
        question=_short(one.question or ""),
        tuned=_short(one.tuned or ""),
        base=_short(one.base or ""),
        note=lists.note(one.finish, one.error),
    )


def _short(text: object, most: int = _SHOWN_CHARACTERS) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[:most].rstrip() + "…"
