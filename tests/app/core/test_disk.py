"""Room that is promised to one is nobody else's, and comes back when it is over."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import disk, settings
from tests.small_disk import small_disk

MB = 1024**2
HOLDS = """
import sys
from pathlib import Path
from app.core import disk, settings
place = settings.get().data_dir / sys.argv[1]
try:
    with disk.Reservation(12 * 1024**2, [place]):
        print("holds", flush=True)
        sys.stdin.read()
except disk.NoRoom:
    print("refused", flush=True)
"""


@pytest.fixture
def place(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory on a disk of 20 MB, of which nothing stays free."""
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    with small_disk(data_dir, "20m"):
        yield data_dir


def holder(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_no_byte_is_promised_twice(place: Path) -> None:
    with disk.Reservation(12 * MB, [place / "one"]):
        with pytest.raises(disk.NoRoom) as short:
            disk.Reservation(12 * MB, [place / "two"])
        assert short.value.needed_bytes == 12 * MB
        assert short.value.free_bytes < 9 * MB
        disk.Reservation(7 * MB, [place / "two"]).close()
    disk.Reservation(12 * MB, [place / "two"]).close()


def test_what_is_written_counts_once(place: Path) -> None:
    with disk.Reservation(12 * MB, [place / "one"]):
        (place / "one").mkdir()
        (place / "one" / "file").write_bytes(bytes(11 * MB))
        disk.Reservation(7 * MB, [place / "two"]).close()
        with pytest.raises(disk.NoRoom):
            disk.Reservation(9 * MB, [place / "two"])


def test_of_several_processes_one_has_it(place: Path) -> None:
    processes = [holder(str(number)) for number in range(4)]
    try:
        said = [process.stdout.readline().strip() for process in processes if process.stdout]
        assert sorted(said) == ["holds", "refused", "refused", "refused"]
    finally:
        for process in processes:
            process.communicate()


def test_what_a_killed_process_held_comes_back(place: Path) -> None:
    process = holder("one")
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "holds"
    with pytest.raises(disk.NoRoom):
        disk.Reservation(12 * MB, [place / "two"])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    disk.Reservation(12 * MB, [place / "two"]).close()
    assert [path.name for path in (place / "promises").iterdir()] == ["lock"]


def test_a_promise_outlives_processes_and_ends_with_its_file(place: Path) -> None:
    info = place / "info"
    info.touch()
    disk.promise(12 * MB, [place / "part"], info, quiet_seconds=3600)
    with pytest.raises(disk.NoRoom):
        disk.Reservation(12 * MB, [place / "two"])
    info.unlink()
    disk.Reservation(12 * MB, [place / "two"]).close()


def test_who_sends_nothing_keeps_nobody_from_sending(place: Path) -> None:
    info, part = place / "info", place / "part"
    info.touch()
    part.touch()
    disk.promise(12 * MB, [part], info, quiet_seconds=3600)
    for path in [part, *(place / "promises").glob("*.json")]:
        os.utime(path, (1, 1))
    disk.Reservation(12 * MB, [place / "two"]).close()


def test_it_grows_as_far_as_there_is_room(place: Path) -> None:
    with disk.Reservation(2 * MB, [place / "one"]) as room:
        room.grow(10 * MB)
        with pytest.raises(disk.NoRoom):
            room.grow(10 * MB)
        with pytest.raises(disk.NoRoom):
            disk.Reservation(12 * MB, [place / "two"])
    assert room.size_bytes == 12 * MB
