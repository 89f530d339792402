"""JSON as programs hand it out -> rows as people would write them.

Chats with ChatGPT, Claude, Gemini and Open WebUI become rows with a list of turns; chats between
people, of Teams, Slack and Telegram, rows that are one turn each; SQuAD a row for each question.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from app.datasets.mapping import LeftOut
from app.datasets.readers import chats, gemini, model_chats, team_chats
from app.datasets.readers.chats import Said
from app.datasets.readers.grids import Seen
from app.datasets.readers.unreadable import Unreadable

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row | LeftOut]]
# Chats between people are put in the order of their times, for which they are held.
_MAX_HELD_CHARACTERS = 100 * 10**6
# Keys by which a row is worth a closer look; all others stay as they are.
_MARKS = frozenset(
    {"chat_messages", "mapping", "chat", "chunkedPrompt", "contents", "answers", "paragraphs"}
    | {"resourceType"}
)


def opened(rows: Iterator[tuple[int, Row]], pause_minutes: int, seen: Seen) -> Rows:
    """Make rows of what programs hand out, and leave all others as they are.

    Args:
        pause_minutes: How long a pause begins a new conversation between people.
        seen: Counts what is left out of their texts.

    Raises:
        Unreadable: these are records of patients in FHIR, or a chat that is too long.
    """
    first = next(rows, None)
    if first is None:
        return
    rows = itertools.chain([first], rows)
    if holds_messages(first[1]):
        yield from chats.rows(iter(_in_order(_said(rows, seen))), pause_minutes)
        return
    is_activity = gemini.is_entry(first[1])
    for number, row in rows:
        if is_activity and {"title", "header"} <= row.keys():
            yield number, gemini.of_json(row, seen, number)
        elif not is_export(row):
            yield number, row
        else:
            yield from _opened(number, row, seen)


def holds_messages(row: Row) -> bool:
    """Say whether a first row is of a chat between people."""
    return (
        team_chats.is_slack(row)
        or team_chats.is_teams(row)
        or bool(_conversations(row))
        or _is_telegram(row)
    )


def is_export(row: Row) -> bool:
    """Say whether a row may be what a program hands out, as a whole."""
    return not _MARKS.isdisjoint(row)


def refuse_records(value: Row) -> None:
    """Refuse what a hospital's system hands out of patients.

    Raises:
        Unreadable: it is FHIR; the sentence names its kind.
    """
    kind = value.get("resourceType")
    if isinstance(kind, str) and kind[:1].isupper() and kind.isalpha() and len(kind) < 60:
        raise Unreadable(
            f"This is FHIR ({kind}), the records of patients as clinical systems exchange them, "
            "and no questions with answers to learn from; put those into a table with a column "
            "for each, without the patients’ names."
        )


def _opened(number: int, row: Row, seen: Seen) -> Rows:
    refuse_records(row)
    chat = row.get("chat")
    if isinstance(row.get("chat_messages"), list):
        yield number, {"messages": model_chats.claude(row, seen, number)}
    elif isinstance(nodes := row.get("mapping"), dict) and model_chats.are_nodes(nodes):
        yield (
            number,
            {"messages": model_chats.chatgpt(nodes, row.get("current_node"), seen, number)},
        )
    elif isinstance(chat, dict) and isinstance(
        chat.get("messages", chat.get("history")), list | dict
    ):
        yield number, model_chats.open_webui(chat, seen, number)
    elif isinstance(prompt := row.get("chunkedPrompt"), dict):
        yield number, model_chats.ai_studio(row, prompt)
    elif model_chats.is_contents(row.get("contents")):
        system = model_chats.system_of(row)
        rest = {k: v for k, v in row.items() if k not in ("contents", *model_chats.SYSTEM)}
        yield (
            number,
            {"messages": row["contents"], **({"system": system} if system else {}), **rest},
        )
    elif isinstance(row.get("paragraphs"), list):
        yield from _squad(number, row)
    else:
        yield number, with_first_answer(row)


# --- questions about texts -------------------------------------------------------------------


def with_first_answer(row: Row) -> Row:
    """Return a question of SQuAD with its first answer as a text; any other row as it is."""
    answers = row.get("answers")
    if not isinstance(answers, dict) or not isinstance(answers.get("text"), list):
        return row
    rest = {key: value for key, value in row.items() if key != "answers"}
    return {**rest, "answer": next(iter(answers["text"]), "")}


def _squad(number: int, row: Row) -> Rows:
    """Yield the questions of an article of SQuAD; those without an answer have none."""
    num = 0
    for paragraph in row["paragraphs"]:
        asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
        for each in asked if isinstance(asked, list) else []:
            if not isinstance(each, dict):
                continue
            found = each.get("answers")
            texts = [
                answer.get("text")
                for answer in (found if isinstance(found, list) else [])
                if isinstance(answer, dict)
            ]
            num += 1
            if not any(texts):
                yield number, LeftOut("no_right_answer")
                continue
            yield (
                number,
                {
                    "section": row.get("title") or "",
                    "context": paragraph.get("context") or "",
                    "question": each.get("question"),
                    "answer": next(filter(None, texts)),
                },
            )
    if not num:
        yield number, row


# --- chats between people --------------------------------------------------------------------


def _said(rows: Iterator[tuple[int, Row]], seen: Seen) -> Iterator[Said]:
    for number, row in rows:
        if conversations := _conversations(row):
            for each in conversations:
                yield from team_chats.skype_said(number, each, seen)
        elif _is_telegram(row):
            yield from _telegram(row)
        elif team_chats.is_slack(row):
            yield team_chats.slack_said(number, row, {})
        elif team_chats.is_teams(row):
            yield from team_chats.teams_said(number, row, seen)
        else:
            yield Said(number, "", "", left_out="notice")


def _in_order(said: Iterator[Said]) -> list[Said]:
    """Sort messages by time: programs hand them out from the newest, too."""
    held: list[Said] = []
    size = 0
    for each in said:
        held.append(each)
        size += len(each.text) + 200
        if size > _MAX_HELD_CHARACTERS:
            raise Unreadable(
                f"From message {len(held):,} on, this chat is longer than "
                f"{_MAX_HELD_CHARACTERS / 1e6:,.0f} MB; export a shorter span of time."
            )
    # One without a time stays where it is.
    last = 0.0
    keys = []
    for each in held:
        last = each.seconds if each.seconds is not None else last
        keys.append(last)
    return [held[at] for at in sorted(range(len(held)), key=lambda at: (keys[at], at))]


def _conversations(row: Row) -> list[Row]:
    """Return the conversations of a personal export of Teams or Skype."""
    found = row.get("conversations")
    if isinstance(row.get("MessageList"), list):
        return [row]
    if not isinstance(found, list):
        return []
    return [
        each
        for each in found
        if isinstance(each, dict) and isinstance(each.get("MessageList"), list)
    ]


def _is_telegram(row: Row) -> bool:
    found = row.get("messages")
    return (
        isinstance(found, list)
        and bool(found)
        and isinstance(found[0], dict)
        and {"id", "type", "date", "text"} <= found[0].keys()
        and found[0]["type"] in ("message", "service")
    )


def _telegram(row: Row) -> Iterator[Said]:
    for number, each in enumerate(row["messages"], start=1):
        if not isinstance(each, dict):
            continue
        parts = each.get("text")
        pieces = parts if isinstance(parts, list) else [parts]
        text = "".join(
            str(p.get("text") or "") if isinstance(p, dict) else str(p or "") for p in pieces
        )
        left_out = "" if each.get("type") == "message" else "notice"
        if not left_out and not text.strip():
            left_out = "not_text"
        date = str(each.get("date") or "")
        when = chats.seconds_of(date)
        who = str(each.get("from") or each.get("from_id") or "")
        yield Said(number, who, text, when, date.replace("T", " ")[:16], left_out)
