"""Before the first step the longest examples are tried, within the memory there is."""

import multiprocessing
import resource
from pathlib import Path
from typing import Any

import pytest

from tests.worker.trainer.conftest import (
    events,
    losses,
    make_job,
    make_plan,
    make_state,
)
from worker.trainer import loop
from worker.trainer.probe import probe

CONFIG: dict[str, Any] = {"num_steps": 3, "num_evaluations": 1, "lora_dropout": 0.1}


def in_child(folder: Path, model: Path, resident: str) -> None:
    """Probe within little memory, in a process that has not taken any before; then train."""
    spec = make_job(folder, model, num_train=48, num_validation=2, **CONFIG)
    plan = make_plan(spec, num_train=48, micro_batch_tokens=8192, resident=resident)
    state = make_state(folder, spec, plan)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    probe(state, free_bytes=24 * 1024**2)
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    state.progress.micro_batch_tokens = 256
    loop.train(state)


# In bfloat16 oneDNN takes memory of its own as well, which is not the same twice.
@pytest.mark.parametrize("resident", ["fp32"])
def test_a_probe_finds_out_what_fits_and_leaves_no_trace(
    tmp_path: Path, tiny_model: Path, resident: str
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.worker.trainer.forked", __name__])
    probed, straight = tmp_path / "probed", tmp_path / "straight"
    process = context.Process(target=in_child, args=(probed, tiny_model, resident))
    process.start()
    process.join(200)
    assert process.exitcode == 0
    notes = [event["message"] for event in events(probed, kind="note")]
    assert notes[0].startswith("Memory ran out: from here on 4096 tokens at once")
    assert len(notes) < 6  # where it fits, it goes no further down
    spec = make_job(straight, tiny_model, num_train=48, num_validation=2, **CONFIG)
    loop.train(make_state(straight, spec, make_plan(spec, num_train=48, resident=resident)))
    assert losses(probed) == losses(straight)
