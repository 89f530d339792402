"""How many answers of a model are right: what is asked, what was answered, and each mark."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Json, Leased, enum_of, public_id
from app.core.models.base_models import BaseModel
from app.core.models.conversations import Finish
from app.core.models.datasets import DatasetVersion
from app.core.models.jobs import Adapter


class EvaluationStatus(StrEnum):
    """waiting -> evaluating -> done, failed or cancelled; `evaluation/evaluations.py` writes it."""

    WAITING = "waiting"
    EVALUATING = "evaluating"  # held by a worker under a lease
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Arm(StrEnum):
    """Who answers the same questions; the names are those of /v1 and of the command."""

    TUNED = "tuned"
    BASE = "base"
    LOOKUP = "lookup"  # the base with the practice rows in its prompt that are most alike
    NEAREST = "nearest"  # the answer of the practice row that is most alike, and no model
    TUNED_LOOKUP = "tuned_lookup"


class Part(StrEnum):
    """Where a question is from."""

    TEST = "test"
    PRACTICE = "practice"  # drawn from what was practised: are they known by heart?
    UNANSWERABLE = "unanswerable"  # the data has no answer to it
    GENERAL = "general"  # Etude's own: is something forgotten?
    SITE = "site"  # the same, of the department's own list


class Mark(StrEnum):
    RIGHT = "right"
    PARTLY = "partly"
    WRONG = "wrong"
    UNSURE = "unsure"  # for a person to check; counts as not right


class Standing(StrEnum):
    """The verdict: the first that fits, in this order (app/evaluation/verdict.py)."""

    TOO_FEW = "too_few"
    MEMORISED = "memorised"
    READY_FOR_TRIAL = "ready_for_trial"
    BETTER = "better"  # and not ready
    NO_BETTER = "no_better"
    LOSS_ALONE = "loss_alone"  # plain text: there is no right answer


class Evaluation(Leased, Base):
    """Questions of a version's test part, answered once by each arm; dies with the data."""

    __tablename__ = "evaluation"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("eval"))
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    # None: the starting model and looking up alone, before any training.
    adapter_id: Mapped[int | None] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    # Whose test rows are asked; and whose practice rows are looked up.
    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_version.id", ondelete="CASCADE"))
    practice_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE")
    )
    # All rows of that version are asked, and not its test part alone.
    all_rows: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    status: Mapped[EvaluationStatus] = mapped_column(
        enum_of(EvaluationStatus), default=EvaluationStatus.WAITING
    )
    # It follows its job on its own: the job's notice waits for it.
    follows_job: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    arms: Mapped[list[Any]] = mapped_column(JSONB)  # of Arm, in the order of the page
    # Of Part, beside the test questions: what the data cannot answer, and general questions.
    also_asks: Mapped[list[Any]] = mapped_column(
        JSONB, default=list, server_default=text("'[]'::jsonb")
    )
    seed: Mapped[int] = mapped_column(default=0, server_default="0")
    # How long it may take, as was said beforehand; and how long it has been at it so far.
    budget_seconds: Mapped[float]
    spent_seconds: Mapped[float] = mapped_column(default=0, server_default="0")
    num_rows: Mapped[int] = mapped_column(default=0, server_default="0")  # of the test part
    num_questions: Mapped[int] = mapped_column(default=0, server_default="0")  # drawn, all parts
    num_answered: Mapped[int] = mapped_column(default=0, server_default="0")  # by every arm
    engine: Mapped[str | None]
    # What was counted over it, when it was last counted (app/evaluation/verdict.py); marks by
    # people change it. None: nothing is counted yet.
    figures: Mapped[Json | None]
    standing: Mapped[Standing | None] = mapped_column(enum_of(Standing))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    adapter: Mapped[Adapter | None] = relationship()
    base_model: Mapped[BaseModel] = relationship()
    version: Mapped[DatasetVersion] = relationship(foreign_keys=[version_id])
    practice_version: Mapped[DatasetVersion | None] = relationship(
        foreign_keys=[practice_version_id]
    )
    __table_args__ = (
        CheckConstraint("(status = 'evaluating') = (lease_until IS NOT NULL)", name="lease"),
        Index(None, "adapter_id", "id"),
        Index(None, "version_id", "id"),
        Index(None, "practice_version_id"),
        Index(None, "status"),
    )


class EvaluationQuestion(Base):
    """One question, in the seeded order in which they are asked."""

    __tablename__ = "evaluation_question"
    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[Part] = mapped_column(enum_of(Part))
    # The example, of the version that its part belongs to; none: it is written out below.
    index: Mapped[int | None]
    # Questions of one group rise and fall together: the bootstrap draws groups.
    group: Mapped[int] = mapped_column(BigInteger)
    messages: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    reference: Mapped[str | None]
    # Whether a practice row is like it, kept when all are answered; none: it was not looked for.
    is_like_practice: Mapped[bool | None]


class EvaluationAnswer(Base):
    """What one arm said to one question, how the rules marked it, and what a person says of it."""

    __tablename__ = "evaluation_answer"
    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    arm: Mapped[Arm] = mapped_column(enum_of(Arm), primary_key=True)
    text: Mapped[str]
    finish: Mapped[Finish] = mapped_column(enum_of(Finish))
    sources: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))  # rows looked up
    mark: Mapped[Mark] = mapped_column(enum_of(Mark))
    why: Mapped[str]  # in a few words, e.g. "a time is missing"
    # What is wrong or missing: "time", "dose", "number", "name", "yes_no", …; none: nothing named.
    about: Mapped[str | None]
    person_mark: Mapped[Mark | None] = mapped_column(enum_of(Mark, "person_mark"))
    marked_by_id: Mapped[int | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="SET NULL")
    )
    marked_at: Mapped[datetime | None]
    # What a larger model says of it; UNSURE: nothing that can be read. None: it was not asked.
    judge_mark: Mapped[Mark | None] = mapped_column(enum_of(Mark, "judge_mark"))
    # Whether that counts, unless a person has marked it (app/evaluation/judging.py).
    judge_counts: Mapped[bool] = mapped_column(default=False, server_default="false")


class JudgingStatus(StrEnum):
    """waiting -> judging -> done, failed or cancelled; `evaluation/judging.py` writes it."""

    WAITING = "waiting"
    JUDGING = "judging"  # held by a worker under a lease
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Judging(Leased, Base):
    """Another model reads an evaluation's answers and marks them; dies with the evaluation."""

    __tablename__ = "judging"
    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("evaluation.id", ondelete="CASCADE"), index=True
    )
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    status: Mapped[JudgingStatus] = mapped_column(
        enum_of(JudgingStatus), default=JudgingStatus.WAITING, index=True
    )
    # All answers, and not those alone that the rules left open.
    all_answers: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    # Its marks count before those of the rules where these decided, too.
    overrules: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    budget_seconds: Mapped[float]
    spent_seconds: Mapped[float] = mapped_column(default=0, server_default="0")
    num_answers: Mapped[int | None]  # to be judged; none: nobody has counted yet
    num_judged: Mapped[int] = mapped_column(default=0, server_default="0")
    engine: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    evaluation: Mapped[Evaluation] = relationship()
    base_model: Mapped[BaseModel] = relationship()
    __table_args__ = (
        CheckConstraint("(status = 'judging') = (lease_until IS NOT NULL)", name="lease"),
    )


class GeneralQuestion(Base):
    """A question that a department's models are to answer after training as well as before."""

    __tablename__ = "general_question"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"), index=True)
    question: Mapped[str]
    answer: Mapped[str]  # the right one
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LearningCurve(Base):
    """Short jobs on parts of a version's practice rows: would more rows help?"""

    __tablename__ = "learning_curve"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), index=True
    )
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[DatasetVersion] = relationship()
    base_model: Mapped[BaseModel] = relationship()
