"""models that judge, general questions of a department's own, and learning curves"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_PARTS = ("test", "practice", "unanswerable", "general")
_KINDS = ("tuned", "lookup")
_MARKS = "'right', 'partly', 'wrong', 'unsure'"


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=20)


def _key(
    table: str, column: str, other: str, on_delete: str | None = None
) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=on_delete)


def _allow(table: str, column: str, name: str, values: Sequence[str]) -> None:
    """Let a column of words hold these, and no others."""
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    words = ", ".join(f"'{value}'" for value in values)
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, f"{column} IN ({words})")


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    now, no, zero = sa.text("now()"), sa.text("false"), "0"
    op.create_table(
        "judging",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            _enum("judgingstatus", "waiting", "judging", "done", "failed", "cancelled"),
            nullable=False,
        ),
        sa.Column("all_answers", sa.Boolean(), server_default=no, nullable=False),
        sa.Column("overrules", sa.Boolean(), server_default=no, nullable=False),
        sa.Column("budget_seconds", sa.Float(), nullable=False),
        sa.Column("spent_seconds", sa.Float(), server_default=zero, nullable=False),
        sa.Column("num_answers", sa.Integer(), nullable=True),
        sa.Column("num_judged", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("engine", sa.String(), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("strikes", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "(status = 'judging') = (lease_until IS NOT NULL)", name=op.f("ck_judging_lease")
        ),
        _key("judging", "evaluation_id", "evaluation", "CASCADE"),
        _key("judging", "department_id", "department"),
        _key("judging", "owner_id", "user_account"),
        _key("judging", "base_model_id", "base_model"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judging")),
    )
    for column in ("evaluation_id", "status"):
        op.create_index(op.f(f"ix_judging_{column}"), "judging", [column], unique=False)
    op.add_column("evaluation_answer", sa.Column("judge_mark", sa.String(20), nullable=True))
    op.create_check_constraint(
        op.f("ck_evaluation_answer_judge_mark"),
        "evaluation_answer",
        f"judge_mark IN ({_MARKS})",
    )
    op.add_column(
        "evaluation_answer",
        sa.Column("judge_counts", sa.Boolean(), server_default=no, nullable=False),
    )
    op.create_table(
        "general_question",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        _key("general_question", "department_id", "department"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_general_question")),
    )
    op.create_index(
        op.f("ix_general_question_department_id"), "general_question", ["department_id"]
    )
    _allow("evaluation_question", "part", "part", (*_PARTS, "site"))
    _allow("adapter", "kind", "adapterkind", (*_KINDS, "alone"))
    op.add_column(
        "question_answer",
        sa.Column("sources", postgresql.JSONB(none_as_null=True), nullable=True),
    )
    op.create_table(
        "learning_curve",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("base_model_id", sa.Integer(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        _key("learning_curve", "department_id", "department"),
        _key("learning_curve", "owner_id", "user_account"),
        _key("learning_curve", "version_id", "dataset_version", "CASCADE"),
        _key("learning_curve", "base_model_id", "base_model"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_learning_curve")),
    )
    op.create_index(op.f("ix_learning_curve_version_id"), "learning_curve", ["version_id"])
    op.add_column(
        "job", sa.Column("rows_percent", sa.Integer(), server_default="100", nullable=False)
    )
    op.create_check_constraint(op.f("ck_job_rows_percent"), "job", "rows_percent BETWEEN 1 AND 100")
    op.add_column("job", sa.Column("curve_id", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk_job_curve_id_learning_curve"),
        "job",
        "learning_curve",
        ["curve_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index(op.f("ix_job_curve_id"), "job", ["curve_id"])


def downgrade() -> None:
    op.drop_column("question_answer", "sources")
    op.drop_index(op.f("ix_job_curve_id"), table_name="job")
    op.drop_constraint(op.f("fk_job_curve_id_learning_curve"), "job", type_="foreignkey")
    op.drop_column("job", "curve_id")
    op.drop_constraint(op.f("ck_job_rows_percent"), "job", type_="check")
    op.drop_column("job", "rows_percent")
    op.drop_table("learning_curve")
    # What is of a part that an older Etude does not know cannot be read by it.
    op.execute(
        "DELETE FROM evaluation_answer USING evaluation_question AS asked "
        "WHERE asked.evaluation_id = evaluation_answer.evaluation_id "
        "AND asked.position = evaluation_answer.position AND asked.part = 'site'"
    )
    op.execute("DELETE FROM evaluation_question WHERE part = 'site'")
    op.execute("DELETE FROM adapter WHERE kind = 'alone'")
    _allow("adapter", "kind", "adapterkind", _KINDS)
    _allow("evaluation_question", "part", "part", _PARTS)
    op.drop_table("general_question")
    op.drop_column("evaluation_answer", "judge_counts")
    op.drop_constraint(op.f("ck_evaluation_answer_judge_mark"), "evaluation_answer", type_="check")
    op.drop_column("evaluation_answer", "judge_mark")
    op.drop_table("judging")
