"""`etude evaluate`: started, waited for, and counted."""

import json
import subprocess

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import leases
from app.core.models import Adapter, Arm, Evaluation, Finish, Mark
from app.evaluation import evaluations
from app.evaluation.evaluations import Kept
from tests import patience, warm
from tests.ops.command_line.conftest import Etude, command


def answer(db: Session) -> None:
    """Answer as a worker does, but rightly and at once."""
    lease = leases.claim(db, leases.EVALUATIONS, "gpu-0@here")
    assert lease is not None
    evaluations.draw(db, lease)
    while asked := evaluations.next_questions(db, lease):
        kept = [
            Kept(
                one.position,
                arm,
                f"{arm.value} says so",
                Finish.STOP,
                None,
                Mark.RIGHT if arm is Arm.TUNED else Mark.WRONG,
                "",
            )
            for one in asked
            for arm in one.arms
        ]
        num_new = sum(one.part.value == "test" for one in asked)
        evaluations.keep(db, lease, kept, num_new, 1.0, {})
    evaluations.finish(db, lease)
    db.commit()


def test_it_waits_and_prints_the_count(
    environment: dict[str, str], db: Session, adapter: Adapter
) -> None:
    with warm.Popen(
        command("evaluate", "Ward questions", "--json"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "It waits until a device is free." in process.stderr.readline()
        answer(db)
        printed, _ = process.communicate(timeout=patience.seconds(60))
        assert process.returncode == 0
    said = json.loads(printed)
    assert (said["right"], said["partly"], said["wrong"], said["unsure"]) == (4, 0, 0, 0)
    assert (said["num"], said["verdict"]) == (4, "too_few")
    assert said["arms"]["base"]["wrong"] == 4
    test_rows = [row for row in said["rows"] if row["part"] == "test"]
    assert len(test_rows) == 4
    assert set(test_rows[0]["answers"]) == {"tuned", "base", "lookup", "nearest"}


def test_one_that_goes_on_is_waited_for(
    environment: dict[str, str], db: Session, adapter: Adapter
) -> None:
    owner = adapter.job.owner if adapter.job else None
    assert owner is not None
    evaluations.request(db, owner, adapter)
    db.commit()
    with warm.Popen(
        command("evaluate", str(adapter.id)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "It waits" in process.stderr.readline()
        answer(db)
        printed, _ = process.communicate(timeout=patience.seconds(60))
    assert "4 of 4 right." in printed
    assert len(db.scalars(select(Evaluation)).all()) == 1


def test_a_starting_model_has_nothing_to_count(etude: Etude, adapter: Adapter) -> None:
    refused = etude("evaluate", adapter.base_model.name)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"etude: “{adapter.base_model.name}” is a starting model; name one that was trained here.\n"
    )
