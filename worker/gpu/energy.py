"""What an attempt's devices take, read from counters that only grow: the GPU's, or the processor's.

Nothing is estimated here: where no counter can be read, nothing is claimed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import Attempt
from worker import identity
from worker.gpu import nvml

Source = Literal["gpu", "cpu"]


@dataclass(frozen=True)
class Counter:
    """One counter of joules that begins again at `range_joules`, if it does."""

    read: Callable[[], float]
    range_joules: float = 0.0


class Meter:
    """Adds up what some counters have counted since it was made."""

    def __init__(self, counters: Sequence[Counter], source: Source) -> None:
        self.source = source
        self.joules = 0.0
        self._last: list[tuple[Counter, float]] = []
        for counter in counters:
            with suppress(OSError, ValueError):
                self._last.append((counter, counter.read()))

    @property
    def is_measuring(self) -> bool:
        return bool(self._last)

    def sample(self) -> float:
        """Read the counters; call it more often than one of them can run full (every minute)."""
        following = []
        for counter, last in self._last:
            now = last
            with suppress(OSError, ValueError):
                now = counter.read()
            grown = now - last
            if grown < 0:  # it ran full, or began at nought when the driver was loaded again
                grown = grown + counter.range_joules if counter.range_joules else now
            self.joules += grown
            following.append((counter, now))
        self._last = following
        return self.joules

    def note(self, session: Session, job_id: int, attempt: int) -> None:
        """Write down what has been taken so far; what a crash leaves is then nearly all of it."""
        if self.is_measuring:
            session.execute(
                update(Attempt)
                .where(Attempt.job_id == job_id, Attempt.number == attempt)
                .values(energy_joules=self.sample(), energy_source=self.source)
                .execution_options(synchronize_session=False)
            )


def meter() -> Meter:
    """Begin to measure this worker's devices."""
    if identity.on_cpu():
        return Meter(processor_counters(settings.get().powercap_dir), "cpu")
    return Meter(gpu_counters(identity.physical_devices()), "gpu")


def processor_counters(folder: Path) -> list[Counter]:
    """Return a counter a processor (RAPL), where the kernel lets us read them."""
    counters = []
    for domain in sorted(folder.glob("intel-rapl:*")):
        # Its parts (core, dram) are folders of the same form, with one colon more.
        with suppress(OSError, ValueError):
            if (domain / "name").read_text().startswith("package"):
                file = domain / "energy_uj"
                full = float((domain / "max_energy_range_uj").read_text()) / 1e6
                file.read_text()
                counters.append(Counter(lambda file=file: float(file.read_text()) / 1e6, full))  # type: ignore[misc]
    return counters


def gpu_counters(devices: Sequence[str]) -> list[Counter]:
    """Return a counter a GPU, named by index or UUID; none where the driver or card has none."""
    import pynvml

    counters = []
    try:
        for handle in nvml.handles(devices):
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            counters.append(Counter(lambda handle=handle: _gpu_joules(handle)))  # type: ignore[misc]
    except pynvml.NVMLError:
        return []  # half of a job's GPUs would be a wrong sum
    return counters


def _gpu_joules(handle: object) -> float:
    import pynvml

    try:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except pynvml.NVMLError as error:
        raise OSError(str(error)) from None
