"""what processes have tried to reach beyond their machine"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0027"
down_revision: str | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    now = sa.text("now()")
    op.create_table(
        "outbound_count",
        sa.Column("process", sa.String(), nullable=False),
        sa.Column("allowed", postgresql.JSONB(), nullable=False),
        sa.Column("unexpected", postgresql.JSONB(), nullable=False),
        sa.Column("started_at", moment, server_default=now, nullable=False),
        sa.Column("seen_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("process", name=op.f("pk_outbound_count")),
    )


def downgrade() -> None:
    op.drop_table("outbound_count")
