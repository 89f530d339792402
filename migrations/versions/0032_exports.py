"""exports: an adapter in the forms that other programs open"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0032"
down_revision: str | None = "0031"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_STATUSES = ("waiting", "making", "ready", "failed", "cancelled", "gone")
_FORMS = ("adapter", "merged", "gguf", "gguf-merged", "ollama", "vllm")
_QUANTIZATIONS = ("as_trained", "bf16", "f16", "q8_0", "q4_k_m")


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "export",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("form", _enum("exportform", *_FORMS), nullable=False),
        sa.Column("quantization", _enum("quantization", *_QUANTIZATIONS), nullable=False),
        sa.Column("status", _enum("exportstatus", *_STATUSES), nullable=False),
        sa.Column("storage_key", sa.String(), nullable=True),
        sa.Column("filename", sa.String(), server_default="", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("agreement", json, server_default=sa.text("'[]'"), nullable=False),
        sa.Column("notes", json, server_default=sa.text("'[]'"), nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("kept_until", moment, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", json, nullable=True),
        sa.CheckConstraint(
            "(status = 'making') = (lease_until IS NOT NULL)", name=op.f("ck_export_lease")
        ),
        sa.CheckConstraint(
            "(status = 'ready') = (storage_key IS NOT NULL AND sha256 IS NOT NULL"
            " AND size_bytes IS NOT NULL AND kept_until IS NOT NULL)",
            name=op.f("ck_export_files"),
        ),
        sa.ForeignKeyConstraint(
            ["department_id"],
            ["department.id"],
            name=op.f("fk_export_department_id_department"),
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["user_account.id"], name=op.f("fk_export_owner_id_user_account")
        ),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["adapter.id"],
            name=op.f("fk_export_adapter_id_adapter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export")),
        sa.UniqueConstraint("public_id", name=op.f("uq_export_public_id")),
    )
    op.create_index(op.f("ix_export_adapter_id"), "export", ["adapter_id"])
    op.create_index(
        "uq_export_open",
        "export",
        ["adapter_id", "form", "quantization"],
        unique=True,
        postgresql_where=sa.text("status IN ('waiting', 'making', 'ready')"),
    )


def downgrade() -> None:
    op.drop_table("export")
