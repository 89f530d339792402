"""What people and other programs are told."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models.base import Base, Json, enum_of, public_id


class NoticeKind(StrEnum):
    """What somebody is told; app/notices says to whom and in which words."""

    JOB_SUCCEEDED = "job_succeeded"
    JOB_FAILED = "job_failed"
    JOB_CANCELLED = "job_cancelled"  # by somebody else
    DECISION_NEEDED = "decision_needed"
    QUESTIONS_READY = "questions_ready"
    MACHINE_ILL = "machine_ill"
    NOT_DELIVERED = "not_delivered"
    ANSWER_REPORTED = "answer_reported"


class Channel(StrEnum):
    MAIL = "mail"
    WEBHOOK = "webhook"
    MLFLOW = "mlflow"


class Notice(Base):
    """One thing that one person is told; never with anything of what is in people's data."""

    __tablename__ = "notice"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    kind: Mapped[NoticeKind] = mapped_column(enum_of(NoticeKind))
    # What it is about, e.g. "job 7 failed": the same is told to the same person once.
    key: Mapped[str]
    title: Mapped[str]
    link: Mapped[str]  # a path of ours
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    read_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("user_id", "key"),
        Index("ix_notice_unread", "user_id", postgresql_where=text("read_at IS NULL")),
    )


class Webhook(Base):
    """An address of the site's own that hears of what happens; its secret is derived, not kept."""

    __tablename__ = "webhook"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    url: Mapped[str]
    # Raised to give it another secret.
    generation: Mapped[int] = mapped_column(default=1, server_default="1")
    # It was there before ETUDE_WEBHOOK_HOSTS, so it may still be inside the site's network.
    may_be_inside: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The last answer, for the page: "200", or what went wrong.
    last_answer: Mapped[str | None]
    last_at: Mapped[datetime | None]


class Outgoing(Base):
    """A mail or a call that is to leave, written in the transaction that it tells of."""

    __tablename__ = "outgoing"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # The same at every try, so that a receiver can tell a repetition.
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("msg"))
    channel: Mapped[Channel] = mapped_column(enum_of(Channel))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    webhook_id: Mapped[int | None] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    # Of which MLflow is told, bit by bit while it goes on.
    job_id: Mapped[int | None] = mapped_column(
        ForeignKey("job.id", ondelete="CASCADE"), unique=True
    )
    # The same is told to the same webhook once.
    key: Mapped[str | None]
    # mail: {"title", "link"}; webhook: what is sent, but for the id; mlflow: how far it got
    # (app/notices/mlflow.py).
    content: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    send_after: Mapped[datetime] = mapped_column(server_default=func.now())
    tries: Mapped[int] = mapped_column(default=0, server_default="0")
    last_error: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    gave_up_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("webhook_id", "key"),
        CheckConstraint("num_nonnulls(user_id, webhook_id, job_id) = 1", name="whom"),
        Index(
            "ix_outgoing_due",
            "send_after",
            postgresql_where=text("sent_at IS NULL AND gave_up_at IS NULL"),
        ),
    )
