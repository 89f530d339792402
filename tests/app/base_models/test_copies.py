"""Models that a machine fetched by their hash: kept within a limit, and never dropped in use."""

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.base_models import copies
from app.core import disk, settings, storage
from app.training import manifests

SIZE = 100_000


@pytest.fixture
def models(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three models in the storage that machines share, none of them here; room for two."""
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("ETUDE_STORAGE", str(tmp_path / "shared"))
    monkeypatch.setenv("ETUDE_MODEL_CACHE_BYTES", str(5 * SIZE // 2))
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    found = []
    for number in range(3):
        source = tmp_path / f"model-{number}"
        source.mkdir()
        (source / "model.safetensors").write_bytes(bytes([number]) * SIZE)
        sha256 = manifests.write_manifest(source)
        storage.share_folder(copies.key(sha256), source)
        found.append(sha256)
    return found


def use(sha256: str, size: int = SIZE) -> None:
    with copies.in_use(copies.place(sha256), sha256, size):
        assert manifests.verify_manifest(copies.place(sha256)) == sha256


def here(models: list[str]) -> list[int]:
    return [number for number, sha256 in enumerate(models) if copies.place(sha256).exists()]


def test_what_was_used_least_recently_goes_first(models: list[str]) -> None:
    for number in (0, 1, 0):
        use(models[number])
        time.sleep(0.02)  # the file system's clock has moved on
    assert here(models) == [0, 1]
    use(models[2])
    assert here(models) == [0, 2]
    assert not list(copies.place(models[0]).parent.glob("*.partial"))


def test_what_is_in_use_is_never_dropped(models: list[str]) -> None:
    with ExitStack() as stack:
        for number in (0, 1):
            stack.enter_context(copies.in_use(copies.place(models[number]), models[number], SIZE))
        with pytest.raises(disk.NoRoom):
            use(models[2])
        copies.drop_unknown([])
        assert here(models) == [0, 1]
    use(models[2])
    assert 2 in here(models)


def test_another_process_that_uses_one_keeps_it(models: list[str]) -> None:
    program = (
        "import sys; from app.base_models import copies\n"
        "with copies.in_use(copies.place(sys.argv[1]), sys.argv[1], int(sys.argv[2])):\n"
        "    print('using', flush=True); sys.stdin.read()"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", program, models[0], str(SIZE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"ETUDE_DATA_DIR": str(settings.get().data_dir)},
    )
    try:
        assert user.stdout is not None
        assert any(line == b"using\n" for line in user.stdout)
        use(models[1])
        copies.drop_unknown([])
        assert here(models) == [0]
    finally:
        user.kill()
        user.communicate()
    copies.drop_unknown([])
    assert here(models) == []


def test_two_that_want_the_same_fetch_it_once(
    models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [threading.Thread(target=use, args=(models[0],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert here(models) == [0]


def test_one_that_is_larger_than_the_limit_is_refused(models: list[str]) -> None:
    use(models[0])
    with pytest.raises(disk.NoRoom):
        use(models[1], size=3 * SIZE)


def test_one_that_nobody_shares_is_not_found(models: list[str]) -> None:
    with pytest.raises(FileNotFoundError):
        use("0" * 64)
    assert here(models) == []


def test_an_imported_one_is_no_copy(models: list[str], data_dir: Path) -> None:
    imported = data_dir / "models" / "tiny-1"
    with copies.in_use(imported, models[0], 100 * SIZE):
        assert here(models) == []


def test_half_of_one_is_fetched_anew(models: list[str]) -> None:
    half = copies.place(models[0]).with_name(f"{models[0]}.00.partial")
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    use(models[0])
    assert not half.exists()
