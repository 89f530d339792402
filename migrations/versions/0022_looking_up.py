"""adapters without weights, which answer with rows of the data, and the rows of each answer"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_WEIGHTS = "(kind = 'tuned') = (storage_key IS NOT NULL AND manifest_sha256 IS NOT NULL)"


def upgrade() -> None:
    kind = sa.Enum(
        "tuned", "lookup", name="adapterkind", native_enum=False, create_constraint=False, length=20
    )
    op.add_column("adapter", sa.Column("kind", kind, server_default="tuned", nullable=False))
    op.create_check_constraint(
        op.f("ck_adapter_adapterkind"), "adapter", "kind IN ('tuned', 'lookup')"
    )
    op.add_column("adapter", sa.Column("lookup_version_id", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk_adapter_lookup_version_id_dataset_version"),
        "adapter",
        "dataset_version",
        ["lookup_version_id"],
        ["id"],
    )
    op.create_index(op.f("ix_adapter_lookup_version_id"), "adapter", ["lookup_version_id"])
    for column in ("storage_key", "manifest_sha256"):
        op.alter_column("adapter", column, existing_type=sa.String(), nullable=True)
    op.create_check_constraint(op.f("ck_adapter_weights"), "adapter", _WEIGHTS)
    op.create_check_constraint(
        op.f("ck_adapter_looks_up"), "adapter", "kind = 'tuned' OR lookup_version_id IS NOT NULL"
    )
    op.add_column(
        "conversation_answer",
        sa.Column("sources", postgresql.JSONB(none_as_null=True), nullable=True),
    )


def downgrade() -> None:
    op.drop_column("conversation_answer", "sources")
    # What has no weights cannot be kept in a table that asks for them.
    op.execute("DELETE FROM adapter WHERE kind = 'lookup'")
    for name in ("looks_up", "weights", "adapterkind"):
        op.drop_constraint(op.f(f"ck_adapter_{name}"), "adapter", type_="check")
    for column in ("manifest_sha256", "storage_key"):
        op.alter_column("adapter", column, existing_type=sa.String(), nullable=False)
    op.drop_index(op.f("ix_adapter_lookup_version_id"), table_name="adapter")
    op.drop_constraint(
        op.f("fk_adapter_lookup_version_id_dataset_version"), "adapter", type_="foreignkey"
    )
    op.drop_column("adapter", "lookup_version_id")
    op.drop_column("adapter", "kind")
