"""A model from an administrator's browser, as its requests: pieces, breaks, ends, refusals."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.base_models import registry as base_models
from app.base_models import uploads
from app.core import disk, settings
from app.core.models import BaseModel, ModelStatus, Role
from tests.app.web.pages import PIECE, TUS, sign_in
from tests.factories import make_base_model, make_user
from tests.small_disk import small_disk

HEAD = (2).to_bytes(8, "little") + b"{}"  # of a file of safetensors without weights
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": HEAD + bytes(range(246)) + bytes(range(256)) * 39,
}
OTHERS = {"pytorch_model.bin": b"a pickle", "original/config.json": b"{}"}


@pytest.fixture
def admin(client: TestClient, db: Session, data_dir: Path) -> TestClient:
    return sign_in(client, db, make_user(db, role=Role.ADMIN))


def offered(files: dict[str, bytes], name: str = "house/tiny") -> dict[str, object]:
    listed = [{"path": path, "size_bytes": len(data)} for path, data in files.items()]
    return {"name": name, "files": listed}


def begin(client: TestClient, name: str = "house/tiny") -> tuple[str, dict[str, str]]:
    """Returns the upload's id and where each file goes."""
    answer = client.post("/models/uploads", json=offered(FILES | OTHERS, name))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], {each["path"]: each["url"] for each in answer.json()["files"]}


def send(client: TestClient, url: str, data: bytes, offset: int = 0) -> int:
    headers = {**PIECE, "Upload-Offset": str(offset), "Accept": "text/plain"}
    answer = client.patch(url, content=data[offset:], headers=headers)
    return answer.status_code


def complete(client: TestClient, name: str = "house/tiny") -> str:
    upload_id, places = begin(client, name)
    for path, url in places.items():
        assert send(client, url, FILES[path]) == 204
    return upload_id


def test_only_administrators_upload_models(client: TestClient, db: Session, data_dir: Path) -> None:
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    upload_id, places = begin(client)
    for role in (Role.LEAD, Role.MEMBER, Role.VIEWER):
        sign_in(client, db, make_user(db, role=role))
        assert "Upload a model" not in client.get("/models").text
        assert client.post("/models/uploads", json=offered(FILES)).status_code == 403
        url = places["model.safetensors"]
        assert send(client, url, b"x") == 403
        assert client.head(url, headers=TUS).status_code == 403
        for end in ("finish", "cancel"):
            assert client.post(f"/models/uploads/{upload_id}/{end}").status_code == 403
        assert client.post("/models/upload", files={"file": b"GGUF"}).status_code == 403
    client.cookies.clear()
    assert send(client, places["model.safetensors"], b"x") == 401


def test_a_folder_comes_in_pieces_and_goes_on_after_a_break(admin: TestClient, db: Session) -> None:
    upload_id, places = begin(admin)
    assert sorted(places) == sorted(FILES)  # no pickle, and nothing of other folders
    weights = places["model.safetensors"]
    data = FILES["model.safetensors"]
    assert admin.patch(weights, content=data[:3000], headers={**PIECE, "Upload-Offset": "0"})
    assert send(admin, weights, data, 2999) == 409
    assert admin.post(f"/models/uploads/{upload_id}/finish").status_code == 409
    assert ": 3.0 kB of 10.2 kB are" in admin.get("/models").text
    # The page was loaded afresh: the same files under the same name go on.
    again, same = begin(admin)
    assert (again, same) == (upload_id, places)
    look = admin.head(weights, headers=TUS)
    assert (look.headers["upload-offset"], look.headers["upload-length"]) == (
        "3000",
        str(len(data)),
    )
    assert send(admin, weights, data, 3000) == 204
    for name in ("config.json", "tokenizer.json"):
        assert send(admin, places[name], FILES[name]) == 204
    assert send(admin, weights, data + b"more", len(data)) == 413
    done = admin.post(f"/models/uploads/{upload_id}/finish")
    assert done.status_code == 200, done.text
    model = base_models.by_name(db, "house/tiny")
    assert model.source == {"kind": "upload", "id": upload_id}
    folder = base_models.uploaded_folder(upload_id)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert "to continue" not in admin.get("/models").text
    assert send(admin, weights, data) == 404
    assert admin.post(f"/models/uploads/{upload_id}/finish").status_code == 404


def test_a_piece_may_be_larger_than_any_form(admin: TestClient) -> None:
    data = HEAD + bytes(range(256)) * 12_000
    files = FILES | {"model.safetensors": data}
    answer = admin.post("/models/uploads", json=offered(files)).json()
    url = next(each["url"] for each in answer["files"] if each["path"] == "model.safetensors")
    assert send(admin, url, data) == 204
    assert admin.head(url, headers=TUS).headers["upload-offset"] == str(len(data))
    whole = admin.post(
        "/models/upload",
        data={"upload_name": "house/q"},
        files={"file": ("q.gguf", b"GGUF" + data)},
    )
    assert whole.status_code == 200


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"\x80\x02}q\x00", "is no safetensors file inside"),
        (b"PK\x03\x04", "is no safetensors file inside"),
        (b"<!doctype html>", "is no safetensors file inside"),
        ((2**40).to_bytes(8, "little") + b"{", "is no safetensors file inside"),
        ((20_000).to_bytes(8, "little") + b"{", "is no safetensors file inside"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run “git lfs pull”"),
    ],
)
def test_a_file_of_another_kind_is_refused_after_its_first_piece(
    admin: TestClient, first: bytes, words: str
) -> None:
    _, places = begin(admin)
    url, data = places["model.safetensors"], first + bytes(200)
    assert send(admin, url, data[:10]) == 204  # nobody can tell yet
    for offset in (10, len(data)):
        headers = {**PIECE, "Upload-Offset": str(offset), "Accept": "text/plain"}
        answer = admin.patch(url, content=data[10:], headers=headers)
        assert answer.status_code == 422
        assert words in answer.text
    # And nothing more comes to it.
    assert admin.head(url, headers=TUS).headers["upload-offset"] == str(len(data))


def test_a_form_with_a_file_of_another_kind_leaves_nothing_behind(admin: TestClient) -> None:
    file = {"file": ("q.gguf", b"GGML" + bytes(200))}
    answer = admin.post("/models/upload", data={"upload_name": "house/q"}, files=file)
    assert answer.status_code == 422
    assert "q.gguf is no GGUF file inside" in answer.text
    assert not list(settings.get().storage_dir.glob("model-uploads/*/*"))


def test_another_file_of_the_same_name_is_another_upload(admin: TestClient) -> None:
    first, _ = begin(admin)
    newer = offered(FILES)
    newer["files"][0]["modified"] = 7  # type: ignore[index]
    assert admin.post("/models/uploads", json=newer).json()["id"] != first


def test_a_wrong_folder_is_told_before_a_byte_of_it_comes(admin: TestClient) -> None:
    answer = admin.post("/models/uploads", json=offered(OTHERS), headers={"Accept": "text/plain"})
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("The model's files lie in") or "pickle" in answer.text
    assert not list(settings.get().storage_dir.glob("model-uploads/*"))


@pytest.mark.parametrize("name", ["", "../x", "a b", "house/taken"])
def test_a_name_that_cannot_be_is_told_at_once(admin: TestClient, db: Session, name: str) -> None:
    make_base_model(db, name="house/taken")
    answer = admin.post("/models/uploads", json=offered(FILES, name))
    assert answer.status_code == (409 if name == "house/taken" else 422)


def test_a_model_too_large_is_refused(admin: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_MAX_MODEL_UPLOAD_BYTES", "10000")
    settings.get.cache_clear()
    answer = admin.post("/models/uploads", json=offered(FILES))
    assert answer.status_code == 413
    assert "ETUDE_MAX_MODEL_UPLOAD_BYTES" in answer.text


def test_room_is_held_for_the_upload_and_its_copy(
    admin: TestClient, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    total = sum(map(len, FILES.values()))
    with small_disk(settings.get().storage_dir, "64k") as place:
        upload_id, places = begin(admin)
        with pytest.raises(disk.NoRoom):
            disk.Reservation(64 * 1024 - total, [place / "x"])
        # The next one needs as much again, twice.
        data = offered(FILES | {"model.safetensors": bytes(24 * 1024)}, "house/other")
        refused = admin.post("/models/uploads", json=data, headers={"Accept": "text/plain"})
        assert refused.status_code == 507
        assert "make room on the server's disk first" in refused.text
        # What holds nothing any more may go on where there is room.
        send(admin, places["model.safetensors"], FILES["model.safetensors"])
        assert begin(admin)[0] == upload_id
        admin.post(f"/models/uploads/{upload_id}/cancel")
        assert not (place / "model-uploads" / upload_id).exists()
        assert admin.post("/models/uploads", json=data).status_code == 201


def test_the_room_for_a_quantized_file_is_that_of_its_checked_copy(
    admin: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its name until its head is here, then by that: 9 kB of weights become 32 kB."""
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    data = quantized(tmp_path / "q.gguf", num_rows=256)
    with small_disk(settings.get().storage_dir, "64k") as place:

        def begin_one(name: str) -> tuple[str, str]:
            answer = admin.post("/models/uploads", json=offered({name: data}, "house/q"))
            assert answer.status_code == 201, answer.text
            return answer.json()["id"], answer.json()["files"][0]["url"]

        refused = admin.post("/models/uploads", json=offered({"q.Q2_K.gguf": data}, "house/two"))
        assert refused.status_code == 507
        _, url = begin_one("q.Q4_0.gguf")
        assert send(admin, url, data[:9000]) == 204
        held = len(data) - 9000 + 2 * 64 * 256
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        with pytest.raises(disk.NoRoom):
            disk.Reservation(free - held + 1, [place / "x"])
        with disk.Reservation(free - held, [place / "x"]):
            pass
        assert send(admin, url, data, 9000) == 204

    with small_disk(settings.get().storage_dir, "40k") as place:
        _, url = begin_one("q.f16.gguf")  # which it is not
        assert send(admin, url, data[:9000]) == 507
        assert send(admin, url, data, 9000) == 507
        assert next(place.rglob("*.part")).stat().st_size == 9000


def quantized(path: Path, num_rows: int) -> bytes:
    """A GGUF file of 64 weights a row, in four bits each."""
    writer = GGUFWriter(path, "llama")
    packed = np.zeros((num_rows, 18 * 2), dtype=np.uint8)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_an_administrator_cancels_what_another_began(
    admin: TestClient, client: TestClient, db: Session
) -> None:
    upload_id, places = begin(admin)
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert f'action="/models/uploads/{upload_id}/cancel"' in client.get("/models").text
    assert client.post(f"/models/uploads/{upload_id}/cancel").status_code == 200
    assert send(client, places["config.json"], b"{}") == 404
    assert not base_models.uploaded_folder(upload_id).parent.exists()


def test_so_many_uploads_and_no_more(admin: TestClient) -> None:
    for number in range(uploads.MAX_OPEN):
        begin(admin, f"house/model-{number}")
    answer = admin.post("/models/uploads", json=offered(FILES, "house/one-more"))
    assert answer.status_code == 409
    begin(admin, "house/model-0")  # which goes on


def test_what_nobody_goes_on_with_is_removed_and_what_waits_stays(
    admin: TestClient, db: Session
) -> None:
    waits = complete(admin, "house/waits")
    assert admin.post(f"/models/uploads/{waits}/finish").status_code == 200
    left, _ = begin(admin, "house/left")
    old = time.time() - uploads.STALE_SECONDS - 60
    for upload_id in (waits, left):
        place = base_models.uploaded_folder(upload_id).parent
        for path in (*place.iterdir(), place):
            os.utime(path, (old, old))
    begin(admin, "house/new")
    assert base_models.uploaded_folder(waits).is_dir()
    assert not base_models.uploaded_folder(left).parent.exists()
    model = base_models.by_name(db, "house/waits")
    model.status = ModelStatus.READY
    db.commit()
    begin(admin, "house/newer")
    assert not base_models.uploaded_folder(waits).exists()


def test_a_model_whose_import_failed_is_uploaded_again_in_its_place(
    admin: TestClient, db: Session
) -> None:
    first = complete(admin)
    admin.post(f"/models/uploads/{first}/finish")
    model = base_models.by_name(db, "house/tiny")
    model.status, model.reason = ModelStatus.FAILED, "The disk was full."
    db.commit()
    page = admin.get("/models").text
    assert "Import again" in page
    uploads.forget(first)
    page = admin.get("/models").text
    assert "Import again" not in page
    assert "Upload it again below" in page
    assert admin.post(f"/models/{model.id}/import").status_code == 409
    second = complete(admin)
    done = admin.post(f"/models/uploads/{second}/finish", headers={"Accept": "text/plain"})
    assert done.status_code == 200, done.text
    db.refresh(model)
    assert (model.status, model.source["id"]) == (ModelStatus.WAITING, second)
    assert db.query(BaseModel).count() == 1


def test_a_plain_form_sends_one_gguf_file(admin: TestClient, db: Session) -> None:
    file = {"file": ("Qwen 3.gguf", b"GGUF and more")}
    answer = admin.post("/models/upload", data={"upload_name": "house/plain"}, files=file)
    assert answer.url.path == "/models"
    model = base_models.by_name(db, "house/plain")
    (kept,) = base_models.uploaded_folder(model.source["id"]).iterdir()
    assert (kept.name, kept.read_bytes()) == ("Qwen-3.gguf", b"GGUF and more")
    again = admin.post("/models/upload", data={"upload_name": "house/plain"}, files=file)
    assert again.status_code == 409
    assert "already a starting model called house/plain" in again.text
    no_model = {"file": ("photo.jpg", b"JFIF")}
    wrong = admin.post("/models/upload", data={"upload_name": "house/photo"}, files=no_model)
    assert wrong.status_code == 422
    assert "neither safetensors files nor a GGUF file" in wrong.text
    assert 'value="house/photo"' in wrong.text
