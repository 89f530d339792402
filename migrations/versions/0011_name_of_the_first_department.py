"""what the first department is called where nobody has named it"""

from collections.abc import Sequence

from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("UPDATE department SET name = 'Our organisation' WHERE name = 'Our house'")


def downgrade() -> None:
    op.execute("UPDATE department SET name = 'Our house' WHERE name = 'Our organisation'")
