"""A judging in a house of faults: marks that depend on the answers alone."""

from dataclasses import dataclass

from sqlalchemy import select

from app.core.models import (
    Arm,
    BaseModel,
    Evaluation,
    EvaluationAnswer,
    JobStatus,
    Judging,
    JudgingStatus,
    Mark,
)
from app.evaluation import judging, verdict
from tests.factories import make_dataset_version, make_evaluation, make_job
from tests.faults.house import House
from tests.worker.answering.asking import a_model, an_adapter

NUM_OPEN = 20  # two blocks
ALL_COUNT = verdict.Judge(num=NUM_OPEN, counting=NUM_OPEN)
_SAYS = 'says={"mark":"right"}|{"mark":"partly"}|{"mark":"wrong"}'
# What an undisturbed judge says of these answers, whose words are the same in each scene.
_undisturbed: list[Mark | None] = []


@dataclass
class Scene:
    """An evaluation whose answers a larger model judges."""

    house: House
    judge: BaseModel
    evaluation: Evaluation
    row: Judging

    def finish(self) -> None:
        """Wait for its end; each answer was judged once, and as by an undisturbed judge."""
        house, row = self.house, self.row
        house.wait_for(lambda: row.status not in judging.OPEN)
        assert row.status is JudgingStatus.DONE, (row.reason, house.log())
        assert (row.worker_id, row.lease_until, row.num_judged) == (None, None, NUM_OPEN)
        assert verdict.figures_of(self.evaluation).judge == ALL_COUNT
        said = marks(house, self.evaluation)
        assert set(said) == set(judging.MARKS)
        if not _undisturbed:
            again = judging.request(house.db, house.user, self.evaluation, self.judge)
            house.db.commit()
            house.ring()
            house.wait_for(lambda: again.status is JudgingStatus.DONE)
            _undisturbed.extend(marks(house, self.evaluation))
        assert said == _undisturbed


def marks(house: House, evaluation: Evaluation) -> list[Mark | None]:
    query = select(EvaluationAnswer.judge_mark).where(
        EvaluationAnswer.evaluation_id == evaluation.id
    )
    return list(house.db.scalars(query.order_by(EvaluationAnswer.position)))


def begin(house: House, orders: str = "") -> Scene:
    judge = a_model(house.db, f"echo {_SAYS} {orders}", house.data_dir)
    version = make_dataset_version(
        house.db, user=house.user, num_train=NUM_OPEN, num_validation=NUM_OPEN
    )
    job = make_job(house.db, user=house.user, version=version, status=JobStatus.SUCCEEDED)
    adapter = an_adapter(house.db, job.base_model, house.data_dir)
    adapter.job_id = job.id
    house.db.commit()
    evaluation = make_evaluation(house.db, adapter=adapter, marks={Arm.TUNED: "u" * NUM_OPEN})
    row = judging.request(house.db, house.user, evaluation, judge)
    house.db.commit()
    house.ring()
    return Scene(house, judge, evaluation, row)
