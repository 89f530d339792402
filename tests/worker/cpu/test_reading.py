"""From an uploaded file to examples, through a real reading process and a real PostgreSQL."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import leases, settings, storage
from app.core.models import DatasetVersion, Example, Split, VersionStatus
from app.datasets import deletion, examples, parts, versions
from app.datasets.mapping import Mapping
from app.datasets.parts import Drawn
from app.datasets.readers.inspections import ReadAs
from app.ops.embedded.servers import redis_client
from tests import patience
from tests.factories import first_user
from worker import identity, tasks
from worker.cpu import reading

HEADER = "question,answer\n"


def rows(number: int) -> str:
    return "".join(f"What is rule {n}?,Rule {n} says so.\n" for n in range(number))


def upload(db: Session, content: str | Iterable[bytes], **columns: Any) -> DatasetVersion:
    pieces = [content.encode()] if isinstance(content, str) else content
    stored = storage.put("uploads", pieces)
    version = versions.add(db, first_user(db), stored, "../../ward.csv", "Ward", **columns)
    db.commit()
    return version


def read(db: Session, version: DatasetVersion) -> DatasetVersion:
    assert reading.read_next("cpu-0")
    db.refresh(version)
    return version


def build(
    db: Session, version: DatasetVersion, share: float = 0.1, seed: int = 0
) -> DatasetVersion:
    mapping = versions.mapping_of(version)
    assert mapping is not None
    built = versions.confirm(db, first_user(db), version, mapping, share, seed=seed)
    db.commit()
    return read(db, built)


def num_examples(db: Session, version: DatasetVersion) -> int:
    return sum(examples.count(db, version, split) for split in Split)


def test_a_table_becomes_examples(db: Session) -> None:
    version = upload(db, HEADER + rows(50) + "No answer?,\n,\n")
    read(db, version)
    assert (version.status, version.reason) == (VersionStatus.MAPPING, None)
    inspection = versions.inspection_of(version)
    assert inspection is not None
    assert (inspection.num_rows, inspection.is_sure) == (52, True)
    build(db, version)
    assert (version.status, version.num_train, version.num_validation, version.num_test) == (
        VersionStatus.READY,
        45,
        0,
        5,
    )
    assert version.left_out == {"empty_answer": 1, "blank": 1}
    assert examples.left_out_sentences(version) == [
        "1 row is blank (line 53).",
        "1 row has no answer (line 52).",
    ]
    assert version.ready_at is not None
    assert version.lease_until is None
    third = examples.get(db, version, 2)
    assert third is not None
    assert third.flags == {"row": 4}
    assert [turn["content"] for turn in third.messages] == ["What is rule 2?", "Rule 2 says so."]
    assert examples.count(db, version, Split.TEST) == 5
    assert len(examples.page(db, version, Split.TRAIN, offset=40)) == 5
    assert not reading.read_next("cpu-0")


def test_the_split_follows_its_seed_and_equal_examples_stay_together(db: Session) -> None:
    doubled = HEADER + rows(30) + rows(10).upper().replace("QUESTION", "question")
    version = upload(db, doubled)
    read(db, version)
    drawn: dict[int, tuple[frozenset[str], str | None]] = {}
    for seed in (0, 1, 0):
        built = build(db, version, share=0.3, seed=seed)
        sides: dict[str, set[Split]] = {}
        for example in examples.page(db, built, limit=200):
            said = " ".join(turn["content"] for turn in example.messages).casefold()
            sides.setdefault(said, set()).add(example.split)
        assert len(sides) == 30
        assert all(len(splits) == 1 for splits in sides.values())
        # Fewer than 60 rows: none check.
        assert (built.num_validation, built.num_test) in ((0, 12), (0, 13))
        tested = frozenset(said for said, splits in sides.items() if Split.TEST in splits)
        key = (tested, built.examples_sha256)
        assert drawn.setdefault(seed, key) == key
        # A ready version is never changed: another confirmation is the next version.
        version = built
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]
    assert version.number == 3
    assert [v.status for v in version.dataset.versions] == [VersionStatus.READY] * 3


def test_a_table_of_120_rows_has_three_parts_and_equal_rows_are_in_one(db: Session) -> None:
    """Each of thirty rows is there twice, in other letters."""
    version = upload(db, HEADER + rows(90) + rows(30).upper())
    read(db, version)
    build(db, version)
    assert version.num_test in (24, 25)
    assert version.num_validation in (12, 13)
    assert version.num_rows == 120
    of_row: dict[str, set[Split]] = {}
    for example in examples.page(db, version, limit=200):
        said = " ".join(turn["content"] for turn in example.messages).casefold()
        of_row.setdefault(said, set()).add(example.split)
    assert len(of_row) == 90
    assert all(len(splits) == 1 for splits in of_row.values())
    for split in Split:
        assert examples.count(db, version, split) == parts.count(version, split) > 0


def test_a_program_needs_no_confirmation_where_the_columns_are_plain(db: Session) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    version = upload(db, "\n".join([json.dumps({"messages": talk})] * 20), auto_confirm=True)
    assert read(db, version).status is VersionStatus.CONFIRMED
    assert read(db, version).status is VersionStatus.READY
    unsure = upload(db, "foo,bar\n" + rows(20), auto_confirm=True)
    read(db, unsure)
    assert unsure.status is VersionStatus.FAILED
    assert unsure.reason is not None
    assert "It is not plain what this file's columns mean." in unsure.reason


def test_a_bad_file_fails_with_its_sentence_and_can_be_read_in_another_way(db: Session) -> None:
    version = upload(db, ["Frage;Antwort\nWo ist die Küche?;Unten\n".encode("cp1252") * 2])
    version.read_as = {"encoding": "utf-8"}
    db.commit()
    assert read(db, version).status is VersionStatus.FAILED
    assert version.reason == (
        "Line 2 cannot be read as utf-8; choose another encoding for this file, or save it as "
        "UTF-8."
    )
    assert (version.inspection, version.lease_until, num_examples(db, version)) == (None, None, 0)
    versions.read_again(db, first_user(db), version, ReadAs(encoding="cp1252"))
    db.commit()
    again = read(db, version)
    assert again.status is VersionStatus.MAPPING
    assert again.inspection is not None
    assert again.inspection["preview"][0]["values"]["Frage"] == "Wo ist die Küche?"


def test_too_few_examples_are_told_and_the_file_is_kept(db: Session) -> None:
    version = upload(db, HEADER + "Where?,There\nWhen?,\n")
    read(db, version)
    build(db, version)
    assert version.status is VersionStatus.FAILED
    assert version.reason == (
        "This file makes only 1 example. 1 row has no answer. Training needs at least 10: add more "
        "questions with answers and upload the file again, or choose other columns."
    )
    assert num_examples(db, version) == 0
    assert storage.path(version.file.storage_key).exists()
    other = Mapping.model_validate({"columns": {"question": "text", "answer": "ignore"}})
    same = versions.confirm(db, first_user(db), version, other)
    assert (same.id, same.status) == (version.id, VersionStatus.CONFIRMED)


def test_a_short_document_is_told_to_be_read_in_shorter_pieces(db: Session) -> None:
    paragraphs = [
        f"Paragraph {number} says what is kept in cupboard {number}." for number in range(20)
    ]
    document = "# Cupboards\n\n" + "\n\n".join(paragraphs)
    version = upload(db, document)
    version.read_as = {"form": "document", "way": "text"}
    db.commit()
    build(db, read(db, version))
    assert version.status is VersionStatus.FAILED
    assert version.reason == (
        "This document makes only 1 piece of text. Training needs at least 10: choose the columns "
        "again and make the pieces shorter than 512 tokens, or upload a longer document."
    )


def test_a_file_that_wants_too_much_memory_or_time_is_given_up(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = [b'{"data": [{"q": "', b"x" * 60_000_000, b'", "a": "b"}]}']
    monkeypatch.setenv("ETUDE_READER_MEMORY_BYTES", str(200 * 1024**2))
    settings.get.cache_clear()
    version = read(db, upload(db, wrapped))
    assert version.status is VersionStatus.FAILED
    assert version.reason is not None
    assert version.reason.startswith("Reading this file needs more than the 200 MB of memory")
    monkeypatch.setenv("ETUDE_READER_MEMORY_BYTES", str(1024**3))
    monkeypatch.setenv("ETUDE_READER_TIMEOUT_SECONDS", "0.05")
    settings.get.cache_clear()
    version = read(db, upload(db, HEADER + rows(1000)))
    assert version.status is VersionStatus.FAILED
    assert version.reason is not None
    assert "took longer than" in version.reason


def test_a_file_that_does_not_get_on_is_given_up(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_READER_IDLE_SECONDS", "0.01")
    settings.get.cache_clear()
    version = read(db, upload(db, HEADER + rows(1000)))
    assert version.status is VersionStatus.FAILED
    assert version.reason is not None
    assert "made no progress" in version.reason
    # What comes after it is read as if nothing had been.
    monkeypatch.delenv("ETUDE_READER_IDLE_SECONDS")
    settings.get.cache_clear()
    assert read(db, upload(db, HEADER + rows(1000))).status is VersionStatus.MAPPING


def test_how_long_reading_may_take_goes_by_the_size() -> None:
    chosen = settings.load()
    assert chosen.reading_seconds(0) == 60
    assert chosen.reading_seconds(8 * 1024**3) == 60 + 8 * 30
    assert chosen.reading_seconds(2 * 1024**3, builds=True) == 60 + 2 * 300
    assert chosen.reading_seconds(8 * 1024**3, builds=True) == chosen.reader_timeout_seconds


def wait_for(condition: Any, seconds: float = 30) -> Any:
    until = time.monotonic() + patience.seconds(seconds)
    while not (found := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def start_worker() -> subprocess.Popen[bytes]:
    code = "from worker.cpu import reading; reading.read_next('cpu-gone')"
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_killed_worker_leaves_nothing_behind_and_another_takes_over(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_LEASE_SECONDS", "0.6")
    monkeypatch.setenv("ETUDE_SELF_FENCE_SECONDS", "0.4")
    monkeypatch.setenv("ETUDE_REAP_GRACE_SECONDS", "0.1")
    monkeypatch.setenv("ETUDE_HEARTBEAT_SECONDS", "0.1")
    settings.get.cache_clear()
    version = upload(db, HEADER + rows(20_000))
    read(db, version)
    mapping = versions.mapping_of(version)
    assert mapping is not None
    versions.confirm(db, first_user(db), version, mapping)
    db.commit()

    with start_worker() as worker:
        (child,) = wait_for(lambda: identity.children(worker.pid))
        os.kill(worker.pid, signal.SIGSTOP)  # the child waits until somebody takes what it says
        wait_for(
            lambda: b"app.datasets.readers.reader" in Path(f"/proc/{child}/cmdline").read_bytes()
        )
        # It parses strangers' files: no way to the database.
        environment = Path(f"/proc/{child}/environ").read_bytes()
        assert b"DATABASE_URL" not in environment
        assert b"ETUDE" not in environment.replace(b"ETUDE_WALLS=required", b"")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    wait_for(lambda: not is_alive(child))
    db.refresh(version)
    assert (version.status, version.worker_id) == (VersionStatus.BUILDING, "cpu-gone")
    assert num_examples(db, version) == 0

    def reaped() -> list[int]:
        found = leases.reap(db, leases.VERSIONS)
        db.commit()
        return found

    assert wait_for(reaped) == [version.id]
    read(db, version)
    assert (version.status, version.attempt, version.strikes) == (VersionStatus.READY, 3, 0)
    assert num_examples(db, version) == 20_000


def test_a_worker_that_lost_its_lease_writes_nothing(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_HEARTBEAT_SECONDS", "0.1")
    settings.get.cache_clear()
    version = upload(db, HEADER + rows(20_000))
    read(db, version)
    mapping = versions.mapping_of(version)
    assert mapping is not None
    versions.confirm(db, first_user(db), version, mapping)
    db.commit()
    with start_worker() as worker:
        (child,) = wait_for(lambda: identity.children(worker.pid))
        deletion.delete_dataset(db, first_user(db), version.dataset)
        db.commit()
        assert worker.wait(patience.seconds(30)) == 0
    assert not is_alive(child)
    db.refresh(version)
    assert (version.status, version.reason) == (VersionStatus.FAILED, "The dataset was deleted.")
    assert db.query(Example).count() == 0
    path = storage.path(version.file.storage_key)
    assert path.exists()
    assert not reading.read_next("cpu-0")  # but it removes what was deleted
    assert not path.exists()


def test_no_row_of_a_failed_statement_stays(db: Session) -> None:
    """The lease goes away while the examples are being written: all of them go as well."""
    version = upload(db, HEADER + rows(20))
    read(db, version)
    build(db, version)
    lease = leases.Lease(leases.VERSIONS, version.id, 99, VersionStatus.BUILDING, "cpu-0")
    db.execute(text("DELETE FROM example"))
    db.commit()
    examples.write(db, version, [b'5\t2\t[{"role":"user","content":"x"}]\t\n'], Drawn())
    with pytest.raises(leases.LeaseLost):
        leases.release(db, lease, VersionStatus.READY)
    db.rollback()
    assert num_examples(db, version) == 0


def test_what_was_read_wakes_those_who_train(
    db: Session, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that waits for its file must not wait for the next sweep as well."""
    monkeypatch.setenv("ETUDE_WORKER_ID", "cpu-0@test")
    bell = redis_client(broker, timeout_seconds=5)
    bell.delete("etude:gpu")
    upload(db, HEADER + rows(50))
    tasks.look_cpu()
    assert bell.llen("etude:gpu") >= 1
    bell.delete("etude:gpu")
    tasks.look_cpu()  # nothing to read: nothing to ring for
    assert bell.llen("etude:gpu") == 0
    bell.close()
