"""From the page to the child and back: a real web process, a real `etude answer`."""

import asyncio
import re
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy.orm import Session

from app.core.models import ConversationAnswer, Finish
from app.people import auth
from tests import patience
from tests.app.web.jobs.test_event_stream import free_port, start_web
from tests.factories import first_user
from tests.worker.answering.asking import AnswerProcess, a_model, an_adapter, journal
from tests.worker.answering.test_answer import until_journal
from tests.worker.conftest import wait_for


@pytest.fixture
def web(answerer: AnswerProcess) -> Iterator[str]:
    port = free_port()
    process = start_web(port)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(patience.seconds(20))


def test_a_page_is_answered_and_its_end_is_the_answers_end(
    db: Session, web: str, answerer: AnswerProcess
) -> None:
    model = a_model(db)
    adapter = an_adapter(db, model)
    adapter.metrics = {"validation_loss_before": 2.5, "validation_loss_after": 1.25}
    db.commit()
    answerer.start()
    secret = auth.open_session(db, first_user(db))
    db.commit()
    browser = httpx2.Client(
        cookies={auth.COOKIE: secret},
        headers={"Origin": web},
        timeout=patience.seconds(30),
        follow_redirects=True,
    )
    address = f"{web}/adapters/{adapter.id}/ask"
    page = browser.post(address, data={"question": "words=3", "beside": "base"})
    assert page.status_code == 200, page.text
    assert len(re.findall(r"data-words>0 1 2</p>", page.text)) == 2
    # One that goes on for long, left amid its words.
    asked = {"question": "words=900 pause=0.1", "beside": "nobody"}
    part = browser.post(address, data=asked, headers={"X-Script": "1"})
    number = re.findall(r'data-id="(\d+)"', part.text)[0]
    with browser.stream(
        "POST",
        f"{address}/answer",
        data={"answer": number},
        headers={"Accept": "text/event-stream"},
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        next(line for line in stream.iter_lines() if line == "event: piece")
    asyncio.run(until_journal(model, "stop 3", seconds=1))
    answer = db.get_one(ConversationAnswer, int(number))
    wait_for(db, lambda: answer.finish is Finish.BROKEN_OFF)
    assert answer.text.startswith("0 ")
    # And one that a browser without JavaScript waits for, until it is closed.
    with pytest.raises(httpx2.ReadTimeout):
        browser.post(address, data=asked, timeout=patience.seconds(3))
    asyncio.run(until_journal(model, "stop 4", seconds=2))
    assert [line for line in journal(model) if line.startswith("stop")] == ["stop 3", "stop 4"]
