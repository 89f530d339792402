"""why an adapter is released although it is not ready, what its card says, and whole files"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0021"
down_revision: str | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "adapter", sa.Column("release_reason", sa.String(), server_default="", nullable=False)
    )
    op.add_column("adapter", sa.Column("counted", sa.String(), server_default="", nullable=False))
    op.add_column(
        "evaluation",
        sa.Column("all_rows", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column(
        "evaluation",
        sa.Column(
            "also_asks",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("evaluation", "also_asks")
    op.drop_column("evaluation", "all_rows")
    op.drop_column("adapter", "counted")
    op.drop_column("adapter", "release_reason")
