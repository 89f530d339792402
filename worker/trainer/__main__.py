"""python -m worker.trainer: JOB_DIR on standard input; events.jsonl and an exit code out.

The end of standard input is the death of the supervisor, which ends this process at once. A warm
runner is this very program, started before there is a job: it loads torch first and reads JOB_DIR
then. A job on several devices makes it the launcher (worker/trainer/launch.py) of one process a
device, which are this program, too, with arguments.
"""

import errno
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pydantic import ValidationError

from app.training import events, isolation
from app.training.config import TrainConfig, TrainerSpec
from app.training.events import FailedEvent
from app.training.loading import loading
from worker.trainer import launch, runtime, walls
from worker.trainer.commands import Commands, die_with, show_stacks_on_signal
from worker.trainer.deadline import CutOff, Deadline

if TYPE_CHECKING:
    from worker.trainer.events import EventLog
    from worker.trainer.failures import Failure
    from worker.trainer.group import Group

_LOCK_SECONDS = 10  # an orphan of this job ends within two, by its death pipe
_ECHO_SECONDS = 5


def main() -> int:
    """Load torch, take a job, train it."""
    show_stacks_on_signal()
    if len(sys.argv) > 1:
        return take_part(launch.Call.of(sys.argv[1:]))  # in the launcher's network, if it has one
    # Before the first thread; the other walls stand around a job, which is still to come.
    isolation.leave_network()
    # Not standard input itself: on several devices another pipe takes its place.
    commands = Commands(os.fdopen(os.dup(0)))
    # Nothing may come from the network; `kernels`, where installed, would fetch native code.
    os.environ |= {"HF_HUB_OFFLINE": "1", "USE_HUB_KERNELS": "NO", "TOKENIZERS_PARALLELISM": "true"}
    runtime.prepare()
    with loading():
        runtime.load_bitsandbytes()
        from worker.trainer import job  # torch and its friends, before there is a job

        job.warm_up()
    job_dir = commands.wait_for_job()
    try:
        _confine(job_dir)
    except isolation.WallsMissing as error:
        print(error, file=sys.stderr)
        return events.EXIT_CONFIG
    commands.listen()
    return take(job_dir, commands)


def _confine(job_dir: Path) -> None:
    try:
        spec = TrainerSpec.model_validate_json((job_dir / "config.json").read_bytes())
    except (OSError, ValidationError):
        return  # nothing will be trained, as is said in a moment
    try:
        walls.confine(job_dir, spec)
    except isolation.WallsMissing as error:
        with suppress(OSError), _events(job_dir, spec.attempt) as log:
            log.write(FailedEvent, code="walls_missing", message=str(error))
        raise


def take(job_dir: Path, commands: Commands) -> int:
    """Train the job of a folder; every exception becomes an exit code and a sentence."""
    try:
        body = (job_dir / "config.json").read_bytes()
        spec = TrainerSpec.model_validate_json(body)
    except (OSError, ValidationError) as error:
        print(f"{job_dir}/config.json cannot be used: {error}", file=sys.stderr)
        if isinstance(error, ValidationError):
            _refuse(job_dir, body, error)
        return events.EXIT_CONFIG
    with ExitStack() as stack:
        try:
            lock = stack.enter_context((job_dir / "run.lock").open("a"))
            if not _lock(lock):
                print(f"Another trainer still works in {job_dir}.", file=sys.stderr)
                return events.EXIT_HELD
            if spec.num_devices > 1:
                return launch.run(job_dir, spec, commands)
        except Exception as error:
            traceback.print_exc()
            return _explain(error).exit_code
        from worker.trainer.group import ALONE

        return _train(job_dir, spec, commands.asked_to_stop, ALONE)


def take_part(call: launch.Call) -> int:
    """Be one of the processes that the launcher started, on a device of its own."""
    rank = int(os.environ["RANK"])
    spec = TrainerSpec.model_validate_json((call.job_dir / "config.json").read_bytes())
    walls.confine(call.job_dir, spec, is_rank=True)
    commands = Commands(sys.stdin)
    if rank == 0:
        commands.listen()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the launcher's way to end us at once
    else:
        die_with(0)
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        os.environ |= {"CUDA_VISIBLE_DEVICES": visible.split(",")[rank], "LOCAL_RANK": "0"}
    if call.resume_from:
        spec.resume_from = call.resume_from
    from worker.trainer import group

    mine = group.join(spec.device.partition(":")[0], call.store)
    return _train(call.job_dir, spec, commands.asked_to_stop, mine)


def _train(
    job_dir: Path, spec: TrainerSpec, asked_to_stop: Callable[[], bool], group: "Group"
) -> int:
    from worker.trainer import failures, job
    from worker.trainer.events import EventLog
    from worker.trainer.group import StartAgain

    log = None
    with ExitStack() as stack:
        try:
            log = stack.enter_context(_events(job_dir, spec.attempt))
            # The first process reports for all, and stands still for all.
            told = log if group.is_first else EventLog(Path(os.devnull))
            deadline = Deadline(job_dir / "attempts" / str(spec.attempt))

            def before_a_step() -> bool:
                if group.is_first:
                    deadline.keep()
                return asked_to_stop()

            job.run(job_dir, spec, told, before_a_step, group)
        except CutOff:
            return events.EXIT_CUT_OFF
        except failures.Stopped:
            return events.EXIT_STOPPED
        except StartAgain as wanted:
            launch.remember(job_dir, spec, wanted)
            return launch.EXIT_AGAIN
        except Exception as error:
            traceback.print_exc()
            failed = _explain(error)
            if group.size > 1 and failed.exit_code == 1:
                # Perhaps only the echo of another one's end: the launcher then ends us meanwhile.
                time.sleep(_ECHO_SECONDS)
        else:
            return events.EXIT_DONE
        # On a full disk this line may find no room either; the exit code says it as well.
        with suppress(OSError):
            if log is not None:  # whichever process it was
                log.write(FailedEvent, code=failed.code, message=failed.message)
    return failed.exit_code


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
    from worker.trainer import failures, memory

    if isinstance(error, failures.Failure):
        return error
    # safetensors wraps the system's error in its own.
    is_full = isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
    )
    if is_full or "No space left on device" in str(error):
        return failures.Failure(
            "disk_full",
            "The disk is full or cannot be written; the job goes on from its last checkpoint once "
            "there is room.",
            events.EXIT_DISK_FULL,
        )
    if memory.is_out_of_memory(error):
        return failures.out_of_memory()
    if "CUDA error" in str(error):
        return failures.device_broken()
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
    launch.end_like(code)
