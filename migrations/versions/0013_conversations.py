"""what people ask an adapter and what it answers"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)


def _key(table: str, column: str, other: str, on_delete: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=on_delete)


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    now = sa.text("now()")
    op.create_table(
        "conversation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("beside", _enum("beside", "base", "adapter", "nobody"), nullable=False),
        sa.Column("beside_adapter_id", sa.Integer(), nullable=True),
        sa.Column("instruction", sa.String(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        _key("conversation", "owner_id", "user_account", "CASCADE"),
        _key("conversation", "adapter_id", "adapter", "CASCADE"),
        _key("conversation", "beside_adapter_id", "adapter", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation")),
    )
    for columns in (["owner_id", "adapter_id", "updated_at"], ["updated_at"]):
        name = op.f(f"ix_conversation_{'_'.join(columns)}")
        op.create_index(name, "conversation", columns)
    op.create_table(
        "conversation_turn",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("conversation_id", sa.Integer(), nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("example_index", sa.Integer(), nullable=True),
        sa.Column("nearest_index", sa.Integer(), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        _key("conversation_turn", "conversation_id", "conversation", "CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation_turn")),
    )
    op.create_index(
        op.f("ix_conversation_turn_conversation_id"), "conversation_turn", ["conversation_id"]
    )
    op.create_table(
        "conversation_answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("turn_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("is_base", sa.Boolean(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=True),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("text", sa.String(), server_default="", nullable=False),
        sa.Column(
            "finish", _enum("finish", "stop", "length", "broken_off", "failed"), nullable=True
        ),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("num_tokens", sa.Integer(), nullable=True),
        sa.Column("thumb", sa.Integer(), nullable=True),
        sa.Column("better", sa.String(), nullable=True),
        sa.Column("judged_at", moment, nullable=True),
        sa.CheckConstraint("thumb IN (-1, 1)", name=op.f("ck_conversation_answer_thumb")),
        _key("conversation_answer", "turn_id", "conversation_turn", "CASCADE"),
        _key("conversation_answer", "adapter_id", "adapter", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation_answer")),
        sa.UniqueConstraint("turn_id", "place", name=op.f("uq_conversation_answer_turn_id_place")),
    )


def downgrade() -> None:
    op.drop_table("conversation_answer")
    op.drop_table("conversation_turn")
    op.drop_table("conversation")
