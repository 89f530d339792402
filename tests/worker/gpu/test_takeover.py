"""What lies on a disk and was never heard of: whose it is, and how the next attempt gets it."""

import fcntl
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.orm import Session

from app.core import db as database
from app.core import settings
from app.core.models import Attempt, Checkpoint, Job, JobEvent, JobStatus, Metric
from app.jobs import fence, metrics, protocol
from app.training import manifests
from app.training.events import (
    CheckpointEvent,
    DoneEvent,
    EvaluationEvent,
    NoteEvent,
    PhaseEvent,
    StepEvent,
)
from tests.factories import make_job
from tests.worker.stand_in_trainer import loss_at
from worker import identity
from worker.gpu import spool, takeover
from worker.gpu.supervisor import Supervisor

HERE = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1234, 99, ("cpu",))
THERE = replace(HERE, id="gpu-1@there", host="there")
_salt = count()


def step_event(step: int) -> StepEvent:
    return StepEvent(
        at=1.7e9 + step,
        step=step,
        epoch=step / 10,
        loss=loss_at(step),
        learning_rate=1e-3,
        grad_norm=1,
        num_tokens=50,
        tokens_per_second=500,
    )


def note(message: str) -> NoteEvent:
    return NoteEvent(at=1.7e9, level="info", message=message)


class Trainer:
    """Writes what a trainer does into the folder of an attempt; some of it is heard of."""

    def __init__(self, db: Session, claim: fence.Claim) -> None:
        self.db, self.claim = db, claim
        self.job_dir = spool.job_dir(claim.job_id)
        folder = spool.attempt_dir(claim)
        folder.mkdir(parents=True, exist_ok=True)
        spool.note_start(folder, claim)
        self.path = folder / "events.jsonl"
        self.path.write_bytes(b"")

    def say(self, *events: metrics.TrainerEvent, heard: bool = True) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(e.model_dump(mode="json")) + "\n" for e in events)
        if heard:
            size = self.path.stat().st_size
            metrics.ingest(self.db, self.claim.job_id, self.claim.attempt, events, size)
            self.db.commit()

    def steps(self, first: int, last: int, heard: bool = True) -> None:
        self.say(*(step_event(step) for step in range(first, last + 1)), heard=heard)

    def checkpoint(self, step: int, heard: bool = True) -> None:
        self.say(EvaluationEvent(at=1.7e9, step=step, loss=2.5, is_best=True), heard=heard)
        path = f"checkpoints/step-{step:05d}"
        with manifests.new_folder(self.job_dir / path) as folder:
            (folder / "state.json").write_text(f"{next(_salt)}")  # no two are the same
            digest = manifests.write_manifest(folder)
        said = CheckpointEvent(at=1.7e9, step=step, path=path, manifest_sha256=digest)
        self.say(said, heard=heard)

    def up_to(self, first: int, last: int, heard: bool = True) -> None:
        """Make steps, with a checkpoint after each ten."""
        for step in range(first, last + 1):
            self.steps(step, step, heard)
            if step % 10 == 0:
                self.checkpoint(step, heard)

    def finish(self, heard: bool = True, attempt: int | None = None, signed: int = 1) -> None:
        about = {"job": self.claim.job_id, "attempt": attempt or self.claim.attempt}
        with manifests.new_folder(self.job_dir / "result") as folder:
            (folder / "adapter_model.safetensors").write_bytes(b"weights")
            (folder / "adapter_config.json").write_text("{}")
            digest = manifests.write_manifest(folder, **about)
        done = DoneEvent(
            at=1.7e9,
            best_step=20,
            validation_loss_before=3.5,
            validation_loss_after=2.5,
            train_loss=2.0,
            trained_tokens=1000,
            peak_memory_bytes=77,
            train_seconds=2.0,
            stopped_early=False,
            manifest_sha256=digest if signed else None,
        )
        self.say(done, heard=heard)


class Page:
    """What an open page has, which draws what comes and forgets what it is told to."""

    def __init__(self, db: Session, job: Job) -> None:
        self.db, self.job, self.seq = db, job, 0
        self.points: Counter[int] = Counter()

    def look(self) -> list[int]:
        """Look once more; returns the steps that it shows, each as often as it was sent."""
        self.db.refresh(self.job)
        for item in metrics.after(self.db, self.job, self.seq):
            self.seq = item.seq
            if item.event == "rewind":
                for step in [step for step in self.points if step > item.data["step"]]:
                    del self.points[step]
            elif item.event == "metric" and "loss" in item.data["values"]:
                self.points[item.data["step"]] += 1
        return sorted(self.points.elements())


def claim(db: Session, worker: protocol.WorkerInfo = HERE) -> fence.Claim:
    db.execute(update(Job).values(run_after=func.clock_timestamp()))
    claimed = protocol.claim(db, worker)
    db.commit()
    assert claimed is not None
    return claimed


def lose(db: Session, claimed: fence.Claim, strike: bool = True) -> None:
    """What a worker does that finds the attempt's own dead, or silent."""
    protocol.requeue(db, claimed, outcome="lost", why="Gone.", strike=strike)
    db.commit()


def begin(db: Session, worker: protocol.WorkerInfo = HERE) -> tuple[fence.Claim, Trainer]:
    claimed = claim(db, worker)
    return claimed, Trainer(db, claimed)


def take_over(db: Session, claimed: fence.Claim) -> fence.Claim | None:
    found = takeover.find(claimed, spool.newest_checkpoint(db, claimed))
    if found is None:
        return None
    after = takeover.adopt(db, claimed, found)
    db.commit()
    return after


def fresh(db: Session, job: Job) -> Job:
    db.refresh(job)
    return job


def curve(db: Session, job: Job) -> list[int]:
    found = metrics.series(db, job.id).get("loss", [])
    assert all(value == loss_at(step) for step, value in found)
    return [step for step, _ in found]


def interrupted(db: Session, job: Job) -> Trainer:
    """One attempt: heard of up to step 25, at work up to 47, and then lost with a strike."""
    first, trainer = begin(db)
    trainer.say(PhaseEvent(at=1.7e9, phase="training", message="Training."))
    trainer.up_to(1, 25)
    trainer.say(note("said once"))
    trainer.up_to(26, 47, heard=False)
    lose(db, first)
    assert fresh(db, job).strikes == 1
    return trainer


def test_what_was_never_heard_of_becomes_the_next_attempts_own(db: Session) -> None:
    job = make_job(db)
    page = Page(db, job)
    trainer = interrupted(db, job)
    assert page.look() == list(range(1, 26))
    second = claim(db)
    assert page.look() == list(range(1, 21))
    taken = take_over(db, second)
    assert taken is not None
    assert page.look() == curve(db, job) == list(range(1, 41))
    job = fresh(db, job)
    assert (job.durable_step, job.step, job.phase, job.strikes) == (40, 40, "starting", 0)
    # Five steps more than are told: they were heard of, and are made again.
    assert job.trained_tokens == 50 * 40
    assert taken == replace(second, resume_step=40)
    tries = db.scalars(select(Attempt).order_by(Attempt.number)).all()
    assert [(a.resume_step, a.last_step) for a in tries] == [(0, 40), (40, None)]
    assert (tries[0].spool_offset < trainer.path.stat().st_size, tries[1].spool_offset) == (True, 0)
    writers = db.execute(
        select(Metric.attempt, func.min(Metric.step), func.max(Metric.step))
        .where(Metric.name == "loss")
        .group_by(Metric.attempt)
        .order_by(Metric.attempt)
    ).all()
    assert [tuple(row) for row in writers] == [(1, 1, 20), (2, 21, 40)]
    kept = db.execute(select(Checkpoint.step, Checkpoint.attempt).order_by(Checkpoint.step)).all()
    assert [tuple(row) for row in kept] == [(10, 1), (20, 1), (30, 2), (40, 2)]
    said = Counter(db.scalars(select(JobEvent.message)))
    assert [said[f"Checkpoint saved at step {step}."] for step in (10, 20, 30, 40)] == [1] * 4
    assert said["said once"] == 1
    assert [text for text in said if "goes on from step 40" in text]
    # It is known now, so nothing is left to be taken over.
    assert take_over(db, taken) is None
    lose(db, taken)
    third = claim(db)
    assert (third.resume_step, take_over(db, third)) == (40, None)


def test_what_was_taken_over_unheard_is_not_taken_over_twice(db: Session) -> None:
    """The answer to the commit was lost, so it is tried again."""
    job = make_job(db)
    page = Page(db, job)
    interrupted(db, job)
    second = claim(db)
    found = takeover.find(second, spool.newest_checkpoint(db, second))
    assert found is not None
    for _ in range(2):
        assert takeover.adopt(db, second, found).resume_step == 40
        db.commit()
    assert page.look() == list(range(1, 41))
    assert fresh(db, job).trained_tokens == 50 * 40


def test_an_attempt_that_is_handed_out_again_takes_over_its_own(db: Session) -> None:
    """Nothing of it was heard of; its trainer begins its file anew."""
    job = make_job(db)
    page = Page(db, job)
    first, trainer = begin(db)
    trainer.up_to(1, 23, heard=False)
    again = protocol.unheard(db, HERE)
    assert again == first
    assert again.started_at == first.started_at is not None
    taken = take_over(db, again)
    assert taken is not None
    assert (taken.attempt, taken.resume_step) == (1, 20)
    assert page.look() == curve(db, job) == list(range(1, 21))
    # Its answer was lost as well: the same claim, and nothing doubled.
    once_more = protocol.unheard(db, HERE)
    assert once_more == taken
    assert take_over(db, once_more) is None
    assert page.look() == list(range(1, 21))
    Trainer(db, taken).steps(21, 24)
    assert page.look() == list(range(1, 25))


def half_a_line(trainer: Trainer) -> int:
    trainer.path.write_bytes(trainer.path.read_bytes()[:-20])
    return 40


def garbage_behind(trainer: Trainer) -> int:
    trainer.path.write_bytes(trainer.path.read_bytes() + b"\0" * 900 + b"\n{}\n")
    return 40


def garbage_before(trainer: Trainer) -> int:
    lines = trainer.path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b'"step": 35' in line)
    trainer.path.write_bytes(b"".join([*lines[:place], b"\xff no event\n", *lines[place:]]))
    return 30


def a_foreign_event(trainer: Trainer) -> int:
    lines = trainer.path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b'"step": 35' in line)
    foreign = b'{"kind": "of a later Etude", "at": 1}\n'
    trainer.path.write_bytes(b"".join([*lines[:place], foreign, *lines[place:]]))
    return 30


def damaged(trainer: Trainer) -> int:
    (trainer.job_dir / "checkpoints/step-00040/state.json").write_text("other")
    return 30


def anothers(trainer: Trainer) -> int:
    with manifests.new_folder(trainer.job_dir / "checkpoints/step-00040") as folder:
        (folder / "state.json").write_text("whole, and of nobody that reported it")
        manifests.write_manifest(folder)
    return 30


def all_damaged(trainer: Trainer) -> int:
    for step in (30, 40):
        (trainer.job_dir / f"checkpoints/step-{step:05d}/MANIFEST.json").write_text("{")
    return 20


def no_file(trainer: Trainer) -> int:
    trainer.path.unlink()
    return 20


def of_an_earlier_etude(trainer: Trainer) -> int:
    (trainer.path.parent / "attempt.json").unlink()
    return 20


def torn_note(trainer: Trainer) -> int:
    (trainer.path.parent / "attempt.json").write_text('{"started')
    return 20


def elsewhere(trainer: Trainer) -> int:
    """A checkpoint's line leads out of its folder."""
    body = trainer.path.read_text().replace("checkpoints/step-00040", "checkpoints/../step-00040")
    trainer.path.write_text(body)
    (trainer.job_dir / "checkpoints/step-00040").rename(trainer.job_dir / "step-00040")
    return 30


@pytest.mark.parametrize(
    "spoil",
    [
        half_a_line,
        garbage_behind,
        garbage_before,
        a_foreign_event,
        damaged,
        anothers,
        all_damaged,
        no_file,
        of_an_earlier_etude,
        torn_note,
        elsewhere,
    ],
)
def test_what_is_torn_or_strange_is_left_where_it_lies(
    spoil: Callable[[Trainer], int], db: Session
) -> None:
    job = make_job(db)
    page = Page(db, job)
    step = spoil(interrupted(db, job))
    second = claim(db)
    taken = take_over(db, second)
    assert (taken or second).resume_step == step
    assert (taken is None) == (step == 20)
    assert page.look() == curve(db, job) == list(range(1, step + 1))


def test_what_the_database_refuses_is_left_where_it_lies(
    db: Session, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence with a zero in it is an event, and no text for PostgreSQL."""
    monkeypatch.setenv("ETUDE_WORKER_ID", "gpu-1@test")
    job = make_job(db)
    first, trainer = begin(db)
    trainer.up_to(1, 12)
    trainer.say(note("\0"), heard=False)
    trainer.up_to(13, 21, heard=False)
    lose(db, first)
    second = claim(db, identity.me())
    supervisor = Supervisor(second)
    done, saved = supervisor._take_over()
    assert done is None
    assert saved is not None
    assert (saved.step, supervisor.claim) == (10, second)
    assert curve(db, job) == list(range(1, 11))
    assert fresh(db, job).strikes == 1


def test_a_line_that_another_host_gave_up_stays_given_up(db: Session) -> None:
    """It began again from what it knew, and reported a step: the job goes on from there."""
    job = make_job(db)
    interrupted(db, job)
    there = claim(db, THERE)
    there = protocol.roll_back(db, there, 0)  # as it has another disk
    metrics.ingest(db, job.id, there.attempt, [step_event(1)], 100)
    lose(db, there)
    third = claim(db)
    assert (third.resume_step, take_over(db, third)) == (0, None)
    assert curve(db, job) == []
    spool.forget(job.id)
    assert [path.name for path in spool.job_dir(job.id).iterdir()] == ["attempts"]


def test_a_host_that_came_to_no_step_gave_nothing_up(db: Session) -> None:
    """All points were deleted as it began: they are in the file, heard of and not."""
    job = make_job(db)
    page = Page(db, job)
    interrupted(db, job)
    there = claim(db, THERE)
    there = protocol.roll_back(db, there, 0)
    loading = PhaseEvent(at=1.7e9, phase="loading", message="Loading.")
    metrics.ingest(db, job.id, there.attempt, [loading], 100)
    lose(db, there)
    assert page.look() == []
    third = claim(db)
    taken = take_over(db, third)
    assert taken is not None
    assert taken.resume_step == 40
    assert page.look() == curve(db, job) == list(range(1, 41))
    kept = db.scalars(select(Checkpoint.step).order_by(Checkpoint.step)).all()
    assert kept == [10, 20, 30, 40]
    assert fresh(db, job).strikes == 1  # the other host's
    assert Counter(db.scalars(select(JobEvent.message)))["Checkpoint saved at step 10."] == 1


@pytest.mark.parametrize("are_all_here", [True, False])
def test_points_of_several_attempts_come_back_together_or_not_at_all(
    are_all_here: bool, db: Session
) -> None:
    """Attempts 1 and 3 made them; 2 made none, and 4 began anew on another disk."""
    job = make_job(db)
    page = Page(db, job)
    first, trainer = begin(db)
    trainer.up_to(1, 14)
    lose(db, first)
    if not are_all_here:
        trainer.path.unlink()
    second, trainer = begin(db)
    assert second.resume_step == 10
    trainer.up_to(11, 13)
    lose(db, second)
    third, trainer = begin(db)
    trainer.up_to(11, 34)
    lose(db, third)
    there = claim(db, THERE)
    protocol.roll_back(db, there, 0)
    lose(db, there)
    fifth = claim(db)
    taken = take_over(db, fifth)
    assert (taken is not None) == are_all_here
    assert page.look() == curve(db, job) == (list(range(1, 31)) if are_all_here else [])


def test_an_attempts_number_that_comes_again_is_not_that_attempt(db: Session) -> None:
    """The database was put back to when the second attempt had not been."""
    job = make_job(db)
    interrupted(db, job)
    second = claim(db)
    strange = replace(second, started_at=first_start(db))
    trainer = Trainer(db, strange)
    trainer.up_to(41, 63, heard=False)  # as if it had begun where this one will
    taken = take_over(db, second)
    assert taken is not None
    assert taken.resume_step == 40
    assert fresh(db, job).durable_step == 40


def first_start(db: Session) -> datetime:
    return db.scalars(select(Attempt.started_at).where(Attempt.number == 1)).one()


def test_what_was_done_again_after_a_return_is_what_counts(db: Session) -> None:
    """The trainer found step 30 damaged, went back to 20 and wrote another one of step 30."""
    job = make_job(db)
    page = Page(db, job)
    first, trainer = begin(db)
    trainer.up_to(1, 37)
    assert page.look() == list(range(1, 38))
    trainer.say(note("At step 38 the loss was no longer a number."), heard=False)
    trainer.up_to(21, 33, heard=False)
    lose(db, first)
    second = claim(db)
    assert second.resume_step == 30
    taken = take_over(db, second)
    assert taken is not None
    assert taken.resume_step == fresh(db, job).durable_step == 30
    assert page.look() == curve(db, job) == list(range(1, 31))
    known = spool.newest_checkpoint(db, taken)
    assert known is not None
    assert known.step == 30


@pytest.mark.parametrize(
    ("strikes", "since", "left"), [(1, 0, 0), (3, 0, 0), (2, 1, 1), (4, 2, 2), (0, 0, 0)]
)
def test_an_attempt_that_got_further_costs_no_strike(
    strikes: int, since: int, left: int, db: Session
) -> None:
    """Those of attempts after it that came to no step stay."""
    job = make_job(db)
    interrupted(db, job)
    for _ in range(since):
        lose(db, claim(db), strike=False)
    last = claim(db)
    db.execute(update(Job).values(strikes=strikes))
    taken = take_over(db, last)
    assert taken is not None
    assert fresh(db, job).strikes == left
    # One that gets no further now costs one more, as ever.
    lose(db, taken)
    assert fresh(db, job).strikes == left + 1


def test_a_job_that_has_failed_stays_failed(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_MAX_STRIKES", "1")
    settings.get.cache_clear()
    job = make_job(db)
    first, trainer = begin(db)
    trainer.up_to(1, 12, heard=False)
    lose(db, first)
    assert fresh(db, job).status is JobStatus.FAILED
    assert protocol.claim(db, HERE) is None


def test_one_who_is_fenced_takes_nothing_over(db: Session) -> None:
    job = make_job(db)
    interrupted(db, job)
    second = claim(db)
    found = takeover.find(second, spool.newest_checkpoint(db, second))
    assert found is not None
    lose(db, second)
    claim(db, THERE)
    said = fresh(db, job).event_seq
    with pytest.raises(fence.Fenced):
        takeover.adopt(db, second, found)
    db.rollback()
    assert fresh(db, job).event_seq == said


def finished(db: Session, heard: bool, **how: int) -> tuple[fence.Claim, Trainer]:
    first, trainer = begin(db)
    trainer.up_to(1, 12)
    trainer.up_to(13, 25, heard=heard)
    trainer.finish(heard, **how)
    lose(db, first)
    return claim(db), trainer


@pytest.mark.parametrize("heard", [True, False])
def test_a_whole_result_needs_no_trainer(heard: bool, db: Session) -> None:
    job = make_job(db)
    page = Page(db, job)
    second, _ = finished(db, heard)
    page.look()
    for _ in range(2):  # killed before the publishing was committed, so once more
        found = takeover.find(second, spool.newest_checkpoint(db, second))
        assert found is not None
        assert found.done is not None
        assert (found.done.peak_memory_bytes, found.step, found.last_step) == (77, 20, 25)
        taken = takeover.adopt(db, second, found)
        db.commit()
        assert page.look() == curve(db, job) == list(range(1, 26))
        job = fresh(db, job)
        assert (taken.resume_step, job.durable_step, job.step) == (20, 20, 25)
        assert job.trained_tokens == 1000
        # Where all had been heard of, the strike was for what came after.
        assert job.strikes == (1 if heard else 0)
        lose(db, taken, strike=False)
        second = claim(db)
    said = Counter(db.scalars(select(JobEvent.message)))
    assert said["Checkpoint saved at step 20."] == 1


def test_a_result_after_a_return_shows_the_way_that_led_to_it(db: Session) -> None:
    job = make_job(db)
    page = Page(db, job)
    first, trainer = begin(db)
    trainer.up_to(1, 37)
    trainer.say(note("At step 38 the loss was no longer a number."))
    trainer.up_to(11, 25)
    trainer.finish(heard=False)
    lose(db, first)
    taken = take_over(db, claim(db))
    assert taken is not None
    job = fresh(db, job)
    assert (taken.resume_step, job.durable_step, job.step) == (20, 20, 25)
    assert page.look() == curve(db, job) == list(range(1, 26))


@pytest.mark.parametrize("what", ["unsigned", "another attempt's", "damaged", "not the last word"])
def test_a_result_of_somebody_else_is_no_result(what: str, db: Session) -> None:
    make_job(db)
    how: dict[str, int] = {"unsigned": {"signed": 0}, "another attempt's": {"attempt": 7}}.get(
        what, {}
    )
    second, trainer = finished(db, heard=False, **how)
    if what == "damaged":
        (trainer.job_dir / "result/adapter_config.json").write_text("{ }")
    if what == "not the last word":
        trainer.say(note("And then it went on."), heard=False)
    found = takeover.find(second, spool.newest_checkpoint(db, second))
    assert found is not None
    assert (found.done, found.step, found.last_step) == (None, 20, 20)


def test_the_database_is_asked_only_where_the_disk_holds_more(db: Session) -> None:
    job = make_job(db)
    first = claim(db)
    asked: list[str] = []

    @event.listens_for(database.engine(), "before_cursor_execute")
    def hear(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    try:
        takeover.wait_until_free(spool.job_dir(job.id))
        assert takeover.find(first, None) is None
        trainer = Trainer(db, first)
        trainer.up_to(1, 25)
        lose(db, first)
        second = claim(db)
        known = spool.newest_checkpoint(db, second)
        asked.clear()
        assert takeover.find(second, known) is None
        assert asked == []
        (trainer.job_dir / "checkpoints/step-00020/state.json").write_text("damaged")
        known = spool.newest_checkpoint(db, second)
        asked.clear()
        assert takeover.find(second, known) is None
        assert len(asked) == 1
    finally:
        event.remove(database.engine(), "before_cursor_execute", hear)


def test_a_folder_that_a_trainer_still_holds_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_LOCK_SECONDS", 0.1)
    with (tmp_path / "run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(takeover.FolderHeld):
            takeover.wait_until_free(tmp_path)
    takeover.wait_until_free(tmp_path)
    takeover.wait_until_free(tmp_path / "none")
