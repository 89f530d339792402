"""sessions that their owners see, tries counted in lanes, receivers that may be inside the network"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), server_default="", nullable=False)


def _no(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def upgrade() -> None:
    now = sa.text("now()")
    moment = sa.DateTime(timezone=True)
    op.add_column("web_session", sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False))
    op.create_unique_constraint(op.f("uq_web_session_id"), "web_session", ["id"])
    op.add_column(
        "web_session", sa.Column("last_used_at", moment, server_default=now, nullable=False)
    )
    op.add_column("web_session", _no("is_shared"))
    op.add_column("web_session", _text("browser"))
    op.add_column("sign_in_failure", _text("lane"))
    op.add_column("webhook", _no("may_be_inside"))
    # Nobody's receiver stops because the rule came later.
    op.execute("UPDATE webhook SET may_be_inside = true")


def downgrade() -> None:
    op.drop_column("webhook", "may_be_inside")
    op.drop_column("sign_in_failure", "lane")
    op.drop_constraint(op.f("uq_web_session_id"), "web_session", type_="unique")
    for column in ("browser", "is_shared", "last_used_at", "id"):
        op.drop_column("web_session", column)
