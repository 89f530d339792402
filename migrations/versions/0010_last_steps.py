"""which attempts have reported a step, and the last one"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("attempt", sa.Column("last_step", sa.Integer(), nullable=True))
    # Nobody knows any more which of the earlier ones came to a step: what has said anything may
    # have, and then nothing that an attempt before it left on a disk is taken over.
    op.execute("UPDATE attempt SET last_step = resume_step WHERE spool_offset > 0")


def downgrade() -> None:
    op.drop_column("attempt", "last_step")
