"""A department's own general questions: short, with right answers, asked before and after training.

Training teaches what the data says, and may make a model forget what it could before. Etude asks
general questions of its own; these are what this department would miss.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import audit
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import Department, GeneralQuestion, User
from app.people.auth import can_edit

# Each is asked of two models, before the questions of the data.
MAX_QUESTIONS = 40
MAX_LETTERS = 1_000


def of_department(db: Session, department_id: int) -> Sequence[GeneralQuestion]:
    """Return a department's questions, the first added first."""
    query = select(GeneralQuestion).where(GeneralQuestion.department_id == department_id)
    return db.scalars(query.order_by(GeneralQuestion.id)).all()


def add(db: Session, user: User, question: str, answer: str) -> GeneralQuestion:
    """Add a question with its right answer; the caller commits.

    Raises:
        Forbidden: the person may only look.
        Invalid: one of the two is missing or too long; with its field.
        Conflict: it is there already, or there are enough.
    """
    _require_editor(user)
    question, answer = _checked(question, "question"), _checked(answer, "answer")
    # Of two who add at once, the second waits for this lock and sees the first's.
    db.execute(select(Department.id).where(Department.id == user.department_id).with_for_update())
    there = of_department(db, user.department_id)
    if any(one.question.casefold() == question.casefold() for one in there):
        raise Conflict("This question is on the list already.", field="question")
    if len(there) >= MAX_QUESTIONS:
        raise Conflict(
            f"There are {MAX_QUESTIONS} questions, and more would take too long to ask; delete one "
            "first.",
            field="question",
        )
    made = GeneralQuestion(department_id=user.department_id, question=question, answer=answer)
    db.add(made)
    db.flush()
    audit.record(db, user, "general_question.add", f"general question {made.id}")
    return made


def delete(db: Session, user: User, question_id: int) -> None:
    """Take a question off the list; evaluations that asked it keep it.

    Raises:
        Forbidden: the person may only look.
        NotFound: there is none, or it belongs to another department.
    """
    _require_editor(user)
    found = db.get(GeneralQuestion, question_id)
    if found is None or found.department_id != user.department_id:
        raise NotFound("There is no such question on the list; reload the page.")
    db.delete(found)
    db.flush()
    audit.record(db, user, "general_question.delete", f"general question {question_id}")


def _require_editor(user: User) -> None:
    if not can_edit(user):
        raise Forbidden("You can look at these questions, but not change them.")


def _checked(text: str, field: str) -> str:
    # What PostgreSQL can hold: no NUL, and no half of a character.
    text = text.replace("\r\n", "\n").replace("\0", "").encode("utf-8", "replace").decode().strip()
    if not text:
        what = "a question" if field == "question" else "its right answer"
        raise Invalid(f"Write {what}.", field=field)
    if len(text) > MAX_LETTERS:
        raise Invalid(f"Use at most {MAX_LETTERS:,} characters.", field=field)
    return text
