"""A trainer in a forked process: the very code of `python -m worker.trainer`, without its start.

The fork server imports this module once, and with it torch.
"""

import os
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from worker.trainer import job
from worker.trainer.__main__ import take
from worker.trainer.commands import Commands

torch.set_num_threads(1)  # no pool of threads, which a fork would lose
job.warm_up()


def train(job_dir: Path, connection: Connection) -> None:
    """Train a job on one core; lines come through the connection, whose end is ours."""
    warnings.simplefilter("ignore")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    lines: Any = _lines(connection)
    commands = Commands(lines)
    job_dir = commands.wait_for_job()
    commands.listen()
    os._exit(take(job_dir, commands))


def _lines(connection: Connection) -> Iterator[str]:
    while True:
        try:
            yield connection.recv()
        except EOFError:
            return
