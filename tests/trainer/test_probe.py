"""Before the first step the longest examples are tried, within the memory there is."""

import multiprocessing
import resource
from pathlib import Path
from typing import Any

import pytest

from app import train_config
from tests.trainer.conftest import events, losses, make_job, make_plan, make_trainer
from worker.trainer import failures, loop

CONFIG: dict[str, Any] = {"num_epochs": 1, "num_evaluations": 1, "lora_dropout": 0.1}


def in_child(folder: Path, model: Path, megabytes: int, exit_code: Any) -> None:
    """Probe within so much memory, in a process that has not taken any before; then train."""
    spec = make_job(folder, model, num_train=48, num_validation=2, **CONFIG)
    plan = make_plan(spec, num_train=48, micro_batch_tokens=8192)
    trainer = make_trainer(folder, spec, plan)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        loop.probe(trainer, free_bytes=megabytes * 1024**2)
    except failures.Failure as failure:
        exit_code.value = failure.exit_code
        return
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    trainer.progress.micro_batch_tokens = 256
    loop.train(trainer)
    exit_code.value = train_config.EXIT_DONE


@pytest.mark.parametrize(
    ("megabytes", "exit_code"), [(24, train_config.EXIT_DONE), (0, train_config.EXIT_OUT_OF_MEMORY)]
)
def test_a_probe_finds_out_what_fits_and_leaves_no_trace(
    tmp_path: Path, tiny_model: Path, megabytes: int, exit_code: int
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.trainer.forked", __name__])
    ended = context.Value("i", -1)
    folder = tmp_path / "probed"
    process = context.Process(target=in_child, args=(folder, tiny_model, megabytes, ended))
    process.start()
    process.join(60)
    assert (process.exitcode, ended.value) == (0, exit_code)
    notes = [event["message"] for event in events(folder, kind="note")]
    assert notes[0].startswith("Memory ran out: from here on 4096 tokens at once")
    if exit_code == train_config.EXIT_DONE:
        straight = tmp_path / "straight"
        spec = make_job(straight, tiny_model, num_train=48, num_validation=2, **CONFIG)
        loop.train(make_trainer(straight, spec, make_plan(spec, num_train=48)))
        assert losses(folder) == losses(straight)
    else:
        assert "computed twice" in notes[-1]
