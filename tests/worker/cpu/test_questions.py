"""Questions from a real child with a real, if tiny, model: one that was made to ask by hand."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from sqlalchemy import select
from sqlalchemy.orm import Session
from tokenizers import AddedToken, Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from app.core import leases, settings
from app.core.models import (
    Asking,
    AskingStatus,
    BaseModel,
    DatasetVersion,
    Example,
    ExampleKind,
    Notice,
    ProposedPair,
)
from app.datasets.questions import runs
from app.datasets.questions.asking import told_before
from app.training.manifests import write_manifest
from tests.factories import first_user, make_base_model, make_dataset_version
from tests.worker.conftest import wait_for
from tests.worker.trainer.conftest import (
    SMOLLM2_SPECIAL,
    SMOLLM2_TEMPLATE,
    one_core,
    tokenizer_json,
)
from worker import identity
from worker.cpu import question_model, questions
from worker.cpu.question_model import Batch, Writer
from worker.inference import commands
from worker.leased import LeaseHolder

__all__ = ["one_core"]
ME = "cpu-0@test"
# What the model can say after "assistant\n"; where there are several, it draws.
THINGS = [" soap", " water", " bread", " towels", " gloves", " coffee", " sugar", " paper"]
NEXT = {
    "\n": ["Where"],
    "Where": [" is", " is not"],
    " is": [" the"],
    " is not": [" the"],
    " the": THINGS,
    **{thing: [" kept?"] for thing in THINGS},
    " kept?": ["<|im_end|>"],
}


@pytest.fixture(scope="module")
def asking_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose layers do nothing: what comes next depends on the last word alone."""
    folder = tmp_path_factory.mktemp("asking") / "model"
    tokenizer = Tokenizer.from_str(tokenizer_json())
    words = [word for word in NEXT if len(word) > 1]
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    size = 320
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    ids = {
        word: tokenizer.encode(word, add_special_tokens=False).ids[0]
        for word in [*NEXT, "<|im_end|>"]
    }
    follows = torch.zeros(size, size)
    for word, nexts in NEXT.items():
        for after in nexts:
            follows[ids[after], ids[word]] = 1
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(follows)  # the norm makes a score of about 18 of each 1
    model.bfloat16().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    eos, _, end = SMOLLM2_SPECIAL
    (folder / "tokenizer_config.json").write_text(f'{{"eos_token": "{end}", "pad_token": "{eos}"}}')
    (folder / "chat_template.jinja").write_text(SMOLLM2_TEMPLATE)
    return folder


@pytest.fixture
def model(
    db: Session, data_dir: Path, asking_model: Path, monkeypatch: pytest.MonkeyPatch
) -> BaseModel:
    """The model as an import leaves it, in the test's own folder; the worker is this process."""
    monkeypatch.setenv("ETUDE_WORKER_ID", ME)
    monkeypatch.setenv("ETUDE_WATCH_SECONDS", "0.2")
    monkeypatch.setenv("ETUDE_HEARTBEAT_SECONDS", "0.5")
    settings.get.cache_clear()
    folder = settings.get().models_dir / "tiny"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(asking_model)
    row = make_base_model(db, size_bytes=1_000_000)
    row.manifest_sha256 = write_manifest(asking_model)
    db.commit()
    return row


def make_texts(db: Session, num_texts: int) -> DatasetVersion:
    """Texts of two paragraphs: of the first the model can ask, of the second it cannot."""
    version = make_dataset_version(db, kind=ExampleKind.TEXT, num_train=num_texts, num_validation=0)
    for row in db.scalars(select(Example).where(Example.version_id == version.id)):
        thing = THINGS[row.index % len(THINGS)].strip()
        first = f"The {thing} of shelf {row.index} is kept in the cupboard beside the door."
        second = f"Somebody wakes the doctor at {row.index} in the night."
        row.messages = [{"role": "text", "content": f"House\n\n{first}\n\nNight\n\n{second}"}]
    db.commit()
    return version


def test_a_worker_is_killed_and_another_goes_on_where_it_was(db: Session, model: BaseModel) -> None:
    version = make_texts(db, 16)
    asking = runs.start(db, first_user(db), version, model, per_passage=1, max_pairs=14)
    db.commit()
    # An earlier worker has four passages behind it, and one pair.
    lease = leases.claim(db, leases.ASKINGS, ME)
    assert lease is not None
    index, passage = runs.quoted(db, asking)[0]
    asking.num_pairs = 1
    kept = {
        "example_index": index,
        "heading": passage.heading,
        "passage": passage.text,
        "answer": passage.answers[0],
        "question": "Where is the soap kept?",
    }
    runs.keep(db, lease, asking, 4, [kept], {})
    db.commit()
    before = pairs(db)

    code = f"from worker.cpu import questions; questions.ask_next({ME!r})"
    worker = subprocess.Popen([sys.executable, "-c", code])
    child = wait_for(db, lambda: writer_of(worker.pid), seconds=60)
    db.refresh(asking)
    assert (asking.status, asking.attempt, asking.strikes) == (AskingStatus.ASKING, 2, 1)
    worker.kill()
    worker.wait()
    wait_for(db, lambda: not Path(f"/proc/{child}").exists(), seconds=20)
    assert len(pairs(db)) == 1

    assert questions.ask_next(ME), "the same worker takes back what it held"
    db.refresh(asking)
    assert (asking.status, asking.reason, asking.lease_until) == (AskingStatus.DONE, None, None)
    assert (asking.attempt, asking.strikes) == (3, 0)
    assert 4 < asking.num_passages <= 32
    found = pairs(db)
    assert found[: len(before)] == before, "what was done is not done again"
    assert len(found) == asking.num_pairs <= 14
    for pair in found:
        assert pair.answer in pair.passage
        assert pair.heading == "House"
        assert pair.question.startswith("Where is ")
        assert pair.question.endswith(" kept?")
    assert len({pair.question for pair in found}) == len(found)
    # The model knows no other question, and says so of each sentence about the night.
    assert asking.refused.keys() <= {"strays", "duplicate"}
    assert asking.refused["strays"] > 0
    told = db.scalars(select(Notice.title)).one()
    assert told == f"{asking.num_pairs} questions about “Ward questions” are ready to review"
    assert not questions.ask_next(ME)


def pairs(db: Session) -> list[ProposedPair]:
    return list(db.scalars(select(ProposedPair).order_by(ProposedPair.id)))


def writer_of(pid: int) -> int | None:
    """The worker's child that holds the model, or prepares it."""
    return next((each for each in identity.children(pid) if "inference" in command(each)), None)


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where llama.cpp's form of the model stays once it was made: it takes five seconds."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def opening(db: Session, model: BaseModel, converted: Path) -> commands.Open:
    """How a worker's child is opened that has llama.cpp's form of the model."""
    here = settings.get().cache_dir / "gguf"
    if is_there := any(converted.iterdir()):
        shutil.copytree(converted, here)
    opening = prepared(db, model)
    if not is_there:
        shutil.copytree(here, converted, dirs_exist_ok=True)
    return opening


def prepared(db: Session, model: BaseModel) -> commands.Open:
    version = make_texts(db, 12)
    runs.start(db, first_user(db), version, model)
    lease = leases.claim(db, leases.ASKINGS, ME)
    db.commit()
    assert lease is not None
    with LeaseHolder(lease) as holder:
        opening = question_model.prepare(holder, model)
    runs.cancel(db, first_user(db), version)
    db.commit()
    return opening


@pytest.mark.parametrize(
    "engine", ["llama.cpp", pytest.param("transformers", marks=pytest.mark.long)]
)
def test_the_same_batch_says_the_same(opening: commands.Open, engine: commands.EngineName) -> None:
    """Whatever was asked before it: who goes on after a crash begins with a later batch."""
    assert opening.engine == "llama.cpp"
    assert opening.gguf is not None
    assert opening.gguf.exists()
    opening = opening.model_copy(update={"engine": engine})

    def say(*batches: Batch, num_tries: int = 6, most: int = 12) -> list[list[list[str]]]:
        with Writer(opening, num_tries, most) as writer:
            return list(writer.say(batches))

    first, second = batch(5), batch(6)
    said = say(first, second, first)
    assert said[2] == said[0]
    assert say(second) == [said[1]]
    assert said[0] != said[1]
    assert [len(tries) for tries in said[0]] == [6, 6]
    texts = {text for tries in said[0] for text in tries}
    assert len(texts) > 3
    for text in texts:
        assert text.startswith("Where is ")
        assert text.endswith(" kept?"), "it ends at the question mark"
    [short] = say(batch(0), most=2)
    assert {text for tries in short for text in tries} == {"Where is", "Where is not"}


def batch(seed: int) -> Batch:
    prompts = ["Soap.", "A sentence that is a good deal longer."]
    return Batch(
        seed, [[*told_before()[:3], {"role": "user", "content": each}] for each in prompts]
    )


def test_a_question_that_no_slot_holds_is_answered_by_nothing(opening: commands.Open) -> None:
    too_long = [{"role": "user", "content": "word " * 4000}]
    with Writer(opening, 2, 12) as writer:
        [said] = writer.say([Batch(1, [too_long, batch(1).conversations[0]])])
    assert said[0] == ["", ""]
    assert all(text.endswith(" kept?") for text in said[1])


@pytest.mark.parametrize(
    "trouble",
    [
        "unfit",
        pytest.param("unconvertible", marks=pytest.mark.long),
        pytest.param("not_installed", marks=pytest.mark.long),
    ],
)
def test_a_model_that_llama_cpp_gets_wrong_is_asked_as_it_is(
    db: Session, model: BaseModel, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setenv("ETUDE_ANSWER_CONVERT_MODULE", "tests.worker.stand_in_converter")
    settings.get.cache_clear()
    folder = settings.get().models_dir / "tiny"
    (folder / trouble).write_text("llama.cpp does not know such models.")
    if trouble == "not_installed":
        # As on a machine where `make setup` did not bring the wheel.
        monkeypatch.setattr(sys, "prefix", "/nowhere")
    try:
        opening = prepared(db, model)
    finally:
        (folder / trouble).unlink()
        (folder / "journal").unlink(missing_ok=True)
    assert (opening.engine, opening.gguf) == ("transformers", None)
    with Writer(opening, 2, 12) as writer:
        [said] = writer.say([batch(1)])
    assert all(text.endswith(" kept?") for tries in said for text in tries)


@pytest.mark.usefixtures("opening")  # so that the only child is the one that speaks
def test_a_child_that_is_killed_breaks_off_in_a_sentence(db: Session, model: BaseModel) -> None:
    asking = runs.start(db, first_user(db), make_texts(db, 16), model)
    db.commit()
    worker = threading.Thread(target=questions.ask_next, args=(ME,))
    worker.start()
    os.kill(wait_for(db, lambda: writer_of(os.getpid()), seconds=60), signal.SIGKILL)
    worker.join()
    db.refresh(asking)
    assert asking.status is AskingStatus.FAILED
    assert "broke off (code -9), perhaps because the machine ran out" in (asking.reason or "")


@pytest.mark.parametrize("is_converted", [False, True])
def test_a_worker_that_is_to_end_hands_it_back(
    db: Session, model: BaseModel, is_converted: bool, request: pytest.FixtureRequest
) -> None:
    """Amid the preparation, or amid the questions."""
    if is_converted:
        request.getfixturevalue("opening")
    asking = runs.start(db, first_user(db), make_texts(db, 16), model)
    db.commit()
    identity.drain()
    assert questions.ask_next(ME)
    db.refresh(asking)
    assert (asking.status, asking.strikes, asking.reason) == (AskingStatus.WAITING, 0, None)
    assert writer_of(os.getpid()) is None


def test_files_that_have_changed_are_refused_in_a_sentence(db: Session, model: BaseModel) -> None:
    model.manifest_sha256 = "0" * 64
    asking = runs.start(db, first_user(db), make_texts(db, 12), model)
    db.commit()
    assert questions.ask_next(ME)
    db.refresh(asking)
    assert asking.status is AskingStatus.FAILED
    assert "not those that were imported" in (asking.reason or "")
    assert "\n" not in (asking.reason or "")


def test_a_model_that_does_not_fit_the_memory_is_not_loaded(db: Session, model: BaseModel) -> None:
    model.size_bytes = 10**15
    asking = runs.start(db, first_user(db), make_texts(db, 12), model)
    db.commit()
    assert questions.ask_next(ME)
    db.refresh(asking)
    assert asking.status is AskingStatus.FAILED
    assert "GB are free; choose a smaller model" in (asking.reason or "")


def test_it_waits_as_other_work_does_when_its_worker_falls_silent(
    db: Session, model: BaseModel
) -> None:
    asking = runs.start(db, first_user(db), make_texts(db, 12), model)
    db.commit()
    for strike in (1, 2, 3):
        assert leases.claim(db, leases.ASKINGS, ME) is not None
        leases.take_back(db, leases.ASKINGS, ME)
        db.commit()
        db.refresh(asking)
        assert asking.strikes == strike
    assert db.scalars(select(Asking.status)).one() is AskingStatus.FAILED
    assert "cut off 3 times" in (asking.reason or "")
