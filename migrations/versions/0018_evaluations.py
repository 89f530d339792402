"""how many answers of a model are right"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ARMS = ("tuned", "base", "lookup", "nearest", "tuned_lookup")
_MARKS = ("right", "partly", "wrong", "unsure")
_STANDINGS = ("too_few", "memorised", "ready_for_trial", "better", "no_better", "loss_alone")


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)


def _key(
    table: str, column: str, other: str, on_delete: str | None = None
) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=on_delete)


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    json = postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=True),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("practice_version_id", sa.Integer(), nullable=True),
        sa.Column(
            "status",
            _enum("evaluationstatus", "waiting", "evaluating", "done", "failed", "cancelled"),
            nullable=False,
        ),
        sa.Column("follows_job", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("arms", json, nullable=False),
        sa.Column("seed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("budget_seconds", sa.Float(), nullable=False),
        sa.Column("spent_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("num_rows", sa.Integer(), server_default="0", nullable=False),
        sa.Column("num_questions", sa.Integer(), server_default="0", nullable=False),
        sa.Column("num_answered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("engine", sa.String(), nullable=True),
        sa.Column("figures", json, nullable=True),
        sa.Column("standing", _enum("standing", *_STANDINGS), nullable=True),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", moment, nullable=True),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", json, nullable=True),
        sa.CheckConstraint(
            "(status = 'evaluating') = (lease_until IS NOT NULL)", name=op.f("ck_evaluation_lease")
        ),
        _key("evaluation", "department_id", "department"),
        _key("evaluation", "owner_id", "user_account"),
        _key("evaluation", "adapter_id", "adapter", "CASCADE"),
        _key("evaluation", "base_model_id", "base_model"),
        _key("evaluation", "version_id", "dataset_version", "CASCADE"),
        _key("evaluation", "practice_version_id", "dataset_version", "CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
        sa.UniqueConstraint("public_id", name=op.f("uq_evaluation_public_id")),
    )
    for columns in (
        ["adapter_id", "id"],
        ["version_id", "id"],
        ["practice_version_id"],
        ["status"],
    ):
        name = op.f(f"ix_evaluation_{'_'.join(columns)}")
        op.create_index(name, "evaluation", columns, unique=False)
    op.create_table(
        "evaluation_question",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column(
            "part", _enum("part", "test", "practice", "unanswerable", "general"), nullable=False
        ),
        sa.Column("index", sa.Integer(), nullable=True),
        sa.Column("group", sa.BigInteger(), nullable=False),
        sa.Column("messages", json, nullable=True),
        sa.Column("reference", sa.String(), nullable=True),
        _key("evaluation_question", "evaluation_id", "evaluation", "CASCADE"),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name=op.f("pk_evaluation_question")),
    )
    op.create_table(
        "evaluation_answer",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("arm", _enum("arm", *_ARMS), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column(
            "finish", _enum("finish", "stop", "length", "broken_off", "failed"), nullable=False
        ),
        sa.Column("sources", json, nullable=True),
        sa.Column("mark", _enum("mark", *_MARKS), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=True),
        sa.Column("person_mark", _enum("person_mark", *_MARKS), nullable=True),
        sa.Column("marked_by_id", sa.Integer(), nullable=True),
        sa.Column("marked_at", moment, nullable=True),
        _key("evaluation_answer", "evaluation_id", "evaluation", "CASCADE"),
        _key("evaluation_answer", "marked_by_id", "user_account", "SET NULL"),
        sa.PrimaryKeyConstraint(
            "evaluation_id", "position", "arm", name=op.f("pk_evaluation_answer")
        ),
    )


def downgrade() -> None:
    op.drop_table("evaluation_answer")
    op.drop_table("evaluation_question")
    op.drop_table("evaluation")
