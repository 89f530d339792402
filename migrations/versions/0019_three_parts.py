"""rows are practice, check and test"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Versions that are there keep two parts: none of them gets a number.
    op.add_column("dataset_version", sa.Column("num_test", sa.Integer(), nullable=True))
    _restrict_splits("train", "validation", "test")


def downgrade() -> None:
    # The model learned neither: together they are the one set that is kept from practice.
    op.execute("UPDATE example SET split = 'validation' WHERE split = 'test'")
    op.execute(
        "UPDATE dataset_version SET num_validation = num_validation + num_test "
        "WHERE num_test IS NOT NULL"
    )
    _restrict_splits("train", "validation")
    op.drop_column("dataset_version", "num_test")


def _restrict_splits(*splits: str) -> None:
    op.drop_constraint(op.f("ck_example_split"), "example", type_="check")
    allowed = ", ".join(f"'{split}'" for split in splits)
    op.create_check_constraint(op.f("ck_example_split"), "example", f"split IN ({allowed})")
