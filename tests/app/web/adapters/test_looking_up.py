"""What looks answers up: made by its button, asked on pages, and its rows shown to whoever asks."""

import json
from collections.abc import Iterator
from html import unescape

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import (
    Adapter,
    Arm,
    ConversationAnswer,
    DatasetVersion,
    Evaluation,
    ExampleKind,
    JobStatus,
    Role,
    User,
)
from app.evaluation import verdict
from tests.answerer import StandIn, saying, standing_in
from tests.app.web.adapters.test_ask import SCRIPT, STREAM, events
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_department,
    make_evaluation,
    make_job,
    make_lookup,
    make_user,
)

ANSWER = "Rule 7 says: wash your hands."
NOTHING_ALIKE = "No row of your data is like this question."


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_lookup(db, user=owner)


@pytest.fixture
def answerer(db: Session) -> Iterator[StandIn]:
    with standing_in(db) as stand_in:
        stand_in.script = lambda request: saying("Wash them.")
        yield stand_in


@pytest.fixture
def browser(client: TestClient, db: Session, owner: User) -> TestClient:
    return sign_in(client, db, owner)


def asked(**fields: str) -> dict[str, str]:
    return {"question": "What is rule 7?", "beside": "nobody", "freedom": "same", **fields}


# --- asking ----------------------------------------------------------------------------------


def test_an_answer_shows_its_rows_without_javascript(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    shown = browser.post(f"/adapters/{adapter.id}/ask", data=asked(beside="base"))
    assert shown.status_code == 200
    said = unescape(shown.text)
    assert "Looked up in your data" in said
    assert "The starting model alone" in said
    assert "Your trained model" not in said
    assert f'href="/versions/{adapter.lookup_version_id}/examples/7"' in said
    assert ANSWER in said
    assert "3 more rows that it was shown" in said
    assert ANSWER in answerer.asked(adapter.id).messages[-1]["content"]
    # Beside it the starting model is asked the question alone.
    assert answerer.asked(None).messages[-1]["content"] == "What is rule 7?"
    mine, base = db.scalars(select(ConversationAnswer).order_by(ConversationAnswer.place))
    assert mine.sources is not None
    assert mine.sources[0] == {"version": adapter.lookup_version_id, "index": 7}
    assert base.sources is None


def test_a_script_hears_of_the_rows_before_the_words(
    browser: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    turn = browser.post(f"/adapters/{adapter.id}/ask", data=asked(), headers=SCRIPT)
    assert turn.status_code == 200
    answer_id = db.scalars(select(ConversationAnswer.id)).one()
    address = f"/adapters/{adapter.id}/ask/answer"
    answer = browser.post(address, data={"answer": str(answer_id)}, headers=STREAM)
    (kind, rows), *rest = events(answer.text)
    assert (kind, rows["note"]) == ("sources", "")
    assert ANSWER in unescape(rows["html"])
    assert rest[-1][0] == "end"


def test_no_row_like_the_question_is_said_in_front(
    browser: TestClient, adapter: Adapter, answerer: StandIn
) -> None:
    question = asked(question="Quantum chromodynamics!")
    shown = browser.post(f"/adapters/{adapter.id}/ask", data=question).text
    assert shown.index(NOTHING_ALIKE) < shown.index("Wash them.")
    assert "From your data" not in shown


def test_what_is_not_kept_shows_its_rows_from_what_the_browser_has(
    browser: TestClient,
    adapter: Adapter,
    answerer: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_CONVERSATION_DAYS", "0")
    settings.get.cache_clear()
    shown = unescape(browser.post(f"/adapters/{adapter.id}/ask", data=asked()).text)
    assert ANSWER in shown
    assert f'"version":{adapter.lookup_version_id},"index":7' in shown


def test_released_it_shows_its_rows_to_everybody_who_asks(
    client: TestClient, db: Session, adapter: Adapter, answerer: StandIn, owner: User
) -> None:
    sign_in(client, db, owner)
    page = client.get(f"/adapters/{adapter.id}/sharing").text
    assert "Colleagues see the rows that an answer is taken from." in page
    words = {"purpose": "The ward's rules.", "limits": "No doses.", "reason": "A trial."}
    released = client.post(f"/adapters/{adapter.id}/sharing", data=words | {"asks_per_day": "9"})
    assert released.status_code == 200
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    plain = client.get(f"/ask/{adapter.id}").text
    assert "below each one stand the rows that it is taken from" in " ".join(plain.split())
    assert "Set up by" in plain
    shown = unescape(client.post(f"/ask/{adapter.id}", data={"question": "What is rule 7?"}).text)
    assert ANSWER in shown
    stream = client.post(
        f"/ask/{adapter.id}/answer", data={"question": "What is rule 7?"}, headers=STREAM
    )
    assert events(stream.text)[0][0] == "sources"


def test_its_pages_speak_of_no_training(browser: TestClient, db: Session, adapter: Adapter) -> None:
    shown = unescape(browser.get(f"/adapters/{adapter.id}").text)
    assert "Nothing was trained." in shown
    assert "Evaluate now" in shown
    for words in ("Its files", "Loss", "Train it further", "The same question, before and after"):
        assert words not in shown
    assert "Take it along" not in browser.get(f"/adapters/{adapter.id}").text
    assert "Looked up" in browser.get("/adapters").text
    further = browser.get(f"/jobs/new?start_adapter={adapter.id}")
    assert "has learned nothing" in unescape(further.text)
    assert browser.get("/").status_code == 200
    ask = unescape(browser.get(f"/adapters/{adapter.id}/ask").text)
    assert "None of these questions is among the rows that it looks in." in ask
    sheet = browser.post(f"/adapters/{adapter.id}/evaluate", follow_redirects=False)
    assert sheet.status_code == 303
    assert db.scalars(select(Evaluation.adapter_id)).one() is None


# --- making one ------------------------------------------------------------------------------


def untrained(db: Session, lookup: str, base: str) -> Evaluation:
    made = make_evaluation(db, marks={Arm.BASE: base, Arm.LOOKUP: lookup})
    made.adapter_id = None
    db.flush()
    verdict.count(db, made)
    db.commit()
    return made


def test_a_check_that_is_enough_is_used_with_a_button(browser: TestClient, db: Session) -> None:
    made = untrained(db, "r" * 24, "w" * 24)
    shown = unescape(browser.get(f"/evaluations/{made.id}").text)
    assert "<h1>24 of 24 answers are right by looking them up in your data</h1>" in shown
    assert "Training is not needed for this" in shown
    assert "Use this" in shown
    used = browser.post(f"/evaluations/{made.id}/look-up")
    assert used.status_code == 200
    said = unescape(used.text)
    assert "24 of 24 answers are right" in said
    assert "Ready for a trial with people" in said
    # The button makes no second one.
    again = browser.post(f"/evaluations/{made.id}/look-up")
    assert again.url == used.url


def test_a_check_that_is_not_enough_leads_to_training(browser: TestClient, db: Session) -> None:
    made = untrained(db, "rw" * 12, "w" * 24)
    shown = unescape(browser.get(f"/evaluations/{made.id}").text)
    assert "Training may still help." in shown
    train = f"/jobs/new?version={made.version_id}&base_model={made.base_model_id}"
    assert f'class="button" href="{train}"' in shown
    assert "Look answers up all the same" in shown
    assert "It gets times wrong." not in shown


def test_a_starting_model_that_is_enough_alone_is_used_with_a_button(
    browser: TestClient, db: Session
) -> None:
    made = untrained(db, "w" * 24, "r" * 24)
    shown = unescape(browser.get(f"/evaluations/{made.id}").text)
    assert "24 of 24 answers are right by the starting model alone" in shown
    assert f'action="/evaluations/{made.id}/use-alone"' in shown
    assert "/look-up" not in shown
    # The page is about what does better, and not about looking up.
    assert "Ready for a trial with people" in shown
    assert "What would help" not in shown
    assert "the true share right lies between 86 and 100%" in shown
    used = browser.post(f"/evaluations/{made.id}/use-alone")
    assert used.status_code == 200
    said = unescape(used.text)
    assert "Ward questions, without training" in said
    assert "It answers as its starting model does by itself. Nothing was trained." in said
    assert "24 of 24 answers are right" in said
    assert "Ready for a trial with people" in said
    assert "x_sources" not in said
    # The button makes no second one.
    assert browser.post(f"/evaluations/{made.id}/use-alone").url == used.url
    assert "Without training" in browser.get("/adapters").text
    ask = unescape(browser.get(f"{used.url.path}/ask").text)
    assert "24 of 24 answers are right" in ask
    assert 'name="beside"' in ask
    # The starting model would say the same again, and another one is asked only if it is chosen.
    chosen = ask[ask.index('name="beside"') :]
    assert chosen.index(">Nothing<") < chosen.index("</option>")
    assert ">The starting model alone (tiny)<" not in ask
    assert "Colleagues see the rows" not in browser.get(f"{used.url.path}/sharing").text


def test_the_hint_looks_up_instead(browser: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    shown = browser.get(f"/evaluations/{made.id}").text
    assert "Look up instead" in shown
    assert f'action="/evaluations/{made.id}/look-up"' in shown
    used = browser.post(f"/evaluations/{made.id}/look-up")
    assert "12 of 24 answers are right" in used.text
    assert "Looking answers up does better than the starting model alone" in used.text


def test_only_editors_of_the_department_make_one(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    for user, status in (
        (make_user(db, role=Role.VIEWER), 403),
        (make_user(db, department=make_department(db)), 404),
    ):
        sign_in(client, db, user)
        assert client.post(f"/evaluations/{made.id}/look-up").status_code == status
    assert db.scalars(select(Adapter.id).where(Adapter.lookup_version_id.is_not(None))).all() == []


def test_a_tuned_one_looks_rows_up_as_well(
    client: TestClient, db: Session, owner: User, answerer: StandIn
) -> None:
    tuned = make_adapter(db, user=owner)
    address = f"/adapters/{tuned.id}/look-up"
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert client.post(address, data={"where": "own"}).status_code == 403
    sign_in(client, db, owner)
    assert "Look rows up as well" in client.get(f"/adapters/{tuned.id}").text
    shown = client.post(address, data={"where": "own"})
    assert "Stop looking rows up" in shown.text
    assert ANSWER in unescape(client.post(f"/adapters/{tuned.id}/ask", data=asked()).text)
    assert ANSWER in answerer.asked(tuned.id).messages[-1]["content"]
    assert "Colleagues see the rows" in client.get(f"/adapters/{tuned.id}/sharing").text
    assert client.post(address, data={"where": "newer"}).status_code == 409
    shown = client.post(address, data={"where": "nowhere"})
    assert "Look rows up as well" in shown.text
    client.post(f"/adapters/{tuned.id}/ask", data=asked())
    assert answerer.asked(tuned.id).messages[-1]["content"] == "What is rule 7?"


def test_it_looks_in_a_newer_version_once_a_person_says_so(
    browser: TestClient, db: Session, adapter: Adapter
) -> None:
    old = db.get_one(DatasetVersion, adapter.lookup_version_id)
    assert "newer than the one" not in browser.get(f"/adapters/{adapter.id}").text
    newer = make_dataset_version(db)
    newer.dataset_id, newer.number = old.dataset_id, 2
    newer.base_version_id, newer.layers = old.id, [old.id]
    db.commit()
    assert "Look in the newer version" in browser.get(f"/adapters/{adapter.id}").text
    browser.post(f"/adapters/{adapter.id}/look-up", data={"where": "newer"})
    db.refresh(adapter)
    assert adapter.lookup_version_id == newer.id
    gone = browser.post(f"/adapters/{adapter.id}/look-up", data={"where": "nowhere"})
    assert gone.status_code == 409


# --- the card on a version's page -------------------------------------------------------------


def test_a_ready_version_is_checked_without_training(browser: TestClient, db: Session) -> None:
    make_base_model(db)
    used = make_base_model(db, name="house/used", folder="used")
    version = make_dataset_version(db)
    make_job(db, version=version, base_model=used, status=JobStatus.SUCCEEDED)
    shown = browser.get(f"/versions/{version.id}/train").text
    assert "Check without training" in shown
    # The model of the last job is preset.
    assert f'<option value="{used.id}" selected>used</option>' in shown
    address = f"/versions/{version.id}/check-without-training"
    assert f'action="{address}"' in shown
    begun = browser.post(address, data={"base_model": str(used.id)})
    assert "Is training needed?" in begun.text
    again = browser.get(f"/versions/{version.id}/train").text
    assert "See the last check" in again


def test_there_is_nothing_to_check_in_text_and_nothing_to_press_for_viewers(
    client: TestClient, db: Session, owner: User
) -> None:
    make_base_model(db)
    text = make_dataset_version(db, kind=ExampleKind.TEXT)
    chat = make_dataset_version(db)
    untested = make_dataset_version(db, num_validation=4, num_test=0)
    sign_in(client, db, owner)
    assert "Check without training" in client.get(f"/versions/{chat.id}/train").text
    for version in (text, untested):
        assert "Check without training" not in client.get(f"/versions/{version.id}/train").text
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert "Check without training" not in client.get(f"/versions/{chat.id}/train").text


def test_what_was_found_last_is_said_to_everybody(client: TestClient, db: Session) -> None:
    made = untrained(db, "r" * 24, "w" * 24)
    version = db.get_one(DatasetVersion, made.version_id)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    shown = client.get(f"/versions/{version.id}/train").text
    assert "24 of 24 answers are right by looking them up in your data." in shown


def test_hostile_history_is_refused_or_harmless(
    browser: TestClient, adapter: Adapter, monkeypatch: pytest.MonkeyPatch, answerer: StandIn
) -> None:
    monkeypatch.setenv("ETUDE_CONVERSATION_DAYS", "0")
    settings.get.cache_clear()
    source = {"version": 1, "index": 2, "name": "<b>row</b>", "question": "q", "answer": "a"}
    one = {"label": "x", "adapter": adapter.id, "text": "t", "finish": "stop"}
    for sources in ([source] * 5, [source | {"address": "javascript:alert(1)"}]):
        turn = {"question": "q", "answers": [one | {"sources": sources}]}
        wrong = browser.post(f"/adapters/{adapter.id}/ask", data=asked(history=json.dumps([turn])))
        assert wrong.status_code == 422
    turn = {"question": "q", "answers": [one | {"sources": [source]}]}
    shown = browser.post(f"/adapters/{adapter.id}/ask", data=asked(history=json.dumps([turn])))
    assert "<b>row</b>" not in shown.text
