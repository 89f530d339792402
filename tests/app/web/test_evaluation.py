"""Pages of an evaluation: the count first, every answer beside the right one, marks by people."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import (
    Arm,
    EvaluationAnswer,
    EvaluationQuestion,
    EvaluationStatus,
    Example,
    JobStatus,
    JudgingStatus,
    Mark,
    Part,
    Role,
    User,
    Worker,
)
from app.evaluation import (
    comparing,
    curves,
    general_questions,
    judging,
    marking,
    reading,
    verdict,
    votes,
)
from app.people import auth
from app.web.evaluation.page import stretches
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_department,
    make_evaluation,
    make_job,
    make_user,
)


def test_the_page_opens_with_the_count(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = client.get(f"/evaluations/{made.id}").text
    assert "<h1>6 of 24 answers are right</h1>" in shown
    assert "Better, not ready" in shown
    assert "It gets times wrong." in shown
    for words in ("Your trained model", "Looking it up in your data", "Before training"):
        assert words in shown
    assert shown.index("6 of 24 answers are right") < shown.index("Loss")
    # A verdict that is not good stands until the rest is checked, which is said.
    assert "6 of 24 answers are for you to check and count as wrong until you do" in shown
    # The worst first: a wrong answer, beside what the data says.
    assert "tuned says <mark>2</mark>" in shown
    assert "Rule 22 says: wash your hands." in shown


def test_how_far_it_is_says_which_questions_are_counted(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    worker = Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=[], version="0")
    db.add(worker)
    db.flush()
    made.status, made.num_rows = EvaluationStatus.EVALUATING, 24
    made.worker_id, made.lease_until = worker.id, datetime.now(UTC) + timedelta(hours=1)
    made.num_questions, made.num_answered = 48, 5
    db.commit()
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = client.get(f"/evaluations/{made.id}").text
    assert "5 of 48 questions are answered: 24 test questions, and others to compare with." in shown
    made.num_questions = 24
    db.commit()
    assert "5 of 24 questions are answered." in client.get(f"/evaluations/{made.id}").text


def test_of_very_many_questions_the_same_come_first(
    client: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_evaluation(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    address = f"/evaluations/{made.id}"

    def first() -> list[str]:
        return re.findall(rf'action="{address}/answers/(\d+)/tuned"', client.get(address).text)

    shown = first()
    assert len(set(shown)) == 6
    monkeypatch.setattr(reading, "FIRST_ROWS", 5)  # there are more than are looked at for hints
    assert first() == shown


def test_every_figure_leads_to_its_rows(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    address = f"/evaluations/{made.id}/answers"
    wrong = client.get(address, params={"arm": "tuned", "mark": "wrong"}).text
    assert "6 answers" in wrong
    assert wrong.count("tuned says ") == 6
    assert client.get(address, params={"arm": "base"}).text.count("base says ") == 24
    for hostile in ({"arm": "nobody"}, {"mark": "best"}, {"part": "moon"}):
        assert client.get(address, params=hostile).status_code == 404


def test_a_person_marks_an_answer(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    address = f"/evaluations/{made.id}/answers/2/tuned"
    part = client.post(address, data={"mark": "right"}, headers={"HX-Request": "true"})
    assert part.status_code == 200
    assert "marked by a person" in part.text
    shown = client.get(f"/evaluations/{made.id}").text
    assert "<h1>7 of 24 answers are right</h1>" in shown
    assert "A person gave or changed 1 of these marks." in shown
    # Without a script the page follows.
    back = client.post(address, data={"mark": "rules"}, follow_redirects=False)
    assert back.status_code == 303
    assert "<h1>6 of 24 answers" in client.get(f"/evaluations/{made.id}").text
    assert client.post(address, data={"mark": "best"}).status_code == 422


def test_another_department_sees_nothing(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    stranger = make_user(db, role=Role.LEAD, department=make_department(db))
    sign_in(client, db, stranger)
    assert client.get(f"/evaluations/{made.id}").status_code == 404
    assert client.get(f"/evaluations/{made.id}/answers").status_code == 404
    address = f"/evaluations/{made.id}/answers/2/tuned"
    assert client.post(address, data={"mark": "right"}).status_code == 404


def test_a_viewer_looks_and_does_not_mark(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert 'name="mark"' not in client.get(f"/evaluations/{made.id}").text
    address = f"/evaluations/{made.id}/answers/2/tuned"
    assert client.post(address, data={"mark": "right"}).status_code == 403


def test_what_goes_wrong_is_one_sentence(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    made.status, made.reason = EvaluationStatus.FAILED, "Its starting model was deleted."
    db.commit()
    shown = client.get(f"/evaluations/{made.id}").text
    assert "Its starting model was deleted." in shown
    # What is there all the same can be read.
    assert "Your trained model" in shown


def test_words_of_a_model_are_shown_as_they_are(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    answer = db.get_one(EvaluationAnswer, (made.id, 2, Arm.TUNED))
    answer.text = "<script>alert(1)</script>\u202eabc"
    db.commit()
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = client.get(f"/evaluations/{made.id}").text
    assert "<script>alert(1)" not in shown
    assert "⟨U+202E⟩abc" in shown


def test_the_count_stands_wherever_the_model_does(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    adapter = made.adapter
    assert adapter is not None
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    pages = [f"/adapters/{adapter.id}", f"/adapters/{adapter.id}/ask", f"/jobs/{adapter.job_id}"]
    for address in pages:
        shown = client.get(address).text
        assert "6 of 24 answers are right" in shown
        assert "Better, not ready" in shown
        assert f'href="/evaluations/{made.id}"' in shown


def test_an_adapter_from_before_says_that_nobody_has_counted(
    client: TestClient, db: Session
) -> None:
    adapter = make_adapter(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    assert "Evaluate now" in client.get(f"/adapters/{adapter.id}").text
    assert "check each one" in client.get(f"/adapters/{adapter.id}/ask").text


def test_a_job_shows_the_right_answer_beside_what_was_said(client: TestClient, db: Session) -> None:
    said = {"question": "Where?", "reference": "Room 7.", "base": "Nowhere.", "tuned": "Room 9!"}
    job = make_job(db, status=JobStatus.SUCCEEDED, samples=[said])
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = client.get(f"/jobs/{job.id}").text
    assert shown.index("Room 9!") < shown.index("In your data") < shown.index("Room 7.")


def test_what_would_help_has_a_button_that_helps(client: TestClient, db: Session) -> None:
    made = make_evaluation(db, practised="w" * 20)
    assert made.adapter is not None
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = client.get(f"/evaluations/{made.id}").text
    assert "What would help" in shown
    assert f'href="/jobs/new?copy_of={made.adapter.job_id}"' in shown
    address = f"/versions/{made.version_id}/add?evaluation={made.id}"
    assert f'href="{address}"' in html.unescape(shown)
    form = client.get(address).text
    assert "Questions that went wrong" in form
    refused = client.post(address, data={"question": ["Where?"], "answer": [""]})
    assert refused.status_code == 422
    assert "Write the answer, too." in refused.text
    assert ">Where?</textarea>" in refused.text
    made_so = client.post(
        address, data={"question": ["Where?"], "answer": ["Here."]}, follow_redirects=False
    )
    assert made_so.status_code == 303
    assert "1 example added" in client.get(made_so.headers["location"]).text


def test_models_side_by_side(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    assert made.adapter is not None
    other = make_adapter(db, name="Ward, larger")
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    address = f"/versions/{made.version_id}/models"
    shown = html.unescape(client.get(address).text)
    assert f"“{made.adapter.name}”" in shown
    assert "On the 24 questions that all of these answered and none practised." in shown
    assert "Ward, larger" in shown
    begun = client.post(address, data={"adapter": str(other.id)})
    assert "Ward, larger is answering these questions" in begun.text
    assert client.post(address, data={"adapter": "x"}).status_code == 422
    assert client.get(address, params={"who": "9-tuned"}).status_code == 422


def test_colleagues_vote_without_names(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    who = [f"{made.id}-tuned", f"{made.id}-base"]
    assert (
        client.post(f"/versions/{made.version_id}/votes", data={"who": who[:1]}).status_code == 422
    )
    begun = client.post(
        f"/versions/{made.version_id}/votes", data={"who": who}, follow_redirects=False
    )
    address = begun.headers["location"]
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    for _ in range(12):
        shown = client.get(address).text
        assert "Which answer is better?" in shown
        assert made.adapter is not None
        assert made.adapter.name not in shown
        number = shown.split('name="number" value="')[1].split('"')[0]
        client.post(address, data={"number": number, "choice": "left", "why": "kinder"})
    assert "Thank you, that was all" in client.get(address).text
    assert "How it stands" not in client.get(address).text
    assert client.post(address, data={"number": "x", "choice": "left"}).status_code == 422
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    assert "How it stands" not in client.get(address).text  # who has not voted would be led by it
    over = client.post(f"{address}/close").text
    assert "12 votes of 1 person." in over
    assert over.count("kinder") == 12


def test_the_report_is_a_page_and_a_pdf(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    waits = make_evaluation(db, status=EvaluationStatus.WAITING)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    shown = client.get(f"/evaluations/{made.id}/report").text
    assert "6 of 24 answers are right" in shown
    assert "wash your hands" not in shown
    pdf = client.get(f"/evaluations/{made.id}/report.pdf")
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.content.startswith(b"%PDF")
    assert client.get(f"/evaluations/{waits.id}/report").status_code == 409


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ((), [("Take 5 mg.", False)]),
        (((5, 9),), [("Take ", False), ("5 mg", True), (".", False)]),
        (((5, 9), (6, 99)), [("Take ", False), ("5 mg", True), (".", True)]),
        (((0, 4), (4, 4)), [("Take", True), (" 5 mg.", False)]),
    ],
)
def test_what_differs_is_shown(
    spans: tuple[tuple[int, int], ...], expected: list[tuple[str, bool]]
) -> None:
    assert stretches("Take 5 mg.", spans) == expected


def test_a_wrong_dose_is_shown_in_the_answer(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    answer = db.get_one(EvaluationAnswer, (made.id, 2, Arm.TUNED))
    example = db.get_one(Example, (made.version_id, 22))
    answer.text = "Take 50 mg in the evening."
    asked = {"role": "user", "content": "How much do I take?"}
    example.messages = [asked, {"role": "assistant", "content": "Take 5 mg in the evening."}]
    db.commit()
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = client.get(f"/evaluations/{made.id}").text
    assert "Take <mark>50 mg</mark> in the evening." in shown
    assert "Take <mark>5 mg</mark> in the evening." in shown


def test_a_larger_model_judges_by_choice(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    user = make_user(db, role=Role.MEMBER)
    sign_in(client, db, user)
    address = f"/evaluations/{made.id}"
    assert "Let another model judge" not in client.get(address).text  # there is no other
    judge = make_base_model(db, name="house/judge", num_parameters=8_000_000_000)
    shown = client.get(address).text
    assert f'<option value="{judge.id}">judge</option>' in shown
    assert "The rules left 6 answers to people." in shown
    assert client.post(f"{address}/judge", data={"base_model": "x"}).status_code == 422
    asked = client.post(
        f"{address}/judge",
        data={"base_model": str(judge.id), "which": "open"},
        follow_redirects=False,
    )
    assert asked.status_code == 303
    assert "It waits until a machine is free." in client.get(address).text
    row = judging.newest(db, made)
    assert row is not None
    row.status, row.num_answers, row.num_judged = JudgingStatus.DONE, 6, 6
    for position, mark in ((3, Mark.RIGHT), (7, Mark.WRONG), (11, Mark.UNSURE)):
        answer = db.get_one(EvaluationAnswer, (made.id, position, Arm.TUNED))
        answer.judge_mark, answer.judge_counts = mark, mark is not Mark.UNSURE
    marking.set_mark(db, user, made, 7, Arm.TUNED, "partly")
    db.commit()
    shown = " ".join(client.get(address).text.split())
    assert "<h1>7 of 24 answers are right</h1>" in shown
    assert "judge judged 3 answers. For 3 more it had no time. 1 of its marks counts." in shown
    assert "It agreed with people on 0 of 1." in shown
    assert "1 of its replies could not be read as a mark; that answer stays as it was." in shown
    report = client.get(f"{address}/report").text
    assert "1 given or changed by people, 1 by another model, the others by rules" in report
    assert "It agreed with people on 0 of 1." in report
    answers = client.get(f"{address}/answers").text
    assert "marked by another model" in answers
    assert "The other model says: wrong." in answers
    assert "What the other model said of it could not be read as a mark." in answers


def test_judging_is_stopped_by_who_may(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    judge = make_base_model(db, name="house/judge")
    judging.request(db, make_user(db, role=Role.MEMBER), made, judge)
    db.commit()
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert client.post(f"/evaluations/{made.id}/stop-judging").status_code == 403
    sign_in(client, db, make_user(db, role=Role.LEAD))
    stopped = client.post(f"/evaluations/{made.id}/stop-judging", follow_redirects=False)
    assert stopped.status_code == 303
    assert "Have them judged" in client.get(f"/evaluations/{made.id}").text


def test_general_questions_of_ones_own(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    address = "/general-questions"
    assert "There are none yet." in client.get(address).text
    wrong = client.post(address, data={"question": "What is 7 times 8?", "answer": ""})
    assert wrong.status_code == 422
    assert "Write its right answer." in wrong.text
    assert "What is 7 times 8?" in wrong.text  # what was written comes back
    client.post(address, data={"question": "Is 1 < 2?", "answer": "<b>Yes</b>"})
    shown = client.get(address).text
    assert "&lt;b&gt;Yes&lt;/b&gt;" in shown
    (made,) = general_questions.of_department(db, make_user(db).department_id)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert "Add a question" not in client.get(address).text
    assert client.post(f"{address}/{made.id}/delete").status_code == 403
    stranger = make_user(db, role=Role.LEAD, department=make_department(db))
    sign_in(client, db, stranger)
    assert "Is 1" not in client.get(address).text
    assert client.post(f"{address}/{made.id}/delete").status_code == 404
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    client.post(f"{address}/{made.id}/delete")
    assert "There are none yet." in client.get(address).text


def test_a_learning_curve_by_one_button(client: TestClient, db: Session) -> None:
    version = make_dataset_version(db, num_train=80, num_validation=10, num_test=24)
    model = make_base_model(db)
    user = make_user(db, role=Role.MEMBER)
    sign_in(client, db, user)
    shown = client.get(f"/versions/{version.id}/train").text
    assert "Enough data?" in shown
    address = f"/versions/{version.id}/learning-curve"
    assert client.post(address, data={"base_model": ""}).status_code == 422
    begun = client.post(address, data={"base_model": str(model.id)}, follow_redirects=False)
    assert begun.status_code == 303
    page = begun.headers["Location"]
    shown = client.get(page).text
    assert "<h1>Is it enough data?</h1>" in shown
    assert "0 of the 3 short jobs are counted." in shown
    assert "25%: 20 rows" in shown
    assert 'hx-trigger="every 5s"' in shown
    assert client.post(address, data={"base_model": str(model.id)}).status_code == 409
    curve = curves.newest(db, version)
    assert curve is not None
    jobs = [point.job for point in curves.points(db, curve) if point.job]
    assert f'href="/curves/{curve.id}"' in client.get(f"/jobs/{jobs[0].id}").text
    for job, letters in zip(jobs, ("w" * 24, "rw" * 12, "r" * 24), strict=True):
        job.status = JobStatus.SUCCEEDED
        marks = {Arm.TUNED: letters, Arm.BASE: "w" * 24}
        make_evaluation(db, adapter=make_adapter(db, job=job), marks=marks)
        db.refresh(job)
    shown = client.get(page).text
    assert "<h1>More examples are likely to help</h1>" in shown
    assert "The true share right lies between 31 and 69%" in shown
    assert "every 5s" not in shown
    assert "More examples are likely to help." in client.get(f"/versions/{version.id}/train").text
    # Its adapters stand there, and in no list.
    last = jobs[2].adapter
    assert last is not None
    assert f'href="/adapters/{last.id}"' in shown
    listed = " ".join(client.get("/adapters").text.split())
    assert f"/adapters/{last.id}" not in listed
    assert "3 trained models of learning curves are not listed here" in listed
    token = auth.create_token(db, user, "tests")
    db.commit()
    bearer = {"Authorization": f"Bearer {token}"}
    named = [one["id"] for one in client.get("/v1/models", headers=bearer).json()["data"]]
    assert named == [model.name]
    found = client.get(f"/v1/models/{last.public_name}", headers=bearer)
    assert found.json()["x_adapter_id"] == last.id
    # A finished job has the button, too.
    again = client.post(f"/jobs/{jobs[2].id}/learning-curve", follow_redirects=False)
    assert again.status_code == 303
    newest = curves.newest(db, version)
    assert newest is not None
    waiting = curves.points(db, newest)[0].job
    assert waiting is not None
    assert client.post(f"/jobs/{waiting.id}/learning-curve").status_code == 409
    sign_in(client, db, make_user(db, role=Role.LEAD, department=make_department(db)))
    assert client.get(page).status_code == 404


def test_small_data_has_no_learning_curve(client: TestClient, db: Session) -> None:
    version = make_dataset_version(db, num_train=20, num_validation=0, num_test=10)
    make_base_model(db)
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    assert "Enough data?" not in client.get(f"/versions/{version.id}/train").text


def test_loss_and_perplexity_stand_under_details(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    assert made.adapter is not None
    made.adapter.metrics = made.adapter.metrics | {
        "validation_loss_before": 2.0, "validation_loss_after": 1.0
    }  # fmt: skip
    db.commit()
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = " ".join(client.get(f"/evaluations/{made.id}").text.split())
    details = shown[shown.index(">Details<") :]
    assert " 1.00, from 2.00" in details
    assert " 2.72, from 7.39" in details
    # Of pairs the loss is no surprise at words.
    made.adapter.metrics = made.adapter.metrics | {"preferred_share": 0.8}
    db.commit()
    shown = client.get(f"/evaluations/{made.id}").text
    assert "Perplexity" not in shown
    assert "Loss" in shown


def test_the_start_page_says_that_votes_wait(client: TestClient, db: Session) -> None:
    made = make_evaluation(db)
    user = make_user(db, role=Role.VIEWER)
    sign_in(client, db, user)
    assert "which of two answers is better" not in client.get("/").text
    owner = db.get_one(User, made.owner_id)
    contenders = {one.arm: one for one in comparing.contenders(db, made.version)}
    of = votes.start(db, owner, contenders[Arm.TUNED], contenders[Arm.BASE])
    db.commit()
    shown = client.get("/").text
    assert "A colleague asks which of two answers is better." in shown
    assert f'href="/votes/{of.id}"' in shown
    while (ballot := votes.next_ballot(db, user, of)) is not None:
        votes.vote(db, user, of, ballot.number, "both")
    db.commit()
    assert "which of two answers is better" not in client.get("/").text


def test_general_questions_can_be_read_as_answered_before_and_after(
    client: TestClient, db: Session
) -> None:
    made = make_evaluation(db)
    for position in range(20, 24):
        db.get_one(EvaluationQuestion, (made.id, position)).part = Part.SITE
    db.flush()
    verdict.count(db, made)
    db.commit()
    sign_in(client, db, make_user(db, role=Role.MEMBER))
    shown = " ".join(client.get(f"/evaluations/{made.id}").text.split())
    said = "Of 4 general questions of your own it got 0 right before training and 1 after it."
    address = f"/evaluations/{made.id}/answers?part=site"
    assert f'{said} <a href="{address}">Show them' in shown
    after = client.get(address).text
    assert "General questions of your own: your trained model" in after
    assert after.count("tuned says ") == 4
    before = f"/evaluations/{made.id}/answers?arm=base&amp;mark=&amp;part=site"
    assert before in after
    assert client.get(html.unescape(before)).text.count("base says ") == 4
    assert "Looking it up in your data</a>" not in after  # nobody asked it these
