"""A judge's child is killed or loses its device; its parent's ends: test_failpoints.py."""

import pytest

from app.core.models import JudgingStatus
from app.evaluation import judging as judgings
from app.evaluation import verdict
from app.training import failpoints
from tests.faults import judging
from tests.faults.house import PACE, House
from tests.faults.test_evaluating import killed
from tests.worker.answering.asking import child_pids, journal


@pytest.mark.timeout(180)
def test_a_judge_that_is_killed_at_any_moment_marks_each_answer_once(house: House) -> None:
    opening = judging.begin(house, "slow=0.5")
    killed(house, opening.judge)
    opening.finish()

    amid = judging.begin(house, f"wait={PACE}")
    house.wait_for(lambda: any(e.startswith("ask ") for e in journal(amid.judge, house.data_dir)))
    killed(house, amid.judge)
    amid.finish()

    failpoints.arm(house.failpoints, "judge.keep.committed", f"delay:{3 * PACE}")
    between = judging.begin(house)
    house.wait_for(lambda: failpoints.has_struck(house.failpoints, "judge.keep.committed"))
    killed(house, between.judge)
    between.finish()
    assert len(child_pids(between.judge, house.data_dir)) == 2


def test_a_device_lost_amid_judging_costs_no_mark_and_lost_for_good_it_is_said(
    house: House,
) -> None:
    once = judging.begin(house, "lost=1")
    once.finish()

    for_good = judging.begin(house, "lost=9")
    row = for_good.row
    house.wait_for(lambda: row.status not in judgings.OPEN)
    assert row.status is JudgingStatus.FAILED
    assert "lost its graphics card" in str(row.reason)
    assert judging.marks(house, for_good.evaluation) == [None] * judging.NUM_OPEN
    counts = verdict.figures_of(for_good.evaluation).arms  # the rest of the page stands
    assert [one.unsure for one in counts.values()] == [judging.NUM_OPEN]
