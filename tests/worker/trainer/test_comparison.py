"""What the benchmark switches off changes nothing that is learned; its arithmetic is as told."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.training.chat import IGNORE_INDEX, Encoded
from bench import report, workload
from bench.arms import etude, shapes
from worker.trainer import loop, model
from worker.trainer.layers import attention

ROOT = Path(__file__).parents[3]
LENGTHS = [37, 120, 5, 130, 64, 90, 9, 77]
# 4-bit weights are computed with in bfloat16; how that rounds differs from one CPU to the next.
PLAIN = {"narrow": {"resident": "bf16"}}


def step(folder: Path, variant: str) -> tuple[float, dict[str, Tensor]]:
    """Return loss and gradients of one step with one optimization switched off."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for length in LENGTHS:
        ids = torch.randint(512, (length,), generator=generator).tolist()
        examples.append(Encoded(ids, [IGNORE_INDEX] * 3 + ids[3:], 0))
    changes = {"resident": "fp32"} | etude.PLAN_CHANGES.get(variant, PLAIN.get(variant, {}))
    state = shapes.state_on("tiny", "cpu", examples, len(LENGTHS), folder, changes, 1e-3)
    torch.set_num_threads(1)
    with torch.no_grad():
        for name, parameter in state.model.adapter.items():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values * (0.05 if "lora_B" in name else 0.2))
    etude.switch_off(variant, state)
    loss = loop.fill_gradients(state, state.data.train)
    grads = {n: p.grad for n, p in state.model.adapter.items() if p.grad is not None}
    assert grads.keys() == state.model.adapter.keys()
    return loss, grads


@pytest.mark.parametrize(
    "variant", [v for v in etude.VARIANTS if v not in ("full", *etude.OTHERWISE, "no-varlen")]
)
def test_what_is_switched_off_teaches_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    for module, name in ((model, "completion_loss"), (attention, "_is_even")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    plain = "narrow" if variant == "nf4-resident" else "full"
    wanted_loss, wanted = step(tmp_path / plain, plain)
    loss, grads = step(tmp_path / variant, variant)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-6)


def test_operations_are_counted_by_the_4n_rule() -> None:
    # Llama 3.1 8B: 6.98e9 linear weights and 0.525e9 of the head, each four times; attention is
    # 3.5 * 2 * 2,048 * 4,096 * 32.
    operations = shapes.operations_per_token("8b", [2048] * 16)
    assert operations == pytest.approx(4 * (6_979_321_856 + 525_336_576) + 1_879_048_192)
    # A long example's tokens see more than those of a short one.
    mixed = shapes.operations_per_token("8b", [3072, 1024])
    assert mixed - operations == pytest.approx(3.5 * 2 * (2560 - 2048) * 4096 * 32)


def test_each_step_of_a_workload_fills_as_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    workload.make_synthetic(path, "B", 5, 512, 16)
    lengths, told = workload.lengths(path), workload.describe(path)
    assert len(lengths) == 80
    rows = [workload.num_rows(lengths[i : i + 16], 1024) for i in range(0, 80, 16)]
    assert rows == [told["rows_per_step"]] * 5
    assert 150 < told["mean_tokens"] < 250
    assert workload.num_rows([600, 500, 400, 424], 1024) == 2  # best fit: 600+424, 500+400


@pytest.mark.long
def test_the_gpu_comparison_keeps_each_cell_and_ends_in_one_line(tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.gpu", "--device", "cpu", "--shape", "tiny"),
            *("--workloads", "B,C", "--steps", "1", "--shrink", "64"),
            *("--results", str(tmp_path)),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not (files := list(tmp_path.glob("train-shapes-cpu-*.json"))):
            assert process.poll() is None
            time.sleep(0.05)
        kept = json.loads(files[0].read_text())
        # Whatever comes to the second cell, the first one is on disk.
        assert process.poll() is None
        assert kept["arms"].keys() == {"etude/tiny/B"}
        assert kept["arms"]["etude/tiny/B"]["tokens_per_second"] > 0
        assert process.stdout is not None
        arms = json.loads(process.stdout.read().splitlines()[-1])
        assert process.wait() == 0
    assert arms.keys() == {"etude/tiny/B", "etude/tiny/C"}
    for arm in arms.values():
        assert arm.keys() == {"tokens_per_second", "peak_bytes", "seconds_to_first_step"}
        assert all(value > 0 for value in arm.values())


def test_a_row_of_the_table_is_of_one_run() -> None:
    def run(**rates: float) -> dict[str, Any]:
        named = {name.replace("_", "/"): rate for name, rate in rates.items()}
        return {"arms": {name: {"tokens_per_second": rate} for name, rate in named.items()}}

    newer = run(etude_3b_B=30, best_3b_A=9) | {"file": "newer"}
    older = run(etude_3b_A=10, best_3b_A=8, etude_3b_B=20, best_3b_B=15) | {"file": "older"}
    arms, runs = report.gpu_cells([newer, older])
    assert [run["file"] for run in runs] == ["newer", "older"]
    rates = {name: arm["tokens_per_second"] for name, arm in arms.items()}
    assert rates == {"etude/3b/B": 30, "etude/3b/A": 10, "best/3b/A": 8}


def test_without_a_gpu_the_comparison_says_so_and_writes_nothing(tmp_path: Path) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    # A copy of its own: in the tree other tests keep things for each other meanwhile.
    copied = shutil.copytree(
        ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns(".cache", "__pycache__")
    )
    before = files()
    environment = {"ETUDE_GPU_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        [copied / "gpu.sh"], env=os.environ | environment | {"TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "There is no CUDA device here" in ended.stdout
    assert files() == before
