"""From a file to examples by pages: plain forms, resumable uploads, columns, what a model sees."""

import base64
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import (
    BaseModel,
    Dataset,
    DatasetVersion,
    Example,
    PrivacyReview,
    Role,
    StoredFile,
    User,
    VersionStatus,
)
from app.datasets import changes, examples, uploads
from app.datasets.changes import Change
from app.datasets.mapping import ColumnRole
from app.web.datasets import page as dataset_page
from tests import exports, files
from tests.app.web.pages import EXAMPLES, PIECE, TUS, sign_in
from tests.factories import make_base_model, make_dataset_version, make_department, make_user
from tests.small_disk import small_disk
from tests.worker.trainer.conftest import TEMPLATES, tokenizer_json
from worker.cpu import reading

CSV = "Frage,Antwort,Nummer\n" + "".join(f"Wo ist Raum {i}?,Im Gang {i}.,{i}\n" for i in range(30))


@pytest.fixture
def member(client: TestClient, db: Session) -> User:
    user = make_user(db)
    sign_in(client, db, user)
    return user


def make_chat_model(db: Session, template: str, **columns: Any) -> BaseModel:
    """A starting model that has a tokenizer and a template, and no weights."""
    folder = settings.get().models_dir / "tiny"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "chat_template.jinja").write_text((TEMPLATES / f"{template}.jinja").read_text())
    return make_base_model(db, **columns)


def start(client: TestClient, filename: str, size: int, **metadata: str) -> str:
    pairs = {"filename": filename, **metadata}
    header = ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())
    answer = client.post(
        "/uploads", headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": header}
    )
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def read_all(db: Session) -> None:
    while reading.read_next("cpu-0@test"):
        pass
    db.expire_all()


def test_a_file_becomes_examples_without_javascript(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    assert "Add data" in client.get("/datasets").text
    page = client.post(
        "/datasets/upload", data={"name": "Rooms"}, files={"file": ("räume.csv", CSV.encode())}
    )
    version = db.scalars(select(DatasetVersion)).one()
    assert page.url.path == f"/versions/{version.id}"
    assert "Waiting to be read" in page.text
    assert 'http-equiv="refresh"' in page.text
    read_all(db)
    page = client.get(f"/versions/{version.id}")
    assert "30 rows read" in page.text
    assert "Wo ist Raum 0?" in page.text
    columns = ["Frage", "Antwort", "Nummer"]
    form = {"column": columns, "role": ["question", "ignore", "ignore"], "test_percent": "20"}
    preview = client.post(f"/versions/{version.id}/preview", data=form)
    assert "Choose which column has the answer." in preview.text
    wrong = client.post(f"/versions/{version.id}/confirm", data=form)
    assert wrong.status_code == 422
    assert 'id="columns-wrong"' in wrong.text
    assert 'value="20"' in wrong.text
    twice = form | {"role": ["question", "answer", "answer"]}
    preview = client.post(f"/versions/{version.id}/preview", data=twice)
    assert "2 columns are set to “Answer”: their texts are put together" in preview.text
    form |= {"role": ["question", "answer", "ignore"], "system": "You know the house."}
    preview = client.post(f"/versions/{version.id}/preview", data=form)
    assert re.search(r"turn-assistant.*?Im Gang 0\.", preview.text, re.DOTALL)
    assert "You know the house." in preview.text
    db.refresh(version)
    assert version.status is VersionStatus.MAPPING, "a preview changes nothing"
    for percent in ("viel", "60", "nan"):
        bad = client.post(f"/versions/{version.id}/confirm", data={**form, "test_percent": percent})
        assert bad.status_code == 422
        assert f'value="{percent}"' in bad.text
        assert 'id="test_percent-wrong"' in bad.text
    client.post(f"/versions/{version.id}/confirm", data=form)
    read_all(db)
    page = client.get(f"/versions/{version.id}")
    assert "30 examples were made" in page.text
    # Too few rows to set some apart that check.
    assert (version.num_train, version.num_validation, version.num_test) == (24, 0, 6)
    assert "too few examples to set some apart as a check set" in page.text
    assert f"/versions/{version.id}/privacy" in page.text


def test_what_most_files_have_comes_first_and_the_button_is_in_view(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    assert {*dataset_page.USUAL_ROLES, *dataset_page.FURTHER_ROLES} == set(ColumnRole)
    client.post("/datasets/upload", files={"file": ("rooms.csv", CSV.encode())})
    read_all(db)
    version = db.scalars(select(DatasetVersion)).one()
    page = client.get(f"/versions/{version.id}").text
    (first, more) = re.findall(
        r'name="role".*?>(.*?)<optgroup label="More">(.*?)</optgroup>', page, re.DOTALL
    )[0]
    words = re.findall(r"<option[^>]*>([^<]*)</option>", first)
    assert words == ["Question", "Answer", "Instruction", "Whole conversation", "Ignore"]
    assert "Better answer" in more
    assert re.search(r'class="actions in-view"><button class="button"', page)


def test_a_sample_is_read_like_any_file(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    client.post("/datasets/sample/clinic")
    read_all(db)
    version = db.scalars(select(DatasetVersion)).one()
    assert version.status is VersionStatus.MAPPING
    assert "239 rows read" in client.get(f"/versions/{version.id}").text
    review = db.scalars(select(PrivacyReview)).one()
    assert review.decision is not None
    assert review.decided_by_id is None, "nobody decided about a sample but Etude"
    sample = client.get("/datasets/sample/clinic")
    assert sample.content == (EXAMPLES / "clinic-faq.csv").read_bytes()
    assert sample.headers["content-disposition"].startswith("attachment")
    assert client.post("/datasets/sample/pyproject.toml").status_code == 404


def test_what_cannot_be_data_is_refused_and_the_name_kept(
    client: TestClient, db: Session, member: User
) -> None:
    for filename, content, words in (
        ("letter.pages", b"pages", "end in “.pages”"),
        ("ward.JPG", b"\xff\xd8\xff", "This is a picture (.jpg), and a picture has no text"),
        ("empty.csv", b"", "empty"),
        ("", b"", "file"),
    ):
        answer = client.post(
            "/datasets/upload", data={"name": "Rooms & <b>"}, files={"file": (filename, content)}
        )
        assert answer.status_code in (400, 422), filename
        assert words in answer.text, filename
        assert 'value="Rooms &amp; &lt;b&gt;"' in answer.text or not filename
    assert db.scalars(select(func.count()).select_from(StoredFile)).one() == 0
    left = [path for path in settings.get().storage_dir.rglob("*") if path.is_file()]
    assert left == []


def test_a_file_that_cannot_be_read_says_why(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    client.post("/datasets/upload", files={"file": ("../../x.csv", b"%PDF-1.4 not a table")})
    read_all(db)
    version = db.scalars(select(DatasetVersion)).one()
    page = client.get(f"/versions/{version.id}")
    assert "This PDF is damaged" in page.text
    assert "Upload another file" in page.text
    assert version.file.filename == "x.csv"


def test_a_person_says_how_a_document_is_used(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    body = "".join(
        files.paragraph(f"Where is room {n}?", "berschrift1") + files.paragraph(f"In hall {n}.")
        for n in range(12)
    )
    document = {"file": ("handbook.docx", files.docx(body))}
    page = client.post("/datasets/upload", files=document)
    address = page.url.path
    read_all(db)
    page = client.get(address)
    assert "12 questions with their answers were found. Check them below." in page.text
    assert "How should this document be used?" in page.text
    assert re.search(r'value="pairs" checked', page.text)
    form = {"way": "text", "chunk_tokens": "40", "overlap_tokens": "21"}
    wrong = client.post(f"{address}/read-again", data=form)
    assert wrong.status_code == 422
    assert 'id="overlap_tokens-wrong"' in wrong.text
    assert 'value="21"' in wrong.text
    assert re.search(r'value="text" checked', wrong.text)
    client.post(f"{address}/read-again", data=form | {"overlap_tokens": "0"})
    read_all(db)
    page = client.get(address)
    assert re.search(r"The text was read in \d+ pieces", page.text)
    assert 'value="40"' in page.text
    version = db.scalars(select(DatasetVersion)).one()
    assert version.inspection is not None
    assert (version.inspection["way"], version.inspection["format"]) == ("text", "docx")
    assert version.inspection["num_rows"] < 12


def test_rows_become_conversations_by_a_key_and_a_chosen_speaker(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    rows = "".join(f"{n},Frau Berg,Wo ist {n}?\n{n},Pforte,Im Gang {n}.\n" for n in range(15))
    page = client.post("/datasets/upload", files={"file": ("x.csv", f"Vorgang,Wer,Was\n{rows}")})
    address = page.url.path
    read_all(db)
    form = {
        "column": ["Vorgang", "Wer", "Was"],
        "role": ["key", "speaker", "text"],
        "test_percent": "20",
    }
    preview = client.post(f"{address}/preview", data=form)
    assert "an unknown speaker; choose who gives the answers" in preview.text
    assert re.search(r'name="answers_by".*?<option value="Pforte">', preview.text, re.DOTALL)
    form["answers_by"] = "Pforte"
    preview = client.post(f"{address}/preview", data=form)
    assert re.search(r'<option value="Pforte" selected>', preview.text)
    assert re.search(r"turn-assistant.*?Im Gang 0\.", preview.text, re.DOTALL)
    client.post(f"{address}/confirm", data=form)
    read_all(db)
    version = db.scalars(select(DatasetVersion)).one()
    assert (version.status, version.num_train, version.num_test) == ("ready", 12, 3)
    first = db.scalars(select(Example).where(Example.index == 0)).one()
    assert first.messages == [
        {"role": "user", "content": "Wo ist 0?"},
        {"role": "assistant", "content": "Im Gang 0."},
    ]
    assert first.flags == {"row": 2}


def test_a_person_says_whether_answers_go_on_in_the_rows_below(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    rows = "".join(f"Wo ist {n}?,Im Gang {n}.\n,Links der Tür.\n" for n in range(15))
    page = client.post("/datasets/upload", files={"file": ("x.csv", f"Frage,Antwort\n{rows}")})
    address = page.url.path
    read_all(db)
    page = client.get(address)
    assert "15 rows have an answer alone (first in line 3)." in page.text
    assert re.search(r'name="continued" value="yes" checked', page.text)
    form = {"column": ["Frage", "Antwort"], "role": ["question", "answer"]}
    preview = client.post(f"{address}/preview", data=form)
    assert not re.search(r"Im Gang 0\.\s+Links der Tür\.", preview.text)
    form["continued"] = ["yes"]
    preview = client.post(f"{address}/preview", data=form)
    assert re.search(r"Im Gang 0\.\s+Links der Tür\.", preview.text)
    client.post(f"{address}/confirm", data=form)
    read_all(db)
    first = db.scalars(select(Example).where(Example.index == 0)).one()
    assert first.messages[-1]["content"] == "Im Gang 0.\nLinks der Tür."
    version = db.scalars(select(DatasetVersion)).one()
    assert version.inspection is not None
    assert [note["kind"] for note in version.inspection["notes"]] == ["continued"]


def test_a_person_says_what_words_for_roles_mean(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    talk = '{"messages": [{"role": "Pupil", "content": "Q%d?"}, {"role": "ai", "content": "A."}]}\n'
    rows = "".join(talk % number for number in range(15))
    page = client.post("/datasets/upload", files={"file": ("x.jsonl", rows)})
    address = page.url.path
    read_all(db)
    page = client.get(address)
    assert "“pupil”" in page.text
    assert "15 turns" in page.text
    form = {"column": ["messages"], "role": ["messages"], "roles": ["pupil=user"]}
    preview = client.post(f"{address}/preview", data=form)
    assert re.search(r'<option value="pupil=user" selected>', preview.text)
    assert re.search(r"turn-user.*?Q0\?", preview.text, re.DOTALL)
    wrong = client.post(f"{address}/confirm", data=form | {"roles": ["pupil=nobody"]})
    assert wrong.status_code == 422
    client.post(f"{address}/confirm", data=form)
    read_all(db)
    version = db.scalars(select(DatasetVersion)).one()
    assert version.status == "ready"
    assert version.mapping is not None
    assert version.mapping["roles"] == {"pupil": "user"}


def test_sheets_and_encodings_are_shown_and_can_be_switched(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    sheets = {"Ost": [("q", "a"), ("A?", "B")], "West": [("q", "a"), ("C?", "D")]}
    page = client.post("/datasets/upload", files={"file": ("x.xlsx", files.workbook(sheets))})
    address = page.url.path
    read_all(db)
    page = client.get(address)
    assert "All of them, as one table" in page.text
    assert re.search(r"<td>West</td>\s*<td class=\"num\">2–2</td>", page.text)
    client.post(f"{address}/read-again", data={"sheet": "West"})
    read_all(db)
    page = client.get(address)
    assert "C?" in page.text
    assert "A?" not in page.text
    old = "Frage,Antwort\nWo ist die Küche?,Unten\n".encode("cp1252")
    address = client.post("/datasets/upload", files={"file": ("y.csv", old)}).url.path
    read_all(db)
    page = client.get(address)
    assert "The file does not say its encoding" in page.text
    assert "Küche" in page.text
    client.post(f"{address}/read-again", data={"encoding": "cp850"})
    read_all(db)
    page = client.get(address)
    assert "K³che" in page.text
    assert '<option value="cp850" selected>' in page.text


def test_a_person_says_where_a_sheets_names_are_and_what_is_hidden(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    book = files.workbook(
        {
            "A": [
                ("x1", "y1"),
                ("Heading one", "Heading two"),
                *[(f"Where is {n}?", "There.") for n in "abcd"],
            ]
        },
        hidden_rows={"A": [4]},
    )
    address = client.post("/datasets/upload", files={"file": ("x.xlsx", book)}).url.path
    read_all(db)
    page = client.get(address)
    assert "1 row is hidden or filtered out and was left out" in page.text
    assert "The names were read from row 1." in page.text
    wrong = client.post(f"{address}/read-again", data={"header_row": "two"})
    assert wrong.status_code == 422
    assert "Write the number of the row with the column names" in wrong.text
    chosen = {
        "header_row": "2",
        "hidden": "take_in",
        "merged": "leave_blank",
        "separators": "swiss",
    }
    client.post(f"{address}/read-again", data=chosen)
    read_all(db)
    page = client.get(address)
    assert "Heading one" in page.text
    assert "is hidden" not in page.text
    assert re.search(r'name="header_row"[^>]*value="2"', page.text)
    assert '<option value="take_in" selected>' in page.text
    assert '<option value="swiss" selected>' in page.text
    columns = {"column": ["Heading one", "Heading two"], "role": ["question", "answer"]}
    client.post(f"{address}/confirm", data=columns)
    version = db.get_one(DatasetVersion, int(address.rsplit("/", 1)[-1]))
    db.refresh(version)
    assert version.mapping is not None
    assert {name: version.mapping[name] for name in chosen} == chosen | {"header_row": 2}


def test_a_person_says_how_a_quiz_and_a_chat_are_read(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    quiz = exports.AIKEN.encode()
    address = client.post("/datasets/upload", files={"file": ("quiz.txt", quiz)}).url.path
    read_all(db)
    page = client.get(address)
    assert '<option value="document">a document: text with headings</option>' in page.text
    assert '<option value="leave_out" selected>' in page.text
    client.post(f"{address}/read-again", data={"form": "table", "options": "letters"})
    read_all(db)
    assert "b) Blood pressure" in client.get(address).text

    packed = files.zip_of({"a.txt": quiz, "b.txt": quiz})
    address = client.post("/datasets/upload", files={"file": ("both.zip", packed)}).url.path
    read_all(db)
    assert "Choose for single files" in client.get(address).text
    each = {"files": ["a.txt", "b.txt"], "files_options": ["", "letters"]}
    each["files_pause_minutes"] = ["", "soon"]
    wrong = client.post(f"{address}/read-again", data=each)
    assert wrong.status_code == 422
    assert "“b.txt” needs a whole number of minutes, from 1 to 43,200" in wrong.text
    each["files_pause_minutes"] = ["", ""]
    unknown = {**each, "files_options": ["sideways", "letters"], "options": "shouted"}
    wrong = client.post(f"{address}/read-again", data=unknown)
    assert wrong.status_code == 422
    assert 'aria-describedby="files_options-0-wrong"' in wrong.text
    assert "2 things are missing or wrong" in wrong.text
    client.post(f"{address}/read-again", data=each)
    read_all(db)
    page = client.get(address)
    for answer in ("Blood pressure", "b) Blood pressure"):
        assert page.text.count(f'class="is-answer"><div class="cell">{answer}</div>') == 1
    assert page.text.count('<option value="letters" selected>') == 1

    days = "".join(
        f"\n[{day}.4.26, 08:00:00] Ana: When on day {day}?\n[{day}.4.26, 18:00:00] Desk: At {day}."
        for day in range(1, 25)
    )
    chat = (exports.WHATSAPP + days).encode()
    address = client.post("/datasets/upload", files={"file": ("_chat.txt", chat)}).url.path
    read_all(db)
    wrong = client.post(f"{address}/read-again", data={"pause_minutes": "soon"})
    assert wrong.status_code == 422
    assert "Write a whole number from 1 to 43,200" in wrong.text
    client.post(f"{address}/read-again", data={"pause_minutes": "700"})
    read_all(db)
    page = client.get(address)
    assert re.search(r'name="pause_minutes"[^>]*value="700"', page.text)
    names = ["conversation", "speaker", "text", "date"]
    columns = {"column": names, "role": ["key", "speaker", "text", "ignore"]}
    who = {"speakers": ["desk=assistant", "ana=user", "ben=user"]}
    client.post(f"{address}/confirm", data={**columns, **who})
    version = db.get_one(DatasetVersion, int(address.rsplit("/", 1)[-1]))
    db.refresh(version)
    assert version.mapping is not None
    assert version.mapping["pause_minutes"] == 700
    read_all(db)
    db.refresh(version)
    assert (version.status.value, version.reason) == ("ready", None)
    # 10 hours from question to answer are no pause, and 14 until the next day are.
    assert db.scalar(select(func.count()).where(Example.version_id == version.id)) == 26
    assert version.left_out == {"notice": 2, "not_text": 1}


def test_a_row_that_the_file_calls_wrong_says_so_of_itself(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    rows = [f"Where is room {n}?,Past lift {n}.,{'yes' if n % 3 else 'no'}" for n in range(12)]
    file = "\n".join(["question,answer,is_correct", *rows])
    client.post("/datasets/upload", data={"name": "R"}, files={"file": ("r.csv", file.encode())})
    read_all(db)
    version = db.scalars(select(DatasetVersion)).one()
    page = client.get(f"/versions/{version.id}").text
    assert "Left out: this row says that it is not to be learned." in page
    assert "1 row says" not in page
    assert re.search(r"<option value=\"weight\" selected>Whether to learn it<", page)


def test_an_upload_comes_in_pieces(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    content = CSV.encode()
    place = start(client, "rooms.csv", len(content), name="Rooms")
    first = client.patch(place, content=content[:100], headers={**PIECE, "Upload-Offset": "0"})
    assert first.headers["upload-offset"] == "100"
    again = client.patch(place, content=content[:100], headers={**PIECE, "Upload-Offset": "0"})
    assert again.status_code == 409, "a piece that came already is not written twice"
    head = client.head(place, headers=TUS)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == (
        "100",
        str(len(content)),
    )
    last = client.patch(place, content=content[100:], headers={**PIECE, "Upload-Offset": "100"})
    assert last.status_code == 204
    version = db.scalars(select(DatasetVersion)).one()
    assert last.headers["x-etude-location"] == f"/versions/{version.id}"
    assert version.dataset.name == "Rooms"
    stored = settings.get().storage_dir / version.file.storage_key
    assert stored.read_bytes() == content
    assert client.head(place, headers=TUS).status_code == 404


def test_a_strangers_piece_is_refused_before_it_is_read(
    client: TestClient, db: Session, member: User
) -> None:
    place = start(client, "rooms.csv", 500)
    sign_in(client, db, make_user(db))  # of the same department: an upload is one person's
    for method in ("PATCH", "HEAD", "DELETE"):
        answer = client.request(
            method, place, content=b"x" * 10, headers={**PIECE, "Upload-Offset": "0"}
        )
        assert answer.status_code == 404, method
    client.cookies.clear()
    answer = client.patch(place, content=b"x" * 10, headers={**PIECE, "Upload-Offset": "0"})
    assert answer.url.path == "/sign-in" or answer.status_code == 401
    assert uploads.get(member, place.rpartition("/")[2]).offset == 0


def test_an_upload_holds_what_was_announced_and_no_more(
    client: TestClient, db: Session, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = start(client, "rooms.csv", 10)
    long = client.patch(place, content=b"x" * 11, headers={**PIECE, "Upload-Offset": "0"})
    assert long.status_code == 413
    monkeypatch.setenv("ETUDE_MAX_UPLOAD_BYTES", "1000")
    settings.get.cache_clear()
    for length, filename, status in (("1001", "a.csv", 413), ("0", "a.csv", 422),
                                     ("10", "a.exe", 422)):  # fmt: skip
        metadata = f"filename {base64.b64encode(filename.encode()).decode()}"
        headers = {**TUS, "Upload-Length": length, "Upload-Metadata": metadata}
        assert client.post("/uploads", headers=headers).status_code == status, filename
    plain = client.post("/datasets/upload", files={"file": ("a.csv", b"x" * 200_000)})
    assert plain.status_code == 413
    assert "larger" in plain.text


def test_two_uploads_are_not_promised_the_same_room(
    client: TestClient, member: User, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    metadata = f"filename {base64.b64encode(b'a.csv').decode()}"
    headers = {**TUS, "Upload-Length": str(12_000_000), "Upload-Metadata": metadata}
    with small_disk(data_dir, "20m"):
        first = start(client, "rooms.csv", 12_000_000)
        short = client.post("/uploads", headers=headers)
        assert (short.status_code, "no room for this file" in short.text) == (413, True)
        assert len(list((settings.get().storage_dir / "partial").iterdir())) == 2, "the first's"
        plain = client.post("/datasets/upload", files={"file": ("a.csv", b"x" * 12_000_000)})
        assert (plain.status_code, "no room for this file" in plain.text) == (507, True)
        assert list((settings.get().storage_dir / "incoming").iterdir()) == []
        client.delete(first, headers=TUS)
        assert client.post("/uploads", headers=headers).status_code == 201


def test_a_cancelled_or_forgotten_upload_leaves_nothing(client: TestClient, member: User) -> None:
    folder = settings.get().storage_dir / "partial"
    cancelled = start(client, "rooms.csv", 500)
    assert client.delete(cancelled, headers=TUS).status_code == 204
    assert list(folder.iterdir()) == []
    start(client, "rooms.csv", 500)
    uploads.remove_stale()
    assert len(list(folder.iterdir())) == 2
    day_before_yesterday = time.time() - 2 * 24 * 3600
    for path in folder.iterdir():
        os.utime(path, (day_before_yesterday, day_before_yesterday))
    uploads.remove_stale()
    assert list(folder.iterdir()) == []


def test_a_viewer_looks_and_changes_nothing(client: TestClient, db: Session) -> None:
    version = make_dataset_version(db)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    page = client.get(f"/versions/{version.id}").text
    assert "What is rule 0?" in page or "24 examples" in page
    assert "Train a model with this" not in page
    assert "/delete" not in client.get(f"/versions/{version.id}/file").text
    assert client.get("/datasets/new").status_code == 403
    assert client.post("/datasets/sample/clinic").status_code == 403
    answer = client.post("/datasets/upload", files={"file": ("a.csv", CSV.encode())})
    assert answer.status_code == 403
    for deed in ("rename", "delete"):
        answer = client.post(f"/datasets/{version.dataset_id}/{deed}", data={"name": "Mine"})
        assert answer.status_code == 403, deed
    assert client.post("/uploads", headers={**TUS, "Upload-Length": "9"}).status_code == 403
    db.expire_all()
    assert version.dataset.name == "Ward questions"
    assert db.scalars(select(func.count()).select_from(Dataset)).one() == 1


def test_a_dataset_is_renamed_and_deleted(client: TestClient, db: Session, member: User) -> None:
    version = make_dataset_version(db, user=member)
    wrong = client.post(f"/datasets/{version.dataset_id}/rename", data={"name": " "})
    assert wrong.status_code == 422
    assert 'id="name-wrong"' in wrong.text
    client.post(f"/datasets/{version.dataset_id}/rename", data={"name": "Rules"})
    page = client.get(f"/versions/{version.id}").text
    assert "<h1>Rules</h1>" in page
    page = client.get(f"/versions/{version.id}/file").text
    assert "24 examples" in re.findall(r"<dialog.*?</dialog>", page, re.DOTALL)[0]
    assert client.post(f"/datasets/{version.dataset_id}/delete").url.path == "/datasets"
    assert client.get(f"/versions/{version.id}").status_code == 404
    assert "Rules" not in client.get("/datasets").text


def test_versions_are_listed_with_what_changed(
    client: TestClient, db: Session, member: User
) -> None:
    base = make_dataset_version(db, user=member)
    left_out = [Change(5, is_removed=True), Change(6, is_removed=True)]
    changed = changes.derive(db, member, base, left_out, "doubled rows taken out")
    db.commit()
    page = client.get(f"/versions/{changed.id}").text
    assert "22 examples were made" in page
    page = client.get(f"/versions/{changed.id}/file").text
    assert "from version 1: doubled rows taken out (2 examples left out)" in page
    assert f'<a href="/versions/{base.id}">Version 1</a>' in page
    assert "24 examples are ready" in client.get(f"/versions/{base.id}").text


def test_the_page_shows_what_the_model_will_learn(
    client: TestClient, db: Session, member: User, data_dir: Path
) -> None:
    model = make_chat_model(db, "smollm2", config={"max_position_embeddings": 512})
    version = make_dataset_version(db, user=member)
    page = client.get(f"/versions/{version.id}?example=3").text
    seen = re.findall(r'<div class="seen".*?</div>', page, re.DOTALL)[0]
    assert "&lt;|im_start|&gt;user\nWhat is rule 2?" in seen
    marked = re.findall(r'<mark class="learned">(.*?)</mark>', seen, re.DOTALL)
    assert marked == ["Rule 2 says: wash your hands.&lt;|im_end|&gt;"]
    assert "Example 3 of 24" in page
    assert "See what is cut off" not in page, "nothing is"
    example = db.scalars(select(Example).where(Example.index == 2)).one()
    example.messages = [*example.messages[:-1], {"role": "assistant", "content": "hands " * 3000}]
    db.commit()
    long = client.get(f"/versions/{version.id}?example=3").text
    assert re.search(r'href="/versions/\d+/examples/2\?model=\d+#seen">See what is cut off<', long)
    test_set = client.get(f"/versions/{version.id}?split=validation&example=99").text
    assert "Example 4 of 4" in test_set
    assert "What is rule 23?" in test_set
    page = client.get(f"/versions/{version.id}/check").text
    lengths = re.findall(r'<td class="num">(\d+)</td>', page)
    assert sum(map(int, lengths)) == 24
    db.refresh(version)
    assert version.token_lengths, "counted once, and kept"
    assert "reads at most" not in page
    model.config = {"max_position_embeddings": 64}
    db.commit()
    page = client.get(f"/versions/{version.id}/check").text
    assert "tiny reads at most 64 tokens at once." in page


def test_calls_of_tools_and_pairs_come_all_the_way(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    make_chat_model(db, "qwen2_5")
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"room":3}'}}
    tool = {"type": "function", "function": {"name": "look", "description": "a\tb"}}
    calling = {
        "messages": [
            {"role": "user", "content": "Who is there?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "Nobody", "tool_call_id": "c"},
            {"role": "assistant", "content": "It is empty."},
        ],
        "tools": [tool],
    }
    prefer = {"prompt": "How are you?", "chosen": "Well, and you?", "rejected": "Fine."}
    found = []
    for name, row, expected in (("calls", calling, "look {"), ("pairs", prefer, "turn-worse")):
        lines = "\n".join(json.dumps(row | {"id": number}) for number in range(12))
        client.post("/datasets/upload", files={"file": (f"{name}.jsonl", lines.encode())})
        read_all(db)
        version = db.scalars(select(DatasetVersion).order_by(DatasetVersion.id.desc())).first()
        assert version is not None
        page = client.get(f"/versions/{version.id}").text
        assert expected in page
        roles = dict(
            zip(
                re.findall(r'name="column" value="(\w+)"', page),
                re.findall(r'<option value="(\w+)" selected', page),
                strict=False,
            )
        )
        columns = [*list(row), "id"]
        form = {"column": columns, "role": [roles[c] for c in columns], "test_percent": "0"}
        client.post(f"/versions/{version.id}/confirm", data=form)
        read_all(db)
        db.refresh(version)
        assert version.status is VersionStatus.READY, version.reason
        assert version.examples_sha256 == examples.sha256(db, version)
        found.append(examples.page(db, version)[0])
        page = client.get(f"/versions/{version.id}").text
        marked = re.findall(r'<mark class="(\w+)">(.*?)</mark>', page, re.DOTALL)[1:]
        if name == "calls":
            assert marked[0][1].startswith("&lt;tool_call&gt;\n{&#34;name&#34;: &#34;look")
            assert marked[1] == ("learned", "It is empty.&lt;|im_end|&gt;")
        else:
            assert marked == [
                ("learned", "Well, and you?&lt;|im_end|&gt;"),
                ("worse", "Fine.&lt;|im_end|&gt;"),
            ]
    assert [example.kind.value for example in found] == ["chat", "preference"]
    assert [example.tools for example in found] == [[tool], None]
    assert found[0].messages[1]["tool_calls"][0]["id"] == "c"
    assert found[1].messages[-1]["rejected"] == "Fine."


def test_rows_of_people_are_shown_and_never_run(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    nasty = '<img src=x onerror=alert(1)>,"</div><script>alert(2)</script>\u202etxt.exe"\n' * 20
    client.post(
        "/datasets/upload", files={"file": ("<b>.csv", b"question,answer\n" + nasty.encode())}
    )
    read_all(db)
    page = client.get(f"/versions/{db.scalars(select(DatasetVersion.id)).one()}").text
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert "\u202e" not in page, "a mark that turns the text around is shown as a sign"


def test_only_the_own_department_is_listed(client: TestClient, db: Session, member: User) -> None:
    make_dataset_version(db, user=make_user(db, department=make_department(db)), name="Theirs")
    make_dataset_version(db, user=member, name="Ours")
    page = client.get("/datasets").text
    assert "Ours" in page
    assert "Theirs" not in page
