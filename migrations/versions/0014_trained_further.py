"""jobs that start from an adapter, and which rows an adapter has practised"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for table in ("job", "adapter"):
        op.add_column(table, sa.Column("start_adapter_id", sa.Integer(), nullable=True))
        op.add_column(
            table,
            sa.Column(
                "lineage", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False
            ),
        )
        op.create_foreign_key(
            f"fk_{table}_start_adapter_id_adapter",
            table,
            "adapter",
            ["start_adapter_id"],
            ["id"],
            ondelete="SET NULL",
        )
        op.create_index(f"ix_{table}_start_adapter_id", table, ["start_adapter_id"])
    op.add_column("job", sa.Column("practised_before", postgresql.JSONB(), nullable=True))
    op.create_table(
        "practised_rows",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("fingerprints", sa.LargeBinary(), nullable=False),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["adapter.id"],
            name="fk_practised_rows_adapter_id_adapter",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter_id", name="pk_practised_rows"),
    )


def downgrade() -> None:
    op.drop_table("practised_rows")
    op.drop_column("job", "practised_before")
    for table in ("adapter", "job"):
        op.drop_index(f"ix_{table}_start_adapter_id", table)
        op.drop_constraint(f"fk_{table}_start_adapter_id_adapter", table, type_="foreignkey")
        op.drop_column(table, "lineage")
        op.drop_column(table, "start_adapter_id")
