"""Questions that a model makes up: asking for them, judging each, a version of the accepted."""

import re

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.adapters import model_card
from app.core import leases
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Asking,
    AskingStatus,
    AuditEvent,
    CheckStatus,
    DatasetCheck,
    DatasetVersion,
    Example,
    ExampleKind,
    ModelStatus,
    PrivacyReview,
    ProposedPair,
    ReviewStatus,
    Role,
    Split,
    Verdict,
    VersionStatus,
)
from app.datasets import changes, deletion, examples
from app.datasets.changes import Change
from app.datasets.questions import reviewing, runs
from app.training.events import DoneEvent
from tests.app.web.pages import sign_in
from tests.factories import (
    first_user,
    make_asking,
    make_base_model,
    make_dataset_version,
    make_job,
    make_user,
)


def make_texts(db: Session, **columns: object) -> DatasetVersion:
    return make_dataset_version(db, kind=ExampleKind.TEXT, name="Handbook", **columns)  # type: ignore[arg-type]


# --- asking --------------------------------------------------------------------------------


def test_questions_are_asked_for_from_the_page_of_a_text(client: TestClient, db: Session) -> None:
    version = make_texts(db)
    model = make_base_model(db, name="house/large", num_parameters=7_000_000_000)
    make_base_model(db, name="house/coming", status=ModelStatus.WAITING)
    sign_in(client, db, first_user(db))
    address = f"/versions/{version.id}/questions"
    assert f'href="{address}"' in client.get(f"/versions/{version.id}").text
    page = client.get(address).text
    assert "large (7.0 billion parameters)" in page
    assert "coming" not in page
    form = {"model": str(model.id), "per_passage": "3", "max_pairs": "50"}
    shown = client.post(address, data=form).text
    assert "Waiting to start." in shown
    asking = db.scalars(select(Asking)).one()
    assert (asking.status, asking.per_passage, asking.max_pairs) == (AskingStatus.WAITING, 3, 50)
    again = client.post(address, data=form)
    assert again.status_code == 409
    assert "made up already" in again.text
    assert client.get(f"{address}?watching=1").status_code == 200
    client.post(f"{address}/cancel")
    db.refresh(asking)
    assert asking.status is AskingStatus.CANCELLED
    assert client.post(f"{address}/cancel").status_code == 409
    over = client.get(f"{address}?watching=1")
    assert (over.status_code, over.headers["hx-refresh"]) == (204, "true")
    deeds = db.scalars(select(AuditEvent.action).order_by(AuditEvent.id.desc()).limit(2)).all()
    assert list(deeds) == ["questions.cancel", "questions.start"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"model": ""}, "Choose a starting model"),
        ({"model": "99"}, "Choose a starting model"),
        ({"max_pairs": "0"}, "from 1 to 2,000"),
        ({"max_pairs": "2001"}, "from 1 to 2,000"),
        ({"per_passage": "six"}, "from 1 to 5"),
    ],
)
def test_a_wish_that_cannot_be_met_comes_back_as_typed(
    client: TestClient, db: Session, form: dict[str, str], words: str
) -> None:
    version, model = make_texts(db), make_base_model(db)
    sign_in(client, db, first_user(db))
    answer = client.post(f"/versions/{version.id}/questions", data={"model": str(model.id)} | form)
    assert answer.status_code == 422
    assert words in answer.text
    assert all(f'value="{value}"' in answer.text for value in form.values() if value != "99")
    assert db.scalar(select(func.count()).select_from(Asking)) == 0


def test_the_page_is_honest_about_the_toy(client: TestClient, db: Session) -> None:
    version = make_texts(db)
    sign_in(client, db, first_user(db))
    address = f"/versions/{version.id}/questions"
    assert "No starting model is ready yet" in client.get(address).text
    make_base_model(db, name="HuggingFaceTB/SmolLM2-135M-Instruct", num_parameters=134_515_008)
    assert "here is SmolLM2-135M-Instruct, a toy" in client.get(address).text
    make_base_model(db, name="house/large", num_parameters=7_000_000_000)
    assert "here is SmolLM2-135M-Instruct, a toy" not in client.get(address).text


def test_not_of_pairs_not_by_viewers_and_not_before_the_privacy_gate(
    client: TestClient, db: Session
) -> None:
    user, model = first_user(db), make_base_model(db)
    pairs, texts = make_dataset_version(db), make_texts(db, decided=False)
    with pytest.raises(Conflict, match="only about plain text"):
        runs.start(db, user, pairs, model)
    with pytest.raises(Conflict, match="Search “Handbook” for personal details"):
        runs.start(db, user, texts, model)
    with pytest.raises(Forbidden):
        runs.start(db, make_user(db, role=Role.VIEWER), texts, model)
    model.status = ModelStatus.FAILED
    with pytest.raises(Invalid, match="not ready"):
        runs.start(db, user, make_texts(db), model)
    db.rollback()
    sign_in(client, db, user)
    assert client.get(f"/versions/{pairs.id}/questions").status_code == 404
    assert "/questions" not in client.get(f"/versions/{pairs.id}").text
    shown = client.get(f"/versions/{texts.id}/questions").text
    assert "Decide about the personal details in this text first." in shown
    assert 'name="max_pairs"' not in shown


def test_what_was_thrown_away_is_counted_and_said(client: TestClient, db: Session) -> None:
    version = make_texts(db)
    make_asking(db, version, refused={"no_question": 2, "strays": 5})
    sign_in(client, db, first_user(db))
    page = " ".join(client.get(f"/versions/{version.id}/questions").text.split())
    assert "Questions: 3, from 3 passages. 7 attempts were thrown away: asks about" in page
    assert "that is not there (5), no question mark (2)." in page
    make_asking(db, version, num_pairs=0)
    page = " ".join(client.get(f"/versions/{version.id}/questions").text.split())
    assert "Nothing was left to ask about" in page


# --- the worker's side ---------------------------------------------------------------------


def test_whoever_was_stopped_or_reaped_keeps_nothing_more(db: Session) -> None:
    version = make_texts(db)
    asking = runs.start(db, first_user(db), version, make_base_model(db))
    db.commit()
    lease = leases.claim(db, leases.ASKINGS, "cpu-0@test")
    assert lease is not None
    pair = {"heading": "", "passage": "a b", "answer": "a b", "question": "c?", "example_index": 0}
    asking.num_pairs, asking.refused = 1, {"empty": 1}
    runs.keep(db, lease, asking, 4, [pair], {"of": 9})
    db.commit()
    db.refresh(asking)
    assert (asking.num_passages, asking.progress) == (4, {"of": 9})
    runs.cancel(db, first_user(db), version)
    db.commit()
    with pytest.raises(leases.LeaseLost):
        runs.keep(db, lease, asking, 8, [pair], {})
    db.rollback()
    with pytest.raises(leases.LeaseLost):
        runs.finish(db, lease, AskingStatus.DONE)
    db.rollback()
    db.refresh(asking)
    assert asking.status is AskingStatus.CANCELLED
    assert reviewing.counts(db, version)[Verdict.OPEN] == 1, "what there was stays"


def test_passages_come_in_the_same_order_each_time_from_the_whole_version(db: Session) -> None:
    version = make_texts(db, num_train=60, num_validation=0)
    # Removed ones are not asked about, edited ones as they are now.
    edited = [{"role": "text", "content": "Number 7 of the rules says: keep the door locked."}]
    made = changes.derive(
        db, first_user(db), version, [Change(3, is_removed=True), Change(7, edited)], "by hand"
    )
    asking = Asking(version_id=made.id, per_passage=2, max_pairs=40, seed=0)
    found = runs.quoted(db, asking)
    assert found == runs.quoted(db, asking)
    assert {index for index, _ in found} == set(range(60)) - {3}
    assert [index for index, _ in found] != sorted(index for index, _ in found)
    assert dict(found)[7].answers == ("Number 7 of the rules says: keep the door locked.",)
    asking.seed = 1
    assert [index for index, _ in runs.quoted(db, asking)] != [index for index, _ in found]


# --- judging -------------------------------------------------------------------------------


def test_each_pair_is_judged_beside_its_passage(client: TestClient, db: Session) -> None:
    version = make_texts(db)
    first, second, third = make_asking(db, version)
    user = first_user(db)
    sign_in(client, db, user)
    address = f"/versions/{version.id}/questions"
    page = client.get(f"{address}/review").text
    assert page.count('name="verdict" value="accepted"') == 3
    assert '<mark class="learned">Rule 0 says: wash your hands.</mark>' in page
    assert "ward.csv" in page

    accepted = {"verdict": "accepted", "question": first.question, "answer": first.answer}
    after = client.post(f"{address}/{first.id}", data=accepted)
    assert "/review?said=open" in str(after.url)
    assert f"pair-{first.id}" not in after.text
    edited = {"verdict": "accepted", "question": " Which rule?\r\n", "answer": "The second."}
    part = client.post(f"{address}/{second.id}", data=edited, headers={"HX-Request": "true"})
    assert part.url.path == f"{address}/{second.id}"
    assert "corrected by a person" in part.text
    assert re.search(r'Accepted <span class="num">2<', part.text)
    client.post(f"{address}/{third.id}", data={"verdict": "refused"})

    db.expire_all()
    assert (first.verdict, first.is_edited, first.decided_by_id) == ("accepted", False, user.id)
    assert (second.question, second.answer, second.is_edited) == (
        "Which rule?",
        "The second.",
        True,
    )
    assert third.verdict is Verdict.REFUSED
    assert third.question == "What does rule 1 say, asked 2?"
    client.post(f"{address}/{third.id}", data={"verdict": "open"})
    db.expire_all()
    assert (third.verdict, third.decided_by_id) == (Verdict.OPEN, None)
    deeds = db.execute(
        select(AuditEvent.action, AuditEvent.detail).order_by(AuditEvent.id.desc()).limit(4)
    ).all()
    assert [deed.action.removeprefix("questions.") for deed in reversed(deeds)] == [
        *("accept", "accept", "refuse", "reopen")
    ]
    assert "rule" not in str(deeds), "what is in people's data is not in the log"


def test_a_verdict_that_cannot_be_taken_comes_back_as_typed(
    client: TestClient, db: Session
) -> None:
    version = make_texts(db)
    pair = make_asking(db, version)[0]
    sign_in(client, db, first_user(db))
    address = f"/versions/{version.id}/questions/{pair.id}"
    wrong = client.post(address, data={"verdict": "accepted", "question": "", "answer": "Typed."})
    assert wrong.status_code == 422
    assert "Write the question, or reject this question." in wrong.text
    assert f'id="question-{pair.id}-wrong"' in wrong.text
    assert ">Typed.</textarea>" in wrong.text
    assert client.post(address, data={"verdict": "perhaps"}).status_code == 422
    long = {"verdict": "accepted", "question": "x" * 4001, "answer": "a"}
    assert "at most 4,000" in client.post(address, data=long).text
    db.refresh(pair)
    assert pair.verdict is Verdict.OPEN
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert client.post(address, data={"verdict": "refused"}).status_code == 403
    page = client.get(f"/versions/{version.id}/questions/review").text
    assert pair.question in page
    assert "<textarea" not in page
    assert 'name="verdict"' not in page


def test_a_pair_is_judged_in_its_own_version_alone(client: TestClient, db: Session) -> None:
    version, other = make_texts(db), make_texts(db)
    pair = make_asking(db, version)[0]
    sign_in(client, db, first_user(db))
    address = f"/versions/{other.id}/questions/{pair.id}"
    assert client.post(address, data={"verdict": "refused"}).status_code == 404
    with pytest.raises(NotFound):
        reviewing.get(db, other, pair.id)


def test_pages_go_both_ways_and_nothing_is_passed_over_while_judging(
    client: TestClient, db: Session
) -> None:
    version = make_texts(db)
    pairs = make_asking(db, version, num_pairs=25)
    sign_in(client, db, first_user(db))
    address = f"/versions/{version.id}/questions/review"

    def shown(page: str) -> list[int]:
        return [int(number) for number in re.findall(r'id="pair-(\d+)"', page)]

    def link(page: str, words: str) -> str:
        found = re.search(rf'href="([^"]+)"[^>]*>{words}', page)
        return found[1].replace("&amp;", "&") if found else ""

    one = client.get(address).text
    ids = [pair.id for pair in pairs]
    assert shown(one) == ids[:10]
    assert link(one, "Previous page") == ""
    two = client.get(link(one, "Next page")).text
    three = client.get(link(two, "Next page")).text
    assert (shown(two), shown(three)) == (ids[10:20], ids[20:])
    assert link(three, "Next page") == ""
    assert shown(client.get(link(three, "Previous page")).text) == ids[10:20]
    assert shown(client.get(link(two, "Previous page")).text) == ids[:10]
    for pair in pairs[:10]:  # the first page is judged: the second is still where it was
        client.post(f"/versions/{version.id}/questions/{pair.id}", data={"verdict": "refused"})
    assert shown(client.get(link(one, "Next page")).text) == ids[10:20]
    assert shown(client.get(f"{address}?said=refused").text) == ids[:10]
    assert client.get(f"{address}?said=nothing&after=x").status_code == 200


# --- a version of the accepted -------------------------------------------------------------


def test_what_was_accepted_becomes_a_version_and_nothing_else(
    client: TestClient, db: Session
) -> None:
    version = make_texts(db)
    accepted = make_asking(db, version, num_pairs=24, verdict=Verdict.ACCEPTED)
    make_asking(db, version, num_pairs=5)
    make_asking(db, version, num_pairs=5, verdict=Verdict.REFUSED)
    sign_in(client, db, first_user(db))
    address = f"/versions/{version.id}/questions"
    answer = client.post(f"{address}/version", data={"test_percent": "25", "seed": "3"})
    made = db.scalars(select(DatasetVersion).order_by(DatasetVersion.id.desc()).limit(1)).one()
    assert answer.url.path == f"/versions/{made.id}"
    assert "Questions made up by tiny about version 1. A person accepted each one." in answer.text
    assert (made.dataset_id, made.number, made.status) == (
        *(version.dataset_id, 2, VersionStatus.READY),
    )
    rows = examples.page(db, made)
    assert [row.messages[0]["content"] for row in rows] == [pair.question for pair in accepted]
    assert {row.kind for row in rows} == {ExampleKind.PAIR}
    assert (made.num_train, made.num_validation, made.num_test) == (18, 0, 6)
    # Two questions of one passage stand on one side.
    sides: dict[str, set[Split]] = {}
    for row, pair in zip(rows, accepted, strict=True):
        assert row.flags == {"proposed": pair.id}
        sides.setdefault(pair.passage, set()).add(row.split)
    assert all(len(side) == 1 for side in sides.values())
    assert made.examples_sha256 == examples.sha256(db, made)
    # As any version: looked through for personal details, and checked.
    gate = db.scalars(select(PrivacyReview).where(PrivacyReview.version_id == made.id)).one()
    check = db.scalars(select(DatasetCheck).where(DatasetCheck.version_id == made.id)).one()
    assert (gate.status, check.status) == (ReviewStatus.WAITING, CheckStatus.WAITING)
    event = db.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    assert (event.action, event.detail["num_accepted"]) == ("questions.version", 24)
    history = client.get(f"/versions/{version.id}/file").text
    assert "questions made up by tiny about version 1 (24 examples accepted)" in history
    assert f'href="/versions/{made.id}">version 2' in client.get(address).text


def test_an_example_remembers_its_passage_through_later_versions(
    client: TestClient, db: Session
) -> None:
    version, user = make_texts(db), first_user(db)
    pairs = make_asking(db, version, num_pairs=12, verdict=Verdict.ACCEPTED)
    made = reviewing.make_version(db, user, version)
    edit = [{"role": "user", "content": "Edited?"}, {"role": "assistant", "content": "Yes."}]
    later = changes.derive(db, user, made, [Change(0, edit)], "changed by hand")
    db.commit()
    sign_in(client, db, user)
    page = client.get(f"/versions/{later.id}/examples/0").text
    assert "tiny made up this question about a passage of" in page
    assert '<mark class="learned">Rule 0 says: wash your hands.</mark>' in page
    assert reviewing.origin(db, later) == "questions made up by tiny about version 1"
    assert reviewing.origin(db, version) == ""
    assert (
        "Where this example comes from" not in client.get(f"/versions/{version.id}/examples/0").text
    )
    # What is said later of a pair changes no version that there is.
    reviewing.decide(db, user, pairs[0], Verdict.REFUSED)
    db.commit()
    assert len(examples.page(db, made)) == 12


def test_the_model_card_says_that_a_model_asked(db: Session) -> None:
    version = make_texts(db)
    make_asking(db, version, num_pairs=12, verdict=Verdict.ACCEPTED)
    made = reviewing.make_version(db, first_user(db), version)
    done = DoneEvent(
        at=0,
        best_step=1,
        validation_loss_before=2,
        validation_loss_after=1,
        train_loss=1,
        trained_tokens=1,
        peak_memory_bytes=1,
        train_seconds=1,
        stopped_early=False,
    )
    card = model_card.write(make_job(db, version=made), done)
    assert (
        "Handbook, version 2: questions made up by tiny about version 1, each accepted by a" in card
    )
    assert "made up" not in model_card.write(make_job(db, version=version), done)


def test_too_few_accepted_make_no_version(client: TestClient, db: Session) -> None:
    version = make_texts(db)
    make_asking(db, version, num_pairs=9, verdict=Verdict.ACCEPTED)
    sign_in(client, db, first_user(db))
    address = f"/versions/{version.id}/questions"
    assert "Accepted so far: 9. A version needs at least 10." in client.get(address).text
    answer = client.post(f"{address}/version", data={})
    assert answer.status_code == 422
    assert "9 accepted so far, and training needs at least 10" in answer.text
    make_asking(db, version, num_pairs=1, verdict=Verdict.ACCEPTED)
    wrong = client.post(f"{address}/version", data={"test_percent": "most"})
    assert wrong.status_code == 422
    assert "Write a number from 0 to 50" in wrong.text
    assert len(version.dataset.versions) == 1
    viewer = make_user(db, role=Role.VIEWER)
    with pytest.raises(Forbidden):
        reviewing.make_version(db, viewer, version)


def test_all_of_it_goes_with_the_dataset(db: Session) -> None:
    version = make_texts(db)
    make_asking(db, version, num_pairs=12, verdict=Verdict.ACCEPTED)
    made = reviewing.make_version(db, first_user(db), version)
    db.commit()
    deletion.delete_dataset(db, first_user(db), version.dataset)
    db.commit()
    for table in (Asking, ProposedPair, Example):
        assert db.scalar(select(func.count()).select_from(table)) == 0
    assert made.changes == {
        "why": "questions made up by tiny about version 1",
        "num_accepted": 12,
    }, "what an adapter's lineage names stays"
