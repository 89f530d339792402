"""What a worker reads off its GPUs, asked through NVIDIA's own binding of a stand-in driver."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.machines.devices import Readings

ROOT = Path(__file__).parents[3]
PROGRAM = """
from worker.gpu.gauges import Gauges
gauges = Gauges()
gauges.read()
print(gauges.read().model_dump_json())
"""


def read(library: Path) -> Readings:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ
        | {
            "LD_LIBRARY_PATH": str(library),
            "ETUDE_DEVICE": "cuda:0,cuda:1",
            "CUDA_VISIBLE_DEVICES": "",
        },
    )
    return Readings.model_validate(json.loads(said.stdout.splitlines()[-1]))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for the stand-in driver")
def test_gpus_say_what_they_know(tmp_path: Path) -> None:
    pytest.importorskip("pynvml")
    library = tmp_path / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("nvml_stand_in.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    found = read(tmp_path)
    assert found.problem == ""
    full, plain = found.devices
    assert (full.device, full.name, full.memory_used_bytes) == ("cuda:0", "NVIDIA L4", 6 * 10**9)
    assert (full.utilization_percent, full.temperature_celsius) == (87, 61)
    assert (full.power_watts, full.power_limit_watts) == (58.4, 72)
    # Said once, and kept.
    assert (full.ecc_errors, full.xid, full.is_unhealthy) == (2, 79, True)
    assert full.xid_at is not None
    assert (plain.device, plain.name, plain.memory_total_bytes) == (
        "cuda:1", "NVIDIA T400", 24 * 10**9,
    )  # fmt: skip
    assert (plain.power_watts, plain.ecc_errors, plain.xid, plain.is_unhealthy) == (
        None, None, None, False,
    )  # fmt: skip


def test_a_driver_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.devices == []
    assert found.problem == "The graphics card's driver does not answer."
