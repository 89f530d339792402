"""a bin for jobs and adapters, and what their lists are read by"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0037"
down_revision: str | None = "0035"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# By table: its list, and what of it the list shows (0034 made the triggers without the bin).
_LISTS = {
    "job": ("jobs", ("status", "desired", "phase", "step", "name")),
    "adapter": ("adapters", ("name", "release")),
}


def _ring_at(table: str, noun: str, columns: Sequence[str]) -> None:
    name = f"{table}_tell_list_of_change"
    op.execute(f"DROP TRIGGER {name} ON {table}")
    old, new = (", ".join(f"{row}.{each}" for each in columns) for row in ("OLD", "NEW"))
    op.execute(
        f"CREATE TRIGGER {name} AFTER UPDATE OF {', '.join(columns)} ON {table} FOR EACH ROW "
        f"WHEN (ROW({old}) IS DISTINCT FROM ROW({new})) "
        f"EXECUTE FUNCTION tell_list('{noun}', 'own')"
    )


def upgrade() -> None:
    for table, (noun, columns) in _LISTS.items():
        op.add_column(table, sa.Column("binned_at", sa.DateTime(timezone=True), nullable=True))
        op.add_column(table, sa.Column("binned_by_id", sa.Integer(), nullable=True))
        op.create_foreign_key(
            op.f(f"fk_{table}_binned_by_id_user_account"),
            table,
            "user_account",
            ["binned_by_id"],
            ["id"],
        )
        op.create_index(
            f"ix_{table}_list",
            table,
            ["department_id", "id"],
            postgresql_where=sa.text("binned_at IS NULL"),
        )
        op.create_index(
            f"ix_{table}_own",
            table,
            ["owner_id", "id"],
            postgresql_where=sa.text("binned_at IS NULL"),
        )
        op.create_index(
            f"ix_{table}_binned",
            table,
            ["binned_at"],
            postgresql_where=sa.text("binned_at IS NOT NULL"),
        )
        _ring_at(table, noun, (*columns, "binned_at"))
    # Of each dataset its newest job, and what was made of it.
    op.create_index(op.f("ix_job_version_id"), "job", ["version_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_job_version_id"), table_name="job")
    for table, (noun, columns) in _LISTS.items():
        _ring_at(table, noun, columns)
        # What is in the bin was deleted; without one it is gone.
        binned = sa.table(table, sa.column("binned_at"))
        op.execute(sa.delete(binned).where(binned.c.binned_at.is_not(None)))
        op.drop_index(f"ix_{table}_binned", table_name=table)
        op.drop_index(f"ix_{table}_own", table_name=table)
        op.drop_index(f"ix_{table}_list", table_name=table)
        op.drop_constraint(op.f(f"fk_{table}_binned_by_id_user_account"), table, type_="foreignkey")
        op.drop_column(table, "binned_by_id")
        op.drop_column(table, "binned_at")
