"""A learning curve by a real worker, with stand-ins for the trainer and for what answers."""

from pathlib import Path

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import wakeup
from app.core.models import Arm, Job, Role
from app.evaluation import curves, verdict
from app.evaluation.curves import Outlook
from tests.factories import make_dataset_version, make_user
from tests.worker.answering.asking import STAND_IN, a_model
from tests.worker.conftest import WorkerProcess, wait_for
from tests.worker.gpu.test_evaluating import speaks
from worker.gpu import spool


def test_three_jobs_are_trained_evaluated_and_judged(
    db: Session, quick: None, tmp_path: Path, data_dir: Path
) -> None:
    model = speaks(a_model(db, "echo"))
    version = make_dataset_version(db, num_train=80, num_validation=10, num_test=24)
    curve = curves.start(db, make_user(db, role=Role.MEMBER), version, model)
    db.commit()
    # Its adapters are evaluated although this site evaluates none by itself.
    worker = WorkerProcess("gpu", tmp_path, environment=STAND_IN)
    worker.start()
    try:
        wakeup.hint("gpu")
        wait_for(db, lambda: curves.is_over(curves.points(db, curve)), seconds=120)
    finally:
        worker.end()
    found = curves.points(db, curve)
    for point, num_rows in zip(found, (20, 40, 80), strict=True):
        assert point.job is not None
        assert point.evaluation is not None, point.job.reason
        assert point.evaluation.reason is None
        assert point.tally == verdict.Tally(unsure=24)  # the stand-in says numbers
        figures = verdict.figures_of(point.evaluation)
        assert set(figures.arms) == {Arm.TUNED, Arm.BASE}
        assert figures.practice is None
        with pa.memory_map(str(spool.job_dir(point.job.id) / "examples.arrow")) as file:
            rows = pa.ipc.open_file(file).read_all().to_pylist()
        assert sum(row["split"] == "train" for row in rows) == num_rows
    assert curves.outlook(db, found) is Outlook.UNLIKELY
    assert len(db.scalars(select(Job)).all()) == 3
