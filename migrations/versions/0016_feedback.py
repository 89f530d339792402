"""what people said of an adapter's answers, to be made into data"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("answer_id", sa.Integer(), nullable=True),
        sa.Column("author_id", sa.Integer(), nullable=True),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("is_follow_up", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("example_index", sa.Integer(), nullable=True),
        sa.Column("held_out_version_id", sa.Integer(), nullable=True),
        sa.Column("thumb", sa.Integer(), nullable=True),
        sa.Column("better", sa.String(), nullable=True),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("used_at", moment, nullable=True),
        sa.Column("used_version_id", sa.Integer(), nullable=True),
        sa.CheckConstraint("thumb IN (-1, 1)", name=op.f("ck_feedback_thumb")),
        _of("adapter_id", "adapter", "CASCADE"),
        _of("answer_id", "conversation_answer"),
        _of("author_id", "user_account"),
        _of("held_out_version_id", "dataset_version"),
        _of("used_version_id", "dataset_version"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sa.UniqueConstraint("answer_id", name=op.f("uq_feedback_answer_id")),
    )
    op.create_index(op.f("ix_feedback_adapter_id_id"), "feedback", ["adapter_id", "id"])


def downgrade() -> None:
    op.drop_table("feedback")


def _of(column: str, other: str, ondelete: str = "SET NULL") -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_feedback_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=ondelete)
