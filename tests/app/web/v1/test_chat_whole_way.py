"""From the official client through the web and a real `etude answer` to its child, and back."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app.adapters import answering
from app.core import settings
from app.core.models import BaseModel
from tests import patience
from tests.app.web.v1.test_chat import said, send, whole
from tests.app.web.v1.test_errors import body_of
from tests.worker.answering.asking import STAND_IN, AnswerProcess, a_model


@pytest.fixture
def quick(database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Before the web starts, so that both sides have it."""
    short = {"ETUDE_WATCH_SECONDS": "0.2", "ETUDE_HEARTBEAT_SECONDS": "0.2"}
    for name, value in {**STAND_IN, **short, "ETUDE_ANSWER_QUEUE": "2"}.items():
        monkeypatch.setenv(name, value)
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


@pytest.fixture
def etude_answer(quick: None, db: Session, tmp_path: Path) -> Iterator[AnswerProcess]:
    made = AnswerProcess(db, tmp_path)
    made.start()
    yield made
    made.end()
    print(made.log.read_text())


@pytest.fixture
def model(etude_answer: AnswerProcess, db: Session) -> BaseModel:
    return a_model(db, "slots=1")


def orders(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def ask(api: OpenAI, model: BaseModel, text: str, **given: Any) -> Any:
    return whole(api, model=model.name, messages=orders(text), **given)


def journal(model: BaseModel) -> str:
    assert model.folder
    return (settings.get().models_dir / model.folder / "journal").read_text()


def await_line(model: BaseModel, word: str) -> None:
    deadline = time.monotonic() + patience.seconds(5)
    while word not in journal(model):
        assert time.monotonic() < deadline, journal(model)
        time.sleep(0.02)


def test_words_come_through_whole_and_streamed(model: BaseModel, api: OpenAI) -> None:
    text = ask(api, model, "words=50").choices[0].message.content
    assert text.split() == [str(number) for number in range(50)]
    assert said(list(ask(api, model, "words=50", stream=True))) == text


def test_a_client_that_goes_stops_the_model(model: BaseModel, api: OpenAI) -> None:
    with ask(api, model, "words=10000 pause=0.05", stream=True) as stream:
        next(iter(stream))
    await_line(model, "stop 1")
    with pytest.raises(openai.APITimeoutError):
        ask(api, model, "words=10000 pause=0.05", timeout=patience.seconds(3))
    await_line(model, "stop 2")
    assert ask(api, model, "words=2").choices


def test_a_child_that_dies_is_an_error_and_the_next_question_is_answered(
    model: BaseModel, api: OpenAI
) -> None:
    words = []
    with pytest.raises(openai.APIError) as amid:
        for chunk in ask(api, model, "words=9 pause=0.05 die=3", stream=True):
            words.append(chunk.choices[0].delta.content or "")
    assert "".join(words).split() == ["0", "1", "2"]
    assert isinstance(amid.value.code, str)
    response = send(api, {"model": model.name, "messages": orders("words=9 die=0"), "stream": True})
    assert response.status_code == 503
    assert body_of(response)["code"]
    assert ask(api, model, "words=1").choices[0].message.content == "0 "


def test_a_parent_that_is_killed_is_an_error_and_a_new_one_answers(
    model: BaseModel, api: OpenAI, etude_answer: AnswerProcess
) -> None:
    stream = iter(ask(api, model, "words=10000 pause=0.05", stream=True))
    next(stream)
    etude_answer.end()
    with pytest.raises(openai.APIError):
        for _ in stream:
            pass
    response = send(api, {"model": model.name, "messages": orders("words=1")})
    assert response.status_code == 503
    assert body_of(response)["type"] == "server_error"
    etude_answer.start()
    assert ask(api, model, "words=1").choices


def test_beyond_the_queue_programs_are_told_to_come_back(
    model: BaseModel, api: OpenAI, db: Session
) -> None:
    """One is answered, two wait; whoever comes then is told when to come again."""
    with (
        ask(api, model, "words=10000 pause=0.05", stream=True) as first,
        ThreadPoolExecutor(2) as pool,
    ):
        next(iter(first))
        waiting = [pool.submit(ask, api, model, "words=1") for _ in range(2)]
        deadline = time.monotonic() + patience.seconds(10)
        while [state.num_waiting for state in answering.state(db)] != [2]:
            assert time.monotonic() < deadline
            db.rollback()
            time.sleep(0.05)
        response = send(api, {"model": model.name, "messages": orders("words=1")})
        assert response.status_code == 429
        assert body_of(response)["type"] == "rate_limit_error"
        assert int(response.headers["retry-after"]) >= 1
        first.close()
        assert [each.result().choices[0].finish_reason for each in waiting] == ["stop", "stop"]
