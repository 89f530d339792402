"""Words in columns that processes without a database say, too.

A child that looks at people's rows starts for each file and each check. With the tables, and all
that they bring along, that takes twice as long.
"""

from enum import StrEnum


class ExampleKind(StrEnum):
    CHAT = "chat"
    PAIR = "pair"
    TEXT = "text"
    PREFERENCE = "preference"


class Severity(StrEnum):
    """How much a finding matters, the worst first."""

    BAD = "bad"
    WARN = "warn"
    NOTE = "note"
