"""Copies of what machines share go from a machine's own disk within a limit, and come back."""

import os
import time
from pathlib import Path

import pytest

from app.core import local_copies, settings, storage
from app.training import manifests

SIZE = 100_000


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage that machines share; this one has room for two files and a half."""
    place = tmp_path / "shared"
    place.mkdir()
    monkeypatch.setenv("ETUDE_STORAGE", str(place))
    monkeypatch.setenv("ETUDE_COPY_CACHE_BYTES", str(5 * SIZE // 2))
    settings.get.cache_clear()
    return place


def put(number: int, hours: float = 0) -> storage.Stored:
    stored = storage.put("uploads", [bytes([number]) * SIZE])
    used(stored.key, hours)
    return stored


def used(key: str, hours: float) -> None:
    """Let something have been used last so long ago."""
    then = time.time() - hours * 3600
    os.utime(storage.path(key), (then, then))


def here(*stored: storage.Stored) -> list[bool]:
    return [storage.path(one.key).exists() for one in stored]


def test_what_was_used_least_recently_goes_and_comes_back() -> None:
    first, second, third, fourth = (put(number, 20 - number) for number in range(4))
    storage.file(first.key, first.sha256)  # somebody wants it just now
    assert local_copies.trim() == 2
    assert here(first, second, third, fourth) == [True, False, False, True]
    again = storage.file(second.key, second.sha256)
    assert again.read_bytes() == bytes([1]) * SIZE


def test_what_somebody_may_still_read_stays() -> None:
    kept = [put(number, hours=5) for number in range(4)]
    assert local_copies.trim() == 0
    assert all(here(*kept))


def test_being_read_by_a_backup_is_no_use() -> None:
    first, *others = (put(number, hours=20 - number) for number in range(4))
    storage.path(first.key).read_bytes()
    assert local_copies.trim() == 2
    assert here(first, *others) == [False, False, True, True]


def test_what_is_only_here_stays(shared: Path) -> None:
    kept = [put(number, hours=20) for number in range(4)]
    for one in kept[:3]:
        (shared / one.key).unlink()
    assert local_copies.trim() == 1
    assert here(*kept) == [True, True, True, False]


def test_nothing_goes_while_the_storage_is_away(shared: Path) -> None:
    kept = [put(number, hours=20) for number in range(4)]
    shared.rename(shared.with_name("not mounted"))
    assert local_copies.trim() == 0
    assert all(here(*kept))


def test_folders_count_and_go_as_a_whole(shared: Path) -> None:
    digests = {}
    for number in range(3):
        key = f"adapters/{number}"
        place = storage.path(key)
        place.mkdir(parents=True)
        (place / "adapter_model.safetensors").write_bytes(bytes([number]) * SIZE)
        digests[key] = manifests.write_manifest(place)
        if number:
            storage.share_folder(key)
        used(key, 20 - number)
    work = storage.path("exports/.work-1-1")  # somebody makes an export in it
    work.mkdir(parents=True)
    (work / "half").write_bytes(bytes(3 * SIZE))
    used("exports/.work-1-1", 30)
    assert local_copies.trim() == 1
    left = sorted(path.name for path in storage.path("adapters").iterdir())
    assert left == ["0", "2"]
    assert (work / "half").exists()
    again = storage.folder("adapters/1", digests["adapters/1"])
    assert manifests.verify_manifest(again) == digests["adapters/1"]


def test_without_a_shared_storage_nothing_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [put(number, hours=20) for number in range(4)]
    monkeypatch.setenv("ETUDE_STORAGE", "")
    settings.get.cache_clear()
    assert local_copies.trim() == 0
    assert all(here(*kept))
