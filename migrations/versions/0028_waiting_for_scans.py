"""jobs that wait for their data to be searched, and what jobs yielded that is deleted"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0028"
down_revision: str | None = "0027"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    no = sa.text("false")
    op.add_column("job", sa.Column("awaits_scan", sa.Boolean(), server_default=no, nullable=False))
    op.add_column("job", sa.Column("deleted_result", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "deleted_result")
    op.drop_column("job", "awaits_scan")
