"""when a worker looked for personal details, or checked: people's data is looked at in turn"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0030"
down_revision: str | None = "0029"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TABLES = ("privacy_review", "dataset_check")


def upgrade() -> None:
    for table in _TABLES:
        moment = sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True)
        op.add_column(table, moment)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "claimed_at")
