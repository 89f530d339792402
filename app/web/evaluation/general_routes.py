"""A department's own general questions: the list, and a form that adds to it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse

from app.core.errors import AppError
from app.core.models import GeneralQuestion, User
from app.evaluation import general_questions
from app.people.auth import can_edit
from app.web.dependencies import CurrentUser, Db
from app.web.forms import GeneralQuestionForm
from app.web.render import page

router = APIRouter(prefix="/general-questions")


@dataclass(frozen=True)
class GeneralPage:
    questions: list[GeneralQuestion]
    most: int
    can_edit: bool
    form: GeneralQuestionForm
    error: AppError | None


@router.get("")
def show(db: Db, user: CurrentUser) -> Response:
    """Show the department's questions."""
    return _list(db, user)


@router.post("")
def add(db: Db, user: CurrentUser, form: Annotated[GeneralQuestionForm, Form()]) -> Response:
    """Add one."""
    try:
        general_questions.add(db, user, form.question, form.answer)
    except AppError as error:
        db.rollback()
        return _list(db, user, form=form, error=error)
    db.commit()
    return RedirectResponse("/general-questions", status_code=303)


@router.post("/{question_id}/delete")
def delete(db: Db, user: CurrentUser, question_id: int) -> Response:
    """Take one off the list."""
    general_questions.delete(db, user, question_id)
    db.commit()
    return RedirectResponse("/general-questions", status_code=303)


def _list(
    db: Db, user: User, *, form: GeneralQuestionForm | None = None, error: AppError | None = None
) -> Response:
    shown = GeneralPage(
        questions=list(general_questions.of_department(db, user.department_id)),
        most=general_questions.MAX_QUESTIONS,
        can_edit=can_edit(user),
        form=form or GeneralQuestionForm(),
        error=error,
    )
    status = error.status if error else 200
    return page("evaluation/general.html", user, status=status, page=shown)
