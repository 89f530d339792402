"""An evaluation in a house of faults: answers that depend on the questions alone, one notice."""

import json
import re
from dataclasses import dataclass

from sqlalchemy import func, select

from app.core.models import (
    Adapter,
    BaseModel,
    Evaluation,
    EvaluationAnswer,
    EvaluationStatus,
    JobStatus,
    Notice,
)
from app.evaluation import evaluations
from tests.factories import make_dataset_version, make_job
from tests.faults.house import House
from tests.worker.answering.asking import a_model, an_adapter
from tests.worker.trainer.conftest import SMOLLM2_SPECIAL, SMOLLM2_TEMPLATE, tokenizer_json

NUM_TEST = 12  # two blocks
# What an undisturbed one says to these questions, whose words are the same in each scene.
_undisturbed: list[tuple[int, str, str]] = []


@dataclass
class Scene:
    """An adapter whose evaluation follows its job."""

    house: House
    model: BaseModel
    adapter: Adapter
    row: Evaluation

    def finish(self) -> None:
        """Wait for its end; the answers are those of an undisturbed one, and one notice tells."""
        house, row = self.house, self.row
        house.wait_for(lambda: row.status not in evaluations.OPEN)
        assert row.status is EvaluationStatus.DONE, (row.reason, house.log())
        assert (row.worker_id, row.lease_until, row.num_answered) == (None, None, NUM_TEST)
        key = f"job {self.adapter.job_id} succeeded"
        told = select(func.count()).select_from(Notice).where(Notice.key == key)
        assert house.db.scalar(told) == 1
        if not _undisturbed:
            again = evaluations.request(house.db, house.user, self.adapter)
            house.db.commit()
            house.ring()
            house.wait_for(lambda: again.status is EvaluationStatus.DONE)
            _undisturbed.extend(said(house, again))
        assert said(house, row) == _undisturbed != []


def said(house: House, row: Evaluation) -> list[tuple[int, str, str]]:
    """Return what was answered; who answers is the adapter or None, whatever its number."""
    answers = house.db.execute(
        select(EvaluationAnswer.position, EvaluationAnswer.arm, EvaluationAnswer.text)
        .where(EvaluationAnswer.evaluation_id == row.id)
        .order_by(EvaluationAnswer.position, EvaluationAnswer.arm)
    )
    adapter = f"{row.adapter_id} "
    return [
        (answer.position, answer.arm.value, re.sub(f"^{adapter}", "adapter ", answer.text))
        for answer in answers
    ]


def begin(house: House, orders: str = "echo") -> Scene:
    model = a_model(house.db, orders, house.data_dir)
    folder = house.data_dir / "models" / str(model.folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    eos, _, end = SMOLLM2_SPECIAL
    words = {"eos_token": end, "pad_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    (folder / "chat_template.jinja").write_text(SMOLLM2_TEMPLATE)
    version = make_dataset_version(house.db, user=house.user, num_train=20, num_validation=NUM_TEST)
    job = make_job(
        house.db, user=house.user, version=version, base_model=model, status=JobStatus.SUCCEEDED
    )
    adapter = an_adapter(house.db, model, house.data_dir)
    adapter.job_id = job.id
    house.db.commit()
    row = evaluations.request_after_job(house.db, adapter)
    assert row is not None
    house.db.commit()
    house.ring()
    return Scene(house, model, adapter, row)
