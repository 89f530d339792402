"""Torch's threads on cores of their own; in a process of its own, whose threads may be bound."""

import json
import os
import subprocess
import sys

import pytest

from tests.worker.conftest import ROOT

_PROGRAM = """
import json, os, sys, threading
from pathlib import Path
os.sched_setaffinity(0, json.loads(sys.argv[2]))  # the test itself may be kept to one core
import torch
from worker.trainer import threads

torch.set_num_threads(int(sys.argv[1]))
kept_apart = threads.keep_apart()
main = threading.get_native_id()
masks = {int(t.name): sorted(os.sched_getaffinity(int(t.name)))
         for t in Path("/proc/self/task").iterdir()}
print(json.dumps([kept_apart, masks.pop(main), [mask for mask in masks.values()]]))
"""
CORES = sorted(os.sched_getaffinity(0))


def run(num_threads: int) -> tuple[bool, list[int], list[list[int]]]:
    command = [sys.executable, "-c", _PROGRAM, str(num_threads), json.dumps(CORES)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    kept_apart, main, others = json.loads(said.stdout)
    return kept_apart, main, others


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core alone")
def test_each_of_as_many_threads_as_cores_has_its_own() -> None:
    kept_apart, main, others = run(len(CORES))
    assert kept_apart
    bound = [mask[0] for mask in others if len(mask) == 1]
    assert sorted([*main, *bound]) == CORES
    # What does not compute goes where there is room.
    assert all(mask == CORES for mask in others if len(mask) > 1)


def test_with_cores_to_spare_or_one_thread_nothing_is_bound() -> None:
    kept_apart, main, _ = run(1)
    assert not kept_apart
    assert main == CORES
