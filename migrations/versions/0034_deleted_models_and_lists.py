"""deleted starting models, notices of cancelled jobs, and a bell for whoever watches a list"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0034"
down_revision: str | None = "0033"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KINDS = (
    "job_succeeded",
    "job_failed",
    "decision_needed",
    "questions_ready",
    "machine_ill",
    "not_delivered",
    "answer_reported",
)
# By table: whose list it stands in, how its department is found, and what of it a list shows.
_LISTS = {
    "dataset": ("data", "own", ("name", "deleted_at")),
    "dataset_version": ("data", "dataset", ("status",)),
    "privacy_review": ("data", "version", ("status",)),
    "job": ("jobs", "own", ("status", "desired", "phase", "step", "name")),
    "adapter": ("adapters", "own", ("name", "release")),
    "base_model": ("models", "none", ("status", "reason", "deleted_at")),
}


def _allow(kinds: Sequence[str]) -> None:
    name = op.f("ck_notice_noticekind")
    op.drop_constraint(name, "notice", type_="check")
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(name, "notice", f"kind IN ({allowed})")


def upgrade() -> None:
    op.add_column("base_model", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    _allow((*_KINDS, "job_cancelled"))
    op.execute(
        """
        CREATE FUNCTION tell_list() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            changed record;
            department integer := 0;
        BEGIN
            IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
            IF TG_ARGV[1] = 'own' THEN
                department := changed.department_id;
            ELSIF TG_ARGV[1] = 'dataset' THEN
                SELECT d.department_id INTO department
                FROM dataset d WHERE d.id = changed.dataset_id;
            ELSIF TG_ARGV[1] = 'version' THEN
                SELECT d.department_id INTO department
                FROM dataset_version v JOIN dataset d ON d.id = v.dataset_id
                WHERE v.id = changed.version_id;
            END IF;
            PERFORM pg_notify('etude', 'list:' || TG_ARGV[0] || ':' || coalesce(department, 0));
            RETURN NULL;
        END $$
        """
    )
    for table, (noun, found, columns) in _LISTS.items():
        told = f"EXECUTE FUNCTION tell_list('{noun}', '{found}')"
        op.execute(
            f"CREATE TRIGGER {table}_tell_list AFTER INSERT OR DELETE ON {table} "
            f"FOR EACH ROW {told}"
        )
        old, new = (", ".join(f"{row}.{name}" for name in columns) for row in ("OLD", "NEW"))
        op.execute(
            f"CREATE TRIGGER {table}_tell_list_of_change AFTER UPDATE OF {', '.join(columns)} "
            f"ON {table} FOR EACH ROW WHEN (ROW({old}) IS DISTINCT FROM ROW({new})) {told}"
        )


def downgrade() -> None:
    for table in _LISTS:
        op.execute(f"DROP TRIGGER {table}_tell_list_of_change ON {table}")
        op.execute(f"DROP TRIGGER {table}_tell_list ON {table}")
    op.execute("DROP FUNCTION tell_list()")
    op.execute("DELETE FROM notice WHERE kind = 'job_cancelled'")
    _allow(_KINDS)
    op.execute("UPDATE base_model SET name = name || '-' || id WHERE deleted_at IS NOT NULL")
    op.drop_column("base_model", "deleted_at")
