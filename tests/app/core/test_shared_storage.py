"""What one machine puts another opens, compared at both ends; by a folder and by a real server."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import settings, shared_storage, storage
from app.core.shared_storage import Damaged, StorageAway
from app.training import manifests
from tests import shared_stores

BYTES = b"wash your hands " * 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with shared_stores.s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "bucket"])
def shared(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> shared_storage.SharedStorage:
    if request.param == "folder":
        (tmp_path / "mounted").mkdir()
        monkeypatch.setenv("ETUDE_STORAGE", str(tmp_path / "mounted"))
    else:
        address = request.getfixturevalue("server")
        for name, value in shared_stores.bucket_settings(address, tmp_path.name).items():
            monkeypatch.setenv(name, value)
    on("one", tmp_path, monkeypatch)
    found = shared_storage.get()
    assert found is not None
    return found


def on(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another machine from now on: one with a disk of its own."""
    monkeypatch.setenv("ETUDE_DATA_DIR", str(tmp_path / machine))
    settings.get.cache_clear()


@pytest.fixture(autouse=True)
def forget_settings() -> Iterator[None]:
    yield
    settings.get.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a manifest, under the key `adapters/seven` of machine one."""
    place = tmp_path / "one" / "storage" / "adapters" / "seven"
    place.mkdir(parents=True)
    (place / "adapter_model.safetensors").write_bytes(BYTES)
    (place / "adapter_config.json").write_text("{}")
    manifests.write_manifest(place)
    return place


def put_over(shared: shared_storage.SharedStorage, key: str, body: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(body)
    shared.put(key, tmp_path / "other")


def test_what_one_machine_puts_another_opens(
    shared: shared_storage.SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = storage.put("uploads", [BYTES[:10], BYTES[10:]])
    on("two", tmp_path, monkeypatch)
    here = storage.file(stored.key, stored.sha256)
    assert here == tmp_path / "two" / "storage" / stored.key
    assert here.read_bytes() == BYTES
    assert [path.name for path in here.parent.iterdir()] == [here.name]


def test_other_bytes_than_were_put_are_not_used(
    shared: shared_storage.SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = storage.put("uploads", [BYTES])
    put_over(shared, stored.key, BYTES[:-1] + b"!", tmp_path)
    on("two", tmp_path, monkeypatch)
    with pytest.raises(Damaged, match="is not what was put there"):
        storage.file(stored.key, stored.sha256)
    assert list((tmp_path / "two" / "storage" / "uploads").iterdir()) == []


def test_what_arrives_otherwise_than_it_was_sent_is_taken_back(
    shared: shared_storage.SharedStorage, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(BYTES)
    with pytest.raises(StorageAway, match="did not keep a file as it was sent"):
        shared_storage.send(shared, "uploads/x", file, "0" * 64)
    with pytest.raises(FileNotFoundError):
        list(shared.read("uploads/x"))


def test_a_folder_arrives_whole(
    shared: shared_storage.SharedStorage,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = manifests.verify_manifest(folder)
    storage.share_folder("adapters/seven")
    on("two", tmp_path, monkeypatch)
    here = storage.folder("adapters/seven", digest)
    assert manifests.verify_manifest(here) == digest
    assert here == tmp_path / "two" / "storage" / "adapters" / "seven"
    assert [path.name for path in here.parent.iterdir()] == ["seven"]


def test_a_folder_with_a_changed_file_or_half_of_one_does_not_arrive(
    shared: shared_storage.SharedStorage,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = manifests.verify_manifest(folder)
    storage.share_folder("adapters/seven")
    on("two", tmp_path, monkeypatch)
    put_over(shared, "adapters/seven/adapter_config.json", b"[]", tmp_path)
    with pytest.raises(Damaged):
        storage.folder("adapters/seven", digest)
    put_over(shared, "adapters/seven/MANIFEST.json", b"{}", tmp_path)
    with pytest.raises(Damaged):
        storage.folder("adapters/seven", digest)
    shared.delete("adapters/seven/adapter_model.safetensors")
    shared.put("adapters/seven/MANIFEST.json", folder / "MANIFEST.json")
    shared.put("adapters/seven/adapter_config.json", folder / "adapter_config.json")
    assert not storage.folder("adapters/seven", digest).exists()
    assert list((tmp_path / "two" / "storage" / "adapters").iterdir()) == []


def test_what_is_deleted_is_gone_everywhere_else_too(
    shared: shared_storage.SharedStorage,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = manifests.verify_manifest(folder)
    stored = storage.put("uploads", [BYTES])
    storage.share_folder("adapters/seven")
    on("two", tmp_path, monkeypatch)
    storage.delete(stored.key)
    storage.delete("adapters/seven")
    storage.delete("adapters/seven")  # already gone
    assert not storage.file(stored.key, stored.sha256).exists()
    assert not storage.folder("adapters/seven", digest).exists()


def test_what_nobody_has_written_for_long_is_found(
    shared: shared_storage.SharedStorage,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage.share_folder("adapters/seven")
    on("two", tmp_path, monkeypatch)
    assert storage.left_over("adapters", seconds=600) == set()
    assert storage.left_over("adapters", seconds=-600) == {"adapters/seven"}
    assert storage.left_over("results", seconds=-600) == set()
    on("one", tmp_path, monkeypatch)
    an_hour_ago = time.time() - 3600
    os.utime(folder, (an_hour_ago, an_hour_ago))
    assert storage.left_over("adapters", seconds=600) == {"adapters/seven"}


def test_a_storage_that_is_away_takes_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_STORAGE", str(tmp_path / "not mounted"))
    on("one", tmp_path, monkeypatch)
    with pytest.raises(StorageAway, match="is it mounted"):
        storage.put("uploads", [BYTES])
    assert list((tmp_path / "one" / "storage" / "uploads").iterdir()) == []
    assert not (tmp_path / "not mounted").exists()


def test_a_server_that_has_gone_takes_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_stores.s3_server() as address:
        for name, value in shared_stores.bucket_settings(address).items():
            monkeypatch.setenv(name, value)
        on("one", tmp_path, monkeypatch)
        kept = storage.put("uploads", [BYTES])
    with pytest.raises(StorageAway, match="cannot be used"):
        storage.put("uploads", [BYTES])
    assert [path.name for path in (tmp_path / "one/storage/uploads").iterdir()] == [
        kept.key.rpartition("/")[2]
    ]
    shutil.rmtree(tmp_path / "one" / "storage")
    with pytest.raises(StorageAway):
        storage.file(kept.key, kept.sha256)
    storage.delete(kept.key)  # the sweep finds it once the server is back


def test_without_a_shared_storage_all_stays_here(data_dir: Path) -> None:
    stored = storage.put("uploads", [BYTES])
    assert storage.file(stored.key, stored.sha256) == data_dir / "storage" / stored.key
    shutil.rmtree(data_dir)
    assert not storage.file(stored.key, stored.sha256).exists()


@pytest.mark.parametrize("place", ["shared", "s3:bucket", "s3://", "https://bucket", "../x"])
def test_a_storage_of_no_known_kind_is_refused(
    place: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_STORAGE", place)
    with pytest.raises(SystemExit, match="ETUDE_STORAGE"):
        settings.load()


def test_a_bucket_needs_its_server_and_keys(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_STORAGE", "s3://shared/site")
    monkeypatch.setenv("ETUDE_S3_ENDPOINT", "https://files.example.org")
    with pytest.raises(SystemExit, match="ETUDE_S3_KEY and ETUDE_S3_SECRET"):
        settings.load()
