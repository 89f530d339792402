"""/v1/x_evaluations: how many answers of a tuned model are right. Not in OpenAI's API."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.base_models import registry as base_models
from app.core import wakeup
from app.core.errors import Forbidden
from app.core.models import Adapter, Arm, Evaluation, EvaluationStatus, Mark, Part
from app.evaluation import evaluations, judging, reading, verdict, words
from app.evaluation.verdict import Figures, Judge, Tally
from app.web.dependencies import Db, TokenUser
from app.web.v1 import creation, errors, transport
from app.web.v1.paging import Limit100
from app.web.v1.schemas import Count, EvaluationShown, JudgeShown, unix

router = transport.router("/x_evaluations")


class CreateEvaluation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: Annotated[str, Field(max_length=500, description="A tuned model, `ft:…`.")]
    file: str | None = Field(
        default=None,
        description="Questions of your own, all of which are asked: a file of `POST /v1/files`. "
        "Without it: those that were set apart from the model's data.",
    )
    also_asks: list[Literal["unanswerable", "general"]] = Field(
        default=[],
        max_length=2,
        description="Also ask what the data cannot answer, or general questions: Etude's, and your "
        "department's (`/v1/x_general_questions`).",
    )
    with_tuned_lookup: bool = Field(
        default=False, description="Also ask the tuned model with rows of the data in its prompt."
    )


class JudgeEvaluation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: Annotated[
        str, Field(max_length=500, description="A starting model, other than the one judged.")
    ]
    all_answers: bool = Field(
        default=False, description="All answers, and not only those that the rules left open."
    )
    overrules: bool = Field(
        default=False,
        description="Its marks count before those of the rules, too; then all are judged. What a "
        "person marks always counts.",
    )


class ArmAnswer(BaseModel):
    text: str
    mark: Mark
    why: str
    by_person: bool
    judge: Mark | None = Field(description="What a larger model says of it.")


class EvaluationRow(BaseModel):
    """One question, the right answer in the data, and what each arm answered."""

    position: int
    part: Part
    question: str
    reference: str
    answers: dict[Arm, ArmAnswer]


class EvaluationRows(BaseModel):
    object: str = "list"
    data: list[EvaluationRow]
    has_more: bool


@router.post("")
def create_evaluation(db: Db, user: TokenUser, body: CreateEvaluation) -> EvaluationShown:
    """Count how many answers of a tuned model are right; it takes some minutes of its device."""
    adapter = adapters.by_public_name(db, user, body.model)
    version = creation.training_data(db, user, body.file, "file") if body.file else None
    with errors.naming(version_id="file", base_model="model"):
        made = evaluations.request(
            db,
            user,
            adapter,
            version=version,
            all_rows=version is not None,
            with_tuned_lookup=body.with_tuned_lookup,
            also_asks=[Part(name) for name in body.also_asks],
        )
    db.commit()
    wakeup.hint("gpu")
    return _show(db, made)


@router.get("")
def list_evaluations(db: Db, user: TokenUser, model: str) -> dict[str, object]:
    """List the evaluations of a tuned model, the newest first."""
    adapter = adapters.by_public_name(db, user, model)
    found, arm = reading.list_of(db, adapter.id), reading.arm_of(adapter)
    return {"object": "list", "data": [_show(db, one, arm) for one in found], "has_more": False}


@router.get("/{evaluation_id}")
def retrieve_evaluation(db: Db, user: TokenUser, evaluation_id: str) -> EvaluationShown:
    """Return one evaluation, as people have marked it by now."""
    return _show(db, reading.by_public_id(db, user, evaluation_id))


@router.get("/{evaluation_id}/rows")
def list_rows(
    db: Db,
    user: TokenUser,
    evaluation_id: str,
    after: Annotated[int, Query(ge=reading.BEFORE_ALL)] = reading.BEFORE_ALL,
    limit: Limit100 = 100,
) -> EvaluationRows:
    """Return questions and answers, for those who may read the data."""
    evaluation = reading.by_public_id(db, user, evaluation_id)
    if not reading.may_read_rows(db, user, evaluation):
        raise Forbidden("These rows are for those who may read the data.")
    return _rows(db, evaluation, after, limit)


@router.post("/{evaluation_id}/cancel")
def cancel_evaluation(db: Db, user: TokenUser, evaluation_id: str) -> EvaluationShown:
    """Stop an evaluation."""
    evaluation = reading.by_public_id(db, user, evaluation_id)
    with errors.refusing_the_state():
        evaluations.cancel(db, user, evaluation)
    db.commit()
    return _show(db, evaluation)


@router.post("/{evaluation_id}/judge")
def judge_evaluation(
    db: Db, user: TokenUser, evaluation_id: str, body: JudgeEvaluation
) -> EvaluationShown:
    """Have another starting model mark the answers; it takes some minutes of a device."""
    evaluation = reading.by_public_id(db, user, evaluation_id)
    with errors.naming(base_model="model"):
        judging.request(
            db,
            user,
            evaluation,
            base_models.by_name(db, body.model),
            all_answers=body.all_answers,
            overrules=body.overrules,
        )
    db.commit()
    wakeup.hint("gpu")
    return _show(db, evaluation)


def of_model(db: Session, adapter_id: int) -> EvaluationShown | None:
    """Return the evaluation that a tuned model is judged by."""
    found = reading.of_adapter(db, adapter_id)
    adapter = db.get(Adapter, adapter_id)
    if found is None or adapter is None:
        return None
    return _show(db, found, reading.arm_of(adapter))


def _show(db: Session, evaluation: Evaluation, arm: Arm | None = None) -> EvaluationShown:
    figures = verdict.figures_of(evaluation)
    arm = arm or verdict.main_arm(evaluation)
    main = figures.arms.get(arm, Tally())
    standing = verdict.standing_as(evaluation, arm)
    is_main = arm is verdict.main_arm(evaluation)
    is_done = evaluation.status is EvaluationStatus.DONE
    adapter = evaluation.adapter
    return EvaluationShown(
        **_count(main).model_dump(),
        id=evaluation.public_id,
        created_at=unix(evaluation.created_at),
        finished_at=unix(evaluation.finished_at) if evaluation.finished_at else None,
        status=evaluation.status,
        model=adapter.public_name if adapter is not None else evaluation.base_model.name,
        verdict=standing.value if is_done and standing else None,
        summary=words.summary(evaluation, figures, arm) if is_done else "",
        reason=evaluation.reason,
        num_answered=evaluation.num_answered,
        num_questions=evaluation.num_questions,
        arms={arm: _count(figures.arms[arm]) for arm in Arm if arm in figures.arms},
        practice=_count(figures.practice) if figures.practice else None,
        unanswerable=_count(figures.unanswerable) if figures.unanswerable else None,
        general={arm: _count(figures.general[arm]) for arm in Arm if arm in figures.general},
        site={arm: _count(figures.site[arm]) for arm in Arm if arm in figures.site},
        right_between=figures.right_between if is_main else None,
        wrong_between=figures.wrong_between if is_main else None,
        than_base=figures.than_base if is_main else figures.lookup_than_base,
        than_lookup=figures.than_lookup if is_main else None,
        num_by_people=figures.num_by_people,
        judge=_judge(db, evaluation, figures),
    )


def _judge(db: Session, evaluation: Evaluation, figures: Figures) -> JudgeShown | None:
    newest = judging.newest(db, evaluation)
    if newest is None:
        return None
    return JudgeShown(
        model=newest.base_model.name,
        status=newest.status,
        reason=newest.reason,
        **(figures.judge or Judge()).model_dump(),
    )


def _count(tally: Tally) -> Count:
    return Count(**tally.model_dump(), num=tally.num)


def _rows(db: Session, evaluation: Evaluation, after: int, limit: int) -> EvaluationRows:
    found = reading.by_question(db, evaluation, after=after, limit=limit + 1)
    shown = [
        EvaluationRow(
            position=rows[0].question.position,
            part=rows[0].question.part,
            question=rows[0].asked.question,
            reference=rows[0].asked.answer,
            answers={
                row.answer.arm: ArmAnswer(
                    text=row.answer.text,
                    mark=row.mark,
                    why=row.answer.why,
                    by_person=row.answer.person_mark is not None,
                    judge=row.answer.judge_mark,
                )
                for row in rows
            },
        )
        for rows in found[:limit]
    ]
    return EvaluationRows(data=shown, has_more=len(found) > limit)
