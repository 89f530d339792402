"""The database's clock, the only one that decides who holds what and until when.

How long something takes on this machine is another matter: app/training/clock.py.
"""

from datetime import datetime

from sqlalchemy import DateTime, func, select
from sqlalchemy.orm import Session

# now() stands still in a transaction; leases need the clock.
NOW = func.clock_timestamp(type_=DateTime(timezone=True))


def read(db: Session) -> datetime:
    """Return what it says."""
    return db.execute(select(NOW)).scalar_one()
