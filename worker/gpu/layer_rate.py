"""How fast this worker's CPU computes, timed once beside the worker's start; no torch here.

A child of the trainer's kind does it (worker/trainer/products.py). What it found holds until the
machine is started anew.
"""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import structlog

from app.core import settings
from worker import identity
from worker.gpu import trainer_process

_TRAINER = "worker.trainer"
_MOST_SECONDS = 300  # on a machine that is busy beyond measure
_log = structlog.get_logger()


class LayerRate:
    """Times a layer in a thread of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._found = 0.0

    def take(self) -> float:
        """Return what was found, in FLOP/s on all cores together; 0 where nothing was yet.

        The first call begins it. There is nothing to time where a GPU trains, or another program
        than ours.
        """
        chosen = settings.get()
        if not (identity.on_cpu() and chosen.warm_runner and chosen.trainer_module == _TRAINER):
            return 0.0
        if self._thread is None:
            self._found = _kept()
            self._thread = threading.Thread(target=self._time, name="layer-rate", daemon=True)
            if not self._found:
                self._thread.start()
        return self._found

    def _time(self) -> None:
        try:
            said = subprocess.run(
                [sys.executable, "-m", f"{_TRAINER}.products"],
                env=trainer_process.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_MOST_SECONDS,
                check=True,
            )
            found = float(json.loads(said.stdout)["rate"])
            _keep(found)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            # Times are then worked out from what other machines reached.
            _log.warning("layer.not_timed", error=str(error))
        else:
            self._found = found


def _kept() -> float:
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(_file().read_text())
        if kept["boot_id"] == identity.boot_id() and kept["version"] == identity.etude_version():
            return float(kept["rate"])
    return 0.0


def _keep(rate: float) -> None:
    about = {"boot_id": identity.boot_id(), "version": identity.etude_version(), "rate": rate}
    _file().parent.mkdir(parents=True, exist_ok=True)
    _file().write_text(json.dumps(about))


def _file() -> Path:
    return settings.get().cache_dir / f"{identity.worker_id()}.layer-rate.json"
