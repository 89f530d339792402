"""/v1/x_general_questions: a department's own general questions. Not in OpenAI's API."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.models import GeneralQuestion
from app.evaluation import general_questions
from app.web.dependencies import Db, TokenUser
from app.web.v1 import transport
from app.web.v1.schemas import unix

router = transport.router("/x_general_questions")


class CreateGeneralQuestion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    question: Annotated[str, Field(max_length=10_000)]
    answer: Annotated[str, Field(max_length=10_000, description="The right one.")]


class GeneralQuestionShown(BaseModel):
    id: int
    object: Literal["x_general_question"] = "x_general_question"
    created_at: int
    question: str
    answer: str


class GeneralQuestions(BaseModel):
    object: Literal["list"] = "list"
    data: list[GeneralQuestionShown]
    has_more: Literal[False] = False


class GeneralQuestionDeleted(BaseModel):
    id: int
    object: Literal["x_general_question"] = "x_general_question"
    deleted: Literal[True] = True


@router.get("")
def list_general_questions(db: Db, user: TokenUser) -> GeneralQuestions:
    """List the questions that the department's models are asked before and after training."""
    found = general_questions.of_department(db, user.department_id)
    return GeneralQuestions(data=[_show(one) for one in found])


@router.post("")
def create_general_question(
    db: Db, user: TokenUser, body: CreateGeneralQuestion
) -> GeneralQuestionShown:
    """Add a question with its right answer."""
    made = general_questions.add(db, user, body.question, body.answer)
    db.commit()
    return _show(made)


@router.delete("/{question_id}")
def delete_general_question(db: Db, user: TokenUser, question_id: int) -> GeneralQuestionDeleted:
    """Take a question off the list."""
    general_questions.delete(db, user, question_id)
    db.commit()
    return GeneralQuestionDeleted(id=question_id)


def _show(one: GeneralQuestion) -> GeneralQuestionShown:
    return GeneralQuestionShown(
        id=one.id, created_at=unix(one.created_at), question=one.question, answer=one.answer
    )
