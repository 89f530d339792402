"""What answering and training do to each other on one GPU, which a stand-in claims there is."""

import asyncio
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.core.models import BaseModel, Conversation, ConversationAnswer, Finish, Job
from app.jobs import requests
from app.ops.embedded.postgres import Postgres
from app.people import auth
from app.training.answers import Event, Refused
from tests import patience
from tests.faults.conftest import opened
from tests.faults.house import House
from tests.faults.test_database import away
from tests.faults.test_several_gpus import nvidia_smi
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


def openings(house: House, model: BaseModel) -> list[str]:
    lines = journal(model, house.data_dir)
    return [" ".join(line.split()[1:3]) for line in lines if line.startswith("open ")]


def is_locked(house: House) -> bool:
    handle = os.open(house.data_dir / "run" / "gpu-0.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@pytest.mark.timeout(180)
def test_a_claim_of_the_gpu_ends_answering_there_until_the_job_has_ended(
    postgres: Postgres, tmp_path: Path
) -> None:
    gpu = {"PATH": nvidia_smi(tmp_path), "CUDA_VISIBLE_DEVICES": "0", "ETUDE_DEVICE": "cuda:0"}
    with opened(postgres, with_worker=False, **gpu) as house:
        model = a_model(house.db, data_dir=house.data_dir, size_bytes=10**9)
        adapter = an_adapter(house.db, model, house.data_dir)
        answerer = house.start_answering()
        found = answerer.found()
        assert text(ask(found, question(model, "words=2", adapter))) == "0 1 "
        assert openings(house, model) == ["transformers cuda:0"]
        assert is_locked(house)
        house.worker.start()
        said, job = asyncio.run(claimed_amid_an_answer(house, answerer, model))
        assert isinstance(said[-1], Refused)
        assert said[-1].message.startswith("Training took the graphics card amid this answer")
        house.until_step(job, 12)
        assert job.attempt == 1, house.log()
        # As an adapter in PEFT's form on the GPU, as a GGUF on the processor.
        assert text(ask(found, question(model, "words=2", adapter))) == "0 1 "
        assert openings(house, model) == ["transformers cuda:0", "llama.cpp cpu"]
        requests.cancel(house.db, house.user, job)
        house.db.commit()
        house.until_over(job)
        house.wait_for(lambda: not is_locked(house))

        def is_back() -> bool:
            assert text(ask(found, question(model, "words=1", adapter))) == "0 "
            time.sleep(0.3)
            return len(openings(house, model)) == 3

        house.wait_for(is_back)
        assert openings(house, model)[-1] == "transformers cuda:0"


async def claimed_amid_an_answer(
    house: House, answerer: AnswerProcess, model: BaseModel
) -> tuple[list[Event], Job]:
    """Have a job claim the GPU; it must be free for it within five seconds."""
    heard: list[Event] = []
    request = question(model, "words=9000 pause=0.05")
    answer = asyncio.create_task(hear(answerer.found(), request, into=heard))
    while not text(heard):
        await asyncio.sleep(0.02)
    job = house.make_job("steps=9000 pause=0.05 hold=8000")
    while not job.attempt:
        await asyncio.sleep(0.02)
        house.db.rollback()
        house.db.refresh(job)
    began = time.monotonic()
    await answer
    assert time.monotonic() - began < patience.seconds(5)
    return heard, job


def chunks(stream: httpx2.Response) -> Iterator[dict[str, Any]]:
    for line in stream.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.timeout(240)
def test_words_go_on_while_the_database_is_away_and_new_questions_get_a_sentence(
    postgres: Postgres,
) -> None:
    with opened(postgres, with_worker=False) as house:
        model = a_model(house.db, data_dir=house.data_dir)
        adapter = an_adapter(house.db, model, house.data_dir)
        house.start_answering()
        web = house.start_web()
        browser = httpx2.Client(
            base_url=web.address,
            headers={"Origin": web.address},
            cookies={auth.COOKIE: web.cookie},
            timeout=patience.seconds(60),
        )
        house.db.rollback()

        def body(words: int, **more: Any) -> dict[str, Any]:
            says = {"role": "user", "content": f"words={words} pause=0.1"}
            return {"model": model.name, "messages": [says]} | more

        def ask_v1(**more: Any) -> httpx2.Response:
            return browser.post("/v1/chat/completions", json=body(2, **more), headers=bearer)

        bearer = {"Authorization": f"Bearer {web.token}"}
        assert ask_v1().status_code == HTTPStatus.OK
        page = f"/adapters/{adapter.id}/ask"
        asked = {"question": "words=60 pause=0.1", "beside": "nobody"}
        part = browser.post(page, data=asked, headers={"X-Script": "1"})
        [answer] = re.findall(r'data-id="(\d+)"', part.text)
        with (
            browser.stream(
                "POST", "/v1/chat/completions", json=body(60, stream=True), headers=bearer
            ) as program,
            browser.stream(
                "POST",
                f"{page}/answer",
                data={"answer": answer},
                headers={"Accept": "text/event-stream"},
            ) as reader,
        ):
            said, heard = chunks(program), chunks(reader)
            assert [next(said) for _ in range(3)]
            assert next(one for one in heard if one.get("text"))
            with away(postgres):
                for more in ({}, {"stream": True}):
                    refused = ask_v1(**more)
                    assert refused.status_code == HTTPStatus.SERVICE_UNAVAILABLE
                    error = refused.json()["error"]
                    assert set(error) == {"message", "type", "param", "code"}
                    assert "psycopg" not in refused.text
                new = browser.post(page, data=asked, headers={"X-Script": "1"})
                assert new.status_code == HTTPStatus.SERVICE_UNAVAILABLE
                # Both go on to their ends.
                *_, last = said
                assert last["choices"][0]["finish_reason"] == "stop"
                *_, end = heard
                assert (end["finish"], end["note"]) == ("stop", "")
        house.wait_for(lambda: ask_v1().status_code == HTTPStatus.OK)

        def kept() -> ConversationAnswer:
            # One question with one answer: of the one that was refused there is nothing.
            house.db.rollback()
            house.db.expire_all()
            return house.db.scalars(select(ConversationAnswer)).one()

        # What a person has read to its end is there after a reload.
        house.wait_for(lambda: kept().finish is Finish.STOP)
        assert kept().text == "".join(f"{number} " for number in range(60))
        assert len(house.db.scalars(select(Conversation)).all()) == 1
        browser.close()
