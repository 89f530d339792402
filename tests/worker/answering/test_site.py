"""A vLLM of the site's own answers: a server that speaks as it does, and a real `etude answer`."""

import asyncio
import http
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from app.adapters import answering, registry
from app.core import settings
from app.core.models import BaseModel
from app.training import manifests
from app.training.answers import AnswerRequest, Begun, Limits, Refused, ScoreRequest
from app.training.spelling import _byte_letters
from tests.factories import first_user
from tests.worker.answering.asking import (
    AnswerProcess,
    a_model,
    an_adapter,
    ask,
    hear,
    journal,
    question,
    text,
)
from tests.worker.answering.test_answer import until
from tests.worker.conftest import wait_for
from tests.worker.stand_in_vllm import KEY, Vllm

TEMPLATE = (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|a|>{% endif %}"
)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture
def model(quick: None, db: Session) -> BaseModel:
    """A starting model with a token a byte, and a template that says the question alone."""
    made = a_model(db)
    folder = settings.get().models_dir / str(made.folder)
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(ALPHABET)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in ("<|a|>", "<|e|>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|e|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    made.manifest_sha256 = manifests.write_manifest(folder)
    db.commit()
    return made


@pytest.fixture
def vllm(model: BaseModel, answerer: AnswerProcess, tmp_path: Path) -> Iterator[Vllm]:
    server = Vllm(model.name, ALPHABET, _byte_letters())
    shared = tmp_path / "shared"
    shared.mkdir()
    answerer.environment |= {
        "ETUDE_INFERENCE_URL": server.address,
        "ETUDE_INFERENCE_KEY": KEY,
        "ETUDE_INFERENCE_ADAPTERS": str(shared),
    }
    yield server
    server.shutdown()
    server.server_close()


def test_it_is_given_ids_and_its_words_are_passed_on(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess
) -> None:
    found = answerer.start()
    limits = Limits(
        temperature=0.5, top_p=0.9, seed=7, stop=["!"], max_new_tokens=9, top_logprobs=2
    )
    request = AnswerRequest(
        base_model_id=model.id,
        account="ada",
        messages=[{"role": "user", "content": "words=3 <|e|>"}],
        num_answers=2,
        limits=limits,
    )
    said = [event for event in ask(found, request) if event.kind != "waiting"]
    assert isinstance(said[0], Begun)
    for index in (0, 1):
        pieces = [event for event in said if event.kind == "piece" and event.index == index]
        assert "".join(event.text for event in pieces) == "0 1 2 "
        assert pieces[0].logprobs is not None
        assert (pieces[0].logprobs[0].logprob, pieces[0].logprobs[0].bytes) == (-0.5, [48, 32])
        assert [top.token for top in pieces[0].logprobs[0].top] == ["yes", "no"]
    ends = [event for event in said if event.kind == "ended"]
    assert [(end.index, end.reason, end.completion_tokens) for end in ends] == [
        (0, "stop", 3),
        (1, "stop", 3),
    ]
    assert said[-1].kind == "done"
    assert said[-1].engine == "vllm"
    (sent,) = vllm.requests
    # The control word that somebody typed is letters, and the template's own is its token.
    assert sent["prompt"][-1] == 256
    assert 257 not in sent["prompt"]
    assert said[0].prompt_tokens == len(sent["prompt"]) == len("words=3 <|e|>") + 1
    assert sent["stop_token_ids"] == [257]
    for name, value in (("temperature", 0.5), ("top_p", 0.9), ("seed", 7), ("max_tokens", 9)):
        assert sent[name] == value
    assert (sent["stop"], sent["n"], sent["logprobs"]) == (["!"], 2, 2)
    assert "ada" not in json.dumps(sent)
    assert journal(model) == []  # no child of ours


@pytest.mark.parametrize(
    ("stop", "said", "tokens"),
    [
        (" 2", "0 1", ["0 ", "1"]),
        pytest.param("1 2", "0 ", ["0 "], marks=pytest.mark.long),
        pytest.param("never", "0 1 2 3 ", ["0 ", "1 ", "2 ", "3 "], marks=pytest.mark.long),
        pytest.param("0", "", [], marks=pytest.mark.long),
    ],
)
def test_log_probabilities_spell_what_a_stop_word_left(
    db: Session,
    model: BaseModel,
    vllm: Vllm,
    answerer: AnswerProcess,
    stop: str,
    said: str,
    tokens: list[str],
) -> None:
    request = question(model, "words=4")
    request.limits = Limits(stop=[stop], top_logprobs=2)
    events = ask(answerer.start(), request)
    assert text(events) == said
    told = [one for event in events if event.kind == "piece" for one in event.logprobs or ()]
    assert [one.token for one in told] == tokens
    assert bytes(byte for one in told for byte in one.bytes).decode() == said
    assert events[-1].kind == "done"


def test_an_adapter_is_copied_loaded_and_removed_again(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess, tmp_path: Path
) -> None:
    adapter = an_adapter(db, model)
    found = answerer.start()
    assert text(ask(found, question(model, "words=2", adapter))) == "0 1 "
    (name,) = vllm.adapters
    assert vllm.requests[-1]["model"] == name
    copy = tmp_path / "shared" / name
    assert manifests.verify_manifest(copy) == adapter.manifest_sha256
    assert text(ask(found, question(model, "words=2"))) == "0 1 "
    assert vllm.requests[-1]["model"] == model.name

    async def withdrawn() -> None:
        answer = asyncio.create_task(hear(found, question(model, "words=99 pause=0.1", adapter)))
        await until(lambda: len(vllm.requests) == 3)
        registry.delete(db, first_user(db), adapter)
        db.commit()
        event = (await answer)[-1]
        assert isinstance(event, Refused)
        assert event.status == http.HTTPStatus.NOT_FOUND

    asyncio.run(withdrawn())
    wait_for(db, lambda: not vllm.adapters and not copy.exists())


def test_what_an_earlier_process_loaded_goes_with_its_adapter(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess, tmp_path: Path
) -> None:
    kept, deleted = an_adapter(db, model), an_adapter(db, model)
    found = answerer.start()
    for adapter in (kept, deleted):
        ask(found, question(model, "words=1", adapter))
    answerer.end()
    registry.delete(db, first_user(db), deleted)
    db.commit()
    answerer.start()
    wait_for(db, lambda: len(vllm.adapters) == 1)
    wait_for(db, lambda: len(list((tmp_path / "shared").iterdir())) == 1)
    assert f"etude-{kept.id}-" in next(iter(vllm.adapters))


def test_a_closed_page_closes_the_connection_there(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess
) -> None:
    found = answerer.start()

    async def scene() -> None:
        await hear(found, question(model, "words=99 pause=0.1"), num_events=4)
        await until(lambda: vllm.num_cut_off == 1, seconds=2)

    asyncio.run(scene())


def test_what_goes_wrong_there_is_a_sentence_of_ours(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess
) -> None:
    adapter = an_adapter(db, model)
    found = answerer.start()
    long = ask(found, question(model, "words=1 " + "x" * 300))[-1]
    assert isinstance(long, Refused)
    assert (long.status, long.code) == (400, "context_length_exceeded")
    for orders, status in (
        ("status=500", 503),
        ("status=429", 503),
        ("status=400", 400),
        ("words=5 break=2", 503),
    ):
        event = ask(found, question(model, orders))[-1]
        assert isinstance(event, Refused), orders
        assert event.status == status
        assert "status" not in event.message
        assert "127.0.0.1" not in event.message
    vllm.refuses_adapters = True
    event = ask(found, question(model, "words=1", adapter))[-1]
    assert isinstance(event, Refused)
    assert "cannot use this trained model" in event.message
    vllm.shutdown()
    vllm.server_close()
    event = ask(found, question(model, "words=1"))[-1]
    assert isinstance(event, Refused)
    assert event.status == http.HTTPStatus.SERVICE_UNAVAILABLE


def test_an_answer_is_scored(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess
) -> None:
    found = answerer.start()
    turns = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "bcd"}]
    said = ask(found, ScoreRequest(base_model_id=model.id, account="ada", messages=turns))[-1]
    assert said.kind == "scores"
    # Its three letters and the end of its turn.
    assert said.logprobs == [-0.25] * 4
    assert said.num_prompt_tokens == 2


def test_a_model_that_it_does_not_serve_is_answered_here(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess
) -> None:
    other = a_model(db)
    found = answerer.start()
    assert text(ask(found, question(other, "words=2"))) == "0 1 "
    assert vllm.requests == []
    assert any(line.startswith("open") for line in journal(other))
    assert "own model server" in answering.state(db)[0].rule


def test_a_wrong_key_is_for_the_administrator(
    db: Session, model: BaseModel, vllm: Vllm, answerer: AnswerProcess
) -> None:
    answerer.environment["ETUDE_INFERENCE_KEY"] = "wrong"
    event = ask(answerer.start(), question(model))[-1]
    assert isinstance(event, Refused)
    assert "ETUDE_INFERENCE_KEY" in event.message
