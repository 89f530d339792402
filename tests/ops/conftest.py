"""Real workers, as in tests/worker, and a processor whose energy counter can be turned."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import settings
from tests.worker.conftest import gpu_worker, quick  # noqa: F401

FULL_UJ = 5_000_000


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel shows of two processors and a part of one."""
    for domain, name in (("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"),
                         ("intel-rapl:0:0", "core")):  # fmt: skip
        folder = tmp_path / "powercap" / domain
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{FULL_UJ}\n")
        (folder / "energy_uj").write_text("4000000\n")
    monkeypatch.setenv("ETUDE_POWERCAP_DIR", str(tmp_path / "powercap"))
    settings.get.cache_clear()
    return tmp_path / "powercap"


def take(powercap: Path, domain: str, joules: float) -> None:
    file = powercap / domain / "energy_uj"
    grown = (int(file.read_text()) + int(joules * 1e6)) % FULL_UJ
    draft = file.with_name("draft")
    draft.write_text(f"{grown}\n")
    draft.rename(file)


@pytest.fixture
def load(powercap: Path) -> Iterator[list[float]]:
    """The processor takes 0.1 J every 50 ms, while what it took is written down.

    The counter runs full every 2.5 s: whoever reads it less often cannot know how often it did.
    """
    taken = [0.0]
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.05):
            take(powercap, "intel-rapl:0", 0.1)
            taken[0] += 0.1

    thread = threading.Thread(target=run)
    thread.start()
    yield taken
    stop.set()
    thread.join()
