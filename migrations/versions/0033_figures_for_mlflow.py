"""what is to leave may be a job's figures, for the house's MLflow"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0033"
down_revision: str | None = "0032"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("outgoing", sa.Column("job_id", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk_outgoing_job_id_job"), "outgoing", "job", ["job_id"], ["id"], ondelete="CASCADE"
    )
    op.create_unique_constraint(op.f("uq_outgoing_job_id"), "outgoing", ["job_id"])
    _allow("num_nonnulls(user_id, webhook_id, job_id) = 1", "mail", "webhook", "mlflow")


def downgrade() -> None:
    op.execute("DELETE FROM outgoing WHERE channel = 'mlflow'")
    _allow("(user_id IS NULL) <> (webhook_id IS NULL)", "mail", "webhook")
    op.drop_constraint(op.f("uq_outgoing_job_id"), "outgoing", type_="unique")
    op.drop_constraint(op.f("fk_outgoing_job_id_job"), "outgoing", type_="foreignkey")
    op.drop_column("outgoing", "job_id")


def _allow(whom: str, *channels: str) -> None:
    allowed = ", ".join(f"'{channel}'" for channel in channels)
    for name, rule in (("channel", f"channel IN ({allowed})"), ("whom", whom)):
        op.drop_constraint(op.f(f"ck_outgoing_{name}"), "outgoing", type_="check")
        op.create_check_constraint(op.f(f"ck_outgoing_{name}"), "outgoing", rule)
