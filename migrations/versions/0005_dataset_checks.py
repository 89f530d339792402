"""what the dataset doctor finds, and what finds words among a million examples"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_VERSION = ["dataset_version.id"]


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    status = sa.Enum(
        "waiting",
        "checking",
        "done",
        "failed",
        name="checkstatus",
        native_enum=False,
        create_constraint=True,
        length=20,
    )
    op.create_table(
        "dataset_check",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("status", status, nullable=False),
        sa.Column("report", json, nullable=True),
        sa.Column("by_length", sa.LargeBinary(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", json, nullable=True),
        sa.CheckConstraint(
            "(status = 'checking') = (lease_until IS NOT NULL)", name=op.f("ck_dataset_check_lease")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            _VERSION,
            name=op.f("fk_dataset_check_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_check")),
        sa.UniqueConstraint("version_id", name=op.f("uq_dataset_check_version_id")),
    )
    op.create_index(op.f("ix_dataset_check_status"), "dataset_check", ["status"])
    # A page of examples by length reads a slice of it.
    op.execute("ALTER TABLE dataset_check ALTER COLUMN by_length SET STORAGE EXTERNAL")
    severity = sa.Enum(
        "bad", "warn", "note", name="severity", native_enum=False, create_constraint=True, length=20
    )
    op.create_table(
        "finding",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("severity", severity, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.Column("partners", sa.LargeBinary(), nullable=True),
        sa.Column("detail", json, nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            _VERSION,
            name=op.f("fk_finding_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "kind", name=op.f("pk_finding")),
    )
    op.create_table(
        "search_bits",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("blocks", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            _VERSION,
            name=op.f("fk_search_bits_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "bucket", name=op.f("pk_search_bits")),
    )
    # What is ready already is looked at as well.
    op.execute(
        """
        INSERT INTO dataset_check (version_id, status)
        SELECT version.id, 'waiting' FROM dataset_version AS version
        JOIN dataset ON dataset.id = version.dataset_id
        WHERE version.status = 'ready' AND dataset.deleted_at IS NULL ORDER BY version.id
        """
    )


def downgrade() -> None:
    op.drop_table("search_bits")
    op.drop_table("finding")
    op.drop_table("dataset_check")
