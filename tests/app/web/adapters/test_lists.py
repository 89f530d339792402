"""The pages of a list of questions: who may see one, what is asked, and the sheet with answers."""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import openpyxl
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.adapters import question_lists as lists
from app.core import settings
from app.core.models import (
    Adapter,
    AuditEvent,
    Finish,
    ListStatus,
    QuestionAnswer,
    QuestionList,
    Release,
    Role,
    User,
)
from tests.answerer import StandIn, saying, standing_in
from tests.app.web.pages import sign_in
from tests.factories import make_department, make_user, make_zipped_adapter
from worker import tasks
from worker.cpu import question_lists

ME = "cpu-0@test"
HOSTILE = [
    "=HYPERLINK(1)",
    "+1-1",
    "-2+3",
    "@SUM(A1)",
    "\ttab",
    "http://a.example",
    "<b>&amp;]]>",
    "12",
    "007",
    "\x01\x1f",
    'line\nbreak, and “quotes” "x"',
    "😀 ünïcode",
]


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_zipped_adapter(db, owner)


@pytest.fixture
def browser(client: TestClient, db: Session, owner: User) -> TestClient:
    return sign_in(client, db, owner)


@pytest.fixture
def answerer(db: Session) -> Iterator[StandIn]:
    with standing_in(db) as stand_in:
        stand_in.script = lambda request: saying(
            "=1+1 " if request.adapter_id else "base: ", request.messages[-1]["content"]
        )
        yield stand_in


def upload(browser: TestClient, adapter: Adapter, data: bytes, name: str = "ward.csv") -> Any:
    return browser.post(f"/adapters/{adapter.id}/lists", files={"file": (name, data)})


def the_list(db: Session) -> QuestionList:
    db.rollback()
    db.expire_all()
    return db.scalars(select(QuestionList).order_by(QuestionList.id.desc()).limit(1)).one()


def answer_next() -> bool:
    """The worker's own function, in a thread as there: the main one may have a browser's loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(question_lists.answer_next, ME).result()


def sheet_of(*rows: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def answered(browser: TestClient, db: Session, adapter: Adapter, data: bytes) -> QuestionList:
    """A list that went the whole way."""
    assert upload(browser, adapter, data).status_code == 200
    assert question_lists.read_next(ME)
    row = the_list(db)
    form = {"column": str(row.question_column), "beside": "base", "instruction": ""}
    assert browser.post(f"/lists/{row.id}/start", data=form).status_code == 200
    assert answer_next()
    return the_list(db)


# --- the whole way ---------------------------------------------------------------------------


def test_a_sheet_comes_back_with_its_columns_and_the_answers(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    assert f'href="/adapters/{adapter.id}/lists"' in browser.get(f"/adapters/{adapter.id}").text
    answer = upload(
        browser, adapter, sheet_of(["nr", "frage", "who"], ["1", "Where?", "A"], ["2", "", "B"])
    )
    row = the_list(db)
    assert answer.url.path == f"/lists/{row.id}"
    assert "Reading your sheet." in answer.text
    assert "every 2s" in answer.text
    question_lists.read_next(ME)
    choosing = browser.get(f"/lists/{row.id}").text
    assert "every 2s" not in choosing
    assert '<option value="1" selected>frage: Where?</option>' in choosing
    form = {"column": "1", "beside": "base", "instruction": "Be short."}
    waiting = browser.post(f"/lists/{row.id}/start", data=form).text
    assert "Starting in a moment." in waiting
    assert "0 of 2 rows" in waiting
    answer_next()
    done = browser.get(f"/lists/{row.id}").text
    assert "2 of 2 rows" in done
    assert "1 row has no answer" in done
    assert "Download XLSX" in done
    file = browser.get(f"/lists/{row.id}/download")
    assert unquote(file.headers["content-disposition"]).endswith("ward with answers.xlsx")
    assert int(file.headers["content-length"]) == len(file.content)
    sheet = openpyxl.load_workbook(io.BytesIO(file.content)).active
    assert sheet is not None
    assert [[cell.value for cell in cells] for cells in sheet.iter_rows()] == [
        ["nr", "frage", "who", "Your trained model", "Before training", "Note"],
        ["1", "Where?", "A", "=1+1 Where?", "base: Where?", None],
        ["2", None, "B", None, None, lists.NO_QUESTION],
    ]
    text = browser.get(f"/lists/{row.id}/download?form=csv").content.decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(text)))[1:] == [
        ["1", "Where?", "A", "'=1+1 Where?", "base: Where?", ""],
        ["2", "", "B", "", "", lists.NO_QUESTION],
    ]
    # What was done is in the audit log, and nothing that was asked.
    events = [e for e in db.scalars(select(AuditEvent)) if e.action.startswith("question_list.")]
    assert [event.action.partition(".")[2] for event in events] == [
        "upload",
        "start",
        "download",
        "download",
    ]
    assert "Where" not in "".join(f"{event.subject} {event.detail}" for event in events)


def test_cells_are_texts_in_a_workbook_and_harmless_in_csv(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    long = "x" * 40_000
    rows = [["question", "=cmd"], *([f"Is it {n}?", cell] for n, cell in enumerate(HOSTILE))]
    row = answered(browser, db, adapter, sheet_of(*rows, ["Long?", long]))
    assert row.status is ListStatus.DONE
    sheet = openpyxl.load_workbook(
        io.BytesIO(browser.get(f"/lists/{row.id}/download").content)
    ).active
    assert sheet is not None
    cells = list(sheet.iter_rows())
    assert {cell.data_type for one in cells for cell in one if cell.value is not None} == {"s"}
    assert not any(cell.hyperlink for one in cells for cell in one)
    found = [str(one[1].value) for one in cells[1:-1]]
    assert found == [cell.replace("\x01\x1f", "\ufffd\ufffd") for cell in HOSTILE]
    assert len(str(cells[-1][1].value)) == 32_767
    text = browser.get(f"/lists/{row.id}/download?form=csv").content.decode("utf-8-sig")
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert not [cell for one in back for cell in one if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert back[0][1] == "'=cmd"
    assert [one[1].removeprefix("'") for one in back[1:]] == [*HOSTILE, long]


def test_hostile_names_and_cells_are_shown_and_not_run(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    evil = "<script>alert(1)</script>\u202e"
    answer = upload(browser, adapter, sheet_of([evil, "n"], [f"{evil}?", "1"]), f"{evil}.csv")
    question_lists.read_next(ME)
    for text in (answer.text, browser.get(f"/lists/{the_list(db).id}").text):
        assert "<script>alert" not in text
        assert "\u202e" not in text
    assert "⟨U+202E⟩" in text
    page = browser.get(f"/adapters/{adapter.id}/lists").text
    assert "<script>alert" not in page


def test_the_worker_takes_both_steps_when_it_is_rung(
    browser: TestClient,
    db: Session,
    adapter: Adapter,
    answerer: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", ME)
    upload(browser, adapter, sheet_of(["question"], ["Where?"]))
    tasks.look_cpu()
    row = the_list(db)
    assert row.status is ListStatus.CHOOSING
    browser.post(f"/lists/{row.id}/start", data={"column": "0", "beside": "nobody"})
    tasks.look_cpu()
    row = the_list(db)
    assert row.status is ListStatus.DONE
    assert [one.adapter_id for one in answerer.requests] == [adapter.id]
    assert lists.headings(db, row) == ["question", "Your trained model", "Note"]


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"", "ward.csv", "This file is empty"),
        (b"MZ", "ward.exe", "cannot read files that end in"),
        (b"x" * (lists.MAX_SHEET_BYTES + 1), "ward.csv", "at most"),
    ],
)
def test_what_cannot_be_a_sheet_is_refused(
    browser: TestClient, db: Session, adapter: Adapter, data: bytes, name: str, sentence: str
) -> None:
    answer = upload(browser, adapter, data, name)
    assert answer.status_code in (413, 422)
    assert sentence in answer.text
    assert db.scalar(select(func.count()).select_from(QuestionList)) == 0


@pytest.mark.parametrize("column", ["", "2", "9999", "-1", "x", "٣"])
def test_a_column_that_is_none_is_refused(
    browser: TestClient, db: Session, adapter: Adapter, column: str
) -> None:
    upload(browser, adapter, sheet_of(["question", "n"], ["Where?", "1"]))
    question_lists.read_next(ME)
    row = the_list(db)
    answer = browser.post(f"/lists/{row.id}/start", data={"column": column, "beside": "base"})
    assert answer.status_code == 422
    assert "Choose the column" in answer.text
    assert the_list(db).status is ListStatus.CHOOSING


def test_an_empty_column_is_refused_and_what_was_typed_stays(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    upload(browser, adapter, sheet_of(["question", "n"], ["Where?", " "]))
    question_lists.read_next(ME)
    row = the_list(db)
    form = {"column": "1", "beside": "nobody", "instruction": "Be kind."}
    answer = browser.post(f"/lists/{row.id}/start", data=form)
    assert answer.status_code == 422
    assert "This column is empty" in answer.text
    assert "Be kind." in answer.text


def test_a_person_has_so_many_lists_under_way(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    for _ in range(lists.MAX_OPEN):
        assert upload(browser, adapter, b"question\nWhere?\n").status_code == 200
    answer = upload(browser, adapter, b"question\nWhere?\n")
    assert answer.status_code == 409
    assert "not done yet" in answer.text
    browser.post(f"/lists/{the_list(db).id}/cancel")
    assert upload(browser, adapter, b"question\nWhere?\n").status_code == 200


# --- whose it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["colleague", "lead", "administrator", "stranger"])
def test_a_list_is_its_owners_alone(
    browser: TestClient, db: Session, owner: User, adapter: Adapter, answerer: StandIn, who: str
) -> None:
    row = answered(browser, db, adapter, b"question\nA secret question?\n")
    role = {"lead": Role.LEAD, "administrator": Role.ADMIN}.get(who, Role.MEMBER)
    department = make_department(db) if who == "stranger" else owner.department
    sign_in(browser, db, make_user(db, role=role, department=department))
    for address in ("", "/download", "/download?form=csv"):
        answer = browser.get(f"/lists/{row.id}{address}")
        assert answer.status_code == 404
        assert "secret" not in answer.text
    form = {"column": "0", "beside": "base"}
    for action in ("start", "cancel", "continue", "delete"):
        assert browser.post(f"/lists/{row.id}/{action}", data=form).status_code == 404
    for address in ("/lists", f"/adapters/{adapter.id}/lists"):
        assert "ward.csv" not in browser.get(address).text
    assert the_list(db).status is ListStatus.DONE


def test_who_may_not_ask_the_adapter_may_upload_nothing(
    browser: TestClient, db: Session, owner: User, adapter: Adapter
) -> None:
    viewer = make_user(db, role=Role.VIEWER, department=owner.department)
    stranger = make_user(db, department=make_department(db))
    for user, status in ((viewer, 403), (stranger, 404)):
        sign_in(browser, db, user)
        assert browser.get(f"/adapters/{adapter.id}/lists").status_code == status
        assert upload(browser, adapter, b"question\nWhere?\n").status_code == status
    adapter.release = Release.RELEASED
    db.commit()
    sign_in(browser, db, viewer)
    assert upload(browser, adapter, b"question\nWhere?\n").status_code == 200
    sign_in(browser, db, owner)
    adapter.release = Release.WITHDRAWN
    db.commit()
    assert upload(browser, adapter, b"question\nWhere?\n").status_code == 404
    assert db.scalar(select(func.count()).select_from(QuestionList)) == 1


# --- its end ---------------------------------------------------------------------------------


def test_a_list_is_cancelled_continued_and_deleted(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    upload(browser, adapter, b"question\nWhere?\nWho?\n")
    question_lists.read_next(ME)
    row = the_list(db)
    browser.post(f"/lists/{row.id}/start", data={"column": "0", "beside": "base"})
    cancelled = browser.post(f"/lists/{row.id}/cancel").text
    assert "Cancelled" in cancelled
    assert browser.post(f"/lists/{row.id}/cancel").status_code == 409
    assert not answer_next()
    assert "Starting in a moment." in browser.post(f"/lists/{row.id}/continue").text
    answer_next()
    assert the_list(db).status is ListStatus.DONE
    assert browser.post(f"/lists/{row.id}/continue").status_code == 409
    gone = browser.post(f"/lists/{row.id}/delete")
    assert gone.url.path == f"/adapters/{adapter.id}/lists"
    assert db.scalar(select(func.count()).select_from(QuestionAnswer)) == 0
    assert browser.get(f"/lists/{row.id}").status_code == 404


def test_answers_outlive_their_adapter(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    row = answered(browser, db, adapter, b"question\nWhere?\n")
    browser.post(f"/adapters/{adapter.id}/delete")
    page = browser.get(f"/lists/{row.id}")
    assert page.status_code == 200
    assert "Ward questions" in page.text
    assert b"base: Where?" in browser.get(f"/lists/{row.id}/download?form=csv").content
    assert f"/lists/{row.id}" in browser.get("/lists").text


def test_where_nothing_is_kept_a_list_lasts_until_it_was_downloaded(
    browser: TestClient,
    db: Session,
    adapter: Adapter,
    answerer: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_CONVERSATION_DAYS", "0")
    settings.get.cache_clear()
    row = answered(browser, db, adapter, b"question\nWhere?\n")
    assert "deleted ten minutes after its download" in browser.get(f"/lists/{row.id}").text
    for form in ("xlsx", "csv"):
        assert browser.get(f"/lists/{row.id}/download?form={form}").status_code == 200
    later = QuestionList.downloaded_at - func.make_interval(0, 0, 0, 0, 0, 11)
    db.execute(update(QuestionList).values(downloaded_at=later))
    db.commit()
    assert browser.get(f"/lists/{row.id}").status_code == 404


def test_a_list_is_shown_while_it_waits_for_words(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    upload(browser, adapter, b"question\nWhere?\nWho?\n")
    question_lists.read_next(ME)
    row = the_list(db)
    browser.post(f"/lists/{row.id}/start", data={"column": "0", "beside": "base"})
    values = {"status": ListStatus.ANSWERING, "lease_until": func.now(), "num_done": 1}
    db.execute(update(QuestionList).values(progress={"seconds_left": 90}, **values))
    db.execute(
        update(QuestionAnswer)
        .where(QuestionAnswer.index == 0)
        .values(question="Where?", tuned="Here.", finish=Finish.LENGTH)
    )
    db.commit()
    page = browser.get(f"/lists/{row.id}").text
    assert "About 1 min 30 s left." in page
    assert 'max="2" value="1"' in page
    assert "Here." in page
    assert lists.CUT in page
    db.execute(update(QuestionList).values(progress={"waiting": "Nobody is there."}))
    db.commit()
    assert "trying again by itself: Nobody is there." in browser.get(f"/lists/{row.id}").text


def test_what_points_to_a_person_is_said_before_the_list_is_started(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    upload(browser, adapter, sheet_of(["Question", "n"], ["Is it on 030 1234567?", "1"]))
    question_lists.read_next(ME)
    said = browser.get(f"/lists/{the_list(db).id}").text
    assert "In the first rows: This looks like a phone number." in said
    upload(browser, adapter, sheet_of(["Question", "n"], ["When is lunch?", "1"]))
    question_lists.read_next(ME)
    assert "This looks like" not in browser.get(f"/lists/{the_list(db).id}").text
