"""/v1/files with the official client: in, list, out, gone; and what is refused."""

import io
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings, storage
from app.core.models import DatasetVersion, Role, StoredFile, User, VersionStatus
from tests import factories, http
from tests.app.web.v1.conftest import connect

CSV = b"question,answer\nWhere is the tea?,In the blue cupboard.\n"
DECIDED = {"x_privacy": {"decision": "keep", "reason": "invented for a test"}}


def upload(
    api: OpenAI,
    name: str = "ward.csv",
    content: bytes = CSV,
    headers: dict[str, str] | None = None,
) -> str:
    return api.files.create(
        file=(name, content), purpose="fine-tune", extra_headers=headers, extra_body=DECIDED
    ).id


def version_of(db: Session, file_id: str) -> DatasetVersion:
    db.expire_all()
    return db.scalars(
        select(DatasetVersion).join(StoredFile).where(StoredFile.public_id == file_id)
    ).one()


def incoming() -> list[Path]:
    return list((settings.get().storage_dir / "incoming").iterdir())


def test_a_file_goes_in_and_comes_out_unchanged(api: OpenAI, db: Session) -> None:
    sent = api.files.create(file=("../../ward.csv", CSV), purpose="fine-tune")
    assert (sent.object, sent.bytes, sent.filename) == ("file", len(CSV), "ward.csv")
    assert (sent.purpose, sent.status) == ("fine-tune", "uploaded")
    version = version_of(db, sent.id)
    assert version.auto_confirm
    assert version.status is VersionStatus.UPLOADED
    assert sent.status_details == "Waiting to be read."
    assert api.files.content(sent.id).read() == CSV
    assert incoming() == []


def test_status_tells_how_the_reading_went(api: OpenAI, db: Session) -> None:
    file_id = upload(api)
    version = version_of(db, file_id)
    version.status, version.num_train = VersionStatus.READY, 18
    factories.pass_gate(db, version)
    ready = api.files.retrieve(file_id)
    assert ready.status == "processed"
    assert ready.model_extra is not None
    assert ready.model_extra["x_num_train"] == 18
    version.status, version.reason = VersionStatus.FAILED, "Line 3 has no answer."
    db.commit()
    failed = api.files.retrieve(file_id)
    assert (failed.status, failed.status_details) == ("error", "Line 3 has no answer.")


def test_lists_page_by_themselves_newest_first(api: OpenAI) -> None:
    sent = [upload(api, f"ward-{number}.csv") for number in range(5)]
    assert [file.id for file in api.files.list(limit=2)] == sent[::-1]
    assert [file.id for file in api.files.list(limit=2, order="asc")] == sent
    first = api.files.list(limit=2)
    assert first.has_more
    assert [file.id for file in first.data] == sent[:2:-1]
    assert not api.files.list(limit=5).has_more
    assert list(api.files.list(purpose="fine-tune-results")) == []


def test_a_page_after_an_unknown_id_is_refused(api: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        api.files.list(after="file-0123")
    assert raised.value.param == "after"


def test_a_deleted_file_is_gone_for_good(api: OpenAI, db: Session) -> None:
    file_id = upload(api)
    assert api.files.delete(file_id).deleted
    assert version_of(db, file_id).dataset.deleted_at is not None
    for gone in (api.files.retrieve, api.files.content, api.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file_id)
    assert list(api.files.list()) == []


def test_a_file_in_use_stays_and_the_client_is_told_not_to_try_again(
    api: OpenAI, db: Session, user: User
) -> None:
    file_id = upload(api)
    factories.make_job(db, user=user, version=version_of(db, file_id))
    with pytest.raises(openai.ConflictError) as raised:
        api.files.delete(file_id)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert api.files.retrieve(file_id).id == file_id


def test_what_is_not_done_is_refused_by_name(api: OpenAI, db: Session) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        api.files.create(file=("ward.csv", CSV), purpose="batch")
    assert (raised.value.param, raised.value.code) == ("purpose", "unsupported")
    with pytest.raises(openai.BadRequestError) as raised:
        api.files.create(
            file=("ward.csv", CSV),
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
    assert (raised.value.param, raised.value.code) == ("expires_after", "unsupported")
    assert db.scalars(select(StoredFile)).all() == []
    assert incoming() == []


def test_how_a_sheet_is_read_can_be_said(api: OpenAI, db: Session) -> None:
    said = {"x_header_row": 2, "x_hidden": "take_in", "x_merged": "leave_blank"}
    said |= {"x_separators": "german"}
    sent = api.files.create(file=("a.csv", CSV), purpose="fine-tune", extra_body=said)
    kept = {"header_row": 2, "hidden": "take_in", "merged": "leave_blank"}
    kept |= {"separators": "german"}
    assert version_of(db, sent.id).read_as == kept
    for wrong in ({"x_header_row": "two"}, {"x_hidden": "all"}, {"x_merged": "no"}):
        with pytest.raises(openai.BadRequestError) as raised:
            api.files.create(file=("b.csv", CSV), purpose="fine-tune", extra_body=wrong)
        assert raised.value.param == next(iter(wrong))


def test_how_a_quiz_or_a_chat_is_read_can_be_said(api: OpenAI, db: Session) -> None:
    said = {"x_options": "letters", "x_pause_minutes": 30, "x_speakers": {"Desk": "assistant"}}
    sent = api.files.create(file=("a.csv", CSV), purpose="fine-tune", extra_body=said)
    kept = {"options": "letters", "pause_minutes": 30, "speakers": {"Desk": "assistant"}}
    assert version_of(db, sent.id).read_as == kept
    of_one = {"a.gift": {"options": "list"}}
    sent = api.files.create(
        file=("c.csv", CSV), purpose="fine-tune", extra_body={"x_files": of_one}
    )
    assert version_of(db, sent.id).read_as == {"files": of_one}
    for wrong in (
        {"x_options": "all"},
        {"x_pause_minutes": 0},
        {"x_pause_minutes": 99_999},
        {"x_files": {"a.gift": {"options": "all"}}},
        {"x_files": {"a.gift": {"header_row": 1}}},
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            api.files.create(file=("b.csv", CSV), purpose="fine-tune", extra_body=wrong)
        assert raised.value.param == next(iter(wrong))


def test_an_empty_file_is_refused_and_leaves_nothing(api: OpenAI, db: Session) -> None:
    with pytest.raises(openai.BadRequestError, match="empty"):
        upload(api, content=b"")
    assert db.scalars(select(StoredFile)).all() == []
    assert list((settings.get().storage_dir / "uploads").glob("*")) == []


def test_a_file_over_the_limit_is_refused_while_it_arrives(
    api: OpenAI, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings.get(), "max_upload_bytes", 100_000)
    # 50 kB more than the limit is less than a form may add to it: only counting finds out.
    for size in (150_000, 1_000_000):
        with pytest.raises(openai.APIStatusError) as raised:
            upload(api, content=b"x" * size)
        assert (raised.value.status_code, raised.value.code) == (413, "too_large")
    assert db.scalars(select(StoredFile)).all() == []
    assert incoming() == []
    assert upload(api, content=b"x" * 100_000).startswith("file-")


def test_a_broken_form_is_a_sentence(api: OpenAI, address: str) -> None:
    headers = {
        "authorization": f"Bearer {api.api_key}",
        "content-type": "multipart/form-data; boundary=b",
    }
    field = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b--'
    for body, sentence in (
        (b"--b\r\n", "ends before its last boundary"),
        (b"nonsense", "cannot be read"),
        (field, "Missing required parameter: file."),
    ):
        response = http.post(f"{address}/v1/files", headers=headers, content=body)
        assert response.status_code == 400
        assert sentence in response.json()["error"]["message"]
    assert incoming() == []


def test_bytes_that_look_like_a_boundary_survive(api: OpenAI) -> None:
    content = b"\r\n--".join([b"question,answer", b"-" * 70_000, b"\r\n----\r\n", b"end"]) * 40
    file_id = upload(api, content=content)
    assert api.files.content(file_id).read() == content


def test_a_repeated_upload_makes_one_file(api: OpenAI, db: Session) -> None:
    first = upload(api)
    again = {"x-stainless-retry-count": "1"}
    assert upload(api, headers=again) == first
    assert upload(api, content=CSV + b"And the milk?,In the fridge.\n", headers=again) != first
    assert upload(api) != first
    assert len(db.scalars(select(StoredFile)).all()) == 3


def test_files_belong_to_a_department(api: OpenAI, address: str, db: Session) -> None:
    file_id = upload(api)
    stranger = factories.make_user(db, department=factories.make_department(db))
    with connect(db, address, stranger) as theirs:
        assert list(theirs.files.list()) == []
        for deed in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
            with pytest.raises(openai.NotFoundError):
                deed(file_id)
        with pytest.raises(openai.BadRequestError):
            theirs.files.list(after=file_id)


def test_a_viewer_may_look_only(api: OpenAI, address: str, db: Session) -> None:
    file_id = upload(api)
    with connect(db, address, factories.make_user(db, role=Role.VIEWER)) as viewer:
        assert viewer.files.content(file_id).read() == CSV
        with pytest.raises(openai.PermissionDeniedError):
            upload(viewer)
        with pytest.raises(openai.PermissionDeniedError):
            viewer.files.delete(file_id)


def test_the_stored_bytes_are_the_sent_ones(api: OpenAI, db: Session) -> None:
    content = bytes(range(256)) * 20_000  # 5 MB: several flushes
    file_id = api.files.create(file=("b.bin", io.BytesIO(content)), purpose="fine-tune").id
    file = version_of(db, file_id).file
    assert storage.path(file.storage_key).read_bytes() == content
    assert file.size_bytes == len(content)


def test_a_file_that_the_disk_has_lost_is_a_sentence(api: OpenAI, db: Session) -> None:
    sent = upload(api)
    file = db.scalars(select(StoredFile)).one()
    storage.path(file.storage_key).unlink()
    with pytest.raises(openai.NotFoundError, match="no longer on the server's disk"):
        api.files.content(sent)
