"""the privacy gate: reviews, findings and the house's patterns"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "privacy_pattern",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("pattern", sa.String(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_pattern")),
    )
    op.create_table(
        "privacy_finding",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("text", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["dataset_version.id"],
            name=op.f("fk_privacy_finding_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "version_id", "index", "text", "start", name=op.f("pk_privacy_finding")
        ),
    )
    op.create_index(
        op.f("ix_privacy_finding_version_id_kind_key"),
        "privacy_finding",
        ["version_id", "kind", "key"],
    )
    op.create_table(
        "privacy_review",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "stated",
                "waiting",
                "scanning",
                "undecided",
                "requested",
                "replacing",
                "decided",
                "replaced",
                "failed",
                name="reviewstatus",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("found", json, nullable=True),
        sa.Column("num_examples", sa.Integer(), server_default="0", nullable=False),
        sa.Column("decision", json, nullable=True),
        sa.Column("is_stated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("decided_by_id", sa.Integer(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result_version_id", sa.Integer(), nullable=True),
        sa.Column("stand_ins", json, nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", json, nullable=True),
        sa.CheckConstraint(
            "(status IN ('scanning', 'replacing')) = (lease_until IS NOT NULL)",
            name=op.f("ck_privacy_review_lease"),
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["dataset_version.id"],
            name=op.f("fk_privacy_review_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["result_version_id"],
            ["dataset_version.id"],
            name=op.f("fk_privacy_review_result_version_id_dataset_version"),
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"],
            ["user_account.id"],
            name=op.f("fk_privacy_review_decided_by_id_user_account"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_review")),
        sa.UniqueConstraint("version_id", name=op.f("uq_privacy_review_version_id")),
    )
    op.create_index(op.f("ix_privacy_review_status"), "privacy_review", ["status"])
    # What is there already passes the gate like anything new.
    op.execute(
        """
        INSERT INTO privacy_review (version_id, status)
        SELECT version.id, 'waiting' FROM dataset_version AS version
        JOIN dataset ON dataset.id = version.dataset_id
        WHERE version.status = 'ready' AND dataset.deleted_at IS NULL
        """
    )


def downgrade() -> None:
    op.drop_table("privacy_review")
    op.drop_table("privacy_finding")
    op.drop_table("privacy_pattern")
