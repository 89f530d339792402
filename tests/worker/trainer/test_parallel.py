"""A job on two devices learns what it learns on one; its processes agree, and end together.

On the CPU, where torch's gloo connects the processes. bitsandbytes' 4-bit weights are split there,
too, and unpacked as on a GPU, so nothing is left out.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.training import config as train_config
from app.training import events as train_events
from app.training.manifests import verify_manifest
from tests import patience
from tests.worker.conftest import is_running
from tests.worker.trainer import pair
from tests.worker.trainer.conftest import (
    conversation,
    events,
    losses,
    make_job,
    make_plan,
    make_state,
    start_from,
)
from tests.worker.trainer.test_preference import pair as preferred
from tests.worker.trainer.test_process import (
    LONG,
    has_trained,
    trainer,
    wait_until,
)
from worker import identity
from worker.trainer import loop
from worker.trainer.group import Group

ROOT = Path(__file__).parents[3]
CONFIG: dict[str, Any] = {"num_epochs": 3, "batch_size": 6, "num_evaluations": 3}
CONFIG |= {"learning_rate": 1e-3}
CONFIGS: dict[str, dict[str, Any]] = {
    # No step has an example for the second process.
    "one-by-one": {"batch_size": 1, "num_epochs": 0.25, "use_dora": True},
    "preference": {"batch_size": 1, "num_epochs": 0.25, "objective": "dpo"},
    "unbroken": {"lora_dropout": 0.1},
    "broken": {"lora_dropout": 0.1},
    "further": {"num_epochs": 1.5},
    "further-preference": {"batch_size": 1, "num_epochs": 0.25, "objective": "dpo"},
}
NAMES = (*pair.PLANS, "broken", "odd", "short", "stuck")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A job whose adapter others start from."""
    folder = tmp_path_factory.mktemp("first")
    loop.train(make_state(folder, make_job(folder, tiny_model, **CONFIG)))
    return folder


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, first: Path, fork_server: Any
) -> Path:
    """All that two processes do together, in one start of them."""
    folder = tmp_path_factory.mktemp("pair")
    for name in NAMES:
        make(folder / name, tiny_model, name, first)
    start: Any = vars(torch.multiprocessing)["start_processes"]  # told of nowhere, to mypy
    start(pair.main, (folder,), nprocs=2, start_method=fork_server.get_start_method())
    return folder


def make(folder: Path, model: Path, name: str, first: Path) -> train_config.TrainerSpec:
    messages = preferred if name.endswith("preference") else conversation
    spec = make_job(folder, model, messages=messages, **CONFIG | CONFIGS.get(name, {}))
    if name.startswith("further"):
        spec = spec.model_copy(update={"start": start_from(first)})
        (folder / "config.json").write_text(spec.model_dump_json())
    return spec


def told(folder: Path, name: str) -> list[Any]:
    """What each process said of a job."""
    return [json.loads((folder / f"told-{rank}.json").read_text())[name] for rank in range(2)]


def alone(folder: Path, model: Path, name: str, first: Path, **plan: Any) -> Path:
    spec = make(folder, model, name, first)
    loop.train(make_state(folder, spec, make_plan(spec, **plan)))
    return folder


def numbers(folder: Path, kind: str) -> list[float]:
    said = events(folder, kind=kind)
    return [e[key] or 0 for e in said for key in ("loss", "preference_margin", "preferred_share")]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    verify_manifest(folder / "result")
    return dict(load_file(folder / "result" / "adapter_model.safetensors"))


# In float32 two sums of a step's gradients are rounded otherwise than one. NF4 is computed with in
# bfloat16, which keeps 8 bits, and other rows of examples round otherwise.
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        *(("ddp", 1e-6), ("fsdp", 1e-6), ("preference", 1e-6), ("ddp-nf4", 2e-3)),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                *(("one-by-one", 1e-6), ("further", 1e-6), ("further-preference", 1e-6)),
                ("fsdp-nf4", 2e-3),
            )
        ),
    ],
)
def test_two_processes_learn_what_one_learns(
    trained: Path, tmp_path: Path, tiny_model: Path, first: Path, name: str, tolerance: float
) -> None:
    resident = pair.PLANS[name].get("resident", "fp32")
    one = alone(tmp_path, tiny_model, name, first, resident=resident)
    two = trained / name
    assert len(losses(two)) == (6 if name in CONFIGS else 12)
    for kind in ("step", "evaluation"):
        # One process alone reports, but of what all of them saw.
        assert numbers(two, kind) == pytest.approx(numbers(one, kind), rel=tolerance, abs=tolerance)
    wanted = adapter(one)
    for key, actual in adapter(two).items():
        # Against weights of up to 0.13. Adam's first steps have the size of the learning rate
        # whatever a gradient's, so rounding is seen only where one is nearly zero.
        torch.testing.assert_close(actual, wanted[key], rtol=0, atol=tolerance * 10)
    mine, other = told(trained, name)
    assert mine["adapter"] == other["adapter"]


def test_a_split_model_is_held_in_parts_and_learns_bit_for_bit_what_whole_ones_do(
    trained: Path,
) -> None:
    for kind in ("", "-nf4"):
        whole, split = (told(trained, name + kind)[0]["held"] for name in ("ddp", "fsdp"))
        assert split * 2 == whole
        one, other = adapter(trained / f"ddp{kind}"), adapter(trained / f"fsdp{kind}")
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert losses(trained / f"ddp{kind}") == losses(trained / f"fsdp{kind}")


def test_a_stopped_job_of_two_goes_on_bit_for_bit(trained: Path) -> None:
    assert told(trained, "broken") == ["checkpoints/step-00005"] * 2
    unbroken, broken = trained / "unbroken", trained / "broken"
    assert losses(broken) + losses(broken, attempt=2) == losses(unbroken)
    one, other = adapter(unbroken), adapter(broken)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_loss_that_is_no_number_in_one_process_takes_both_back(trained: Path) -> None:
    assert told(trained, "odd") == [0.5, 0.5]
    steps = [event["step"] for event in events(trained / "odd", kind="step")]
    assert steps == [*range(1, 8), *range(5, 13)]  # the last evaluation was after step 4


def test_both_take_smaller_pieces_where_one_runs_out_of_memory(
    trained: Path, tmp_path: Path, tiny_model: Path
) -> None:
    (loss, tokens), other = told(trained, "short")
    assert other == [loss, tokens]
    assert tokens == 128
    notes = [event["message"] for event in events(trained / "short", kind="note")]
    assert len(notes) == 3
    one = make_state(tmp_path, make_job(tmp_path, tiny_model, **CONFIG))
    assert loss == pytest.approx(loop.fill_gradients(one, one.data.train[:6]), rel=1e-6)


def test_a_split_model_that_runs_out_of_memory_is_started_again_with_less(
    trained: Path, tiny_model: Path
) -> None:
    gone, tokens = told(trained, "stuck")
    assert "peer" in gone
    assert tokens == 512
    folder = trained / "stuck"
    spec = train_config.TrainerSpec.model_validate_json((folder / "config.json").read_text())
    again = make_state(folder, spec, make_plan(spec, micro_batch_tokens=1024))
    assert again.progress.micro_batch_tokens == 512


def test_examples_are_dealt_out_by_length() -> None:
    shares = Group(0, 3).shares([9, 1, 5, 5, 4, 3])
    assert sorted(index for share in shares for index in share) == [0, 1, 2, 3, 4, 5]
    assert [sum([9, 1, 5, 5, 4, 3][index] for index in share) for share in shares] == [9, 9, 9]
    assert Group(1, 2).shares([7]) == [[0], []]
    assert Group().shares([3, 4]) == [[0, 1]]


STAND_IN = """
import os, signal, sys, time
from pathlib import Path
from worker.trainer import launch
call, rank = launch.Call.of(sys.argv[1:]), int(os.environ["RANK"])
(call.job_dir / f"called-{rank}").open("a").write(call.resume_from + ";")
if rank == 1:
    starts = (call.job_dir / "called-1").read_text().count(";")
    if starts == 1:
        sys.exit(launch.EXIT_AGAIN)
    code = int((call.job_dir / "code").read_text())
    os.kill(os.getpid(), signal.SIGKILL) if code < 0 else sys.exit(code)
# Waits for what never comes where the other one fails, as in a sum of gradients.
time.sleep(60 if (call.job_dir / "code").read_text() != "0" else 0)
"""
LAUNCHER = """
import os, sys
from pathlib import Path
from app.training.config import TrainerSpec
from worker.trainer import launch
from worker.trainer.commands import Commands
folder = Path(sys.argv[1])
for job in sorted(folder.iterdir()):
    spec = TrainerSpec.model_validate_json((job / "config.json").read_text())
    print(launch.run(job, spec, Commands(sys.stdin), (str(job / "rank.py"),)), flush=True)
"""


def test_the_launcher_ends_as_the_one_that_failed(tmp_path: Path, tiny_model: Path) -> None:
    codes = [0, train_events.EXIT_DISK_FULL, -signal.SIGKILL]
    for number, code in enumerate(codes):
        job = tmp_path / str(number)
        spec = make_job(job, tiny_model).model_copy(update={"num_devices": 2})
        (job / "config.json").write_text(spec.model_dump_json())
        (job / "attempts" / "1").mkdir(parents=True)
        saved = {"kind": "checkpoint", "path": "checkpoints/step-00004"}
        (job / "attempts" / "1" / "events.jsonl").write_text(json.dumps(saved) + "\n")
        (job / "code").write_text(str(int(code)))
        (job / "rank.py").write_text(STAND_IN)
    ended = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=patience.seconds(100),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [int(line) for line in ended.stdout.split()] == codes
    for number in range(len(codes)):
        # Each was started again once, from what had been saved, when one asked for less memory.
        assert (tmp_path / str(number) / "called-1").read_text() == "checkpoints/step-00004;" * 2
        assert not list((tmp_path / str(number) / "attempts" / "1").glob("group-*"))


def listening(pid: int) -> set[str]:
    """The addresses, as the kernel writes them, at which a process waits for connections."""
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    mine = {link[8:-1] for link in links if link.startswith("socket:[")}
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in mine}


@pytest.mark.long
def test_a_job_on_two_devices_from_start_to_stop_to_the_death_of_a_process(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(tmp_path, tiny_model, **LONG).model_copy(update={"num_devices": 2})
    (tmp_path / "config.json").write_text(spec.model_dump_json())
    with trainer(tmp_path) as process:
        assert process.stdin is not None
        wait_until(lambda: has_trained(tmp_path))
        ranks = identity.children(process.pid)
        assert len(ranks) == 2
        # 127.0.0.1, and nothing else: no port is open to the network.
        assert [listening(pid) for pid in ranks] == [{"0100007F"}] * 2
        assert listening(process.pid) == set()
        process.stdin.write("stop\n")
        process.stdin.flush()
        assert process.wait(patience.seconds(60)) == train_events.EXIT_STOPPED
    assert not any(map(is_running, ranks))
    (plan,) = events(tmp_path, kind="plan")
    assert plan["plan"]["strategy"] == "ddp"
    assert any("Each of the 2 processes" in reason for reason in plan["plan"]["reasons"])
    saved = events(tmp_path, kind="checkpoint")[-1]
    assert saved["step"] == len(events(tmp_path, kind="step"))

    again = spec.model_copy(update={"attempt": 2, "resume_from": saved["path"]})
    (tmp_path / "config.json").write_text(again.model_dump_json())
    with trainer(tmp_path) as process:
        wait_until(lambda: has_trained(tmp_path, attempt=2))
        ranks = identity.children(process.pid)
        os.kill(ranks[1], signal.SIGKILL)
        assert process.wait(patience.seconds(20)) == -signal.SIGKILL
    assert not any(map(is_running, ranks))
    assert events(tmp_path, 2, "step")[0]["step"] == saved["step"] + 1
    assert events(tmp_path, 2, "failed") == []


def test_all_processes_end_with_the_supervisor(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **LONG).model_copy(update={"num_devices": 2})
    (tmp_path / "config.json").write_text(spec.model_dump_json())
    with trainer(tmp_path) as process:
        assert process.stdin is not None
        # They need not have come far: they listen from their first moment on.
        wait_until(lambda: len(identity.children(process.pid)) == 2)
        ranks = identity.children(process.pid)
        time.sleep(1)
        process.stdin.close()
        assert process.wait(patience.seconds(10)) == train_events.EXIT_ORPHANED
        wait_until(lambda: not any(map(is_running, ranks)), seconds=10)
