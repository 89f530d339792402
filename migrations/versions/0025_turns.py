"""when a worker took a file or a sheet: people's are read in turn"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0025"
down_revision: str | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TABLES = ("dataset_version", "question_list")


def upgrade() -> None:
    for table in _TABLES:
        moment = sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True)
        op.add_column(table, moment)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "claimed_at")
