"""The bin: what people delete and may have back for some days, unless the disk is short.

Rows of people (data, examples, conversations) never go here: they are erased at once. What is here
is shown, used and counted nowhere else; `app/jobs/bin.py` and `app/adapters/bin.py` put things in
and take them out, and the sweep erases what is over its time.
"""

import shutil
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement

from app.core import clock, settings
from app.core.errors import InBin
from app.core.models import Binned


def kept_until(row: Binned) -> datetime:
    """Return when something in the bin is erased."""
    assert row.binned_at is not None
    return row.binned_at + timedelta(days=settings.get().bin_days)


def is_over(table: type[Binned]) -> ColumnElement[bool]:
    """Select what has been in the bin for its time."""
    return table.binned_at < clock.NOW - timedelta(days=settings.get().bin_days)


def in_the_bin(name: str) -> InBin:
    """Return the error for what is asked for although it is in the bin."""
    return InBin(f"“{name}” is in the bin. Restore it there to use it again.")


def is_disk_short() -> bool:
    """Say whether the disk is about to have less room than always stays free."""
    chosen = settings.get()
    free: int = shutil.disk_usage(chosen.data_dir).free
    return free < 2 * chosen.disk_reserve_bytes
