"""The page “Ask”: who may ask, what is kept, and what a browser without JavaScript gets."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.adapters import answering, conversations
from app.adapters.answering import AnswererState
from app.core import settings
from app.core.models import (
    Adapter,
    Attempt,
    AuditEvent,
    Conversation,
    ConversationAnswer,
    ConversationTurn,
    Example,
    ExampleKind,
    Finish,
    JobStatus,
    Role,
    User,
)
from app.datasets import practised
from app.jobs import practice
from app.training.answers import AnswerRequest, Piece, Waiting
from tests.answerer import StandIn, refusing, saying, standing_in
from tests.app.web.pages import sign_in
from tests.factories import (
    first_user,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
    make_zipped_adapter,
)

SCRIPT = {"X-Script": "1", "Accept": "text/html, text/plain"}
STREAM = {"Accept": "text/event-stream"}
HOSTILE = "<script>alert(1)</script>\n\u202eright to left"


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_zipped_adapter(db, owner)


@pytest.fixture
def answerer(db: Session) -> Iterator[StandIn]:
    with standing_in(db) as stand_in:
        yield stand_in


@pytest.fixture
def browser(client: TestClient, db: Session, owner: User) -> TestClient:
    return sign_in(client, db, owner)


def count(db: Session, table: Any) -> int:
    db.rollback()
    return int(db.scalar(select(func.count()).select_from(table)) or 0)


def form(**fields: str) -> dict[str, str]:
    return {"question": "What is rule 3?", "beside": "base", "freedom": "same", **fields}


def ask(browser: TestClient, adapter: Adapter, **fields: str) -> Any:
    return browser.post(f"/adapters/{adapter.id}/ask", data=form(**fields))


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and line[0] != ":")
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def by_model(tuned: str, base: str) -> Any:
    return lambda request: saying(base if request.adapter_id is None else tuned)


# --- a question and its answers ---------------------------------------------------------------


def test_a_question_is_answered_by_both_without_javascript(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = by_model("Wash your hands.", "I do not know.")
    answer = ask(browser, adapter, instruction="Be short.")
    assert answer.status_code == 200
    assert re.fullmatch(rf".*/adapters/{adapter.id}/ask/\d+", str(answer.url).partition("#")[0])
    assert "Wash your hands." in answer.text
    assert "I do not know." in answer.text
    assert ">written in 1.2 s<" in answer.text
    tuned, base = answerer.asked(adapter.id), answerer.asked(None)
    assert tuned.messages == base.messages
    assert tuned.messages == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is rule 3?"},
    ]
    assert tuned.base_model_id == adapter.base_model_id
    assert tuned.limits.temperature == 0


def test_each_goes_on_from_its_own_answers(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = by_model("Tuned.", "Base.")
    ask(browser, adapter)
    conversation = db.scalars(select(Conversation)).one()
    ask(browser, adapter, question="And then?", conversation=str(conversation.id), freedom="free")
    for adapter_id, said in ((adapter.id, "Tuned."), (None, "Base.")):
        request = answerer.asked(adapter_id)
        assert [turn["content"] for turn in request.messages] == [
            "What is rule 3?",
            said,
            "And then?",
        ]
        assert request.limits.temperature == 1.0
    assert count(db, Conversation) == 1
    assert count(db, ConversationTurn) == 2


def test_another_adapter_of_the_same_model_may_answer_beside_it(
    browser: TestClient, db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    other = make_zipped_adapter(db, owner)
    other.name = "Night shift"
    db.commit()
    answerer.script = lambda request: saying(f"I am {request.adapter_id}.")
    answer = ask(browser, adapter, beside=f"adapter-{other.id}")
    assert f"I am {adapter.id}." in answer.text
    assert f"I am {other.id}." in answer.text
    assert 'aria-label="Night shift"' in answer.text


def test_an_adapter_of_another_department_answers_nobody_else(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    theirs = make_zipped_adapter(db, make_user(db, department=make_department(db)))
    answer = ask(browser, adapter, beside=f"adapter-{theirs.id}")
    assert answer.status_code == 422
    assert "no longer there" in answer.text
    assert answerer.requests == []


def test_the_instruction_of_the_training_is_preset(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    assert adapter.job is not None
    adapter.job.version.mapping = {
        "columns": [{"name": "q", "role": "question"}, {"name": "a", "role": "answer"}],
        "system": "You help on ward 4.",
    }
    db.commit()
    page = browser.get(f"/adapters/{adapter.id}/ask").text
    assert ">You help on ward 4.</textarea>" in page


def test_the_examples_own_instruction_is_preset_where_all_have_the_same(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    assert adapter.job is not None
    for example in db.scalars(select(Example).where(Example.version_id == adapter.job.version_id)):
        example.messages = [{"role": "system", "content": "Say it kindly."}, *example.messages]
    db.commit()
    assert ">Say it kindly.</textarea>" in browser.get(f"/adapters/{adapter.id}/ask").text


def test_hostile_text_is_shown_as_text(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = lambda request: saying(HOSTILE)
    text = ask(browser, adapter, question=HOSTILE).text
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;\n⟨U+202E⟩right to left") == 3


def test_plain_text_is_continued(
    browser: TestClient, db: Session, owner: User, answerer: StandIn
) -> None:
    version = make_dataset_version(db, user=owner, kind=ExampleKind.TEXT)
    adapter = make_zipped_adapter(db, owner)
    assert adapter.job is not None
    adapter.job.version_id = version.id
    db.commit()
    db.refresh(adapter.job)
    answerer.script = lambda request: saying(" and so on.")
    page = ask(browser, adapter, question="It began", instruction="ignored").text
    assert "it goes on" in page
    assert "Instruction for the model" not in page
    assert answerer.asked(adapter.id).messages == [{"role": "text", "content": "It began"}]


# --- word by word -----------------------------------------------------------------------------


def begin(browser: TestClient, adapter: Adapter, **fields: str) -> tuple[list[str], Any]:
    """Ask as the page's script does; returns the answers' ids."""
    part = browser.post(f"/adapters/{adapter.id}/ask", data=form(**fields), headers=SCRIPT)
    assert part.status_code == 200, part.text
    return re.findall(r'data-id="(\d+)"', part.text), part


def read(browser: TestClient, adapter: Adapter, **fields: str) -> list[tuple[str, dict[str, Any]]]:
    answer = browser.post(f"/adapters/{adapter.id}/ask/answer", data=fields, headers=STREAM)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    return events(answer.text)


def test_an_answer_is_streamed_and_kept(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = lambda request: [
        Waiting(place=2, doing=""),
        Waiting(place=0, doing="loading the model"),
        *saying("Wash ", "your ", "hands."),
    ]
    (tuned, _), part = begin(browser, adapter)
    assert re.fullmatch(rf"/adapters/{adapter.id}/ask/\d+", part.headers["x-conversation"])
    assert answerer.requests == []
    found = read(browser, adapter, answer=tuned)
    assert [data["sentence"] for name, data in found if name == "waiting"] == [
        "2 questions are ahead of yours.",
        "Getting ready: loading the model.",
        "Reading your question.",
        "",
    ]
    assert [data["text"] for name, data in found if name == "piece"] == ["Wash ", "your ", "hands."]
    assert found[-1] == (
        "end",
        {
            "finish": "stop",
            "note": "",
            "seconds": "written in 1.2 s",
            "is_empty": False,
            "proof": "",
        },
    )
    kept = db.get_one(ConversationAnswer, int(tuned))
    assert (kept.text, kept.finish, kept.num_tokens) == ("Wash your hands.", Finish.STOP, 3)


def test_the_end_by_length_is_said(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = lambda request: saying("On and on", reason="length")
    (tuned, _), _ = begin(browser, adapter)
    assert "very long" in read(browser, adapter, answer=tuned)[-1][1]["note"]


def test_what_failed_before_a_word_is_not_kept(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = lambda request: refusing("Too many questions wait; try again in a minute.")
    ids, _ = begin(browser, adapter)
    for number in ids:
        end = read(browser, adapter, answer=number)[-1][1]
        assert end["note"] == "Too many questions wait; try again in a minute."
        assert end["is_empty"]
    assert count(db, Conversation) == count(db, ConversationTurn) == 0


def test_what_failed_amid_its_words_is_kept_with_the_reason_and_can_be_asked_again(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = lambda request: [
        *saying("Wash your")[:-2],
        *refusing("The model was stopped."),
    ]
    (tuned, _), part = begin(browser, adapter)
    read(browser, adapter, answer=tuned)
    page = browser.get(part.headers["x-conversation"]).text
    assert "Wash your" in page
    assert "The model was stopped." in page
    answerer.script = lambda request: saying("Wash your hands.")
    again = browser.post(f"/adapters/{adapter.id}/ask/answer", data={"answer": tuned})
    assert str(again.url).endswith(part.headers["x-conversation"])
    assert "Wash your hands." in again.text
    assert "The model was stopped." not in again.text


def test_an_answer_that_nobody_writes_any_more_is_shown_as_broken_off(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    _, part = begin(browser, adapter)
    db.execute(update(ConversationAnswer).values(text="Wash", attempt=1))
    db.commit()
    page = browser.get(part.headers["x-conversation"]).text
    assert page.count("This answer was interrupted.") == 2
    assert page.count("Ask again") == 2


def test_an_earlier_writer_is_fenced_off(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    (tuned, _), _ = begin(browser, adapter)
    answer = db.get_one(ConversationAnswer, int(tuned))
    first = conversations.open_answer(db, answer)
    second = conversations.open_answer(db, answer)
    assert not conversations.keep(db, answer.id, first, "old words")
    assert conversations.keep(db, answer.id, second, "new words", finish=Finish.STOP)
    assert not conversations.keep(db, answer.id, second, "after the end")


def test_a_test_question_is_asked_by_itself_with_the_right_answer_below(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    assert "What is rule 21?" in browser.get(f"/adapters/{adapter.id}/ask").text
    ask(browser, adapter, question="Something before")
    conversation = db.scalars(select(Conversation)).one()
    page = ask(browser, adapter, question="", example="21", conversation=str(conversation.id)).text
    assert answerer.asked(adapter.id).messages == [{"role": "user", "content": "What is rule 21?"}]
    assert "Test question" in page
    assert "The right answer, in your data" in page
    assert "Rule 21 says: wash your hands." in page


def test_a_practice_example_is_no_test_question(
    browser: TestClient, adapter: Adapter, answerer: StandIn
) -> None:
    answer = ask(browser, adapter, question="", example="3")
    assert answer.status_code == 422
    assert "no longer there" in answer.text


def test_the_nearest_row_of_the_data_stands_below(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    assert adapter.job is not None
    example = db.get_one(Example, (adapter.job.version_id, 5))
    example.messages = [
        {"role": "user", "content": "May I have coffee before blood is taken?"},
        {"role": "assistant", "content": "Until two hours before."},
    ]
    example.flags = {"row": 212}
    db.commit()
    page = unescape(
        ask(browser, adapter, question="Can I drink coffee before the blood test?").text
    )
    assert "From your data" in page
    assert "row 212" in page
    assert "May I have coffee before blood is taken?" in page
    assert "Until two hours before." in page
    assert "From your data" not in ask(browser, adapter, question="Helicopters?").text


# --- who may ----------------------------------------------------------------------------------


def test_strangers_and_viewers_cannot_ask(
    client: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    address = f"/adapters/{adapter.id}/ask"
    stranger = make_user(db, department=make_department(db))
    viewer = make_user(db, role=Role.VIEWER)
    for user, status in ((stranger, 404), (viewer, 403)):
        browser = sign_in(client, db, user)
        assert browser.get(address).status_code == status
        assert browser.post(address, data=form()).status_code == status
        assert browser.post(f"{address}/look", data={"text": "x"}).status_code == status
    assert answerer.requests == []
    assert address not in sign_in(client, db, viewer).get(f"/adapters/{adapter.id}").text
    client.cookies.clear()
    assert client.get(address, follow_redirects=False).status_code == 303
    assert client.post(address, data=form(), follow_redirects=False).status_code == 303


def test_a_conversation_is_its_owners_alone(
    browser: TestClient, client: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    (tuned, _), part = begin(browser, adapter, question="My secret question")
    address = part.headers["x-conversation"]
    colleague = sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert colleague.get(address).status_code == 404
    assert "My secret question" not in colleague.get(f"/adapters/{adapter.id}/ask").text
    assert colleague.post(f"{address}/delete").status_code == 404
    judged = colleague.post(f"/adapters/{adapter.id}/ask/answers/{tuned}", data={"action": "good"})
    assert judged.status_code == 404
    stream = colleague.post(f"/adapters/{adapter.id}/ask/answer", data={"answer": tuned})
    assert stream.status_code == 404
    number = address.rpartition("/")[2]
    assert ask(colleague, adapter, conversation=number).status_code == 404
    assert answerer.requests == []


def test_a_conversation_belongs_to_one_adapter(
    browser: TestClient, db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    _, part = begin(browser, adapter)
    other = make_zipped_adapter(db, owner)
    number = part.headers["x-conversation"].rpartition("/")[2]
    assert browser.get(f"/adapters/{other.id}/ask/{number}").status_code == 404


def test_rows_of_deleted_data_are_not_shown(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    page = ask(browser, adapter, example="21").text
    assert "Rule 21 says" in page
    assert adapter.job is not None
    adapter.job.version.dataset.deleted_at = func.now()
    db.commit()
    conversation = db.scalars(select(Conversation)).one()
    page = browser.get(f"/adapters/{adapter.id}/ask/{conversation.id}").text
    assert "Rule 21 says" not in page
    assert "Try a test question" not in page


# --- kept, or not -----------------------------------------------------------------------------


def test_a_conversation_is_kept_listed_and_deleted_by_a_button(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    page = ask(browser, adapter).text
    assert "Kept for 30 days, for you alone." in page
    fresh = browser.get(f"/adapters/{adapter.id}/ask").text
    assert "What is rule 3?" in fresh
    conversation = db.scalars(select(Conversation)).one()
    answer = browser.post(f"/adapters/{adapter.id}/ask/{conversation.id}/delete")
    assert "What is rule 3?" not in re.sub(r"Try a test question.*", "", answer.text, flags=re.S)
    for table in (Conversation, ConversationTurn, ConversationAnswer):
        assert count(db, table) == 0
    events = db.scalars(select(AuditEvent).where(AuditEvent.action.like("conversation.%"))).all()
    assert [event.action for event in events] == ["conversation.begin", "conversation.delete"]
    assert "rule 3" not in json.dumps([event.detail for event in events])


def test_a_conversation_goes_when_its_time_is_over(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    _, part = begin(browser, adapter)
    _, kept = begin(browser, adapter, question="Newer")
    number = int(part.headers["x-conversation"].rpartition("/")[2])
    db.execute(
        update(Conversation)
        .where(Conversation.id == number)
        .values(updated_at=func.now() - timedelta(days=30, minutes=1))
    )
    db.commit()
    assert browser.get(part.headers["x-conversation"]).status_code == 404  # before the sweep, too
    assert conversations.forget_old(db) == 1
    db.commit()
    assert count(db, Conversation) == count(db, ConversationTurn) == 1
    assert browser.get(kept.headers["x-conversation"]).status_code == 200


def test_a_deleted_adapter_takes_its_conversations_along(
    browser: TestClient, db: Session, owner: User, adapter: Adapter, answerer: StandIn
) -> None:
    other = make_zipped_adapter(db, owner)
    begin(browser, adapter)
    _, part = begin(browser, other, beside=f"adapter-{adapter.id}")
    browser.post(f"/adapters/{adapter.id}/delete")
    assert count(db, Conversation) == 1
    page = browser.get(part.headers["x-conversation"])
    assert page.status_code == 200
    assert adapter.name in page.text  # who answered beside it is still said
    assert '<option value="base" selected>' in page.text


@pytest.fixture
def keeps_nothing(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Iterator[None]:
    monkeypatch.setenv("ETUDE_CONVERSATION_DAYS", "0")
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


def test_nothing_is_kept_where_the_site_says_so(
    browser: TestClient,
    db: Session,
    adapter: Adapter,
    answerer: StandIn,
    keeps_nothing: None,
) -> None:
    answerer.script = by_model("Tuned.", "Base.")
    first = ask(browser, adapter)
    assert "Nothing is kept" in first.text
    assert "Tuned." in first.text
    history = re.search(r'name="history" value="([^"]*)"', first.text)
    assert history is not None
    second = ask(browser, adapter, question="And then?", history=unescape(history[1]))
    assert second.text.count("Tuned.") == 2 + 2  # twice read, twice in what is sent along
    assert [turn["content"] for turn in answerer.asked(None).messages] == [
        "What is rule 3?",
        "Base.",
        "And then?",
    ]
    for table in (Conversation, ConversationTurn, ConversationAnswer):
        assert count(db, table) == 0


def test_what_is_not_kept_is_streamed_with_what_the_browser_sends_along(
    browser: TestClient,
    db: Session,
    adapter: Adapter,
    answerer: StandIn,
    keeps_nothing: None,
) -> None:
    ids, part = begin(browser, adapter)
    assert ids == []
    assert "x-conversation" not in part.headers
    said = {
        "question": "Before?",
        "answers": [{"label": "x", "adapter": adapter.id, "text": "Yes."}],
    }
    found = read(browser, adapter, **form(history=json.dumps([said]), place="0"))
    assert found[-1][1]["finish"] == "stop"
    assert [turn["content"] for turn in answerer.asked(adapter.id).messages] == [
        "Before?",
        "Yes.",
        "What is rule 3?",
    ]
    wrong = browser.post(
        f"/adapters/{adapter.id}/ask/answer", data=form(history="[1]", place="0"), headers=STREAM
    )
    assert wrong.status_code == 422
    assert "start a new conversation" in wrong.text


# --- what goes wrong --------------------------------------------------------------------------


def test_without_an_answerer_the_box_says_why(browser: TestClient, adapter: Adapter) -> None:
    page = browser.get(f"/adapters/{adapter.id}/ask").text
    assert "Nothing is running that could answer just now." in page
    assert re.search(r"<textarea[^>]*disabled", page)
    answer = ask(browser, adapter)
    assert answer.status_code == 503
    assert ">What is rule 3?</textarea>" in answer.text


def test_a_problem_of_the_answerer_is_said(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    state = AnswererState(problem="Its disk is full.", rule="Training comes first.")
    with standing_in(db, state):
        page = browser.get(f"/adapters/{adapter.id}/ask").text
    assert "Its disk is full." in page
    assert "Training comes first." in page


def test_whose_training_is_in_the_way_and_when_it_ends(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    running: dict[str, Any] = {"status": JobStatus.RUNNING, "attempt": 1}
    running |= {"worker_id": "gpu-0@test", "lease_until": func.now(), "total_steps": 20}
    own = make_job(db, user=first_user(db), name="Ward round", step=10, **running)
    stranger = make_user(db, department=make_department(db, "Kitchen"))
    other = make_job(db, user=stranger, name="Secret soup", step=10, **running)
    for job in (own, other):
        values: dict[str, Any] = {
            "worker_id": "gpu-0@test",
            "host": "test",
            "boot_id": "b",
            "devices": ["cpu"],
        }
        values |= {"supervisor_pid": 1, "supervisor_started": 1, "resume_step": 0}
        started = func.now() - timedelta(hours=2)
        db.add(Attempt(job_id=job.id, number=1, started_at=started, **values))
    db.commit()
    rule = "{jobs} training on the graphics card."
    with standing_in(db, AnswererState(rule=rule, trained=[own.id])):
        page = browser.get(f"/adapters/{adapter.id}/ask").text
    said = "“Ward round” is training on the graphics card. Expected end: "
    clock = r"(tomorrow )?\d\d:\d\d"  # its end may be behind midnight
    assert re.search(rf"{said}{clock} to {clock}\.", page)
    with standing_in(db, AnswererState(rule=rule, trained=[own.id, other.id])):
        page = browser.get(f"/adapters/{adapter.id}/ask").text
    assert "“Ward round” and another department&#39;s job are training on" in page
    assert "soup" not in page
    own.step = 0  # it has not begun: nobody can say
    own.plan = None
    db.commit()
    with standing_in(db, AnswererState(rule=rule, trained=[own.id])):
        page = browser.get(f"/adapters/{adapter.id}/ask").text
    assert "“Ward round” is training on the graphics card.<" in page
    with standing_in(db, AnswererState(rule=rule, trained=[10**6])):  # deleted a moment ago
        page = browser.get(f"/adapters/{adapter.id}/ask").text
    assert "{jobs}" not in page


def test_a_model_that_was_not_compared_with_the_original_is_named(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    said = f"{adapter.base_model.label} answers in a smaller form here, which was not compared with"
    for base_ids, is_said in (([adapter.base_model_id], True), ([10**6], False)):
        with standing_in(db, AnswererState(uncompared=base_ids)):
            for address in (f"/adapters/{adapter.id}/ask", f"/ask/{adapter.id}"):
                assert (said in browser.get(address).text) == is_said


def test_a_refused_question_stays_in_the_box(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    answerer.script = lambda request: refusing("32 questions wait already.", 429)
    answer = ask(browser, adapter, instruction="Be short.", freedom="free")
    assert "32 questions wait already." in answer.text
    assert ">What is rule 3?</textarea>" in answer.text
    assert ">Be short.</textarea>" in answer.text
    assert '<option value="free" selected>' in answer.text
    assert count(db, Conversation) == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"question": "  "}, "Type a question first."),
        ({"question": "x" * 20_001}, "at most 20,000 characters"),
        ({"beside": "adapter-x"}, "Choose what to compare it with."),
        ({"beside": "everybody"}, "Choose what to compare it with."),
        ({"freedom": "wild"}, "Choose how much the answers may vary."),
        ({"instruction": "x" * 8_001}, "at most 8,000 characters"),
        ({"example": "999999999999"}, "no longer there"),
    ],
)
def test_wrong_forms_come_back(
    browser: TestClient,
    adapter: Adapter,
    answerer: StandIn,
    fields: dict[str, str],
    sentence: str,
) -> None:
    answer = ask(browser, adapter, **fields)
    assert answer.status_code == 422
    assert sentence in answer.text
    part = browser.post(f"/adapters/{adapter.id}/ask", data=form(**fields), headers=SCRIPT)
    assert part.status_code == 422
    assert answerer.requests == []


def test_an_answerer_that_vanished_is_said_in_a_sentence(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    answering.claim(db, "answer-0@gone", "127.0.0.1:1", "secret")
    db.commit()
    answer = ask(browser, adapter)
    assert "does not respond" in answer.text
    assert ">What is rule 3?</textarea>" in answer.text


# --- what points to people --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("May I drink coffee before the test?", ""),
        ("May Mrs Miller drink coffee?", "This looks like a name."),
        ("Write to team-four@clinic.example", "This looks like an e-mail address."),
    ],
)
def test_what_is_typed_is_looked_at_before_it_is_sent(
    browser: TestClient, db: Session, adapter: Adapter, text: str, sentence: str
) -> None:
    answer = browser.post(f"/adapters/{adapter.id}/ask/look", data={"text": text})
    assert answer.json()["sentence"].startswith(sentence)
    assert bool(answer.json()["sentence"]) == bool(sentence)
    assert count(db, ConversationTurn) == 0


# --- what people say of an answer -------------------------------------------------------------


def test_thumbs_and_a_better_answer_are_kept_and_taken_back(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    ask(browser, adapter)
    answer = db.scalars(select(ConversationAnswer).where(ConversationAnswer.place == 0)).one()
    address = f"/adapters/{adapter.id}/ask/answers/{answer.id}"

    def judged() -> tuple[int | None, str | None]:
        db.refresh(answer)
        return answer.thumb, answer.better

    browser.post(address, data={"action": "bad"})
    assert judged() == (-1, None)
    page = browser.post(address, data={"action": "better", "better": " Wash <them>. "}).text
    assert judged() == (-1, "Wash <them>.")
    assert "Wash &lt;them&gt;." in page
    browser.post(address, data={"action": "bad"})
    assert judged() == (None, "Wash <them>.")
    part = browser.post(
        address, data={"action": "better", "better": ""}, headers={"HX-Request": "true"}
    )
    assert part.text.lstrip().startswith("<section")
    assert judged() == (None, None)


def test_feedback_is_looked_at_left_out_and_made_a_version(
    browser: TestClient, client: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    for question in ("Who is on call?", "And at night?"):
        answered = ask(browser, adapter, question=question, beside="nobody").text
        assert "owner sees it with your question" in answered
    first, second = db.scalars(select(ConversationAnswer).order_by(ConversationAnswer.id))
    address = f"/adapters/{adapter.id}/feedback"
    assert "There is no new feedback" in browser.get(address).text
    assert address not in browser.get(f"/adapters/{adapter.id}").text
    for answer, better in ((first, HOSTILE), (second, "The house doctor.")):
        browser.post(
            f"/adapters/{adapter.id}/ask/answers/{answer.id}",
            data={"action": "better", "better": better},
        )
    # Whoever may change the data sees it; the conversations stay their owner's.
    colleague = sign_in(client, db, make_user(db))
    assert address in colleague.get(f"/adapters/{adapter.id}").text
    page = colleague.get(address).text
    assert "2 answers were judged; 2 have a better answer." in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    assert "⟨U+202E⟩" in page
    numbers = re.findall(r'name="chosen" value="(\d+)" checked', page)
    assert len(numbers) == 2
    nothing = colleague.post(address, data={"use_as": "examples"})
    assert nothing.status_code == 422
    assert "Choose what is to become data" in nothing.text
    few = colleague.post(address, data={"use_as": "pairs", "chosen": numbers})
    assert few.status_code == 422
    assert 'value="pairs" checked' in few.text
    assert re.findall(r'name="chosen" value="(\d+)" checked', few.text) == numbers
    page = colleague.post(address, data={"action": "leave_out", "chosen": numbers[0]}).text
    assert "The house doctor." not in page
    made = colleague.post(address, data={"use_as": "examples", "chosen": [*numbers, "²", "9" * 30]})
    assert made.status_code == 200
    assert made.url.path.startswith("/versions/")
    assert "1 example added" in made.text
    assert "There is no new feedback" in colleague.get(address).text
    viewer = sign_in(client, db, make_user(db, role=Role.VIEWER))
    stranger = make_user(db, department=make_department(db))
    assert viewer.get(address).status_code == 403
    assert viewer.post(address, data={"chosen": numbers}).status_code == 403
    assert address not in viewer.get(f"/adapters/{adapter.id}").text
    assert sign_in(client, db, stranger).get(address).status_code == 404


# --- leaving ----------------------------------------------------------------------------------


def test_words_said_so_far_are_kept_while_more_come(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    """A web process that dies amid an answer leaves what was said a second before."""
    go = threading.Event()

    def script(request: AnswerRequest) -> list[Any]:
        return [
            *saying("First. ")[:-2],
            go,
            Piece(index=0, text="Second. "),
            *saying()[2:],
        ]

    answerer.script = script
    (tuned, _), _ = begin(browser, adapter)
    threading.Timer(1.5, go.set).start()
    assert read(browser, adapter, answer=tuned)[-1][1]["finish"] == "stop"
    assert db.get_one(ConversationAnswer, int(tuned)).text == "First. Second. "


def test_the_job_and_the_adapter_lead_here(
    browser: TestClient, db: Session, owner: User, adapter: Adapter
) -> None:
    address = f"/adapters/{adapter.id}/ask"
    assert f'href="{address}"' in browser.get(f"/adapters/{adapter.id}").text
    assert f'href="{address}"' in browser.get(f"/jobs/{adapter.job_id}").text
    assert f'href="{address}"' in browser.get("/").text


def test_rows_that_an_earlier_adapter_practised_are_no_test_questions(
    browser: TestClient, db: Session, owner: User, adapter: Adapter
) -> None:
    """The version's rows 20 and 21 are tests; the adapter before this one had learned row 20."""
    further = make_zipped_adapter(db, owner)
    assert adapter.job is not None
    assert further.job is not None
    further.job.version_id = adapter.job.version_id
    further.start_adapter_id = adapter.id
    further.lineage = [
        {
            "adapter_id": adapter.id,
            "name": adapter.name,
            "public_name": adapter.public_name,
            "manifest_sha256": adapter.manifest_sha256,
        }
    ]
    db.commit()
    address = f"/adapters/{further.id}/ask"
    # Nobody can say any more what was practised: then nothing is called a test question.
    assert "Try a test question" not in browser.get(address).text
    own = practised.Collector()
    own.add(db.get_one(Example, (adapter.job.version_id, 20)).messages)
    practice.keep(db, adapter, own.rows())
    practice.keep(db, further, practised.Collector().rows())
    db.commit()
    page = browser.get(address).text
    assert "What is rule 21?" in page
    assert "What is rule 20?" not in page
