"""Lists of questions: the worker's real functions, a real reading child, a stand-in answerer."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import openpyxl
import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.adapters import question_lists as lists
from app.core import db as database
from app.core import leases, settings
from app.core.models import (
    Adapter,
    Answerer,
    DatasetVersion,
    Finish,
    ListStatus,
    Notice,
    QuestionAnswer,
    QuestionList,
    Release,
    User,
)
from app.datasets import deletion
from app.training.answers import AnswerRequest, Begun, Event, Refused
from tests.answerer import StandIn, refusing, saying, standing_in
from tests.factories import make_lookup, make_user, make_zipped_adapter
from tests.worker.conftest import WorkerProcess, wait_for
from worker import identity
from worker.cpu import question_lists

ME = "cpu-0@test"
Steps = list[Event | threading.Event]
SHEET = (
    "id,question,who\n1,Where is the soap?,ward 3\n2,Who has the key?,ward 4\n3,When is lunch?,\n"
)


@pytest.fixture(autouse=True)
def quick_worker(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is this process, and looks often."""
    monkeypatch.setenv("ETUDE_WORKER_ID", ME)
    monkeypatch.setenv("ETUDE_WATCH_SECONDS", "0.1")
    monkeypatch.setenv("ETUDE_HEARTBEAT_SECONDS", "0.2")
    settings.get.cache_clear()


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_zipped_adapter(db, owner)


@pytest.fixture
def answerer(db: Session) -> Iterator[StandIn]:
    with standing_in(db) as stand_in:
        stand_in.script = both
        yield stand_in


def both(request: AnswerRequest) -> Steps:
    who = "base" if request.adapter_id is None else "tuned"
    return saying(f"{who}: ", request.messages[-1]["content"])


def read(db: Session, owner: User, adapter: Adapter, sheet: str | bytes = SHEET) -> QuestionList:
    """A list whose sheet was read."""
    data = sheet.encode() if isinstance(sheet, str) else sheet
    row = lists.create(db, owner, adapter, "ward.csv", data)
    db.commit()
    assert question_lists.read_next(ME)
    db.refresh(row)
    return row


def started(db: Session, owner: User, adapter: Adapter, sheet: str = SHEET) -> QuestionList:
    """A list that waits to be answered."""
    row = read(db, owner, adapter, sheet)
    assert row.question_column is not None
    column = row.question_column
    lists.start(db, owner, row, column=column, beside_base=True, instruction="Be short.")
    db.commit()
    return row


def answer_next() -> bool:
    """The worker's own function, in a thread as there: the main one may have a browser's loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(question_lists.answer_next, ME).result()


def rows_of(db: Session, row: QuestionList) -> list[QuestionAnswer]:
    db.rollback()
    db.expire_all()
    return lists.examples_of(db, row, 10_000)


def answered(db: Session, row: QuestionList) -> list[tuple[str | None, str | None]]:
    return [(one.tuned, one.base) for one in rows_of(db, row)]


# --- the sheet -------------------------------------------------------------------------------


def test_a_sheet_is_read_and_its_file_is_gone(db: Session, owner: User, adapter: Adapter) -> None:
    row = read(db, owner, adapter)
    assert row.status is ListStatus.CHOOSING
    assert row.columns == ["id", "question", "who"]
    assert (row.question_column, row.num_rows, row.sheet) == (1, 3, None)
    assert [one.cells for one in rows_of(db, row)][2] == ["3", "When is lunch?", ""]
    assert not question_lists.read_next(ME)
    assert not list(settings.get().run_dir.glob("sheet-*"))


@pytest.mark.parametrize("filename", ["book.xlsx", "lines.txt", "rows.jsonl"])
def test_other_kinds_of_tables_are_read(
    db: Session, owner: User, adapter: Adapter, filename: str
) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for cells in (["nr", "Text"], [1, "Where is the soap?"], [2.5, "Who has the key?"]):
        book.active.append(cells)
    buffer = io.BytesIO()
    book.save(buffer)
    data = {
        "book.xlsx": buffer.getvalue(),
        "lines.txt": b"Where is the soap, please?\nWho has the key?\n",
        "rows.jsonl": b'{"n": 1, "q": "Where is it?"}\n{"q": "Who?", "tags": ["a"]}\n',
    }[filename]
    row = read(db, owner, adapter, data)
    found = [one.cells for one in rows_of(db, row)]
    if filename == "book.xlsx":
        assert (row.columns, row.question_column) == (["nr", "Text"], 1)
        assert found == [["1", "Where is the soap?"], ["2.5", "Who has the key?"]]
    elif filename == "lines.txt":
        assert found == [["Where is the soap, please?"], ["Who has the key?"]]
    else:
        assert (row.columns, row.question_column) == (["n", "q", "tags"], 1)
        assert found == [["1", "Where is it?", ""], ["", "Who?", '["a"]']]


@pytest.mark.parametrize(
    ("sheet", "sentence"),
    [
        ("question\n" + "Why?\n" * 6, "more than 5 rows"),
        ("a,b\n1,2,3\n", "more cells than columns"),
        (b"%PDF-1.4 nothing", ""),
        (b"\x00\x01\x02", ""),
        ("   \n", "blank"),
    ],
)
def test_what_is_no_sheet_fails_with_a_sentence(
    db: Session,
    owner: User,
    adapter: Adapter,
    sheet: str | bytes,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_LIST_ROWS", "5")
    settings.get.cache_clear()
    row = read(db, owner, adapter, sheet)
    assert row.status is ListStatus.FAILED
    assert row.reason
    assert sentence in row.reason
    assert row.num_rows == 0
    assert not lists.can_go_on(row)


# --- its questions ---------------------------------------------------------------------------


def test_each_row_is_asked_of_both(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    row = started(db, owner, adapter)
    assert answer_next()
    db.refresh(row)
    assert (row.status, row.num_done, row.reason) == (ListStatus.DONE, 3, None)
    assert answered(db, row)[1] == ("tuned: Who has the key?", "base: Who has the key?")
    [told] = db.scalars(select(Notice))
    assert (told.user_id, told.link) == (owner.id, f"/lists/{row.id}")
    assert told.title == f"Your list “{row.filename}” has its answers"
    assert len(answerer.requests) == 6
    request = answerer.asked(adapter.id)
    assert request.messages == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "When is lunch?"},
    ]
    assert request.limits.temperature == 0
    # Turns go by account: a list's own, so that its owner can chat beside it.
    assert {one.account for one in answerer.requests} == {f"question-list-{row.id}"}
    assert not answer_next()


def test_what_looks_answers_up_is_shown_rows_and_its_starting_model_none(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    lookup = make_lookup(db, user=owner)
    row = started(db, owner, lookup, "question\nWhat is rule 7?\n")
    assert answer_next()
    assert "Rule 7 says: wash your hands." in answerer.asked(lookup.id).messages[-1]["content"]
    assert answerer.asked(None).messages[-1]["content"] == "What is rule 7?"
    db.refresh(row)
    assert lists.headings(db, row) == [
        "question",
        "Looked up in your data",
        "The starting model alone",
        "Sources",
        "Note",
    ]
    (cells,) = lists.cells(db, row)
    assert len(cells) == 5
    first, *others = cells[3].splitlines()
    assert first == "Row 8: What is rule 7? – Rule 7 says: wash your hands."
    assert len(others) == 3
    # Of data that was deleted the places are left.
    version = db.get_one(DatasetVersion, lookup.lookup_version_id)
    deletion.delete_dataset(db, owner, version.dataset)
    db.commit()
    (cells,) = lists.cells(db, row)
    assert cells[3].splitlines()[0] == "Row 8"


def test_it_goes_on_with_the_row_at_which_a_worker_died(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    row = started(db, owner, adapter)
    # A worker that is killed leaves its lease and what it kept; nothing else.
    lease = leases.claim(db, leases.QUESTION_LISTS, ME)
    assert lease is not None
    lists.keep(db, lease, 0, {}, question="Where?", tuned="A.", base="B.", finish=Finish.STOP)
    db.commit()
    assert answer_next()
    db.refresh(row)
    assert row.status is ListStatus.DONE
    assert answered(db, row)[0] == ("A.", "B.")
    assert len(answerer.requests) == 4
    assert row.strikes == 0  # it got on


def test_a_worker_that_is_killed_amid_a_row_loses_that_row_alone(
    db: Session,
    owner: User,
    adapter: Adapter,
    answerer: StandIn,
    quick: None,
    tmp_path: Path,
) -> None:
    row = started(db, owner, adapter)
    go, asked = threading.Event(), threading.Event()

    def script(request: AnswerRequest) -> Steps:
        if "key" not in request.messages[-1]["content"]:
            return both(request)
        asked.set()
        return [Begun(prompt_tokens=3, cached_tokens=0), go, *both(request)[2:]]

    answerer.script = script
    # The stand-in renews nothing, and leases are short here.
    db.execute(update(Answerer).values(lease_until=func.now() + timedelta(hours=1)))
    db.commit()
    worker = WorkerProcess("cpu", tmp_path)
    try:
        worker.start()
        wait_for(db, asked.is_set)
        worker.end()
        assert answerer.closed_early.wait(30)
        db.refresh(row)
        assert (row.status, row.num_done) == (ListStatus.ANSWERING, 1)
        go.set()
        worker.start()
        wait_for(db, lambda: row.status is ListStatus.DONE, 60)
    finally:
        worker.end()
    assert answered(db, row)[1] == ("tuned: Who has the key?", "base: Who has the key?")
    questions = [one.messages[-1]["content"] for one in answerer.requests]
    assert [questions.count(text) for text in ("Where is the soap?", "When is lunch?")] == [2, 2]


def test_a_list_that_is_deleted_amid_its_work_leaves_nothing(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    row = started(db, owner, adapter)

    def script(request: AnswerRequest) -> Steps:
        with database.session() as session:
            session.execute(delete(QuestionList).where(QuestionList.id == request_list(request)))
            session.commit()
        return both(request)

    def request_list(request: AnswerRequest) -> int:
        return int(request.account.rpartition("-")[2])

    answerer.script = script
    number = row.id
    assert answer_next()
    db.rollback()
    db.expire_all()
    assert db.get(QuestionList, number) is None
    assert db.scalar(select(func.count()).select_from(QuestionAnswer)) == 0
    assert not answer_next()


def test_what_a_row_was_told_is_kept_whole_or_not_at_all(
    db: Session, owner: User, adapter: Adapter
) -> None:
    row = started(db, owner, adapter)
    lease = leases.claim(db, leases.QUESTION_LISTS, "cpu-1@test")
    db.commit()
    assert lease is not None
    lists.cancel(db, owner, row)
    db.commit()
    with pytest.raises(leases.LeaseLost):
        lists.keep(db, lease, 0, {}, question="Where?", tuned="A.", finish=Finish.STOP)
    assert answered(db, row)[0] == (None, None)


def test_cancelling_ends_the_answer_that_is_being_written(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    row = started(db, owner, adapter)
    never = threading.Event()
    asked = threading.Event()

    def script(request: AnswerRequest) -> Steps:
        if "key" not in request.messages[-1]["content"]:
            return both(request)
        asked.set()
        return [Begun(prompt_tokens=3, cached_tokens=0), never]

    answerer.script = script
    worker = threading.Thread(target=question_lists.answer_next, args=(ME,))
    worker.start()
    wait_for(db, asked.is_set)
    lists.cancel(db, owner, db.get_one(QuestionList, row.id))
    db.commit()
    worker.join(30)
    assert not worker.is_alive()
    assert answerer.closed_early.wait(30)
    db.refresh(row)
    assert (row.status, row.num_done) == (ListStatus.CANCELLED, 1)
    # And goes on from there when its owner likes.
    answerer.script = both
    assert lists.can_go_on(row)
    lists.go_on(db, owner, row)
    db.commit()
    assert answer_next()
    db.refresh(row)
    assert (row.status, row.num_done) == (ListStatus.DONE, 3)


def test_a_worker_that_is_to_end_hands_the_list_back(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    row = started(db, owner, adapter)
    never = threading.Event()
    answerer.script = lambda request: [Begun(prompt_tokens=3, cached_tokens=0), never]
    worker = threading.Thread(target=question_lists.answer_next, args=(ME,))
    worker.start()
    wait_for(db, lambda: answerer.requests)
    identity.drain()
    worker.join(30)
    assert not worker.is_alive()
    db.refresh(row)
    assert (row.status, row.strikes, row.worker_id) == (ListStatus.WAITING, 0, None)


def test_it_waits_while_nobody_answers_and_while_the_queue_is_full(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    row = started(db, owner, adapter, "question\nWhere is the soap?\n")
    full = [True]

    def script(request: AnswerRequest) -> Steps:
        if request.adapter_id is not None and full:
            full.pop()
            return refusing("Too many wait.", 429)
        return both(request)

    answerer.script = script
    until = db.scalar(select(Answerer.lease_until))
    db.execute(update(Answerer).values(lease_until=None))
    db.commit()
    worker = threading.Thread(target=question_lists.answer_next, args=(ME,))
    worker.start()
    wait_for(db, lambda: "No process answers" in str((row.progress or {}).get("waiting")))
    db.execute(update(Answerer).values(lease_until=until))
    db.commit()
    worker.join(60)
    db.refresh(row)
    assert (row.status, row.strikes) == (ListStatus.DONE, 0)
    assert answered(db, row) == [("tuned: Where is the soap?", "base: Where is the soap?")]
    # The starting model had answered: it was not asked again.
    assert [one.adapter_id for one in answerer.requests].count(None) == 1
    assert len(answerer.requests) == 3


def test_a_list_that_nobody_answers_stops_in_the_end(
    db: Session, owner: User, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_LIST_PATIENCE_SECONDS", "0.5")
    settings.get.cache_clear()
    row = started(db, owner, adapter)
    assert answer_next()
    db.refresh(row)
    assert row.status is ListStatus.FAILED
    assert "No question could be answered" in str(row.reason)
    assert lists.can_go_on(row)


def test_a_question_that_is_too_long_gets_a_sentence_and_the_list_goes_on(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    long = "Why? " * 5000
    row = started(db, owner, adapter, f"question,n\n{long},1\n,2\nToo much?,3\nWhere?,4\n")

    def script(request: AnswerRequest) -> Steps:
        if "much" in request.messages[-1]["content"]:
            code = "context_length_exceeded"
            return [Refused(status=400, code=code, message="This model reads 9 tokens.")]
        return both(request)

    answerer.script = script
    assert answer_next()
    db.refresh(row)
    assert (row.status, row.num_done) == (ListStatus.DONE, 4)
    found = rows_of(db, row)
    assert [one.error for one in found] == [
        "A question may have at most 20,000 characters.",
        lists.NO_QUESTION,
        "This model reads 9 tokens.",
        None,
    ]
    assert [one.finish for one in found] == [Finish.FAILED] * 3 + [Finish.STOP]
    assert lists.num_failed(db, row) == 3


def test_a_question_that_breaks_its_model_does_not_hold_up_the_others(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    row = started(db, owner, adapter, "question\nBad one?\nWhere?\n")

    def script(request: AnswerRequest) -> Steps:
        if "Bad" in request.messages[-1]["content"]:
            return [Begun(prompt_tokens=3, cached_tokens=0), *refusing("It broke off.")]
        return both(request)

    answerer.script = script
    assert answer_next()
    db.refresh(row)
    assert row.status is ListStatus.DONE
    bad, good = rows_of(db, row)
    assert (bad.error, bad.tuned) == ("It broke off.", None)
    assert good.tuned == "tuned: Where?"


@pytest.mark.parametrize("what", ["withdrawn", "deleted", "closed", "left"])
def test_it_fails_with_a_sentence_where_it_may_not_be_asked_any_more(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn, what: str
) -> None:
    row = started(db, owner, adapter)
    if what == "withdrawn":
        adapter.release = Release.WITHDRAWN
    elif what == "deleted":
        db.execute(delete(Adapter).where(Adapter.id == adapter.id))
    elif what == "closed":
        owner.disabled_at = func.now()
    else:
        answerer.script = lambda request: refusing("This trained model does not exist here.", 404)
    db.commit()
    assert answer_next()
    db.refresh(row)
    assert row.status is ListStatus.FAILED
    expected = {
        "withdrawn": "was withdrawn",
        "deleted": "was deleted",
        "closed": "was closed",
        "left": "does not exist",
    }
    assert expected[what] in str(row.reason)
    assert row.num_done == 0
    assert next(lists.cells(db, row)) == ["1", "Where is the soap?", "ward 3", "", "", ""]


def test_a_colleagues_limit_stops_the_list_until_tomorrow(
    db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    colleague = make_user(db)
    adapter.release, adapter.asks_per_day = Release.RELEASED, 2
    db.commit()
    row = started(db, colleague, adapter)
    full = [True]
    answerer.script = lambda request: (
        refusing("Full.", 429) if full and full.pop() else both(request)
    )
    assert answer_next()
    db.refresh(row)
    # A question that is tried again counts once.
    assert (row.status, row.num_done) == (ListStatus.FAILED, 2)
    assert "go on tomorrow" in str(row.reason)
    assert lists.can_go_on(row)


def test_a_list_whose_turn_came_least_often_is_next(
    db: Session, owner: User, adapter: Adapter
) -> None:
    first, second = started(db, owner, adapter), started(db, owner, adapter)
    lease = leases.claim(db, leases.QUESTION_LISTS, ME)
    assert lease is not None
    assert lease.id == first.id
    assert lists.others_wait(db, lease)
    leases.release(db, lease, lease.came_from)
    db.commit()
    db.refresh(first)
    assert (lists.num_ahead(db, first), lists.num_ahead(db, second)) == (1, 0)
    following = leases.claim(db, leases.QUESTION_LISTS, ME)
    assert following is not None
    assert following.id == second.id


@pytest.mark.parametrize(("days", "kept"), [("30", [29.9]), ("0", [0.9])])
def test_lists_over_their_time_are_removed(
    db: Session,
    owner: User,
    adapter: Adapter,
    monkeypatch: pytest.MonkeyPatch,
    days: str,
    kept: list[float],
) -> None:
    from worker import sweep

    monkeypatch.setenv("ETUDE_CONVERSATION_DAYS", days)
    settings.get.cache_clear()
    for age in (30.1, 29.9) if days == "30" else (1.1, 0.9):
        row = lists.create(db, owner, adapter, str(age), b"question\nWhy?\n")
        db.flush()
        row.updated_at = func.now() - timedelta(days=age)
    seen = lists.create(db, owner, adapter, "seen", b"question\nWhy?\n")
    seen.status, seen.downloaded_at = ListStatus.DONE, func.now() - timedelta(minutes=11)
    db.commit()
    sweep.clean(db)
    db.commit()
    left = [str(age) for age in kept] + (["seen"] if days == "30" else [])
    assert list(db.scalars(select(QuestionList.filename).order_by(QuestionList.id))) == left


def test_nothing_lies_in_the_storage(db: Session, owner: User, adapter: Adapter) -> None:
    before = {path for path in settings.get().storage_dir.rglob("*") if path.is_file()}
    row = read(db, owner, adapter)
    lists.delete(db, owner, row)
    db.commit()
    after: set[Path] = {path for path in settings.get().storage_dir.rglob("*") if path.is_file()}
    assert after == before
    assert db.scalar(select(func.count()).select_from(QuestionAnswer)) == 0
