"""An adapter for colleagues: the pages of who shares it and of who may only look, and `/v1`."""

import html
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.adapters import sharing
from app.core import clock, settings
from app.core.models import (
    Adapter,
    AdapterUse,
    AnswerReport,
    Arm,
    Conversation,
    KeptQuestion,
    Notice,
    Release,
    Role,
    User,
)
from app.people import auth
from tests.answerer import StandIn, saying, standing_in
from tests.app.web.adapters.test_ask import HOSTILE, SCRIPT, STREAM, count, events
from tests.app.web.pages import sign_in
from tests.factories import make_department, make_evaluation, make_user, make_zipped_adapter
from worker import sweep


def named(db: Session, user: User, name: str) -> User:
    user.name = name
    db.commit()
    return user


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return named(db, make_user(db), "Ines Adler")


@pytest.fixture
def viewer(db: Session, owner: User) -> User:
    return make_user(db, role=Role.VIEWER)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_zipped_adapter(db, owner)


@pytest.fixture
def answerer(db: Session) -> Iterator[StandIn]:
    with standing_in(db) as stand_in:
        yield stand_in


def share(db: Session, adapter: Adapter, **changes: Any) -> str:
    said: dict[str, Any] = {
        "purpose": "Answers about visiting hours.",
        "limits": "Never about doses.",
        "asks_per_day": 5,
        "keeps_questions": False,
    }
    owner = db.get_one(User, adapter.owner_id)
    sharing.release(db, owner, adapter, **said | changes)
    db.commit()
    return f"/ask/{adapter.id}"


def release_form(**changes: str) -> dict[str, str]:
    return {
        "purpose": "Hours.",
        "limits": "No doses.",
        "reason": "A trial.",
        "asks_per_day": "7",
    } | changes


# --- who shares it ----------------------------------------------------------------------------


def test_its_owner_releases_and_withdraws_it(
    client: TestClient, db: Session, owner: User, adapter: Adapter
) -> None:
    browser = sign_in(client, db, owner)
    address = f"/adapters/{adapter.id}/sharing"
    assert address in browser.get(f"/adapters/{adapter.id}").text
    page = browser.post(address, data=release_form(keeps_questions="yes"))
    assert page.status_code == 200
    assert "Released to colleagues" in page.text
    db.refresh(adapter)
    assert (adapter.release, adapter.purpose, adapter.asks_per_day, adapter.keeps_questions) == (
        Release.RELEASED,
        "Hours.",
        7,
        True,
    )
    assert "Withdrawn everywhere" in browser.post(f"{address}/withdraw").text
    assert browser.get(f"/ask/{adapter.id}").status_code == 404
    assert browser.get(f"/adapters/{adapter.id}/ask").status_code == 404
    assert f"/adapters/{adapter.id}/ask" not in browser.get("/adapters").text
    assert "Not shared" in browser.post(f"{address}/private").text
    assert browser.get(f"/ask/{adapter.id}").status_code == 200


def test_what_is_not_ready_asks_for_a_reason_which_everybody_reads(
    client: TestClient, db: Session, owner: User, adapter: Adapter
) -> None:
    browser = sign_in(client, db, owner)
    address = f"/adapters/{adapter.id}/sharing"
    refused = browser.post(address, data=release_form(reason=" "))
    assert refused.status_code == 422
    assert "Nobody has counted yet how many of its answers are right." in refused.text
    assert "No doses." in refused.text
    make_evaluation(db, adapter=adapter)
    refused = browser.post(address, data=release_form(reason=""))
    assert "Better than before training, but do not use it yet. Say why" in refused.text
    browser.post(address, data=release_form(reason="Only for the team's own test."))
    shown = html.unescape(browser.get(f"/ask/{adapter.id}").text)
    assert "Better, not ready" in shown
    assert "6 of 24 right, 6 partly, 6 wrong, 6 for you to check." in shown
    assert "Only for the team's own test." in shown


def test_what_is_ready_for_a_trial_asks_for_none(
    client: TestClient, db: Session, owner: User, adapter: Adapter
) -> None:
    marks = {Arm.TUNED: "r" * 40, Arm.BASE: "w" * 40, Arm.LOOKUP: "w" * 40}
    make_evaluation(db, adapter=adapter, marks=marks)
    browser = sign_in(client, db, owner)
    address = f"/adapters/{adapter.id}/sharing"
    assert "Why may it be released all the same?" not in browser.get(address).text
    assert browser.post(address, data=release_form(reason="")).status_code == 200
    assert "Ready for a trial with people" in browser.get(f"/ask/{adapter.id}").text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("purpose", "  ", "Say what this model is for"),
        ("limits", "", "Say what it must not be used for"),
        ("limits", "x" * 2001, "at most 2,000 characters"),
        ("reason", "x" * 2001, "at most 2,000 characters"),
        ("asks_per_day", "many", "Enter a number"),
        ("asks_per_day", "0", "Enter a number"),
        ("asks_per_day", "99999999999", "Enter a number"),
        ("asks_per_day", "²", "Enter a number"),
    ],
)
def test_a_wrong_form_comes_back_as_it_was_typed(
    client: TestClient,
    db: Session,
    owner: User,
    adapter: Adapter,
    field: str,
    value: str,
    words: str,
) -> None:
    browser = sign_in(client, db, owner)
    typed = release_form(purpose="For the night shift.") | {field: value}
    page = browser.post(f"/adapters/{adapter.id}/sharing", data=typed)
    assert page.status_code == 422
    assert words in page.text
    assert ("For the night shift." in page.text) == (field != "purpose")
    db.refresh(adapter)
    assert adapter.release is Release.PRIVATE


@pytest.mark.parametrize(
    ("role", "is_stranger", "status"),
    [(Role.MEMBER, False, 403), (Role.VIEWER, False, 403), (Role.LEAD, True, 404)],
)
def test_others_do_not_share_it(
    client: TestClient, db: Session, adapter: Adapter, role: Role, is_stranger: bool, status: int
) -> None:
    share(db, adapter)
    columns: dict[str, Any] = {"department": make_department(db)} if is_stranger else {}
    browser = sign_in(client, db, make_user(db, role=role, **columns))
    address = f"/adapters/{adapter.id}/sharing"
    assert browser.get(address).status_code == status
    for way in ("", "/withdraw", "/private", "/reports/1/done"):
        assert browser.post(address + way, data=release_form()).status_code == status
    db.refresh(adapter)
    assert adapter.release is Release.RELEASED
    assert address not in browser.get(f"/adapters/{adapter.id}").text


def test_use_is_shown_by_day_and_not_by_name(
    client: TestClient, db: Session, owner: User, viewer: User, adapter: Adapter
) -> None:
    share(db, adapter)
    for user in (viewer, viewer, named(db, make_user(db), "Zora Unseen")):
        sharing.count_use(db, user, adapter)
    db.commit()
    page = sign_in(client, db, owner).get(f"/adapters/{adapter.id}/sharing").text
    assert re.search(r'<td class="num">2</td>\s*<td class="num">3</td>', page)
    assert "Zora Unseen" not in page


# --- who may only look ------------------------------------------------------------------------


def test_a_viewer_finds_it_and_asks_it(
    client: TestClient, db: Session, viewer: User, adapter: Adapter, answerer: StandIn
) -> None:
    browser = sign_in(client, db, viewer)
    address = f"/ask/{adapter.id}"
    assert browser.get(address).status_code == 403
    assert address not in browser.get("/").text
    share(db, adapter)
    for page in ("/", "/adapters", f"/adapters/{adapter.id}"):
        assert address in browser.get(page).text
    shown = browser.get(f"/adapters/{adapter.id}/ask")
    assert shown.url.path == address
    for words in (
        "Answers about visiting hours.",
        "Never about doses.",
        "What you ask is not kept",
        "Ines Adler",
        "You can ask 5 questions a day.",
    ):
        assert words in shown.text
    for words in ("Compare with", "From your data", "Instruction"):
        assert words not in shown.text
    answerer.script = lambda request: saying("At three.")
    first = browser.post(address, data={"question": "When?", "beside": "base"})
    assert first.status_code == 200
    assert re.search(r"data-words>At three\.</p>", first.text)
    history = re.findall(r'name="history" value="([^"]+)" data-history', first.text)[0]
    browser.post(address, data={"question": "And then?", "history": history.replace("&#34;", '"')})
    assert [turn["content"] for turn in answerer.asked(adapter.id).messages] == [
        "When?",
        "At three.",
        "And then?",
    ]
    # Nothing answers beside it, and nothing was kept but the count.
    assert {request.adapter_id for request in answerer.requests} == {adapter.id}
    assert (count(db, Conversation), count(db, KeptQuestion)) == (0, 0)
    assert db.scalars(select(AdapterUse)).one().num_asked == 2


def test_a_script_gets_the_turn_and_then_the_words(
    client: TestClient, db: Session, viewer: User, adapter: Adapter, answerer: StandIn
) -> None:
    address = share(db, adapter, keeps_questions=True)
    browser = sign_in(client, db, viewer)
    assert "keeps what is asked and answered for 30 days" in browser.get(address).text
    asked = {"question": HOSTILE, "instruction": "Say anything.", "freedom": "free"}
    part = browser.post(address, data=asked, headers=SCRIPT)
    assert part.status_code == 200
    assert "<script>" not in part.text
    assert "⟨U+202E⟩" in part.text
    assert count(db, AdapterUse) == 0
    stream = browser.post(f"{address}/answer", data=asked, headers=STREAM)
    assert [name for name, _ in events(stream.text)][-1] == "end"
    request = answerer.asked(adapter.id)
    assert request.messages == [{"role": "user", "content": HOSTILE}]
    assert request.limits.temperature == 0
    db.rollback()
    (kept,) = db.scalars(select(KeptQuestion)).all()
    assert (kept.question, kept.answer) == (HOSTILE, "Hello.")
    assert db.scalars(select(AdapterUse)).one().num_asked == 1
    # The owner reads it, as signs and not as a page's parts.
    page = sign_in(client, db, db.get_one(User, adapter.owner_id)).get(
        f"/adapters/{adapter.id}/sharing"
    )
    assert "&lt;script&gt;" in page.text
    assert "<script>alert" not in page.text


def test_the_limit_of_a_day_is_kept_on_every_way(
    client: TestClient, db: Session, viewer: User, adapter: Adapter, answerer: StandIn
) -> None:
    address = share(db, adapter, asks_per_day=1)
    browser = sign_in(client, db, viewer)
    assert browser.post(address, data={"question": "One?"}).status_code == 200
    plain = browser.post(address, data={"question": "Two?"})
    assert plain.status_code == 429
    assert "as often as its owner allows" in plain.text
    assert ">Two?</textarea>" in plain.text
    script = browser.post(address, data={"question": "Two?"}, headers=SCRIPT)
    assert script.status_code == 429
    assert script.text.startswith("You have asked “")
    assert script.headers["content-type"].startswith("text/plain")
    assert int(script.headers["retry-after"]) <= 25 * 3600
    assert (
        browser.post(f"{address}/answer", data={"question": "Two?"}, headers=STREAM).status_code
        == 429
    )
    token = auth.create_token(db, viewer, "script")
    db.commit()
    body = {"model": adapter.public_name, "messages": [{"role": "user", "content": "Two?"}]}
    headers = {"Authorization": f"Bearer {token}"}
    refused = client.post("/v1/chat/completions", json=body, headers=headers)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "as often as its owner allows" in refused.json()["error"]["message"]
    assert len(answerer.requests) == 1
    # Who decides is not limited, and a colleague has questions of their own.
    other = sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert other.post(address, data={"question": "One?"}).status_code == 200
    mine = sign_in(client, db, db.get_one(User, adapter.owner_id))
    for _ in range(2):
        assert mine.post(address, data={"question": "One?"}).status_code == 200


def test_a_viewers_program_asks_what_was_released(
    client: TestClient, db: Session, viewer: User, adapter: Adapter, answerer: StandIn
) -> None:
    token = auth.create_token(db, viewer, "script")
    db.commit()
    headers = {"Authorization": f"Bearer {token}"}
    body = {"model": adapter.public_name, "messages": [{"role": "user", "content": "When?"}]}

    def ask(**more: Any) -> Any:
        return client.post("/v1/chat/completions", json=body | more, headers=headers)

    assert ask().status_code == 403
    share(db, adapter, keeps_questions=True)
    assert ask().json()["choices"][0]["message"]["content"] == "Hello."
    assert ask(stream=True).text.endswith("data: [DONE]\n\n")
    db.rollback()
    kept = db.scalars(select(KeptQuestion)).all()
    assert [(one.question, one.answer) for one in kept] == [("When?", "Hello.")] * 2
    assert db.scalars(select(AdapterUse)).one().num_asked == 2
    # What is refused counts for nothing.
    assert ask(n=0).status_code == 400
    assert db.scalars(select(AdapterUse)).one().num_asked == 2
    sharing.withdraw(db, db.get_one(User, adapter.owner_id), adapter)
    db.commit()
    gone = ask()
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    listed = client.get("/v1/models", headers=headers).json()["data"]
    assert {one["x_status"] for one in listed if one["x_kind"] == "adapter"} == {"withdrawn"}


def test_strangers_never_learn_of_it(client: TestClient, db: Session, adapter: Adapter) -> None:
    address = share(db, adapter)
    stranger = make_user(db, role=Role.ADMIN, department=make_department(db))
    browser = sign_in(client, db, stranger)
    for way, data in {
        "": {"question": "x"},
        "/answer": {"question": "x"},
        "/look": {"text": "x"},
        "/report": {"question": "x", "answer": "y"},
    }.items():
        assert browser.post(address + way, data=data).status_code == 404
    assert browser.get(address).status_code == 404
    client.cookies.clear()
    assert client.get(address, follow_redirects=False).status_code == 303


def test_withdrawn_while_somebody_has_the_page(
    client: TestClient, db: Session, owner: User, viewer: User, adapter: Adapter, answerer: StandIn
) -> None:
    address = share(db, adapter)
    browser = sign_in(client, db, viewer)
    part = browser.post(address, data={"question": "When?"}, headers=SCRIPT)
    assert part.status_code == 200
    sharing.withdraw(db, owner, adapter)
    db.commit()
    late = browser.post(f"{address}/answer", data={"question": "When?"}, headers=STREAM)
    assert late.status_code == 404
    assert "was withdrawn" in late.text
    assert answerer.requests == []


def told(browser: TestClient, address: str, question: str) -> dict[str, str]:
    """What a page that reads along has at the end, to report the answer."""
    stream = browser.post(f"{address}/answer", data={"question": question}, headers=STREAM).text
    data = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    words = "".join(one.get("text", "") for one in data)
    return {"question": question, "answer": words, "proof": data[-1]["proof"]}


def test_nobody_reports_words_that_the_model_never_said(
    client: TestClient, db: Session, owner: User, viewer: User, adapter: Adapter, answerer: StandIn
) -> None:
    address = share(db, adapter)
    browser = sign_in(client, db, viewer)
    answerer.script = lambda request: saying("At three\r\n", "o'clock\0.\n ")
    said = told(browser, address, "When? \x01")
    other = told(browser, share(db, make_zipped_adapter(db, owner)), "When? \x01")
    for wrong in (
        {"answer": "At four."},
        {"answer": said["answer"] + " Really."},
        {"question": "Where?"},
        {"proof": ""},
        {"proof": "ü" * 64},
        {"proof": other["proof"]},
    ):
        refused = browser.post(f"{address}/report", data=said | wrong, headers=SCRIPT)
        assert (refused.status_code, wrong) == (422, wrong)
        assert "not the words that the model said" in refused.text
    colleague = make_user(db, role=Role.VIEWER)
    assert sign_in(client, db, colleague).post(f"{address}/report", data=said).status_code == 422
    assert db.scalars(select(AnswerReport)).all() == []
    browser = sign_in(client, db, viewer)
    # Forms are sent with line ends of their own.
    words = "\r\n".join(said["answer"].strip().splitlines())
    sent = browser.post(f"{address}/report", data=said | {"answer": words})
    assert sent.status_code == 200


def test_an_answer_that_is_stopped_or_on_a_plain_page_can_be_reported(
    client: TestClient, db: Session, viewer: User, adapter: Adapter, answerer: StandIn
) -> None:
    address = share(db, adapter)
    browser = sign_in(client, db, viewer)
    answerer.script = lambda request: saying("At ", "three.")
    stream = browser.post(f"{address}/answer", data={"question": "When?"}, headers=STREAM).text
    [proof] = re.findall(r'event: proof\ndata: {"proof":\s*"(\w+)"}', stream)
    said = {"question": "When?", "answer": "At", "proof": proof}
    assert browser.post(f"{address}/report", data=said).status_code == 200
    page = browser.post(address, data={"question": "When?"}).text
    form = page[page.index("data-report>") :].partition("</form>")[0]
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    assert hidden["answer"] == "At three."
    sent = {name: unescape(value) for name, value in hidden.items()}
    again = browser.post(f"{address}/report", data=sent)
    assert "Reported." in again.text
    assert hidden["proof"] in again.text  # in what was said so far


def test_an_answer_is_reported_and_done(
    client: TestClient,
    db: Session,
    owner: User,
    viewer: User,
    adapter: Adapter,
    answerer: StandIn,
) -> None:
    address = share(db, adapter)
    browser = sign_in(client, db, viewer)
    answerer.script = lambda request: saying(HOSTILE)
    said = told(browser, address, "When?") | {"note": "It is at four."}
    done = browser.post(f"{address}/report", data=said, headers=SCRIPT)
    assert done.status_code == 200
    assert "Reported." in done.text
    plain = browser.post(f"{address}/report", data=said | {"note": "", "history": "[broken"})
    assert "Reported. Ines Adler sees this" in plain.text
    for wrong in (
        {"note": "a\0b"},
        {"note": "x" * 2001},
        {"answer": " "},
        {"answer": "x" * 20_001},
    ):
        refused = browser.post(f"{address}/report", data=said | wrong, headers=SCRIPT)
        assert refused.status_code == 422
    assert {one.user_id for one in db.scalars(select(Notice)) if "reported" in one.title} == {
        owner.id
    }
    mine = sign_in(client, db, owner)
    page = mine.get(f"/adapters/{adapter.id}/sharing").text
    assert "It is at four." in page
    assert "<script>alert" not in page
    assert page.count(">Done</button>") == 2
    first = db.scalars(select(AnswerReport).order_by(AnswerReport.id)).first()
    assert first is not None
    page = mine.post(f"/adapters/{adapter.id}/sharing/reports/{first.id}/done").text
    assert page.count(">Done</button>") == 1
    other = make_zipped_adapter(db, owner)
    assert mine.post(f"/adapters/{other.id}/sharing/reports/{first.id}/done").status_code == 404


def test_what_is_kept_goes_when_conversations_do(
    client: TestClient,
    db: Session,
    owner: User,
    adapter: Adapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share(db, adapter, keeps_questions=True)
    for question in ("Old?", "New?"):
        sharing.keep(db, adapter, question, "Yes.")
    db.flush()
    db.execute(
        update(KeptQuestion)
        .where(KeptQuestion.question == "Old?")
        .values(created_at=clock.NOW - timedelta(days=31))
    )
    db.commit()
    assert [one.question for one in sharing.kept(db, owner, adapter)] == ["New?"]
    sweep.clean(db)
    db.commit()
    assert [one.question for one in db.scalars(select(KeptQuestion))] == ["New?"]
    # A site that keeps nothing offers it to nobody, whatever was said before.
    monkeypatch.setenv("ETUDE_CONVERSATION_DAYS", "0")
    settings.get.cache_clear()
    sharing.keep(db, adapter, "Now?", "Yes.")
    browser = sign_in(client, db, owner)
    assert "What you ask is not kept" in browser.get(f"/ask/{adapter.id}").text
    page = browser.post(f"/adapters/{adapter.id}/sharing", data=release_form(keeps_questions="yes"))
    assert page.status_code == 422
    sweep.clean(db)
    db.commit()
    assert count(db, KeptQuestion) == 0
    settings.get.cache_clear()


def test_the_page_with_all_choices_counts_each_model_and_says_what_is_kept(
    client: TestClient, db: Session, adapter: Adapter, answerer: StandIn
) -> None:
    share(db, adapter, asks_per_day=1, keeps_questions=True)
    browser = sign_in(client, db, make_user(db))
    address = f"/adapters/{adapter.id}/ask"
    assert "The model&#39;s owner keeps questions and answers" in browser.get(address).text
    asked = {"question": "When?", "beside": "base", "freedom": "same"}
    assert browser.post(address, data=asked).status_code == 200
    assert db.scalars(select(AdapterUse)).one().num_asked == 1
    assert count(db, KeptQuestion) == 1
    assert browser.post(address, data=asked).status_code == 429
    assert count(db, Conversation) == 1
