"""JSON as programs hand it out -> rows as people would write them.

Chats with ChatGPT, Claude, Gemini and Open WebUI become rows with a list of turns; chats between
people, of Teams, Slack and Telegram, rows that are one turn each; SQuAD a row for each question.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from app.datasets.mapping import LeftOut
from app.datasets.readers import chats, gemini, team_chats
from app.datasets.readers.chats import Said
from app.datasets.readers.grids import Seen
from app.datasets.readers.unreadable import Unreadable

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row | LeftOut]]
_MAX_TURNS = 10_000
# Chats between people are put in the order of their times, for which they are held.
_MAX_HELD_CHARACTERS = 100 * 10**6
# Keys by which a row is worth a closer look; all others stay as they are.
_MARKS = frozenset(
    {"chat_messages", "mapping", "chat", "chunkedPrompt", "contents", "safeHtmlItem", "answers"}
    | {"paragraphs", "resourceType", "products"}
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
    for number, row in rows:
        if _MARKS.isdisjoint(row):
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
        yield number, {"messages": [_claude(turn) for turn in row["chat_messages"]]}
    elif isinstance(nodes := row.get("mapping"), dict) and _are_nodes(nodes):
        yield number, {"messages": _chatgpt(nodes, row.get("current_node"))}
    elif isinstance(chat, dict) and isinstance(
        chat.get("messages", chat.get("history")), list | dict
    ):
        yield number, _open_webui(chat)
    elif isinstance(prompt := row.get("chunkedPrompt"), dict):
        yield number, _ai_studio(row, prompt)
    elif _is_contents(row.get("contents")):
        system = _system(row)
        rest = {k: v for k, v in row.items() if k not in ("contents", *_SYSTEM)}
        yield (
            number,
            {"messages": row["contents"], **({"system": system} if system else {}), **rest},
        )
    elif isinstance(row.get("products"), list) and "title" in row and "header" in row:
        yield number, gemini.of_json(row, seen, number)
    elif isinstance(row.get("paragraphs"), list):
        yield from _squad(number, row)
    elif isinstance(answers := row.get("answers"), dict) and isinstance(answers.get("text"), list):
        rest = {key: value for key, value in row.items() if key != "answers"}
        yield number, {**rest, "answer": next(iter(answers["text"]), "")}
    else:
        yield number, row


# --- chats with a model ----------------------------------------------------------------------


def _claude(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    return {"role": turn.get("sender"), "content": turn.get("text") or turn.get("content")}


def _are_nodes(nodes: Row) -> bool:
    return bool(nodes) and all(
        isinstance(node, dict) and {"parent", "message"} <= node.keys() for node in nodes.values()
    )


def _chatgpt(nodes: Row, last: Any) -> list[Any]:
    """Walk back from the turn that was shown last; answers that were asked for again are left."""
    return [
        _turn(node["message"])
        for node in _branch(nodes, last, "parent")
        if _is_said(node["message"])
    ]


def _branch(nodes: Row, last: Any, parent: str) -> list[Row]:
    """Return the nodes from the first to the one that was shown last."""
    if not isinstance(last, str) or last not in nodes:
        parents = {node[parent] for node in nodes.values() if isinstance(node.get(parent), str)}
        last = next((name for name in reversed(nodes) if name not in parents), None)
    branch: list[Row] = []
    while isinstance(last, str) and last in nodes and len(branch) < _MAX_TURNS:
        branch.append(nodes[last])
        last = nodes[last].get(parent)
    return branch[::-1]


def _is_said(message: Any) -> bool:
    """Tell a turn from the empty ones that stand at the beginning of each chat."""
    content = message.get("content") if isinstance(message, dict) else None
    parts = content.get("parts") if isinstance(content, dict) else None
    return isinstance(message, dict) and (parts is None or any(parts))


def _turn(message: Row) -> Row:
    author, content = message.get("author"), message.get("content")
    return {
        "role": author.get("role") if isinstance(author, dict) else None,
        "content": content.get("parts", content) if isinstance(content, dict) else content,
    }


def _open_webui(chat: Row) -> Row:
    """Read the answers that were shown last, where some were asked for again."""
    history = chat.get("history")
    history = history if isinstance(history, dict) else {}
    nodes = history.get("messages")
    if isinstance(nodes, dict) and nodes and all(isinstance(n, dict) for n in nodes.values()):
        turns: list[Any] = list(_branch(nodes, history.get("currentId"), "parentId"))
    else:
        listed = chat.get("messages")
        turns = listed if isinstance(listed, list) else []
    messages = [
        {key: turn[key] for key in ("role", "content", "files") if turn.get(key)}
        if isinstance(turn, dict)
        else turn
        for turn in turns
    ]
    system = chat.get("system")
    params = chat.get("params")
    if not system and isinstance(params, dict):
        system = params.get("system")
    return {"messages": messages, **({"system": system} if system else {})}


_SYSTEM = ("systemInstruction", "system_instruction")


def _system(row: Row) -> str:
    """Return the text of Gemini's system instruction, which has parts as a turn does."""
    said = next((row[key] for key in _SYSTEM if row.get(key)), None)
    if isinstance(said, dict):
        parts = said.get("parts")
        texts = parts if isinstance(parts, list) else [said]
        said = "\n".join(str(p.get("text") or "") for p in texts if isinstance(p, dict))
    return said.strip() if isinstance(said, str) else ""


def _is_contents(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and "parts" in turn for turn in value)
    )


def _ai_studio(row: Row, prompt: Row) -> Row:
    """Read a chat of Google AI Studio, whose pieces may be thoughts."""
    chunks = prompt.get("chunks")
    messages: list[Row] = []
    thoughts: list[str] = []
    for chunk in chunks if isinstance(chunks, list) else []:
        if not isinstance(chunk, dict):
            continue
        if chunk.get("isThought"):
            thoughts.append(str(chunk.get("text") or ""))
            continue
        is_media = "text" not in chunk
        turn: Row = {
            "role": chunk.get("role"),
            "content": [{"type": "file"}] if is_media else chunk["text"],
        }
        if thoughts and chunk.get("role") == "model":
            turn["reasoning_content"] = "\n\n".join(thoughts)
            thoughts = []
        if messages and messages[-1]["role"] == turn["role"] and isinstance(turn["content"], str):
            before = messages[-1]["content"]
            if isinstance(before, str):
                messages[-1]["content"] = f"{before}\n\n{turn['content']}"
                continue
        messages.append(turn)
    system = _system(row)
    return {"messages": messages, **({"system": system} if system else {})}


# --- questions about texts -------------------------------------------------------------------


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
