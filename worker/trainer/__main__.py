"""python -m worker.trainer: JOB_DIR on standard input; events.jsonl and an exit code out.

The end of standard input is the death of the supervisor: a thread waits for it and ends this
process at once. A warm runner is this very program, started before there is a job: it loads torch
first and reads JOB_DIR then.
"""

import errno
import fcntl
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pydantic import ValidationError

from app import isolation, train_config
from app.train_config import FailedEvent, TrainConfig, TrainerSpec

if TYPE_CHECKING:
    from worker.trainer.events import EventLog
    from worker.trainer.failures import Failure

_LOCK_SECONDS = 10  # an orphan of this job ends within two, by its death pipe


class Commands:
    """Lines from the supervisor: first JOB_DIR, then wishes."""

    def __init__(self, source: IO[str]) -> None:
        self._source = source
        self._first: queue.Queue[str] = queue.Queue()
        self._stop = threading.Event()

    def listen(self) -> None:
        """Read in the background; the end of the lines ends this process."""
        threading.Thread(target=self._read, name="death-pipe", daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())

    def job_dir(self) -> Path:
        """Wait for the first line."""
        return Path(self._first.get())

    def asked_to_stop(self) -> bool:
        return self._stop.is_set()

    def _read(self) -> None:
        is_first = True
        for line in self._source:
            if is_first:
                self._first.put(line.strip())
                is_first = False
            elif line.strip() == "stop":
                self._stop.set()
        os._exit(train_config.EXIT_ORPHANED)


def main() -> int:
    """Load torch, take a job, train it."""
    # Before the first thread. What trains on people's data needs no network.
    isolation.leave_network()
    commands = Commands(sys.stdin)
    commands.listen()
    # Nothing may come from the network; `kernels`, where installed, would fetch native code.
    os.environ |= {"HF_HUB_OFFLINE": "1", "USE_HUB_KERNELS": "NO", "TOKENIZERS_PARALLELISM": "true"}
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # Threads wait for one another after each of torch's many short operations. Left alone they spin
    # for so long that a core shared with the web or a browser makes steps ten times slower; put to
    # sleep at once (OMP_WAIT_POLICY=PASSIVE) they lose a third on an idle machine. A short spin
    # costs neither. It counts for GNU OpenMP, which torch's Linux wheels bring.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from worker.trainer import job  # torch and its friends, before there is a job

    job.warm_up()
    return take(commands.job_dir(), commands)


def take(job_dir: Path, commands: Commands) -> int:
    """Train the job of a folder; every exception becomes an exit code and a sentence."""
    try:
        body = (job_dir / "config.json").read_bytes()
        spec = TrainerSpec.model_validate_json(body)
    except (OSError, ValidationError) as error:
        print(f"{job_dir}/config.json cannot be used: {error}", file=sys.stderr)
        if isinstance(error, ValidationError):
            _refuse(job_dir, body, error)
        return train_config.EXIT_CONFIG
    with ExitStack() as stack:
        log = None
        try:
            lock = stack.enter_context((job_dir / "run.lock").open("a"))
            if not _lock(lock):
                print(f"Another trainer still works in {job_dir}.", file=sys.stderr)
                return 1
            log = stack.enter_context(_events(job_dir, spec.attempt))
            return _train(job_dir, spec, log, commands)
        except Exception as error:
            traceback.print_exc()
            failed = _explain(error)
        # On a full disk this line may find no room either; the exit code says it as well.
        with suppress(OSError):
            if log is not None:
                log.write(FailedEvent, code=failed.code, message=failed.message)
    return failed.exit_code


def _train(job_dir: Path, spec: TrainerSpec, log: "EventLog", commands: Commands) -> int:
    from worker.trainer import failures, job

    try:
        job.run(job_dir, spec, log, commands.asked_to_stop)
    except failures.Stopped:
        return train_config.EXIT_STOPPED
    return train_config.EXIT_DONE


@contextmanager
def _events(job_dir: Path, attempt: int) -> Iterator["EventLog"]:
    from worker.trainer.events import EventLog

    log = EventLog(job_dir / "attempts" / str(attempt) / "events.jsonl")
    try:
        yield log
    finally:
        log.close()


def _refuse(job_dir: Path, body: bytes, error: ValidationError) -> None:
    """Say which setting is outside its limits, if the file tells at least the attempt."""
    wrong = error.errors()[0]
    name = str(wrong["loc"][-1]) if wrong["loc"] else "config.json"
    field = TrainConfig.model_fields.get(name)
    title = f"“{field.title}” ({name})" if field is not None else name
    why = wrong["msg"][:1].lower() + wrong["msg"][1:]
    message = f"The setting {title} cannot be used: {why}; change it and start again."
    with suppress(OSError, ValueError, KeyError, TypeError):
        attempt = int(json.loads(body)["attempt"])
        with _events(job_dir, attempt) as log:
            log.write(FailedEvent, code="config_invalid", message=message)


def _explain(error: Exception) -> "Failure":
    """Find out what an unforeseen error means for the job."""
    from worker.trainer import failures, loop

    if isinstance(error, failures.Failure):
        return error
    # safetensors wraps the system's error in its own.
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or "No space left on device" in str(error):
        return failures.Failure(
            "disk_full",
            "The disk is full; the job goes on from its last checkpoint once there is room.",
            train_config.EXIT_DISK_FULL,
        )
    if loop.is_out_of_memory(error):
        return failures.out_of_memory()
    if "CUDA error" in str(error):
        return failures.Failure(
            "device_failed",
            "The GPU reported an error; the job goes on from its last checkpoint.",
            train_config.EXIT_DEVICE,
        )
    return failures.Failure(
        "trainer_failed",
        f"The trainer met an error that it does not know ({type(error).__name__}); "
        "the log has the details.",
        exit_code=1,
    )


def _lock(file: IO[str]) -> bool:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        else:
            return True


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries may hang at the interpreter's end, and everything is on disk.
    os._exit(code)
