"""How long a trainer may be silent: a multiple of a usual step, or a fixed time while it loads."""

import statistics
import time
from collections import deque

from app.core import settings
from app.jobs.metrics import TrainerEvent
from app.training.events import CheckpointEvent, PhaseEvent, StepEvent

# Steps differ in length; only one this many times the usual is a stall.
_STALL_FACTOR = 20
_LOADING = frozenset({"starting", "loading", "preparing", "probing"})


class Watchdog:
    """Knows the pace of one attempt from its events."""

    def __init__(self) -> None:
        self._settings = settings.get()
        self._phase = "starting"
        self._heard_at = time.monotonic()
        self._step_at: float | None = None
        self._step_seconds: deque[float] = deque(maxlen=50)

    def hear(self, event: TrainerEvent) -> None:
        """Take note of an event at the moment that it was read."""
        now = self._heard_at = time.monotonic()
        match event:
            case PhaseEvent():
                self._phase, self._step_at = event.phase, None
            case StepEvent():
                if self._step_at is not None:
                    self._step_seconds.append(now - self._step_at)
                self._step_at = now
            case CheckpointEvent():
                self._step_at = None

    def is_stalled(self) -> bool:
        """Say whether the trainer has been silent for too long."""
        return time.monotonic() - self._heard_at > self._patience()

    def _patience(self) -> float:
        if self._phase in _LOADING:
            return self._settings.load_timeout_seconds
        usual = statistics.median(self._step_seconds) if self._step_seconds else 0.0
        return max(self._settings.stall_seconds, _STALL_FACTOR * usual)
