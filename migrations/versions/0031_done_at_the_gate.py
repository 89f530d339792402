"""what was done at the privacy gate, by kind and action"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0031"
down_revision: str | None = "0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("privacy_review", sa.Column("done", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("privacy_review", "done")
