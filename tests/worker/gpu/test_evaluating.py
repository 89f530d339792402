"""Evaluations by a worker of this process, with stand-ins for the models: what each end says."""

import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import (
    Adapter,
    Arm,
    BaseModel,
    Evaluation,
    EvaluationAnswer,
    EvaluationStatus,
    Example,
    Finish,
    JobStatus,
    Mark,
    Notice,
    Part,
    QuarantinedDevice,
    Release,
    User,
    Worker,
    WorkerState,
)
from app.evaluation import evaluations, general_questions, reading, verdict, words
from app.evaluation.evaluations import Far
from app.training import manifests
from tests.factories import make_adapter, make_dataset_version, make_job
from tests.worker.answering.asking import STAND_IN, a_model, child_pids, journal
from tests.worker.trainer.conftest import SMOLLM2_SPECIAL, SMOLLM2_TEMPLATE, tokenizer_json
from worker import identity
from worker.gpu.evaluating import evaluate_next, longest_answer, told

ME = "gpu-0@test"


@pytest.fixture(autouse=True)
def quick(database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        **STAND_IN,
        "ETUDE_WORKER_ID": ME,
        "ETUDE_DEVICE": "cpu",
        "ETUDE_HEARTBEAT_SECONDS": "0.3",
        "ETUDE_WATCH_SECONDS": "0.1",
    }.items():
        monkeypatch.setenv(name, value)
    settings.get.cache_clear()


def speaks(model: BaseModel) -> BaseModel:
    """Give a stand-in's folder what the worker reads of a real one's."""
    folder = settings.get().models_dir / str(model.folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    eos, _, end = SMOLLM2_SPECIAL
    words = {"eos_token": end, "pad_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    (folder / "chat_template.jinja").write_text(SMOLLM2_TEMPLATE)
    return model


@pytest.fixture
def model(db: Session, data_dir: Path) -> BaseModel:
    return speaks(a_model(db, "echo"))


@pytest.fixture
def adapter(db: Session, model: BaseModel) -> Adapter:
    version = make_dataset_version(db, num_train=20, num_validation=12)
    job = make_job(db, version=version, base_model=model, status=JobStatus.SUCCEEDED)
    return make_adapter(db, job=job)


@pytest.fixture
def row(db: Session, adapter: Adapter) -> Evaluation:
    made = evaluations.request_after_job(db, adapter)
    assert made is not None
    db.commit()
    return made


def answers(db: Session, row: Evaluation) -> list[EvaluationAnswer]:
    db.expire_all()
    query = select(EvaluationAnswer).where(EvaluationAnswer.evaluation_id == row.id)
    return list(db.scalars(query.order_by(EvaluationAnswer.position, EvaluationAnswer.arm)))


def order(model: BaseModel, orders: str) -> None:
    (settings.get().models_dir / str(model.folder) / "orders").write_text(orders)


def fails(db: Session, row: Evaluation) -> str:
    """Have it done; it ends with a sentence, and its job's owner is told that the job is done."""
    assert evaluate_next(ME)
    db.expire_all()
    assert row.status is EvaluationStatus.FAILED
    assert row.finished_at is not None
    assert row.adapter is None or row.adapter.job is None or row.adapter.job.reason is None
    assert len(db.scalars(select(Notice)).all()) == 1
    assert not evaluate_next(ME)  # and nothing is left to do for anybody
    return str(row.reason)


def during(model: BaseModel, words: str, action: Callable[[], object]) -> threading.Thread:
    """Do something once the stand-in has written down some words."""

    def wait() -> None:
        while not any(words in line for line in journal(model)):
            threading.Event().wait(0.02)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_every_arm_answers_the_same_questions(
    db: Session, row: Evaluation, model: BaseModel, adapter: Adapter
) -> None:
    assert evaluate_next(ME)
    found = answers(db, row)
    assert row.status is EvaluationStatus.DONE, row.reason
    assert (row.num_rows, row.num_questions, row.num_answered) == (12, 24, 12)
    assert (row.engine, row.strikes, row.progress) == ("llama.cpp", 0, None)
    # A page has no time to look which of them are like a practice row.
    shown = reading.rows(db, row, Arm.TUNED, part=Part.TEST, limit=100)
    assert [each.question.is_like_practice is None for each in shown] == [False] * 12
    by_arm = {arm: [each for each in found if each.arm is arm] for arm in Arm}
    assert {arm: len(said) for arm, said in by_arm.items()} == {
        Arm.TUNED: 24, Arm.BASE: 12, Arm.LOOKUP: 12, Arm.NEAREST: 12, Arm.TUNED_LOOKUP: 0,
    }  # fmt: skip
    assert all(each.text.startswith(f"{adapter.id} ") for each in by_arm[Arm.TUNED])
    assert all(each.text.startswith("None ") for each in by_arm[Arm.BASE] + by_arm[Arm.LOOKUP])
    for looked, nearest in zip(by_arm[Arm.LOOKUP], by_arm[Arm.NEAREST], strict=True):
        assert looked.sources is not None
        assert nearest.sources == looked.sources[:1]
        assert len(looked.sources) == 4
        source = db.get_one(Example, (row.version_id, nearest.sources[0]["index"]))
        assert nearest.text == source.messages[-1]["content"]
    assert all(each.sources is None for each in by_arm[Arm.TUNED])
    assert Mark.RIGHT not in {each.mark for each in by_arm[Arm.TUNED]}  # it says numbers
    assert all(each.why for each in found)
    assert {each.finish for each in found} == {Finish.STOP}
    # One arm after the other, so that the adapter changes as seldom as can be.
    asked = [line.split()[2] for line in journal(model) if line.startswith("ask ")]
    assert asked[:32] == [str(adapter.id)] * 16 + ["None"] * 16
    assert len(db.scalars(select(Notice)).all()) == 1
    assert not evaluate_next(ME)


def test_a_child_that_ends_is_started_again_and_the_answers_are_the_same(
    db: Session, row: Evaluation, model: BaseModel, adapter: Adapter
) -> None:
    evaluate_next(ME)
    undisturbed = [(each.arm, each.position, each.text) for each in answers(db, row)]
    again = evaluations.request(db, adapter.job.owner, adapter) if adapter.job else row
    db.commit()
    order(model, "echo wait=0.5")
    num_before = len(child_pids(model))

    def kill() -> None:
        os.kill(wait_for_pid(), signal.SIGKILL)

    def wait_for_pid() -> int:
        while len(child_pids(model)) <= num_before:
            threading.Event().wait(0.02)
        return child_pids(model)[num_before]

    thread = threading.Thread(target=kill)
    thread.start()
    assert evaluate_next(ME)
    thread.join()
    assert [(e.arm, e.position, e.text) for e in answers(db, again)] == undisturbed
    assert again.status is EvaluationStatus.DONE
    assert len(child_pids(model)) == num_before + 2


def test_after_three_ends_in_a_row_a_sentence_says_so(
    db: Session, row: Evaluation, model: BaseModel
) -> None:
    order(model, "die")
    assert "broke off again and again (code -9)" in fails(db, row)
    assert len(child_pids(model)) == 3


def test_a_model_that_cannot_be_loaded_says_why(
    db: Session, row: Evaluation, model: BaseModel
) -> None:
    order(model, "refuse")
    assert fails(db, row) == "This model cannot be used; its files are not its own."


def test_a_full_disk_is_said(db: Session, row: Evaluation, model: BaseModel) -> None:
    folder = settings.get().models_dir / str(model.folder)
    (folder / "full").write_text("The disk is full.")
    assert fails(db, row) == "The disk is full."


def test_without_a_form_for_llama_cpp_the_model_itself_answers(
    db: Session, row: Evaluation, model: BaseModel
) -> None:
    (settings.get().models_dir / str(model.folder) / "unconvertible").write_text("Unknown kind.")
    assert evaluate_next(ME)
    db.expire_all()
    assert (row.status, row.engine) == (EvaluationStatus.DONE, "transformers")


def test_an_adapter_that_must_be_merged_has_a_child_of_its_own(
    db: Session, row: Evaluation, model: BaseModel, adapter: Adapter
) -> None:
    folder = settings.get().data_dir / "storage" / str(adapter.storage_key)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    (folder / manifests.NAME).unlink()
    adapter.manifest_sha256 = manifests.write_manifest(folder)
    db.commit()
    assert evaluate_next(ME)
    assert len(answers(db, row)) == 60
    assert row.status is EvaluationStatus.DONE, row.reason
    assert [line for line in journal(model) if line.startswith("convert")] == [
        "convert base",
        "convert merged",
    ]
    assert len(child_pids(model)) == 2


def test_damaged_files_of_an_adapter_are_not_asked(
    db: Session, row: Evaluation, adapter: Adapter
) -> None:
    folder = settings.get().data_dir / "storage" / str(adapter.storage_key)
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    assert "not those that were trained" in fails(db, row)


def test_a_model_that_is_gone_is_said(db: Session, row: Evaluation, model: BaseModel) -> None:
    model.folder = None
    db.commit()
    assert "is not ready" in fails(db, row)


def test_words_that_cannot_be_read_are_said(db: Session, row: Evaluation, model: BaseModel) -> None:
    (settings.get().models_dir / str(model.folder) / "tokenizer.json").write_text("{}")
    assert "cannot be asked" in fails(db, row)


def test_too_little_memory_is_said(db: Session, row: Evaluation, model: BaseModel) -> None:
    model.size_bytes = 10**14
    db.commit()
    assert "GB of memory to answer here" in fails(db, row)


def test_an_adapter_that_is_withdrawn_meanwhile_is_asked_no_more(
    db: Session, row: Evaluation, model: BaseModel, adapter: Adapter
) -> None:
    order(model, "echo wait=0.5")
    adapter_id = adapter.id

    def withdraw() -> None:
        from app.core import db as database

        with database.session() as session:
            session.get_one(Adapter, adapter_id).release = Release.WITHDRAWN
            session.commit()

    thread = during(model, "ask ", withdraw)
    assert "was withdrawn" in fails(db, row)
    thread.join()
    assert len(answers(db, row)) == 40  # what it had said in the first block stands


def test_what_is_cancelled_ends_the_child(
    db: Session, row: Evaluation, model: BaseModel, adapter: Adapter
) -> None:
    order(model, "echo wait=60")
    row_id = row.id
    assert adapter.job is not None
    owner_id = adapter.job.owner_id

    def cancel() -> None:
        from app.core import db as database
        from app.core.models import User

        with database.session() as session:
            found = session.get_one(Evaluation, row_id)
            evaluations.cancel(session, session.get_one(User, owner_id), found)
            session.commit()

    thread = during(model, "ask ", cancel)
    assert evaluate_next(ME)
    thread.join()
    db.expire_all()
    assert row.status is EvaluationStatus.CANCELLED
    assert answers(db, row) == []
    with suppress(ProcessLookupError):
        os.kill(child_pids(model)[0], 0)
        raise AssertionError("the child goes on")


def test_a_worker_that_is_to_end_hands_it_back_without_a_strike(
    db: Session, row: Evaluation, model: BaseModel
) -> None:
    order(model, "echo wait=60")
    thread = during(model, "ask ", identity.drain)
    assert evaluate_next(ME)
    thread.join()
    db.expire_all()
    assert (row.status, row.strikes, row.attempt) == (EvaluationStatus.WAITING, 0, 1)


@pytest.mark.parametrize("why", ["paused", "quarantined"])
def test_a_worker_that_takes_no_jobs_takes_none(db: Session, row: Evaluation, why: str) -> None:
    me = identity.me()
    columns = {"queue": "gpu", "host": me.host, "boot_id": "b", "version": "1"}
    state = WorkerState.DRAINING if why == "paused" else WorkerState.ACTIVE
    db.add(Worker(id=ME, devices=["cpu"], state=state, **columns))
    if why == "quarantined":
        db.add(QuarantinedDevice(host=me.host, device="cpu", reason="It is warm."))
    db.commit()
    assert not evaluate_next(ME)
    db.expire_all()
    assert row.attempt == 0


def test_something_unforeseen_strikes_and_never_blocks_for_good(
    db: Session, row: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_FAILPOINTS", "evaluate.claimed=exception")
    looks = 0
    while evaluate_next(ME):
        looks += 1
        assert looks <= settings.get().max_strikes
    db.expire_all()
    assert row.status is EvaluationStatus.FAILED
    assert "without getting on" in str(row.reason)
    assert len(db.scalars(select(Notice)).all()) == 1


def test_questions_too_long_for_the_model_are_wrong_and_said(
    db: Session, row: Evaluation, model: BaseModel
) -> None:
    order(model, "echo too_long")
    assert evaluate_next(ME)
    found = [each for each in answers(db, row) if each.arm is Arm.BASE]
    assert {(each.mark, each.finish, each.why) for each in found} == {
        (Mark.WRONG, Finish.FAILED, "the question is too long for the model")
    }


def test_an_answer_may_be_twice_as_long_as_nearly_all_right_ones() -> None:
    assert longest_answer([]) == 64
    assert longest_answer([10] * 100) == 64
    assert longest_answer([100] * 99 + [9000]) == 200
    assert longest_answer([100] * 90 + [9000] * 10) == 512


def test_what_is_told_of_it_counts_what_the_time_allows() -> None:
    assert told(Far(16, 1000, 20, 120), 1.25) == {"done": 16, "of": 96, "seconds_left": 100.0}
    assert told(Far(16, 40, 20, 120), 1.25) == {"done": 16, "of": 40, "seconds_left": 30.0}
    assert told(Far(8, 1000, 119, 120), 15) == {"done": 8, "of": 24, "seconds_left": 240}


def test_the_departments_own_questions_are_asked_before_and_after(
    db: Session, model: BaseModel, adapter: Adapter
) -> None:
    owner = db.get_one(User, adapter.owner_id)
    general_questions.add(db, owner, "What is 7 times 8?", "56")
    general_questions.add(db, owner, "Who calls the doctor at night?", "The nurse in charge")
    made = evaluations.request(db, owner, adapter, also_asks=[Part.GENERAL])
    db.commit()
    assert evaluate_next(ME)
    db.expire_all()
    assert made.status is EvaluationStatus.DONE, made.reason
    rows = {arm: reading.rows(db, made, arm, part=Part.SITE) for arm in Arm}
    assert {arm: len(found) for arm, found in rows.items() if found} == {
        Arm.TUNED: 2,
        Arm.BASE: 2,
    }
    assert [row.asked.answer for row in rows[Arm.BASE]] == ["56", "The nurse in charge"]
    assert {row.answer.text.split()[0] for row in rows[Arm.TUNED]} == {str(adapter.id)}
    figures = verdict.figures_of(made)
    assert (figures.site[Arm.TUNED].num, figures.general[Arm.TUNED].num) == (2, 24)
    assert "2 general questions of your own" in words.ours(figures)[Part.SITE]
