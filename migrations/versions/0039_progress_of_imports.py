"""the list of starting models hears how far an import is"""

from collections.abc import Sequence

from alembic import op

revision: str = "0039"
down_revision: str | None = "0038"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SHOWN = ("status", "reason", "deleted_at")


def _ring_at(columns: Sequence[str]) -> None:
    name = "base_model_tell_list_of_change"
    op.execute(f"DROP TRIGGER {name} ON base_model")
    old, new = (", ".join(f"{row}.{each}" for each in columns) for row in ("OLD", "NEW"))
    op.execute(
        f"CREATE TRIGGER {name} AFTER UPDATE OF {', '.join(columns)} ON base_model FOR EACH ROW "
        f"WHEN (ROW({old}) IS DISTINCT FROM ROW({new})) "
        "EXECUTE FUNCTION tell_list('models', 'none')"
    )


def upgrade() -> None:
    _ring_at((*_SHOWN, "progress"))


def downgrade() -> None:
    _ring_at(_SHOWN)
