"""`etude data` as a process of its own: what it prints, and what it stores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import cli
from app.core.models import DatasetVersion, Role, Split, VersionStatus
from app.datasets import examples
from tests import exports, files, patience, warm
from tests.factories import make_user
from worker.cpu import reading

CSV = "Frage,Antwort,Nr\n" + "".join(f"Wo ist Raum {n}?,Im Gang {n}.,{n}\n" for n in range(30))


def etude(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    return warm.run(
        [sys.executable, "-m", "app.cli", "data", *arguments],
        env=bare | environment,
        timeout=patience.seconds(120),
    )


def test_how_a_sheet_is_read_can_be_said(tmp_path: Path) -> None:
    rows = [("x1", "y1"), ("Heading one", "Heading two"), *[(f"{n}?", "There.") for n in range(4)]]
    book = tmp_path / "a.xlsx"
    book.write_bytes(files.workbook({"A": rows}, hidden_rows={"A": [4]}))
    chosen = ("--header-row", "2", "--hidden", "take_in", "--merged", "leave_blank")
    told = etude("inspect", str(book), *chosen, "--separators", "german", "--json")
    mapping = json.loads(told.stdout)["mapping"]
    assert [column["name"] for column in mapping["columns"]] == ["Heading one", "Heading two"]
    kept = [mapping[name] for name in ("header_row", "hidden", "merged", "separators")]
    assert kept == [2, "take_in", "leave_blank", "german"]
    told = etude("inspect", str(book), "--header-row", "2")
    assert "1 row is hidden or filtered out" in told.stdout
    refused = etude("inspect", str(book), "--header-row", "9")
    assert "There is nothing in row 9" in refused.stderr


def test_a_quiz_and_a_chat_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    quiz, chat = tmp_path / "quiz.txt", tmp_path / "chat.txt"
    quiz.write_text(exports.AIKEN)
    told = json.loads(etude("inspect", str(quiz), "--options", "letters", "--json").stdout)
    assert told["mapping"]["options"] == "letters"
    assert told["examples"][0][1]["content"] == "b) Blood pressure"
    both = tmp_path / "both.zip"
    both.write_bytes(files.zip_of({"a.txt": exports.AIKEN, "b.txt": exports.AIKEN}))
    told = json.loads(
        etude("inspect", str(both), "--files", "b.txt:options=letters", "--json").stdout
    )
    assert told["mapping"]["files"] == {"b.txt": {"options": "letters"}}
    assert told["examples"][0][1]["content"] == "Blood pressure"
    assert told["examples"][2][1]["content"] == "b) Blood pressure"
    refused = etude("inspect", str(both), "--files", "b.txt=letters")
    assert "--files takes NAME:options=" in refused.stderr
    chat.write_text(exports.WHATSAPP)
    who = ("--speakers", "Desk=assistant", "--speakers", "Ana=user", "--speakers", "Ben=user")
    told = json.loads(etude("inspect", str(chat), *who, "--json").stdout)
    assert (told["num_examples"], told["mapping"]["pause_minutes"]) == (2, 240)
    assert told["inspection"]["is_sure"]
    told = json.loads(etude("inspect", str(chat), *who, "--pause-minutes", "1000", "--json").stdout)
    assert (told["num_examples"], told["mapping"]["pause_minutes"]) == (1, 1000)


def test_inspect_tells_and_stores_nothing(tmp_path: Path) -> None:
    file, var = tmp_path / "raum.csv", tmp_path / "var"
    more = "Wo ist Frau Abendschön?,Am Telefon: 030 12345678,31\n"
    file.write_text(CSV + "Ohne?,,\n" + more + 'Wo ist Raum 7?,"C:\\neu, [NAME]",32\n')
    told = etude("inspect", str(file), ETUDE_DATA_DIR=str(var))
    assert told.returncode == 0, told.stderr
    assert "raum.csv: csv, 33 rows, utf-8" in told.stdout
    assert "Frage    question" in told.stdout
    assert "Examples: 32; usually about 7 tokens" in told.stdout
    assert "Left out: 1 row has no answer (line 32)." in told.stdout
    assert "Personal details: 1 name (line 33)." in told.stdout
    assert "Personal details: 1 phone number (line 33)." in told.stdout
    assert "1 question has a different answer elsewhere (line 34). The same question" in told.stdout
    assert "1 example has a gap that nobody filled in (line 34). A pattern such as" in told.stdout
    assert "Few examples. With 32 examples, first try a good instruction" in told.stdout
    assert "user: Wo ist Raum 0?" in told.stdout
    assert "Abendschön" not in told.stdout + told.stderr
    assert not var.exists()
    # Of nothing there is nothing to say.
    (tmp_path / "none.csv").write_text("Frage,Antwort\nOhne?,\n")
    told = etude("inspect", str(tmp_path / "none.csv"))
    assert "Examples: 0\n  Left out: 1 row has no answer (line 2)." in told.stdout
    assert "Few examples" not in told.stdout
    # The same as JSON, of a folder of files, under another mapping.
    folder = tmp_path / "ward"
    (folder / "east").mkdir(parents=True)
    (folder / "east" / "a.csv").write_text(CSV)
    (folder / "b.xlsx").write_bytes(
        files.workbook({"A": [("Frage", "Antwort", "Nr"), ("A?", "B", 1)]})
    )
    told = etude("inspect", str(folder), "--json", "--mapping", "Antwort=text", "--system", "Hm.")
    report = json.loads(told.stdout)
    assert report["file"] == "ward.zip"
    assert [(part["name"], part["num_rows"]) for part in report["inspection"]["parts"]] == [
        ("b.xlsx", 1),
        ("east/a.csv", 30),
    ]
    assert report["num_examples"] == 31
    read, few = report["findings"][:2]
    assert (read["severity"], read["count"], read["rows"]) == ("note", 31, [1, 2, 3, 4, 5])
    assert (few["severity"], few["what"], few["rows"]) == ("warn", "Few examples", [])
    assert report["examples"][0] == [{"content": "B", "role": "text"}]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing.csv"], "etude: There is no file or folder nothing.csv."),
        (["raum.csv", "--mapping", "Frage"], "“Frage” is not a mapping; write COLUMN=ROLE"),
        (["raum.csv", "--mapping", "Fragen=question"], "The file has no column “Fragen”; it has"),
        (["raum.png"], "etude: This is a picture (PNG)"),
        (["raum.csv", "--overlap-tokens", "999"], "--overlap-tokens from 0 to its half"),
    ],
)
def test_what_goes_wrong_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "raum.csv").write_text(CSV)
    (tmp_path / "raum.png").write_bytes(b"\x89PNG....")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["etude", "data", "inspect", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert sentence in str(ended.value)
    assert len(str(ended.value).splitlines()) == 1


def test_add_does_what_the_page_does(
    db: Session, database_url: str, data_dir: Path, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": database_url, "ETUDE_DATA_DIR": str(data_dir)}
    file = tmp_path / "raum.csv"
    file.write_text(CSV)
    told = etude("add", str(file), **environment)
    assert told.stderr.strip() == (
        "etude: there is no administrator yet; `etude user add` adds one."
    )
    admin = make_user(db, role=Role.ADMIN)
    mapping = ["--mapping", "Frage=question", "--mapping", "Antwort=answer"]
    told = etude(
        "add", str(file), "--name", "Rooms", *mapping, "--test-percent", "20", **environment
    )
    assert told.returncode == 0, told.stderr
    assert "Added “Rooms” (/versions/1): 30 examples" in told.stdout
    version = db.scalars(select(DatasetVersion)).one()
    assert (version.status, version.dataset.owner_id) == (VersionStatus.CONFIRMED, admin.id)
    assert version.file.filename == "raum.csv"
    assert reading.read_next("cpu-0@test")
    db.refresh(version)
    assert (version.status, version.num_train, version.num_test) == ("ready", 24, 6)
    assert examples.count(db, version, Split.TRAIN) == 24
    # What is not plain waits for a person.
    file.write_text("foo,bar\nx,y\nz,w\n")
    told = etude("add", str(file), **environment)
    assert "confirm its columns there" in told.stdout
    unsure = db.scalars(select(DatasetVersion).order_by(DatasetVersion.id.desc())).first()
    assert unsure is not None
    assert unsure.status is VersionStatus.MAPPING
