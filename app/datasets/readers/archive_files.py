"""ZIP archives -> rows: the files in them as one table, or a whole export of one program."""

import re
from collections.abc import Callable
from contextlib import ExitStack

from app.datasets.readers import archives, chats, exports, named_kinds, quiz_xml, slack
from app.datasets.readers.files import Entry, File
from app.datasets.readers.inspections import Inspection, ReadAs, new_inspection
from app.datasets.readers.joining import joined, named
from app.datasets.readers.sources import Source
from app.datasets.readers.unreadable import Unreadable

OpenFile = Callable[[File, ReadAs, ExitStack], Source]


def open_archive(file: File, read_as: ReadAs, stack: ExitStack, open_file: OpenFile) -> Source:
    """Open an archive; `open_file` opens each file in it, as it would be opened by itself."""
    entries, passed = stack.enter_context(archives.open_entries(file))
    for apart in (_chat_apart, _quizzes_apart):
        entries, beside = apart(entries)
        passed += beside
    inspection = new_inspection("zip", "row")
    if passed:
        inspection.warnings.append(
            f"In this ZIP {archives.listed_over(passed)} "
            + ("was" if len(passed) == 1 else "were")
            + " passed over."
        )
    if slack.is_export(entries):
        return _open_slack(entries, inspection, read_as)
    names = [archives.shown(entry.info.filename) for entry in entries]
    _check_names(read_as, names)
    inspection.files = read_as.files
    parts = [
        (name, _entry_opener(entry, read_as.of_file(name), open_file))
        for name, entry in zip(names, entries, strict=True)
    ]
    return joined(parts, inspection, "file", read_as)


def _check_names(read_as: ReadAs, names: list[str]) -> None:
    for name in read_as.files:
        if name not in names:
            raise Unreadable(
                f"“{name[:80]}”, for which something was chosen, is not among the files that are "
                "read of this ZIP; write its name as it stands there, with its folder."
            )


def _chat_apart(entries: list[Entry]) -> tuple[list[Entry], list[archives.PassedOver]]:
    """Take from a chat of WhatsApp what was sent along with it, of whatever kind."""
    chats_in_it = [entry for entry in entries if _CHAT.search(entry.info.filename)]
    if not chats_in_it:
        return entries, []
    passed = [
        archives.PassedOver(archives.shown(entry.info.filename), "sent in the chat")
        for entry in entries
        if entry not in chats_in_it
    ]
    return chats_in_it, passed


# What WhatsApp calls it: “_chat.txt”, or by the people in it.
_CHAT = re.compile(r"(^|/)(_chat|[^/]*whatsapp[^/]*)\.txt$", re.IGNORECASE)


def _quizzes_apart(
    entries: list[Entry],
) -> tuple[list[Entry], list[archives.PassedOver]]:
    """Take the XML from a package of a quiz that only says what else is in it."""
    heads: dict[Entry, bytes] = {}
    for entry in entries:
        if entry.info.filename.lower().endswith((".xml", ".dat")):
            with named(archives.shown(entry.info.filename)):
                heads[entry] = entry.head(named_kinds.HEAD_BYTES)
    if not any(map(quiz_xml.is_quiz, heads.values())):
        return entries, []
    beside = [entry for entry, head in heads.items() if not quiz_xml.is_quiz(head)]
    passed = [
        archives.PassedOver(archives.shown(entry.info.filename), "about the quiz")
        for entry in beside
    ]
    return [entry for entry in entries if entry not in beside], passed


def _open_slack(entries: list[Entry], inspection: Inspection, read_as: ReadAs) -> Source:
    inspection.format, inspection.place = "slack", "message"
    inspection.columns = list(chats.COLUMNS)
    inspection.pause_minutes = read_as.pause_minutes
    unread = slack.unread(entries)
    if unread:
        inspection.warnings.append(f"In this export {archives.listed_over(unread)} was not read.")
    rows = chats.rows(slack.messages(entries), read_as.pause_minutes)
    return Source(inspection, rows, set(chats.COLUMNS) - exports.ESSENTIAL)


def _entry_opener(
    entry: File, read_as: ReadAs, open_file: OpenFile
) -> Callable[[ExitStack], Source]:
    return lambda stack: open_file(entry, read_as, stack)
