"""who may ask an adapter, how much it is used, and what colleagues reported"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KINDS = (
    *("job_succeeded", "job_failed", "decision_needed", "questions_ready"),
    *("machine_ill", "not_delivered"),
)


def upgrade() -> None:
    _allow((*_KINDS, "answer_reported"))
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "adapter_use",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("num_asked", sa.Integer(), nullable=False),
        _of("adapter_use", "adapter_id", "adapter"),
        _of("adapter_use", "user_id", "user_account"),
        sa.PrimaryKeyConstraint("adapter_id", "user_id", "day", name=op.f("pk_adapter_use")),
    )
    op.create_table(
        "kept_question",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        _of("kept_question", "adapter_id", "adapter"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_question")),
    )
    op.create_index("ix_kept_question_adapter", "kept_question", ["adapter_id", "id"])
    op.create_table(
        "answer_report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("reporter_id", sa.Integer(), nullable=True),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("handled_at", moment, nullable=True),
        _of("answer_report", "adapter_id", "adapter"),
        _of("answer_report", "reporter_id", "user_account", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answer_report")),
    )
    op.create_index("ix_answer_report_adapter", "answer_report", ["adapter_id", "id"])
    release = sa.Enum(
        "private",
        "released",
        "withdrawn",
        name="release",
        native_enum=False,
        length=20,
        create_constraint=True,
    )
    op.add_column(
        "adapter", sa.Column("release", release, server_default="private", nullable=False)
    )
    for name in ("purpose", "limits"):
        op.add_column("adapter", sa.Column(name, sa.String(), server_default="", nullable=False))
    op.add_column(
        "adapter", sa.Column("asks_per_day", sa.Integer(), server_default="50", nullable=False)
    )
    op.add_column(
        "adapter",
        sa.Column("keeps_questions", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    for name in ("keeps_questions", "asks_per_day", "limits", "purpose"):
        op.drop_column("adapter", name)
    op.drop_column("adapter", "release")
    for table in ("answer_report", "kept_question", "adapter_use"):
        op.drop_table(table)
    op.execute("DELETE FROM notice WHERE kind = 'answer_reported'")
    _allow(_KINDS)


def _of(table: str, column: str, other: str, ondelete: str = "CASCADE") -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=ondelete)


def _allow(kinds: Sequence[str]) -> None:
    name = op.f("ck_notice_noticekind")
    op.drop_constraint(name, "notice", type_="check")
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(name, "notice", f"kind IN ({allowed})")
