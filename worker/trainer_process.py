"""The trainer as a child process: start it clean, read its events, stop it, and know its end.

It dies with its supervisor: standard input is a pipe whose other end only we hold, and a thread in
the trainer ends it at end of file. Its own process group lets a kill reach all that it started.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app import jobs, metrics, settings
from worker import identity, spool

# What a trainer may see of our environment; no address, password or token is among it.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH|VIRTUAL_ENV|"
    r"CUDA_(?!VISIBLE)\w+|NVIDIA_\w+|G?OMP_\w+|MKL_\w+|ATEN_CPU_CAPABILITY|ONEDNN_\w+"
)
_LOG_TAIL_BYTES = 8000
_LOG_TAIL_LINES = 60
# More than this at once would make one transaction too long.
_READ_BYTES = 4 * 1024 * 1024


class DeviceBusy(Exception):
    """Another process holds the device."""


class Garbled(Exception):
    """A line of events.jsonl is not an event."""


class Trainer:
    """One attempt's trainer."""

    def __init__(self, claim: jobs.Claim, lock_fd: int) -> None:
        self.folder = spool.attempt_dir(claim)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._events_path = self.folder / "events.jsonl"
        self._log_path = self.folder / "log.txt"
        self.offset = 0
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", settings.get().trainer_module],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(),
                start_new_session=True,
                pass_fds=(lock_fd,),  # the device stays locked until the trainer too has ended
            )
        note = {"pid": self.process.pid, "started": identity.start_ticks(self.process.pid)}
        (self.folder / "trainer.json").write_text(json.dumps(note))
        self._tell(str(spool.job_dir(claim.job_id)))

    def read(self) -> Iterator[tuple[int, metrics.TrainerEvent]]:
        """Yield the events written since the last reading, each with the offset after it.

        Raises:
            Garbled: a line is not an event.
        """
        try:
            with self._events_path.open("rb") as file:
                file.seek(self.offset)
                chunk = file.read(_READ_BYTES)
        except FileNotFoundError:
            return
        for line in chunk.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return  # its other half is still on the way
            self.offset += len(line)
            try:
                event = metrics.parse(line)
            except ValueError as error:
                raise Garbled from error
            yield self.offset, event

    def ask_to_stop(self) -> None:
        """Ask for a checkpoint now and an end."""
        self._tell("stop")

    def kill(self) -> None:
        """End the trainer and everything it started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Let go of the pipe; kills what still lives."""
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def log_tail(self) -> str:
        """Return the last lines that the trainer printed."""
        try:
            with self._log_path.open("rb") as file:
                file.seek(max(0, self._log_path.stat().st_size - _LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace").replace("\0", "")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; its exit code says why
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()


def environment() -> dict[str, str]:
    """Return a trainer's environment: what it needs, and no secret of ours."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    kept |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if identity.device() != "cpu":
        kept["CUDA_VISIBLE_DEVICES"] = identity.physical_device()
    return kept


def trainer_device() -> str:
    """Return the device as the trainer sees it: it is shown one GPU alone."""
    return "cpu" if identity.device() == "cpu" else "cuda:0"


@contextmanager
def device_lock(wait_seconds: float = 10) -> Iterator[int]:
    """Hold the device; an earlier trainer may need a moment to notice that it is an orphan.

    Raises:
        DeviceBusy: another process holds it still.
    """
    is_cpu = identity.device() == "cpu"
    name = identity.worker_id() if is_cpu else f"gpu-{identity.physical_device()}"
    folder = settings.get().run_dir
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DeviceBusy(name) from None
                time.sleep(0.1)
        yield handle
    finally:
        os.close(handle)


def kill_leftovers(job_id: int) -> None:
    """Kill trainers of a job's earlier attempts on this machine; the fence has ended them all."""
    for note in (spool.job_dir(job_id) / "attempts").glob("*/trainer.json"):
        _kill_noted(note)
        note.unlink(missing_ok=True)


def _kill_noted(note: Path) -> None:
    with suppress(OSError, ValueError, KeyError):
        noted = json.loads(note.read_text())
        if noted["started"] and identity.start_ticks(noted["pid"]) == noted["started"]:
            os.killpg(noted["pid"], signal.SIGKILL)
