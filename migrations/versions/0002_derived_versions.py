"""a version is its base plus what changed"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("dataset_version", sa.Column("layers", json, nullable=True))
    op.add_column("dataset_version", sa.Column("changes", json, nullable=True))
    op.add_column(
        "example",
        sa.Column("is_removed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    # A derived version gets all of its rows again.
    op.execute(
        """
        INSERT INTO example (version_id, index, split, kind, messages, flags)
        SELECT version.id, row.index, row.split, row.kind, row.messages, row.flags
        FROM dataset_version AS version CROSS JOIN LATERAL (
            SELECT DISTINCT ON (example.index) example.*
            FROM jsonb_array_elements_text(version.layers) AS layer
            JOIN example ON example.version_id = layer::integer
            ORDER BY example.index, example.version_id DESC
        ) AS row
        WHERE jsonb_typeof(version.layers) = 'array'
            AND row.version_id <> version.id AND NOT row.is_removed
        """
    )
    op.execute("DELETE FROM example WHERE is_removed")
    op.drop_column("example", "is_removed")
    op.drop_column("dataset_version", "changes")
    op.drop_column("dataset_version", "layers")
