"""colleagues who say, without names, which of two answers is better"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ARMS = ("tuned", "base", "lookup", "nearest", "tuned_lookup")


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
    op.create_table(
        "vote_round",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("first_evaluation_id", sa.Integer(), nullable=False),
        sa.Column("first_arm", _enum("first_arm", *_ARMS), nullable=False),
        sa.Column("second_evaluation_id", sa.Integer(), nullable=False),
        sa.Column("second_arm", _enum("second_arm", *_ARMS), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("closed_at", moment, nullable=True),
        _key("vote_round", "department_id", "department"),
        _key("vote_round", "owner_id", "user_account"),
        _key("vote_round", "first_evaluation_id", "evaluation", "CASCADE"),
        _key("vote_round", "second_evaluation_id", "evaluation", "CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vote_round")),
    )
    for column in ("first_evaluation_id", "second_evaluation_id"):
        op.create_index(op.f(f"ix_vote_round_{column}"), "vote_round", [column], unique=False)
    op.create_table(
        "vote_pair",
        sa.Column("round_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("first_position", sa.Integer(), nullable=False),
        sa.Column("second_position", sa.Integer(), nullable=False),
        _key("vote_pair", "round_id", "vote_round", "CASCADE"),
        sa.PrimaryKeyConstraint("round_id", "number", name=op.f("pk_vote_pair")),
    )
    op.create_table(
        "vote",
        sa.Column("round_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("choice", _enum("choice", "first", "second", "both", "neither"), nullable=False),
        sa.Column("why", sa.String(), server_default="", nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.CheckConstraint("length(why) <= 2000", name=op.f("ck_vote_why")),
        sa.ForeignKeyConstraint(
            ["round_id", "number"],
            ["vote_pair.round_id", "vote_pair.number"],
            name=op.f("fk_vote_round_id_vote_pair"),
            ondelete="CASCADE",
        ),
        _key("vote", "user_id", "user_account", "CASCADE"),
        sa.PrimaryKeyConstraint("round_id", "number", "user_id", name=op.f("pk_vote")),
    )


def downgrade() -> None:
    op.drop_table("vote")
    op.drop_table("vote_pair")
    op.drop_table("vote_round")
