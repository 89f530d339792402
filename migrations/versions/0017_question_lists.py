"""sheets of questions that an adapter answers row by row"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)


def _key(
    table: str, column: str, other: str, on_delete: str | None = None
) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=on_delete)


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    now = sa.text("now()")
    json = postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "question_list",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=True),
        sa.Column("adapter_name", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("sheet", sa.LargeBinary(), nullable=True),
        sa.Column(
            "status",
            _enum(
                "liststatus",
                "uploaded",
                "reading",
                "choosing",
                "waiting",
                "answering",
                "done",
                "failed",
                "cancelled",
            ),
            nullable=False,
        ),
        sa.Column("columns", json, server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("question_column", sa.Integer(), nullable=True),
        sa.Column("warnings", json, server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("beside_base", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("instruction", sa.String(), server_default="", nullable=False),
        sa.Column("temperature", sa.Float(), server_default="0", nullable=False),
        sa.Column("num_rows", sa.Integer(), server_default="0", nullable=False),
        sa.Column("num_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("downloaded_at", moment, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", json, nullable=True),
        sa.CheckConstraint(
            "(status IN ('reading', 'answering')) = (lease_until IS NOT NULL)",
            name=op.f("ck_question_list_lease"),
        ),
        _key("question_list", "department_id", "department"),
        _key("question_list", "owner_id", "user_account", "CASCADE"),
        _key("question_list", "adapter_id", "adapter", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_question_list")),
    )
    for columns in (["owner_id", "adapter_id"], ["status"], ["updated_at"]):
        name = op.f(f"ix_question_list_{'_'.join(columns)}")
        op.create_index(name, "question_list", columns, unique=False)
    op.create_table(
        "question_answer",
        sa.Column("list_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("cells", json, nullable=False),
        sa.Column("question", sa.String(), nullable=True),
        sa.Column("tuned", sa.String(), nullable=True),
        sa.Column("base", sa.String(), nullable=True),
        sa.Column("finish", _enum("finish", "stop", "length", "broken_off", "failed")),
        sa.Column("error", sa.String(), nullable=True),
        _key("question_answer", "list_id", "question_list", "CASCADE"),
        sa.PrimaryKeyConstraint("list_id", "index", name=op.f("pk_question_answer")),
    )


def downgrade() -> None:
    op.drop_table("question_answer")
    op.drop_table("question_list")
