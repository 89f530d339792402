"""which questions of an evaluation are like a practice row"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0038"
down_revision: str | None = "0037"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("evaluation_question", sa.Column("is_like_practice", sa.Boolean(), nullable=True))


def downgrade() -> None:
    op.drop_column("evaluation_question", "is_like_practice")
