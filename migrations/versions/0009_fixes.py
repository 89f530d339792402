"""findings that a worker puts right"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_STATUSES = ("waiting", "working", "done", "failed")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    status = sa.Enum(
        *_STATUSES, name="fixstatus", native_enum=False, create_constraint=True, length=20
    )
    op.create_table(
        "fix_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("status", status, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("fix", sa.String(), nullable=False),
        sa.Column("result_version_id", sa.Integer(), nullable=True),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        _number("attempt"),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        _number("strikes"),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "(status = 'working') = (lease_until IS NOT NULL)", name=op.f("ck_fix_run_lease")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["dataset_version.id"],
            name=op.f("fk_fix_run_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["user_account.id"], name=op.f("fk_fix_run_owner_id_user_account")
        ),
        sa.ForeignKeyConstraint(
            ["result_version_id"],
            ["dataset_version.id"],
            name=op.f("fk_fix_run_result_version_id_dataset_version"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fix_run")),
    )
    op.create_index(op.f("ix_fix_run_version_id"), "fix_run", ["version_id"])
    op.create_index(
        "uq_fix_run_open",
        "fix_run",
        ["version_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('waiting', 'working')"),
    )


def downgrade() -> None:
    op.drop_table("fix_run")
