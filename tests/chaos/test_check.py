"""The chaos run's history checker: a sound history passes, and each way to break one is found."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.chaos.check import (
    COUNTS,
    Accepted,
    Adapter,
    AskedExport,
    Attempt,
    Evaluation,
    Export,
    Fetched,
    History,
    Job,
    Line,
    Reference,
    Said,
    Write,
    check,
)

RECIPE = "steps=4 every=2"
CURVES = {
    "loss": [(1, 4.0), (2, 3.0), (3, 2.5), (4, 2.25)],
    "validation_loss": [(0, 5.0), (2, 3.5), (4, 2.75)],
    "tokens_per_second": [(1, 10.0), (2, 10.0), (3, 10.0), (4, 10.0)],
}


def sound() -> History:
    """Two jobs as they should be: one killed after step 3 and taken over, one cancelled."""
    taken_over = Job(
        id="a",
        recipe=RECIPE,
        status="succeeded",
        attempt=2,
        key="key-a",
        attempts=[Attempt(1, "gpu-0"), Attempt(2, "gpu-1")],
        curves=copy.deepcopy(CURVES),
        table_steps=[0, 1, 2, 3, 4],
        watched=copy.deepcopy(CURVES),
        adapters=[Adapter("m", "m", "m", "w")],
    )
    # Another machine takes another time.
    taken_over.curves["tokens_per_second"] = [(step, 7.5) for step in (1, 2, 3, 4)]
    cancelled = Job(
        "b", RECIPE, "cancelled", 1, "key-b", [Attempt(1, "gpu-0")], {"loss": [(1, 4.0)]}
    )
    return History(
        accepted=[Accepted("key-a", "a"), Accepted("key-b", "b")],
        cancels={"b"},
        ends={"a": "succeeded"},
        jobs=[taken_over, cancelled],
        lines=[
            *lines("a", 1, at=10, steps=(1, 2, 3)),
            *lines("a", 2, at=20, steps=(3, 4)),
            *lines("b", 1, at=30, steps=(1,)),
        ],
        writes=[
            Write("claim", "a", 1),
            Write("metric", "a", 1),
            Write("checkpoint", "a", 1),
            Write("release", "a", 1),
            Write("claim", "b", 1),
            Write("claim", "a", 2),
            Write("metric", "b", 1),
            Write("release", "b", 1),
            Write("metric", "a", 2),
            Write("release", "a", 2),
        ],
        references={RECIPE: Reference(CURVES, "w")},
        said=[Said("m", "q", "a"), Said("m", "other", "b"), Said("m", "q", "a")],
        evaluations=[Evaluation("e", "done", 12, 12), Evaluation("f", "failed", 0, 3)],
        asked_exports=[
            AskedExport("r", "a", end="ready", is_last=True),
            AskedExport("s", "a", is_cancelled=True),
            AskedExport("t", "a", end="failed"),
            AskedExport("u", "a", end="ready"),
        ],
        fetched=[Fetched("r", "z", is_whole=True)],
        exports=[
            Export("r", "ready", None, "z", "z", "z", is_right=True),
            Export("s", "cancelled"),
            Export("t", "failed", "It ended without a word."),
            Export("u", "gone", None, "y"),
        ],
        export_kills=1,
        max_running=2,
    )


def lines(job: str, attempt: int, at: int, steps: tuple[int, ...]) -> list[Line]:
    start = Line("start", job, attempt, at)
    return [start, *(Line("step", job, attempt, at + n, n) for n in steps)]


def test_a_sound_history_has_nothing_wrong() -> None:
    report = check(sound())
    assert report.findings == []
    assert set(report.counts) == set(COUNTS)
    assert report.is_good


def begin_too_many(h: History) -> None:
    h.max_running = 1


def lose(h: History) -> None:
    h.accepted.append(Accepted("key-c", "c"))


def double(h: History) -> None:
    h.jobs.append(replace(h.jobs[1], id="b again"))


def fail(h: History) -> None:
    h.jobs[1].status = "failed"
    h.cancels.clear()


def strand(h: History) -> None:
    h.jobs[1].status = "running"


def forget(h: History) -> None:
    h.jobs[1].status = "queued"


def tell_otherwise(h: History) -> None:
    h.ends["b"] = "succeeded"


def run_twice(h: History) -> None:
    h.lines.append(Line("step", "a", 1, 24, 4))


def run_one_attempt_twice(h: History) -> None:
    h.lines.append(Line("step", "a", 2, 23, 3, pid=2))
    h.lines.append(Line("step", "a", 2, 25, 4, pid=2))


def share_a_device(h: History) -> None:
    h.lines.append(Line("checkpoint", "b", 1, 12, 1))


def miss_a_point(h: History) -> None:
    del h.jobs[0].curves["loss"][2]


def miss_a_curve(h: History) -> None:
    del h.jobs[0].curves["validation_loss"]


def double_a_point(h: History) -> None:
    h.jobs[0].curves["loss"].append((4, 2.25))


def double_a_row_of_the_table(h: History) -> None:
    h.jobs[0].table_steps.append(3)


def show_a_point_twice(h: History) -> None:
    assert h.jobs[0].watched is not None
    h.jobs[0].watched["loss"].append((3, 2.5))


def show_too_little(h: History) -> None:
    assert h.jobs[0].watched is not None
    del h.jobs[0].watched["loss"][1]


def cut_the_table(h: History) -> None:
    h.jobs[0].table_steps.pop()


def resume_wrongly(h: History) -> None:
    h.jobs[0].curves["loss"][3] = (4, 2.2500000001)


def go_too_far(h: History) -> None:
    h.jobs[0].curves["loss"].append((5, 2.0))


def spoil_a_file(h: History) -> None:
    h.jobs[0].adapters = [Adapter("m", None, "m", "w")]


def serve_other_bytes(h: History) -> None:
    h.jobs[0].adapters = [Adapter("m", "m", "other", "w")]


def publish_nothing(h: History) -> None:
    h.jobs[0].adapters = []


def publish_twice(h: History) -> None:
    h.jobs[0].adapters *= 2


def learn_something_else(h: History) -> None:
    h.jobs[0].adapters = [Adapter("m", "m", "m", "other")]


def write_after_the_next_claim(h: History) -> None:
    h.writes.insert(6, Write("metric", "a", 1))


def write_after_the_end(h: History) -> None:
    h.writes.append(Write("checkpoint", "a", 2))


def end_what_another_holds(h: History) -> None:
    h.writes.insert(6, Write("release", "a", 1))


def keep_what_was_cancelled(h: History) -> None:
    h.jobs[1].adapters = [Adapter("m", "m", "m", "w")]


def ignore_a_cancel(h: History) -> None:
    h.cancels.add("a")


def skip_a_number(h: History) -> None:
    h.jobs[0].attempts = [Attempt(1, "gpu-0"), Attempt(3, "gpu-1")]


def count_too_few(h: History) -> None:
    h.jobs[0].attempts.pop()


def leave_an_attempt_open(h: History) -> None:
    h.jobs[1].attempts = [Attempt(1, "gpu-0", is_open=True)]


def answer_otherwise(h: History) -> None:
    h.said.append(Said("m", "q", "something else"))


def fall_silent(h: History) -> None:
    h.said.append(Said("m", "q", None))


def leave_an_evaluation(h: History) -> None:
    h.evaluations.append(Evaluation("f", "evaluating", 4, 4))


def lose_an_answer(h: History) -> None:
    h.evaluations[0] = replace(h.evaluations[0], answers=11)


def lose_an_export(h: History) -> None:
    h.asked_exports.append(AskedExport("v", "a"))


def leave_an_export(h: History) -> None:
    h.exports.append(Export("v", "making"))


def make_none_in_the_end(h: History) -> None:
    h.asked_exports[2] = replace(h.asked_exports[2], is_last=True)


def fail_an_export_for_nothing(h: History) -> None:
    h.export_kills = 0


def fail_without_a_word(h: History) -> None:
    h.exports[2] = replace(h.exports[2], reason=None)


def make_what_was_cancelled(h: History) -> None:
    h.exports[1] = replace(h.exports[0], id="s")


def take_back_what_was_ready(h: History) -> None:
    h.exports[3] = Export("u", "cancelled")


def cut_a_zip(h: History) -> None:
    h.exports[0] = replace(h.exports[0], file_sha256=None)


def hand_nothing_over(h: History) -> None:
    h.exports[0] = replace(h.exports[0], served_sha256=None)


def export_another_adapter(h: History) -> None:
    h.exports[0] = replace(h.exports[0], is_right=False)


def send_half_a_zip(h: History) -> None:
    h.fetched.append(Fetched("r", "z", is_whole=False))


def send_another_zip(h: History) -> None:
    h.fetched.append(Fetched("r", "y", is_whole=True))


def send_what_is_not_ready(h: History) -> None:
    h.fetched.append(Fetched("s", "z", is_whole=True))


def hand_over_what_failed(h: History) -> None:
    h.exports[2] = replace(h.exports[2], served_sha256="z")


def leave_a_folder(h: History) -> None:
    h.export_leavings.append(".work-4-2")


def keep_a_deleted_adapter(h: History) -> None:
    h.deleted.add("a")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lose, {"lost"}),
        (double, {"doubled_jobs"}),
        (fail, {"failed"}),
        (strand, {"unfinished"}),
        (forget, {"unfinished"}),
        (tell_otherwise, {"changed_ends"}),
        (run_twice, {"overlaps"}),
        (run_one_attempt_twice, {"overlaps", "device_overlaps"}),
        (share_a_device, {"device_overlaps"}),
        (miss_a_point, {"missing_points"}),
        (miss_a_curve, {"missing_points"}),
        (double_a_point, {"doubled_points"}),
        (double_a_row_of_the_table, {"doubled_points"}),
        (show_a_point_twice, {"doubled_points"}),
        (show_too_little, {"missing_points"}),
        (cut_the_table, {"missing_points"}),
        (resume_wrongly, {"different_losses"}),
        (go_too_far, {"different_losses"}),
        (spoil_a_file, {"broken_adapters"}),
        (serve_other_bytes, {"broken_adapters"}),
        (publish_nothing, {"broken_adapters"}),
        (publish_twice, {"broken_adapters"}),
        (learn_something_else, {"different_adapters"}),
        (write_after_the_next_claim, {"stale_writes"}),
        (write_after_the_end, {"stale_writes"}),
        (end_what_another_holds, {"stale_writes"}),
        (keep_what_was_cancelled, {"cancelled_with_adapter"}),
        (ignore_a_cancel, {"ignored_cancels"}),
        (skip_a_number, {"attempt_gaps"}),
        (count_too_few, {"attempt_gaps"}),
        (leave_an_attempt_open, {"open_attempts"}),
        (begin_too_many, {"over_quota"}),
        (answer_otherwise, {"different_answers"}),
        (fall_silent, {"silent_models"}),
        (leave_an_evaluation, {"unfinished_evaluations"}),
        (lose_an_answer, {"incomplete_evaluations"}),
        (lose_an_export, {"lost_exports"}),
        (leave_an_export, {"unfinished_exports"}),
        (make_none_in_the_end, {"unfinished_exports"}),
        (fail_an_export_for_nothing, {"failed_exports"}),
        (fail_without_a_word, {"failed_exports"}),
        (make_what_was_cancelled, {"changed_exports"}),
        (take_back_what_was_ready, {"changed_exports"}),
        (cut_a_zip, {"broken_exports"}),
        (hand_nothing_over, {"broken_exports"}),
        (export_another_adapter, {"broken_exports"}),
        (send_half_a_zip, {"half_made_exports"}),
        (send_another_zip, {"half_made_exports"}),
        (send_what_is_not_ready, {"half_made_exports"}),
        (hand_over_what_failed, {"half_made_exports"}),
        (leave_a_folder, {"export_leavings"}),
        (keep_a_deleted_adapter, {"broken_adapters"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_broken_is_found(spoil: Callable[[History], None], found: set[str]) -> None:
    history = sound()
    spoil(history)
    report = check(history)
    assert {name for name, number in report.counts.items() if number} == found
    assert not report.is_good


def test_what_was_deleted_is_gone_with_its_table_and_its_exports() -> None:
    history = sound()
    history.deleted.add("a")
    history.jobs[0] = replace(history.jobs[0], adapters=[], table_steps=[])
    history.exports = []
    assert check(history).is_good


def test_a_paused_job_may_wait_in_the_end() -> None:
    history = sound()
    history.jobs[1] = replace(history.jobs[1], status="queued", is_paused=True)
    assert check(history).is_good


def test_an_attempt_may_be_taken_up_again_once_its_trainer_is_gone() -> None:
    history = sound()
    history.lines += [Line("step", "a", 2, 50 + step, step, pid=2) for step in (3, 4)]
    history.lines += [Line("step", "c", 1, 40)]  # another job's, in between
    history.jobs.append(replace(history.jobs[1], id="c", key="", attempts=[Attempt(1, "gpu-1")]))
    assert check(history).is_good
