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
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from app.core import outbound, processes, settings, walls
from app.jobs import fence, metrics
from app.training import failpoints
from app.training.plan.machine import tcmalloc
from worker import identity
from worker.gpu import spool
from worker.gpu.capped_log import CappedLog
from worker.trainer import deadline, keeping

_log = structlog.get_logger()

# What a trainer may see of our environment; no address, password or token is among it.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|PYTHONPATH|LD_LIBRARY_PATH|VIRTUAL_ENV|"
    rf"{failpoints.VARIABLE}|CUDA_(?!VISIBLE)\w+|NVIDIA_\w+|G?OMP_\w+|MKL_\w+|ATEN_CPU_CAPABILITY|ONEDNN_\w+|"
    r"TRITON_\w+|CC"
)
# After a kill, for a GPU's driver to clear up.
_GONE_SECONDS = 10
# To print where the threads are takes milliseconds.
_STACKS_SECONDS = 0.3
_LOG_TAIL_BYTES = 8000
_LOG_TAIL_LINES = 60
# More than this at once would make one transaction too long.
_READ_BYTES = 4 * 1024 * 1024


class DeviceBusy(Exception):
    """Another process holds the device."""


class Unkillable(Exception):
    """A process does not end although nobody can ignore the signal: the system holds it."""


class Garbled(Exception):
    """A line of events.jsonl is not an event."""


class Runner:
    """A trainer without a job. From `lock` on it holds the device for as long as it lives."""

    def __init__(self) -> None:
        self._is_unkillable = False
        self._note = settings.get().run_dir / f"{identity.worker_id()}.trainer.json"
        # One that neither its supervisor's end nor a signal of ours has ended holds the device.
        _kill_noted(self._note)
        # Opened now, so that the process inherits them, and locked later: a lock belongs to the
        # file as it was opened, which is the process's as much as ours.
        self._locks = _open_locks()
        try:
            self.process = self._start()
        except BaseException:
            _unlock(self._locks)
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        folder = settings.get().jobs_dir
        folder.mkdir(parents=True, exist_ok=True)
        self._log_path = folder / f".{identity.worker_id()}.log"
        # Not written on over and over: the last one's may have become some attempt's log.
        self._log_path.unlink(missing_ok=True)
        with self._log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", settings.get().trainer_module],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment(),
                start_new_session=True,
                pass_fds=self._locks,  # locked until the runner too has ended
            )
        try:
            _write_note(self._note, process.pid)
        except OSError:
            process.kill()
            process.wait()
            raise
        return process

    def lock(self, wait_seconds: float) -> None:
        """Take the device: a runner that waits takes it from no other worker that has it too.

        Raises:
            DeviceBusy: another process holds it; this runner has ended.
        """
        try:
            for handle in self._locks:
                _lock(handle, wait_seconds)
        except DeviceBusy:
            self.close()
            raise

    def is_waiting(self) -> bool:
        return self.process.poll() is None

    def hand_over(self, job_dir: Path, attempt_dir: Path) -> None:
        """Give it its job; what it prints is the attempt's log, from its first line on."""
        attempt_dir.mkdir(parents=True, exist_ok=True)
        self._log_path.rename(attempt_dir / "log.txt")
        _write_note(attempt_dir / "trainer.json", self.process.pid)
        self.tell(str(job_dir))
        failpoints.hit("trainer.started")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; its exit code says why
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def show_stacks(self) -> None:
        """Have it print where its threads are, if it can; what it prints is its log."""
        for pid in (self.process.pid, *identity.children(self.process.pid)):
            if identity.catches(pid, signal.SIGUSR1):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
        time.sleep(_STACKS_SECONDS)

    def kill(self) -> None:
        """End it and everything it started, at once.

        Raises:
            Unkillable: it does not end; it holds the device for as long.
        """
        # Of a job on several devices, one process a device, each a group of its own.
        ranks = {pid: processes.start_ticks(pid) for pid in identity.children(self.process.pid)}
        for pid in (self.process.pid, *ranks):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        try:
            self.process.wait(_GONE_SECONDS)
        except subprocess.TimeoutExpired:
            self._is_unkillable = True
            raise Unkillable(f"process {self.process.pid}") from None
        deadline = time.monotonic() + _GONE_SECONDS
        while any(
            started and processes.start_ticks(pid) == started for pid, started in ranks.items()
        ):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)

    def close(self) -> None:
        """Let go of process and device; kills what still lives."""
        if self.process.poll() is None and not self._is_unkillable:
            self.kill()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        _unlock(self._locks)


class _Waiting:
    """The runner that this worker keeps for its next job."""

    runner: Runner | None = None


def keep_warm() -> None:
    """Have a runner waiting.

    Of several devices it would only be the launcher, which loads nothing before there is a job.
    """
    if not settings.get().warm_runner or len(identity.devices()) > 1:
        return
    if _Waiting.runner is not None and not _Waiting.runner.is_waiting():
        let_go()
    if _Waiting.runner is None:
        try:
            _Waiting.runner = Runner()
        except OSError as error:  # the next job meets it as well, and says so
            _log.warning("runner.not_started", error=str(error))


def take_runner() -> Runner:
    """Return the runner that waits, or start one; an orphan may need a moment to leave the device.

    Raises:
        DeviceBusy: another process holds it still.
    """
    runner, _Waiting.runner = _Waiting.runner, None
    if runner is not None and not runner.is_waiting():
        runner.close()
        runner = None
    runner = runner or Runner()
    runner.lock(wait_seconds=10)
    return runner


def let_go() -> None:
    """End the runner that waits."""
    runner, _Waiting.runner = _Waiting.runner, None
    if runner is not None:
        runner.close()


class Trainer:
    """One attempt's trainer."""

    def __init__(self, claim: fence.Claim, runner: Runner, until: float) -> None:
        folder = spool.attempt_dir(claim)
        self._events_path = folder / "events.jsonl"
        self._log = CappedLog(folder / "log.txt")
        self._runner = runner
        self.process = runner.process
        self.offset = 0
        # Where the database was put back to an earlier moment, an attempt of this number has been.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        spool.note_start(folder, claim)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._deadline = os.open(folder / "deadline", flags, 0o644)
        self._committed = os.open(folder / "committed", flags, 0o644)
        self._committed_step = -1
        self.allow_until(until)
        self.keep(claim.resume_step)
        try:
            runner.hand_over(spool.job_dir(claim.job_id), folder)
        except BaseException:
            self.close()
            raise

    def read(self) -> Iterator[tuple[int, metrics.TrainerEvent]]:
        """Yield the events written since the last reading, each with the offset after it.

        Raises:
            Garbled: a line is not an event.
            NoNumber: a figure of an event is none.
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
            except metrics.NoNumber:
                raise
            except ValueError as error:
                raise Garbled from error
            yield self.offset, event

    def allow_until(self, until: float) -> None:
        """Let it make steps up to a moment of CLOCK_BOOTTIME."""
        deadline.write(self._deadline, until)

    def keep(self, step: int) -> None:
        """Have it keep the checkpoint of a step, which the database knows of."""
        if step != self._committed_step:
            keeping.write_committed(self._committed, step)
            self._committed_step = step

    def close(self) -> None:
        os.close(self._deadline)
        os.close(self._committed)

    def ask_to_stop(self) -> None:
        """Ask for a checkpoint now and an end."""
        self._runner.tell("stop")
        failpoints.hit("stop.asked")

    def show_stacks(self) -> None:
        """Have its log say where it is stuck."""
        self._runner.show_stacks()

    def kill(self) -> None:
        """End the trainer and everything it started, at once."""
        self._runner.kill()

    def cap_log(self) -> None:
        """Give the middle of a long log back to the disk."""
        self._log.cap()

    def log_tail(self) -> str:
        """Return the last lines that the trainer printed."""
        text = self._log.tail(_LOG_TAIL_BYTES).decode(errors="replace").replace("\0", "")
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])


def passed_on() -> dict[str, str]:
    """Return what every child that computes may see of our environment: no secret of ours."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    return (
        kept
        | walls.environment()
        | outbound.NO_TELEMETRY
        | {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    )


def environment() -> dict[str, str]:
    """Return a trainer's environment: what it needs, and no secret of ours."""
    kept = passed_on()
    if not identity.on_cpu():
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(identity.physical_devices())
        # Else below the home directory, which a service need not be able to write to.
        kept.setdefault("TRITON_CACHE_DIR", str(settings.get().cache_dir / "triton"))
    elif allocator := tcmalloc():
        kept["LD_PRELOAD"] = str(allocator)
    return kept


def trainer_device() -> str:
    """Return the device as each process of the trainer sees it: it is shown one GPU alone."""
    return "cpu" if identity.on_cpu() else "cuda:0"


def _open_locks() -> tuple[int, ...]:
    names = [f"gpu-{name}" for name in identity.physical_devices()]
    if identity.on_cpu():
        names = [identity.worker_id()]
    # In one order, so that two workers never wait for each other.
    return tuple(open_lock(name) for name in sorted(names))


def open_lock(name: str) -> int:
    """Open the file whose lock holds what bears this name; `gpu-0` is the first GPU."""
    folder = settings.get().run_dir
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _unlock(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)


def _lock(handle: int, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise DeviceBusy from None
            time.sleep(0.1)
        else:
            return


def kill_leftovers(job_id: int) -> None:
    """Kill trainers of a job's earlier attempts on this machine; the fence has ended them all."""
    for note in (spool.job_dir(job_id) / "attempts").glob("*/trainer.json"):
        _kill_noted(note)
        note.unlink(missing_ok=True)


def _write_note(note: Path, pid: int) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"pid": pid, "started": processes.start_ticks(pid)}))


def _kill_noted(note: Path) -> None:
    with suppress(OSError, ValueError, KeyError):
        noted = json.loads(note.read_text())
        if noted["started"] and processes.start_ticks(noted["pid"]) == noted["started"]:
            os.killpg(noted["pid"], signal.SIGKILL)
