"""/v1/uploads with the official client: a file in parts, joined once, and nothing left behind."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings, storage
from app.core.models import DatasetVersion, Role, StoredFile
from app.datasets import part_uploads
from tests import factories, http
from tests.app.web.v1.conftest import connect
from tests.app.web.v1.test_errors import body_of
from tests.app.web.v1.test_files import CSV, DECIDED, incoming, version_of
from tests.small_disk import small_disk
from worker import sweep

PIECES = [CSV[:10], CSV[10:30], CSV[30:]]
ANNOUNCED: dict[str, Any] = {"filename": "ward.csv", "mime_type": "text/csv"}


def begin(api: OpenAI, size: int = len(CSV), **given: Any) -> str:
    return api.uploads.create(**{**ANNOUNCED, "bytes": size, "purpose": "fine-tune", **given}).id


def add(api: OpenAI, upload_id: str, data: bytes) -> str:
    return api.uploads.parts.create(upload_id, data=data).id


def folder(upload_id: str) -> Path:
    return settings.get().storage_dir / "parts" / upload_id


def parts_of(upload_id: str) -> list[Path]:
    return sorted(folder(upload_id).glob("part_*"))


def age(upload_id: str, seconds: float) -> None:
    """Let an upload have begun so long before."""
    info = folder(upload_id) / "upload.json"
    known = json.loads(info.read_text())
    known["created_at"] -= seconds
    info.write_text(json.dumps(known))


def code_of(error: pytest.ExceptionInfo[openai.APIStatusError]) -> tuple[int, object, object]:
    return error.value.status_code, error.value.code, error.value.param


def test_parts_become_one_file_in_the_order_that_is_named(api: OpenAI, db: Session) -> None:
    upload = api.uploads.create(bytes=len(CSV), purpose="fine-tune", **ANNOUNCED)
    assert (upload.object, upload.status, upload.file) == ("upload", "pending", None)
    assert (upload.bytes, upload.filename, upload.purpose) == (len(CSV), "ward.csv", "fine-tune")
    assert upload.expires_at == upload.created_at + 3600
    last, first, middle = (add(api, upload.id, PIECES[i]) for i in (2, 0, 1))
    part = api.uploads.parts.create(upload.id, data=b"never used")
    assert (part.object, part.upload_id) == ("upload.part", upload.id)
    done = api.uploads.complete(
        upload.id,
        part_ids=[first, middle, last],
        md5=hashlib.md5(CSV, usedforsecurity=False).hexdigest().upper(),
        extra_body=DECIDED,
    )
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.filename, done.file.bytes, done.file.status) == (
        "ward.csv",
        len(CSV),
        "uploaded",
    )
    assert api.files.content(done.file.id).read() == CSV
    version = version_of(db, done.file.id)
    assert version.auto_confirm
    assert version.file.sha256 == hashlib.sha256(CSV).hexdigest()
    assert api.files.retrieve(done.file.id) == done.file
    assert sorted(path.name for path in folder(upload.id).iterdir()) == ["lock", "upload.json"]
    assert incoming() == []


def test_the_clients_helper_sends_a_file_in_parts(api: OpenAI, address: str, db: Session) -> None:
    content = bytes(range(256)) * 4000
    done = api.uploads.upload_file_chunked(
        file=content,
        filename="b.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="fine-tune",
        part_size=300_000,
    )
    assert done.file is not None
    assert api.files.content(done.file.id).read() == content

    async def at_once() -> Any:
        async with AsyncOpenAI(
            base_url=f"{address}/v1", api_key=api.api_key, max_retries=0
        ) as client:
            given: dict[str, Any] = {**ANNOUNCED, "bytes": 60_000, "purpose": "fine-tune"}
            upload = await client.uploads.create(**given)
            parts = await asyncio.gather(
                *(client.uploads.parts.create(upload.id, data=bytes([i]) * 6000) for i in range(10))
            )
            return await client.uploads.complete(upload.id, part_ids=[part.id for part in parts])

    together = asyncio.run(at_once())
    assert api.files.content(together.file.id).read() == b"".join(
        bytes([i]) * 6000 for i in range(10)
    )


def test_completing_twice_makes_one_file(api: OpenAI, db: Session) -> None:
    upload_id = begin(api)
    ids = [add(api, upload_id, piece) for piece in PIECES]
    first = api.uploads.complete(upload_id, part_ids=ids)
    again = api.uploads.complete(upload_id, part_ids=ids)
    assert again == first
    assert len(db.scalars(select(StoredFile)).all()) == 1


def test_what_a_killed_process_left_is_joined_by_the_next_try(api: OpenAI, db: Session) -> None:
    upload_id = begin(api)
    ids = [add(api, upload_id, piece) for piece in PIECES]
    info = folder(upload_id) / "upload.json"
    known = json.loads(info.read_text())
    known["order"] = [[part, len(piece)] for part, piece in zip(ids, PIECES, strict=True)]
    info.write_text(json.dumps(known))
    # it died while it appended the second part to the first
    (folder(upload_id) / ids[0]).rename(folder(upload_id) / "joined")
    with (folder(upload_id) / "joined").open("ab") as whole:
        whole.write(PIECES[1][:7])
    with pytest.raises(openai.BadRequestError) as raised:
        api.uploads.complete(upload_id, part_ids=ids[::-1])
    assert code_of(raised)[2] == "part_ids"
    with pytest.raises(openai.ConflictError):
        add(api, upload_id, b"late")
    done = api.uploads.complete(upload_id, part_ids=ids)
    assert done.file is not None
    assert api.files.content(done.file.id).read() == CSV
    # it died once the file was there, before it had said so
    known = json.loads(info.read_text())
    known.update(state="pending", file_id=None)
    info.write_text(json.dumps(known))
    again = api.uploads.complete(upload_id, part_ids=ids)
    assert again.file == done.file
    assert len(db.scalars(select(StoredFile)).all()) == 1


def test_how_a_sheet_is_read_can_be_said_at_the_end(api: OpenAI, db: Session) -> None:
    upload_id = begin(api)
    ids = [add(api, upload_id, piece) for piece in PIECES]
    words = {"x_speakers": {"Desk": "assistant"}, "x_roles": {"Ana": "user"}}
    of_one = {"x_files": {"a.gift": {"options": "list"}}}
    said = {"x_header_row": 0, "x_hidden": "take_in", "x_placeholders": True} | words | of_one
    said["x_continued"] = False
    api.uploads.complete(upload_id, part_ids=ids, extra_body=said)
    version = db.scalars(select(DatasetVersion)).one()
    assert version.read_as == {
        "header_row": 0,
        "hidden": "take_in",
        "files": {"a.gift": {"options": "list"}},
        "roles": {"Ana": "user"},
        "speakers": {"Desk": "assistant"},
        "placeholders": True,
        "continued": False,
    }


def test_parts_that_are_not_the_file_are_refused_and_kept(api: OpenAI, db: Session) -> None:
    upload_id = begin(api)
    ids = [add(api, upload_id, piece) for piece in PIECES]
    other = add(api, begin(api), CSV)
    for given, param in (
        ({"part_ids": ids[:2]}, "part_ids"),
        ({"part_ids": [*ids, ids[0]]}, "part_ids[3]"),
        ({"part_ids": [other]}, "part_ids[0]"),
        ({"part_ids": ["../../etc/passwd"]}, "part_ids[0]"),
        ({"part_ids": []}, "part_ids"),
        ({"part_ids": ids, "md5": "0" * 32}, "md5"),
        ({"part_ids": ids, "md5": "no"}, "md5"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            api.uploads.complete(upload_id, **given)
        assert code_of(raised)[2] == param
    assert db.scalars(select(StoredFile)).all() == []
    assert len(parts_of(upload_id)) == 3
    assert api.uploads.complete(upload_id, part_ids=ids).status == "completed"


def test_a_cancelled_upload_is_gone(api: OpenAI) -> None:
    upload_id = begin(api)
    part = add(api, upload_id, CSV)
    assert api.uploads.cancel(upload_id).status == "cancelled"
    assert api.uploads.cancel(upload_id).status == "cancelled"
    assert parts_of(upload_id) == []
    for late in (
        lambda: add(api, upload_id, CSV),
        lambda: api.uploads.complete(upload_id, part_ids=[part]),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            late()
        assert code_of(raised) == (400, "upload_over", None)
    done = begin(api)
    api.uploads.complete(done, part_ids=[add(api, done, CSV)])
    with pytest.raises(openai.BadRequestError):
        api.uploads.cancel(done)


def test_an_upload_lives_for_an_hour(api: OpenAI, db: Session) -> None:
    upload_id = begin(api)
    part = add(api, upload_id, CSV)
    age(upload_id, 3590)
    add(api, upload_id, CSV)
    age(upload_id, 20)
    for late in (
        lambda: add(api, upload_id, CSV),
        lambda: api.uploads.complete(upload_id, part_ids=[part]),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            late()
        assert code_of(raised) == (400, "upload_over", None)
    sweep.clean(db)
    assert parts_of(upload_id) == []
    assert folder(upload_id).exists()
    age(upload_id, 24 * 3600)
    sweep.clean(db)
    assert not folder(upload_id).exists()
    with pytest.raises(openai.NotFoundError):
        add(api, upload_id, CSV)


def test_too_much_is_refused_while_it_arrives(api: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.get(), "max_upload_bytes", 100_000)
    with pytest.raises(openai.APIStatusError) as raised:
        begin(api, 100_001)
    assert code_of(raised) == (413, "too_large", "bytes")
    monkeypatch.setattr(settings.get(), "max_upload_bytes", 10**9)
    upload_id = begin(api, 1500)
    for size in (part_uploads.MAX_PART_BYTES + 1, part_uploads.MAX_PART_BYTES + 100_000):
        with pytest.raises(openai.APIStatusError) as raised:
            add(api, upload_id, b"x" * size)
        assert code_of(raised) == (413, "too_large", "data")
    half = b"x" * 40_000_000
    add(api, upload_id, half)  # a part may come twice, and not without end
    with pytest.raises(openai.APIStatusError) as raised:
        add(api, upload_id, half)
    assert code_of(raised) == (413, "too_large", "data")
    assert len(parts_of(upload_id)) == 1
    assert incoming() == []


def test_what_is_announced_wrongly_is_refused_by_name(api: OpenAI, address: str) -> None:
    good = {**ANNOUNCED, "bytes": 5, "purpose": "fine-tune"}
    headers = {"authorization": f"Bearer {api.api_key}"}
    for given, code, param in (
        ({"bytes": 0}, "invalid_value", "bytes"),
        ({"bytes": "5"}, "invalid_value", "bytes"),
        ({"bytes": True}, "invalid_value", "bytes"),
        ({"purpose": "batch"}, "unsupported", "purpose"),
        ({"expires_after": {"anchor": "created_at"}}, "unsupported", "expires_after"),
        ({"filename": "a.exe"}, "invalid_request", "filename"),
        ({"filename": ""}, "invalid_value", "filename"),
        ({"size": 5}, "unknown_parameter", "size"),
    ):
        response = http.post(f"{address}/v1/uploads", headers=headers, json={**good, **given})
        assert response.status_code == 400
        error = body_of(response)
        assert (error["code"], error["param"]) == (code, param)
    upload_id = begin(api)
    response = http.post(f"{address}/v1/uploads/{upload_id}/parts", headers=headers, json={})
    assert (response.status_code, body_of(response)["code"]) == (400, "invalid_form")
    with pytest.raises(openai.BadRequestError):
        add(api, upload_id, b"")
    too_much = {**good, "filename": "a" * 3_000_000}
    response = http.post(f"{address}/v1/uploads", headers=headers, json=too_much)
    assert response.status_code == 413


def test_an_upload_is_its_owners(api: OpenAI, address: str, db: Session) -> None:
    upload_id = begin(api)
    with connect(db, address, factories.make_user(db)) as colleague:
        for deed in (
            lambda: add(colleague, upload_id, CSV),
            lambda: colleague.uploads.complete(upload_id, part_ids=["part_0"]),
            lambda: colleague.uploads.cancel(upload_id),
        ):
            with pytest.raises(openai.NotFoundError):
                deed()
    viewer = factories.make_user(db, role=Role.VIEWER)
    with connect(db, address, viewer) as theirs, pytest.raises(openai.PermissionDeniedError):
        begin(theirs)
    for odd in ("upload_0", "...", "a b"):
        with pytest.raises(openai.NotFoundError):
            add(api, odd, CSV)


def test_a_file_that_cannot_be_kept_leaves_nothing(api: OpenAI, db: Session) -> None:
    upload_id = begin(api)
    part = add(api, upload_id, CSV)
    wrong = {"x_privacy": {"decision": "keep", "reason": "no"}}
    with pytest.raises(openai.BadRequestError):
        api.uploads.complete(upload_id, part_ids=[part], extra_body=wrong)
    assert len(parts_of(upload_id)) == 1
    assert db.scalars(select(StoredFile)).all() == []
    assert list(storage.path("uploads").glob("*")) == []
    assert api.uploads.complete(upload_id, part_ids=[part], extra_body=DECIDED).file


def test_a_full_disk_leaves_nothing_of_a_part(api: OpenAI, db: Session) -> None:
    upload = begin(api, 2 * len(CSV))
    arriving = settings.get().storage_dir / "incoming"
    with small_disk(arriving, "64k"):
        with pytest.raises(openai.APIStatusError) as refused:
            add(api, upload, bytes(300 * 1024))
        assert refused.value.status_code == 507
        assert isinstance(refused.value.body, dict)
        assert set(refused.value.body) == {"message", "type", "param", "code"}
        assert "disk" in refused.value.message
        assert str(arriving) not in refused.value.message
        assert list(arriving.iterdir()) == []
    assert parts_of(upload) == []
    parts = [add(api, upload, piece) for piece in (CSV, CSV)]
    assert len(parts_of(upload)) == len(parts) == 2
