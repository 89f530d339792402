"""questions that a model makes up to the texts of a version, and what people say of each"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_STATUSES = ("waiting", "asking", "done", "cancelled", "failed")


_KINDS = ("job_succeeded", "job_failed", "decision_needed", "machine_ill", "not_delivered")


def _restrict_kinds(*kinds: str) -> None:
    name = op.f("ck_notice_noticekind")
    op.drop_constraint(name, "notice", type_="check")
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(name, "notice", f"kind IN ({allowed})")


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "asking",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column("status", _enum("askingstatus", *_STATUSES), nullable=False),
        sa.Column("per_passage", sa.Integer(), nullable=False),
        sa.Column("max_pairs", sa.Integer(), nullable=False),
        _number("seed"),
        _number("num_passages"),
        _number("num_pairs"),
        sa.Column("refused", json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        _number("attempt"),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        _number("strikes"),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", json, nullable=True),
        sa.CheckConstraint(
            "(status = 'asking') = (lease_until IS NOT NULL)", name=op.f("ck_asking_lease")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["dataset_version.id"],
            name=op.f("fk_asking_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["user_account.id"], name=op.f("fk_asking_owner_id_user_account")
        ),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_model.id"], name=op.f("fk_asking_base_model_id_base_model")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asking")),
    )
    op.create_index(op.f("ix_asking_version_id"), "asking", ["version_id"])
    op.create_index(
        "uq_asking_open",
        "asking",
        ["version_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('waiting', 'asking')"),
    )
    op.create_table(
        "proposed_pair",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("asking_id", sa.Integer(), nullable=False),
        sa.Column("example_index", sa.Integer(), nullable=False),
        sa.Column("heading", sa.String(), nullable=False),
        sa.Column("passage", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("verdict", _enum("verdict", "open", "accepted", "refused"), nullable=False),
        sa.Column("is_edited", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("decided_by_id", sa.Integer(), nullable=True),
        sa.Column("decided_at", moment, nullable=True),
        sa.ForeignKeyConstraint(
            ["asking_id"],
            ["asking.id"],
            name=op.f("fk_proposed_pair_asking_id_asking"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"],
            ["user_account.id"],
            name=op.f("fk_proposed_pair_decided_by_id_user_account"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposed_pair")),
    )
    op.create_index(op.f("ix_proposed_pair_asking_id"), "proposed_pair", ["asking_id"])
    _restrict_kinds(*_KINDS, "questions_ready")


def downgrade() -> None:
    op.execute("DELETE FROM notice WHERE kind = 'questions_ready'")
    _restrict_kinds(*_KINDS)
    op.drop_table("proposed_pair")
    op.drop_table("asking")
