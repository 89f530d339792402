"""The child of an evaluation is killed; its parent's ends are those of test_failpoints.py."""

import os
import signal
from pathlib import Path

import pytest

from app.core.models import BaseModel
from app.ops.embedded.postgres import Postgres
from app.training import failpoints
from tests.faults import evaluating
from tests.faults.conftest import opened
from tests.faults.house import PACE, House, until_gone
from tests.faults.test_answering import is_locked
from tests.faults.test_several_gpus import nvidia_smi
from tests.worker.answering.asking import a_model, ask, child_pids, journal, question, text


def killed(house: House, model: BaseModel, number: int = 0) -> None:
    pids = house.wait_for(lambda: child_pids(model, house.data_dir)[number:])
    os.kill(pids[0], signal.SIGKILL)


@pytest.mark.timeout(180)
def test_on_a_gpu_answering_leaves_and_its_lock_is_held_until_the_end(
    postgres: Postgres, tmp_path: Path
) -> None:
    gpu = {"PATH": nvidia_smi(tmp_path), "CUDA_VISIBLE_DEVICES": "0", "ETUDE_DEVICE": "cuda:0"}
    with opened(postgres, with_worker=False, **gpu) as house:
        asked = a_model(house.db, data_dir=house.data_dir)
        found = house.start_answering().found()
        assert text(ask(found, question(asked, "words=2"))) == "0 1 "
        assert is_locked(house)
        house.worker.start()
        scene = evaluating.begin(house, "echo wait=0.3")
        house.wait_for(lambda: child_pids(scene.model, house.data_dir))
        assert is_locked(house)
        opened_on = journal(scene.model, house.data_dir)[0]
        assert opened_on.startswith("open transformers cuda:0 slots=32")
        until_gone(child_pids(asked, house.data_dir)[0])
        scene.finish()
        assert scene.row.engine == "transformers"
        house.wait_for(lambda: not is_locked(house))


@pytest.mark.timeout(180)
def test_a_child_that_is_killed_at_any_moment_costs_no_answer(house: House) -> None:
    opening = evaluating.begin(house, "echo slow=0.5")
    killed(house, opening.model)
    opening.finish()

    amid = evaluating.begin(house, f"echo wait={PACE}")
    house.wait_for(lambda: any(" ask " in f" {e}" for e in journal(amid.model, house.data_dir)))
    killed(house, amid.model)
    amid.finish()

    failpoints.arm(house.failpoints, "evaluate.keep.committed", f"delay:{3 * PACE}")
    between = evaluating.begin(house)
    house.wait_for(lambda: failpoints.has_struck(house.failpoints, "evaluate.keep.committed"))
    killed(house, between.model)
    between.finish()
    assert len(child_pids(between.model, house.data_dir)) == 2


def test_a_device_lost_amid_an_evaluation_costs_no_answer(house: House) -> None:
    lost = evaluating.begin(house, "echo lost=1")
    lost.finish()
    assert len(child_pids(lost.model, house.data_dir)) >= 2
