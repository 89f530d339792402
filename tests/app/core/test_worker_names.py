"""Names of workers: borne by real processes, which are killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.core import worker_names

ROOT = Path(__file__).parents[3]
# It bears a name, and leaves it to a child that it forks and to the program that it becomes.
_BEARER = """
import os, sys
from app.core import worker_names
name = worker_names.take_next(*sys.argv[1:3])
if os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
print(name.text, name.number, flush=True)
os.execv("/bin/sh", ["/bin/sh", "-c", "read line"])
"""


@contextmanager
def bearer(kind: str = "gpu") -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with subprocess.Popen(
        [sys.executable, "-c", _BEARER, kind, "compose"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip(), process
        process.kill()
        process.stdin.close()


def wait_for_the_fork(name: str) -> None:
    """Its standard input is closed by now, at which it ends."""
    worker_names.take(name, wait_seconds=60)


def test_each_has_a_name_of_its_own_and_the_next_takes_a_dead_ones(data_dir: Path) -> None:
    with bearer() as (first, _), bearer() as (second, dying), bearer("cpu") as (other, _):
        assert (first, second, other) == ("gpu-0@compose 0", "gpu-1@compose 1", "cpu-0@compose 0")
        assert not worker_names.is_free("gpu-1@compose")
        dying.kill()
        dying.wait()
        assert not worker_names.is_free("gpu-1@compose"), "what it has forked lives on"
        assert dying.stdin is not None
        dying.stdin.close()
        wait_for_the_fork("gpu-1@compose")
    with bearer() as (first, _):
        assert first.startswith("gpu-0@"), "the second is ours now"


def test_of_a_name_that_nobody_has_had_nothing_is_known(data_dir: Path) -> None:
    assert not worker_names.is_free("gpu-7@elsewhere")


def test_a_chosen_name_is_borne_once(data_dir: Path) -> None:
    with bearer() as (_, process):
        with pytest.raises(worker_names.Taken, match="give each an ETUDE_WORKER_ID of its own"):
            worker_names.take("gpu-0@compose", wait_seconds=0)
        assert process.stdin is not None
        process.stdin.close()
        worker_names.take("gpu-0@compose", wait_seconds=60)
