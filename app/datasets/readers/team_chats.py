"""Exports of Teams and Slack: tables and JSON of messages -> messages by speaker and thread."""

import datetime
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from app.datasets.column_names import plain
from app.datasets.mapping import LeftOut
from app.datasets.readers import fragments
from app.datasets.readers.chats import Conversations, Said, seconds_of
from app.datasets.readers.grids import Seen

Row = dict[str, Any]

# --- tables ----------------------------------------------------------------------------------

# Compared by plain(), as names of columns are everywhere.
_SENDERS = frozenset(
    {"sender", "from", "author", "sender_name", "from_name", "sender_display_name", "user"}
)
_TEXTS = frozenset({"content", "body", "message", "text", "message_text", "message_body"})
_TIMES = frozenset(
    {"sent_time", "created_date_time", "sent_date_time", "sent_at", "message_time"}
    | {"created_time", "original_arrival_time"}
)
_DATES = frozenset({"date", "time", "timestamp", "datetime", "date_time"})
_THREADS = frozenset(
    {"thread", "thread_id", "conversation_id", "chat_id", "channel", "channel_name", "chat"}
)
_ASKED = frozenset({"question", "answer", "prompt", "completion"})


class ChatColumns(NamedTuple):
    """The columns of a table that has a chat; `thread` may be missing."""

    speaker: str
    text: str
    time: str
    thread: str | None


def chat_columns(columns: Iterable[str]) -> ChatColumns | None:
    """Find the columns of an exported chat: who, what and when, and in which thread."""
    by_plain: dict[str, str] = {}
    for name in columns:
        by_plain.setdefault(plain(name), name)

    def only(names: frozenset[str]) -> str | None:
        found = [by_plain[name] for name in names & by_plain.keys()]
        return found[0] if len(found) == 1 else None

    speaker, text, thread = only(_SENDERS), only(_TEXTS), only(_THREADS)
    # A plain date may be anything's; the time of a message is what chats have.
    time = only(_TIMES) or (only(_DATES) if not by_plain.keys() & _THREADS else None)
    if speaker is None or text is None or time is None or by_plain.keys() & _ASKED:
        return None
    return ChatColumns(speaker, text, time, thread)


def table_columns(columns: Iterable[str], chat: ChatColumns) -> list[str]:
    """Return the columns of the rows that `table_rows` yields."""
    return ["conversation", *(name for name in columns if name != chat.thread)]


def table_rows(
    rows: Iterator[tuple[int, Row | LeftOut]], chat: ChatColumns, pause_minutes: int, seen: Seen
) -> Iterator[tuple[int, Row | LeftOut]]:
    """Say of each row to which conversation it belongs, and show its text as it was seen."""
    conversations = Conversations(pause_minutes)
    for number, row in rows:
        if isinstance(row, LeftOut):
            yield number, row
            continue
        thread = str(row.get(chat.thread) or "") if chat.thread else ""
        name = conversations.of(thread, seconds_of(row.get(chat.time)))
        text = row.get(chat.text)
        if isinstance(text, str) and fragments.is_marked_up(text):
            text = fragments.seen_text(text, seen, number)
        kept = {name: value for name, value in row.items() if name != chat.thread}
        yield number, {"conversation": name, **kept, chat.text: text}


# --- JSON ------------------------------------------------------------------------------------

# What Slack itself writes into a channel.
_SLACK_NOTICES = re.compile(
    r"(channel|group)_(join|leave|topic|purpose|name|archive|unarchive|convert\w*)|pinned_item"
    r"|bot_add|bot_remove|reminder_add|huddle_thread|tombstone|sh_room_created"
)
_SLACK_LINK = re.compile(r"<([^<>|]{1,2000})(?:\|([^<>]{0,2000}))?>")


def is_slack(row: Row) -> bool:
    """Tell a message of Slack's export."""
    return row.get("type") == "message" and isinstance(row.get("ts"), str) and "text" in row


def is_teams(row: Row) -> bool:
    """Tell a message as Microsoft Graph writes it."""
    return isinstance(row.get("body"), dict) and "createdDateTime" in row and "from" in row


def slack_said(number: int, row: Row, users: Mapping[str, str], channel: str = "") -> Said:
    """Read a message of Slack's; replies belong to their thread, all others to the channel."""
    when = seconds_of(row.get("ts"))
    profile = row.get("user_profile")
    names = (
        [profile.get(key) for key in ("display_name", "real_name", "name")]
        if isinstance(profile, dict)
        else []
    )
    user = str(row.get("user") or row.get("bot_id") or "")
    who = next((str(n) for n in [*names, row.get("username"), users.get(user)] if n), user)
    text = _slack_text(str(row.get("text") or ""), users)
    is_threaded = row.get("thread_ts") and (
        row.get("thread_ts") != row.get("ts") or row.get("reply_count")
    )
    thread = f"{channel} {row['thread_ts']}".strip() if is_threaded else channel
    left_out = ""
    if _SLACK_NOTICES.fullmatch(str(row.get("subtype") or "")):
        left_out = "notice"
    elif not text.strip():
        left_out = "not_text" if row.get("files") or row.get("attachments") else "notice"
    # The same second as in the file: a pause within a thread is none.
    seconds = None if is_threaded else when
    return Said(number, who, text, seconds, _date(when), left_out, thread)


def slack_users(rows: Iterable[Row]) -> dict[str, str]:
    """Return the names of Slack's users by their ids."""
    users = {}
    for row in rows:
        profile = row.get("profile") if isinstance(row.get("profile"), dict) else {}
        assert isinstance(profile, dict)
        names = (profile.get("display_name"), row.get("real_name"), row.get("name"))
        if isinstance(row.get("id"), str) and (name := next(filter(None, names), None)):
            users[row["id"]] = str(name)
    return users


def _slack_text(text: str, users: Mapping[str, str]) -> str:
    def shown(link: re.Match[str]) -> str:
        target, label = link[1], link[2]
        if target.startswith("@"):
            return f"@{label or users.get(target[1:], target[1:])}"
        if target.startswith(("#", "!")):
            return f"{target[0].replace('!', '@')}{label or target[1:]}"
        return label or target.removeprefix("mailto:")

    return html.unescape(_SLACK_LINK.sub(shown, text)).strip()


def teams_said(number: int, row: Row, seen: Seen) -> Iterator[Said]:
    """Read a message of Teams as Microsoft Graph writes it, and the replies within it."""
    yield _teams_message(number, row, seen)
    replies = row.get("replies")
    for reply in replies if isinstance(replies, list) else []:
        if isinstance(reply, dict) and is_teams(reply):
            yield _teams_message(number, {"replyToId": row.get("id"), **reply}, seen)


def _teams_message(number: int, row: Row, seen: Seen) -> Said:
    when = seconds_of(row["createdDateTime"])
    body, sender = row["body"], row.get("from")
    text = str(body.get("content") or "")
    kind = str(body.get("contentType") or "").lower()
    if kind == "html" or (kind != "text" and fragments.is_marked_up(text)):
        text = fragments.seen_text(text, seen, number)
    who = ""
    for sort in ("user", "application", "emailAddress"):
        part = sender.get(sort) if isinstance(sender, dict) else None
        if isinstance(part, dict) and not who:
            who = str(part.get("displayName") or part.get("name") or "")
    identity = row.get("channelIdentity")
    channel = identity.get("channelId") if isinstance(identity, dict) else None
    place = str(row.get("chatId") or channel or "")
    # In a channel each message begins a thread, and replies name it; a chat is one.
    root = row.get("replyToId") or row.get("id")
    thread = (
        place if row.get("chatId") or not (channel or row.get("replyToId")) else f"{place} {root}"
    )
    left_out = ""
    if row.get("messageType") not in (None, "message") or not who or row.get("deletedDateTime"):
        left_out = "notice"
    elif not text:
        left_out = "not_text" if row.get("attachments") else "notice"
    return Said(number, who, text, when, _date(when), left_out, thread)


def skype_said(number: int, row: Row, seen: Seen) -> Iterator[Said]:
    """Read a conversation of the personal export of Teams and Skype, which is newest first."""
    messages = [each for each in row["MessageList"] if isinstance(each, dict)]
    messages.sort(key=lambda each: str(each.get("originalarrivaltime") or ""))
    thread = str(row.get("displayName") or row.get("id") or number)
    for each in messages:
        when = seconds_of(each.get("originalarrivaltime"))
        text = str(each.get("content") or "")
        kind = str(each.get("messagetype") or "")
        is_rich = kind.startswith("RichText") and ("<" in text or "&" in text)
        if is_rich or (not kind and fragments.is_marked_up(text)):
            text = fragments.seen_text(text, seen, number)
        is_said = kind in ("", "Text", "RichText", "RichText/Html")
        left_out = "" if is_said and text else "not_text" if "Media" in kind else "notice"
        who = str(each.get("displayName") or each.get("from") or "")
        yield Said(number, who, text, when, _date(when), left_out, thread)


def _date(seconds: float | None) -> str:
    if seconds is None or not 0 < seconds < 4e9:
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M")
