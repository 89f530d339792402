"""What every reader raises."""


class Unreadable(Exception):
    """The file cannot be read; the message says in one sentence what, where and what to do."""
