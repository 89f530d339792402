"""Slack's export: a ZIP with a folder for each channel, and in it a JSON file for each day."""

import json
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from app.datasets.readers import team_chats
from app.datasets.readers.archives import PassedOver, damaged, shown
from app.datasets.readers.chats import Said
from app.datasets.readers.files import Entry
from app.datasets.readers.unreadable import Unreadable

_MAX_FILE_BYTES = 64 * 1024**2


def is_export(entries: list[Entry]) -> bool:
    """Tell an export by its list of users beside folders of channels."""
    names = {entry.info.filename for entry in entries}
    return any(name.rpartition("/")[2] == "users.json" for name in names) and any(
        _channel(entry) for entry in entries
    )


def unread(entries: list[Entry]) -> list[PassedOver]:
    """Return the files that have no messages."""
    return [
        PassedOver(shown(entry.info.filename), "about the channels")
        for entry in entries
        if not _channel(entry) and not entry.info.filename.endswith("users.json")
    ]


def messages(entries: list[Entry]) -> Iterator[Said]:
    """Yield the messages, channel by channel and day by day.

    Raises:
        Unreadable: a file is no JSON, or too long.
    """
    users: dict[str, str] = {}
    for entry in entries:
        if entry.info.filename.endswith("users.json"):
            users |= team_chats.slack_users(_rows(entry))
    number = 0
    for entry in entries:
        if channel := _channel(entry):
            rows = [row for row in _rows(entry) if team_chats.is_slack(row)]
            for row in sorted(rows, key=lambda row: str(row["ts"])):
                number += 1
                yield team_chats.slack_said(number, row, users, channel)


def _channel(entry: Entry) -> str:
    """Return the channel whose day a file has; nothing if it is another file."""
    folder, _, name = entry.info.filename.rpartition("/")
    day = name.removesuffix(".json")
    is_day = len(day) == 10 and day[4::3] == "--" and day.replace("-", "").isdecimal()
    return folder.rpartition("/")[2] if folder and name.endswith(".json") and is_day else ""


def _rows(entry: Entry) -> list[dict[str, Any]]:
    name = shown(entry.info.filename)
    if entry.size_bytes > _MAX_FILE_BYTES:
        raise Unreadable(
            f"“{name}” in this Slack export has more than {_MAX_FILE_BYTES / 1e6:,.0f} MB; export "
            "fewer channels or a shorter span of time."
        )
    try:
        with entry.open() as file:
            value = json.loads(file.read())
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise damaged(name) from None
    except (ValueError, RecursionError):
        raise Unreadable(
            f"“{name}” in this Slack export is not valid JSON; export it again from Slack, then "
            "upload it again."
        ) from None
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
