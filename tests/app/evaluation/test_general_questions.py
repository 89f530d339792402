"""A department's own general questions."""

import pytest
from sqlalchemy.orm import Session

from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import AuditEvent, Role, User
from app.evaluation import general_questions
from tests.factories import make_department, make_user


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, role=Role.MEMBER)


def questions(db: Session, user: User) -> list[str]:
    return [one.question for one in general_questions.of_department(db, user.department_id)]


def test_a_department_keeps_its_own_list(db: Session, user: User) -> None:
    stranger = make_user(db, role=Role.LEAD, department=make_department(db))
    first = general_questions.add(db, user, "  What is 7 times 8?\0 ", "56")
    general_questions.add(db, user, "Which day follows Monday?", "Tuesday")
    general_questions.add(db, stranger, "What is 7 times 8?", "56")
    assert questions(db, user) == ["What is 7 times 8?", "Which day follows Monday?"]
    assert questions(db, stranger) == ["What is 7 times 8?"]
    with pytest.raises(NotFound):
        general_questions.delete(db, stranger, first.id)
    general_questions.delete(db, user, first.id)
    db.commit()
    assert questions(db, user) == ["Which day follows Monday?"]
    told = [one.action for one in db.query(AuditEvent).filter(AuditEvent.actor == user.email)]
    assert told.count("general_question.add") == 2
    assert told.count("general_question.delete") == 1


def test_what_is_refused(db: Session, user: User) -> None:
    add = general_questions.add
    for question, answer, field in (("", "56", "question"), ("What?", " ", "answer")):
        with pytest.raises(Invalid) as refused:
            add(db, user, question, answer)
        assert refused.value.field == field
    with pytest.raises(Invalid, match="at most 1,000"):
        add(db, user, "x" * 1001, "y")
    add(db, user, "What is 7 times 8?", "56")
    with pytest.raises(Conflict, match="already"):
        add(db, user, "what is 7 times 8?", "fifty-six")
    with pytest.raises(Forbidden):
        add(db, make_user(db, role=Role.VIEWER), "Who?", "I")
    for number in range(general_questions.MAX_QUESTIONS - 1):
        add(db, user, f"What is 9 times {number}?", str(9 * number))
    with pytest.raises(Conflict, match="delete one first"):
        add(db, user, "One more?", "No")
