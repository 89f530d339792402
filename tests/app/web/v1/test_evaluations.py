"""How many answers of a tuned model are right, for programs."""

import pytest
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI
from sqlalchemy.orm import Session

from app.core.models import Arm, EvaluationStatus, User
from app.evaluation import marking
from tests.app.web.v1.conftest import connect
from tests.factories import (
    make_adapter,
    make_base_model,
    make_department,
    make_evaluation,
    make_user,
)


def post(api: OpenAI, path: str, **body: object) -> dict[str, object]:
    return api.post(path, body=body, cast_to=dict)


def get(api: OpenAI, path: str) -> dict[str, object]:
    return api.get(path, cast_to=dict)


def test_a_program_reads_the_count(api: OpenAI, db: Session, user: User) -> None:
    made = make_evaluation(db)
    shown = get(api, f"/x_evaluations/{made.public_id}")
    counts = {name: shown[name] for name in ("right", "partly", "wrong", "unsure", "num")}
    assert counts == {"right": 6, "partly": 6, "wrong": 6, "unsure": 6, "num": 24}
    assert shown["verdict"] == "better"
    arms = shown["arms"]
    assert isinstance(arms, dict)
    assert arms["lookup"] == {"right": 12, "partly": 0, "wrong": 12, "unsure": 0, "num": 24}
    assert list(arms) == ["tuned", "base", "lookup"]
    marking.set_mark(db, user, made, 2, Arm.TUNED, "right")
    db.commit()
    again = get(api, f"/x_evaluations/{made.public_id}")
    assert (again["right"], again["num_by_people"]) == (7, 1)


def test_its_rows_come_page_by_page(api: OpenAI, db: Session) -> None:
    made = make_evaluation(db)
    address = f"/x_evaluations/{made.public_id}/rows"
    first = get(api, f"{address}?limit=10")
    rows = first["data"]
    assert isinstance(rows, list)
    assert (len(rows), first["has_more"]) == (10, True)
    assert rows[2]["answers"]["tuned"] == {
        "text": "tuned says 2",
        "mark": "wrong",
        "why": "a time is missing",
        "by_person": False,
        "judge": None,
    }
    assert rows[2]["reference"] == "Rule 22 says: wash your hands."
    last = get(api, f"{address}?limit=100&after={rows[-1]['position']}")
    assert (len(last["data"]), last["has_more"]) == (14, False)  # type: ignore[arg-type]


def test_a_model_says_how_it_is_judged(api: OpenAI, db: Session) -> None:
    made = make_evaluation(db)
    assert made.adapter is not None
    model = api.models.retrieve(made.adapter.public_name)
    assert model.x_evaluation["right"] == 6  # type: ignore[attr-defined]
    fresh = make_adapter(db)
    assert api.models.retrieve(fresh.public_name).x_evaluation is None  # type: ignore[attr-defined]


def test_a_program_has_a_model_evaluated(api: OpenAI, db: Session) -> None:
    adapter = make_adapter(db)
    begun = post(api, "/x_evaluations", model=adapter.public_name)
    assert (begun["status"], begun["verdict"], begun["num"]) == ("waiting", None, 0)
    with pytest.raises(ConflictError):
        post(api, "/x_evaluations", model=adapter.public_name)
    listed = get(api, f"/x_evaluations?model={adapter.public_name}")["data"]
    assert isinstance(listed, list)
    assert [one["id"] for one in listed] == [begun["id"]]
    ended = post(api, f"/x_evaluations/{begun['id']}/cancel")
    assert ended["status"] == EvaluationStatus.CANCELLED
    with pytest.raises(BadRequestError, match="over already") as refused:
        post(api, f"/x_evaluations/{begun['id']}/cancel")
    assert refused.value.code == "invalid_state"
    with pytest.raises(NotFoundError):
        post(api, "/x_evaluations", model="ft:none")


def test_another_department_finds_nothing(address: str, db: Session) -> None:
    made = make_evaluation(db)
    stranger = make_user(db, department=make_department(db))
    db.commit()
    with connect(db, address, stranger) as api, pytest.raises(NotFoundError):
        get(api, f"/x_evaluations/{made.public_id}")


def test_a_program_has_answers_judged(api: OpenAI, db: Session) -> None:
    made = make_evaluation(db)
    assert get(api, f"/x_evaluations/{made.public_id}")["judge"] is None
    judge = make_base_model(db, name="house/judge")
    body: dict[str, object] = {"model": judge.name, "overrules": True}
    shown = post(api, f"/x_evaluations/{made.public_id}/judge", **body)
    assert shown["judge"] == {
        "model": "house/judge", "status": "waiting", "reason": None,
        "num": 0, "unclear": 0, "counting": 0, "compared": 0, "agreed": 0,
    }  # fmt: skip
    with pytest.raises(ConflictError, match="already"):
        post(api, f"/x_evaluations/{made.public_id}/judge", **body)


def test_a_program_keeps_general_questions(api: OpenAI) -> None:
    path = "/x_general_questions"
    made = post(api, path, question="What is 7 times 8?", answer="56")
    assert (made["question"], made["answer"]) == ("What is 7 times 8?", "56")
    with pytest.raises(ConflictError, match="already"):
        post(api, path, question="What is 7 times 8?", answer="56")
    assert get(api, path)["data"] == [made]
    gone = api.delete(f"{path}/{made['id']}", cast_to=dict)
    assert gone == {"id": made["id"], "object": "x_general_question", "deleted": True}
    assert get(api, path)["data"] == []
