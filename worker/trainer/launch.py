"""One process a device: start them, pass on what people want, and end as they ended.

torchrun's own launcher does the starting, called within this process: as a command it would end
with 1 whatever its children ended with. Its meeting place is a file and not its server, which
would listen on every address of the machine. JOB_DIR's lock stays with us.
"""

import json
import logging
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.training import events
from app.training.config import TrainerSpec

if TYPE_CHECKING:
    from worker.trainer.checkpoint import Progress
    from worker.trainer.commands import Commands
    from worker.trainer.group import StartAgain

# Between a process of ours and the launcher: begin again with less memory.
EXIT_AGAIN = 75
_PROGRAM = ("-m", "worker.trainer")
# What a process ends with because another one did, or because it was asked to.
_ECHOES = (1, -signal.SIGTERM, -signal.SIGABRT)


@dataclass(frozen=True)
class Call:
    """What a process is told on its command line."""

    job_dir: Path
    store: Path  # where the processes of a group meet
    resume_from: str  # below JOB_DIR; empty: as config.json says

    @classmethod
    def of(cls, arguments: list[str]) -> "Call":
        job_dir, store, resume_from = arguments
        return cls(Path(job_dir), Path(store), resume_from)


def run(
    job_dir: Path, spec: TrainerSpec, commands: "Commands", program: tuple[str, ...] = _PROGRAM
) -> int:
    """Train a job on several devices.

    Args:
        job_dir: Whose lock the caller holds.
        spec: Says on how many.
        commands: From the supervisor.
        program: What each process runs, after the interpreter's name.

    Returns:
        The exit code of the process that ended the job, negative for a signal.
    """
    # Their standard input, whose other end only we hold: it ends with us, and they with it.
    end, mine = os.pipe()
    os.dup2(end, 0)
    os.close(end)
    commands.pass_on(mine)
    while True:
        code = _run_once(job_dir, spec, program)
        if code != EXIT_AGAIN:
            return code


def end_like(code: int) -> None:
    """End this process as another one ended, by its exit code or by its signal."""
    if code < 0:
        if code != -signal.SIGKILL:  # which nobody can catch
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def remember(job_dir: Path, spec: TrainerSpec, wanted: "StartAgain") -> None:
    """Write down with how much memory to start again."""
    path = _rung(job_dir, spec)
    partial = path.with_name(f"{path.name}.{os.getpid()}")  # another process may do the same
    rung = [wanted.micro_batch_tokens, wanted.checkpointing, wanted.optimizer]
    partial.write_text(json.dumps(rung), encoding="utf-8")
    partial.rename(path)


def use_less_memory(job_dir: Path, spec: TrainerSpec, progress: "Progress") -> None:
    """Go on with what was written down in this attempt, if anything was."""
    path = _rung(job_dir, spec)
    if path.exists():
        tokens, checkpointing, progress.optimizer = json.loads(path.read_text(encoding="utf-8"))
        progress.micro_batch_tokens = min(progress.micro_batch_tokens, tokens)
        progress.checkpointing |= checkpointing


def _run_once(job_dir: Path, spec: TrainerSpec, program: tuple[str, ...]) -> int:
    # Of the end of each process, also of those that were asked to stop; we say it better.
    logging.disable(logging.CRITICAL)
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    attempt = job_dir / "attempts" / str(spec.attempt)
    attempt.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="group-", dir=attempt) as name:
        folder = Path(name)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=spec.num_devices,
            max_restarts=0,
            run_id=folder.name,
            rdzv_backend="c10d",
            rdzv_endpoint=str(folder / "rendezvous"),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
            # SIGTERM asks for a checkpoint first.
            signals_to_handle="SIGQUIT",
        )
        told = [str(job_dir), str(folder / "store"), _newest_checkpoint(job_dir, spec)]
        try:
            elastic_launch(config, sys.executable)(*program, *told)
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
            return next((code for code in codes if code not in _ECHOES), codes[0])
    return events.EXIT_DONE


def _newest_checkpoint(job_dir: Path, spec: TrainerSpec) -> str:
    """Return the last checkpoint that this attempt reported, if it is not the first start."""
    newest = ""
    path = job_dir / "attempts" / str(spec.attempt) / "events.jsonl"
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["kind"] == "checkpoint":
                newest = event["path"]
    return newest


def _rung(job_dir: Path, spec: TrainerSpec) -> Path:
    return job_dir / "attempts" / str(spec.attempt) / "memory.json"
