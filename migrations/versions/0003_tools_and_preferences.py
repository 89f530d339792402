"""examples with tools, and pairs of a better and a worse answer"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KINDS = ("chat", "pair", "text")


def upgrade() -> None:
    json = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("example", sa.Column("tools", json, nullable=True))
    _restrict_kinds(*_KINDS, "preference")


def downgrade() -> None:
    # The better answer stays, as one that is learned.
    op.execute("UPDATE example SET kind = 'chat' WHERE kind = 'preference'")
    _restrict_kinds(*_KINDS)
    op.drop_column("example", "tools")


def _restrict_kinds(*kinds: str) -> None:
    op.drop_constraint(op.f("ck_example_examplekind"), "example", type_="check")
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f("ck_example_examplekind"), "example", f"kind IN ({allowed})")
