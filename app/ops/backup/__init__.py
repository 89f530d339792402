"""Database and files of one moment in one file, taken while everything runs; and back again.

take.py     the backup: a snapshot of the database, and the files that its rows point to
file_holds.py keeps those files from vanishing until they are copied
bundle.py   the file: a tar whose last members name every other one with its SHA-256
nightly.py  one every night, and the oldest removed
tables.py   rows out and in by COPY, whatever the version of PostgreSQL
restore.py  into an empty site; jobs that ran go back in the queue
"""

from app.ops.backup.restore import restore
from app.ops.backup.take import take

__all__ = ["restore", "take"]
