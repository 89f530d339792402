"""the line: shares, limits, hours, needs and offers, devices out of use"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_QUEUED = sa.text("status = 'queued'")
_INDEXES = {
    "ix_job_line": ["department_id", "priority", "id"],
    "ix_job_queued_version": ["version_id"],
    "ix_job_queued_validation": ["validation_version_id"],
    "ix_job_queued_model": ["base_model_id"],
}


def _moment(name: str) -> sa.Column[object]:
    kind = sa.DateTime(timezone=True)
    return sa.Column(name, kind, server_default=sa.text("now()"), nullable=False)


def upgrade() -> None:
    op.add_column(
        "department", sa.Column("used_seconds", sa.Float(), server_default="0", nullable=False)
    )
    op.add_column("department", _moment("used_at"))
    op.add_column("job", sa.Column("desired_by_id", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk_job_desired_by_id_user_account"), "job", "user_account", ["desired_by_id"], ["id"]
    )
    op.add_column("job", sa.Column("needs_bytes", sa.BigInteger(), nullable=True))
    op.add_column(
        "job", sa.Column("needs_devices", sa.Integer(), server_default="1", nullable=False)
    )
    for name, columns in _INDEXES.items():
        op.create_index(name, "job", columns, postgresql_where=_QUEUED)
    # What waits already has its plan.
    op.execute(
        "UPDATE job SET needs_bytes = (plan ->> 'peak_bytes')::bigint"
        " WHERE status IN ('queued', 'running') AND jsonb_typeof(plan -> 'peak_bytes') = 'number'"
    )
    json = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("worker", sa.Column("readings", json, nullable=True))
    op.create_table(
        "quarantined_device",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by_id", sa.Integer(), nullable=True),
        _moment("at"),
        sa.ForeignKeyConstraint(
            ["by_id"], ["user_account.id"], name=op.f("fk_quarantined_device_by_id_user_account")
        ),
        sa.PrimaryKeyConstraint("host", "device", name=op.f("pk_quarantined_device")),
    )
    op.create_table(
        "line_rule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("share", sa.Float(), server_default="1", nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.Column("month_hours", sa.Float(), nullable=True),
        sa.Column("opens", sa.Time(), nullable=True),
        sa.Column("closes", sa.Time(), nullable=True),
        sa.Column("weekends", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "(department_id IS NULL) <> (user_id IS NULL)", name=op.f("ck_line_rule_whose")
        ),
        sa.CheckConstraint("share > 0", name=op.f("ck_line_rule_share")),
        sa.CheckConstraint("(opens IS NULL) = (closes IS NULL)", name=op.f("ck_line_rule_hours")),
        sa.ForeignKeyConstraint(
            ["department_id"],
            ["department.id"],
            name=op.f("fk_line_rule_department_id_department"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_line_rule_user_id_user_account"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_line_rule")),
        sa.UniqueConstraint("department_id", name=op.f("uq_line_rule_department_id")),
        sa.UniqueConstraint("user_id", name=op.f("uq_line_rule_user_id")),
    )
    op.create_table(
        "device_use",
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_device_use_user_id_user_account"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["department_id"],
            ["department.id"],
            name=op.f("fk_device_use_department_id_department"),
        ),
        sa.PrimaryKeyConstraint("month", "user_id", "department_id", name=op.f("pk_device_use")),
    )


def downgrade() -> None:
    op.drop_table("device_use")
    op.drop_table("line_rule")
    op.drop_table("quarantined_device")
    op.drop_column("worker", "readings")
    for name in reversed(_INDEXES):
        op.drop_index(name, "job", postgresql_where=_QUEUED)
    op.drop_column("job", "needs_devices")
    op.drop_column("job", "needs_bytes")
    op.drop_constraint(op.f("fk_job_desired_by_id_user_account"), "job", type_="foreignkey")
    op.drop_column("job", "desired_by_id")
    op.drop_column("department", "used_at")
    op.drop_column("department", "used_seconds")
