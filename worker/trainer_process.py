"""The trainer as a child process: start it clean, read its events, stop it, and know its end.

A runner is a trainer that waits for its one job: loading torch takes longer than anything else
between a press of the button and the first loss, so an idle worker has that behind it already.

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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from app import jobs, metrics, settings, training_plan
from worker import identity, spool

# What a trainer may see of our environment; no address, password or token is among it.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH|VIRTUAL_ENV|"
    r"CUDA_(?!VISIBLE)\w+|NVIDIA_\w+|G?OMP_\w+|MKL_\w+|ATEN_CPU_CAPABILITY|ONEDNN_\w+"
)
# After a kill, for a GPU's driver to clear up.
_GONE_SECONDS = 10
_LOG_TAIL_BYTES = 8000
_LOG_TAIL_LINES = 60
# More than this at once would make one transaction too long.
_READ_BYTES = 4 * 1024 * 1024


class DeviceBusy(Exception):
    """Another process holds the device."""


class Garbled(Exception):
    """A line of events.jsonl is not an event."""


class Runner:
    """A trainer without a job. It holds the device for as long as it lives.

    Raises:
        DeviceBusy: another process holds the device.
    """

    def __init__(self, wait_seconds: float) -> None:
        self._locks = _lock_devices(wait_seconds)
        folder = settings.get().jobs_dir
        folder.mkdir(parents=True, exist_ok=True)
        self._log_path = folder / f".{identity.worker_id()}.log"
        # Not written on over and over: the last one's may have become some attempt's log.
        self._log_path.unlink(missing_ok=True)
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", settings.get().trainer_module],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment(),
                start_new_session=True,
                pass_fds=self._locks,  # locked until the runner too has ended
            )

    def is_waiting(self) -> bool:
        return self.process.poll() is None

    def hand_over(self, job_dir: Path, attempt_dir: Path) -> None:
        """Give it its job; what it prints is the attempt's log, from its first line on."""
        attempt_dir.mkdir(parents=True, exist_ok=True)
        self._log_path.rename(attempt_dir / "log.txt")
        note = {"pid": self.process.pid, "started": identity.start_ticks(self.process.pid)}
        (attempt_dir / "trainer.json").write_text(json.dumps(note))
        self.tell(str(job_dir))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; its exit code says why
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def kill(self) -> None:
        """End it and everything it started, at once."""
        # Of a job on several devices, one process a device, each a group of its own.
        ranks = {pid: identity.start_ticks(pid) for pid in identity.children(self.process.pid)}
        for pid in (self.process.pid, *ranks):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + _GONE_SECONDS
        while any(
            started and identity.start_ticks(pid) == started for pid, started in ranks.items()
        ):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)

    def close(self) -> None:
        """Let go of process and device; kills what still lives."""
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        _unlock(self._locks)


class _Waiting:
    """The runner that this worker keeps for its next job."""

    runner: Runner | None = None


def keep_warm() -> None:
    """Have a runner waiting; where the device is not free yet, the next job starts its own."""
    if not settings.get().warm_runner:
        return
    if _Waiting.runner is not None and not _Waiting.runner.is_waiting():
        let_go()
    if _Waiting.runner is None:
        with suppress(DeviceBusy):
            _Waiting.runner = Runner(wait_seconds=0)


def take_runner() -> Runner:
    """Return the runner that waits, or start one; an orphan may need a moment to leave the device.

    Raises:
        DeviceBusy: another process holds it still.
    """
    runner, _Waiting.runner = _Waiting.runner, None
    if runner is not None:
        if runner.is_waiting():
            return runner
        runner.close()
    return Runner(wait_seconds=10)


def let_go() -> None:
    """End the runner that waits."""
    runner, _Waiting.runner = _Waiting.runner, None
    if runner is not None:
        runner.close()


class Trainer:
    """One attempt's trainer."""

    def __init__(self, claim: jobs.Claim, runner: Runner) -> None:
        folder = spool.attempt_dir(claim)
        self._events_path = folder / "events.jsonl"
        self._log_path = folder / "log.txt"
        self._runner = runner
        self.process = runner.process
        self.offset = 0
        runner.hand_over(spool.job_dir(claim.job_id), folder)

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
        self._runner.tell("stop")

    def kill(self) -> None:
        """End the trainer and everything it started, at once."""
        self._runner.kill()

    def log_tail(self) -> str:
        """Return the last lines that the trainer printed."""
        try:
            with self._log_path.open("rb") as file:
                file.seek(max(0, self._log_path.stat().st_size - _LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace").replace("\0", "")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])


def environment() -> dict[str, str]:
    """Return a trainer's environment: what it needs, and no secret of ours."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    kept |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if not identity.on_cpu():
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(identity.physical_devices())
    elif allocator := training_plan.tcmalloc():
        kept["LD_PRELOAD"] = str(allocator)
    return kept


def trainer_device() -> str:
    """Return the device as each process of the trainer sees it: it is shown one GPU alone."""
    return "cpu" if identity.on_cpu() else "cuda:0"


def _lock_devices(wait_seconds: float) -> tuple[int, ...]:
    names = [f"gpu-{name}" for name in identity.physical_devices()]
    if identity.on_cpu():
        names = [identity.worker_id()]
    handles: list[int] = []
    try:
        # In one order, so that two workers never wait for each other.
        for name in sorted(names):
            handles.append(_lock_device(name, wait_seconds))
    except DeviceBusy:
        _unlock(handles)
        raise
    return tuple(handles)


def _unlock(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)


def _lock_device(name: str, wait_seconds: float) -> int:
    folder = settings.get().run_dir
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(handle)
                raise DeviceBusy(name) from None
            time.sleep(0.1)
        else:
            return handle


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
