"""Chats as programs hand them out, ChatGPT's and Claude's, as rows with a list of turns."""

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
_MAX_TURNS = 10_000


def opened(rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """Put a list of turns into each row that is such a chat, and leave all others as they are."""
    for number, row in rows:
        if isinstance(row.get("chat_messages"), list):
            yield number, {"messages": [_claude(turn) for turn in row["chat_messages"]]}
        elif isinstance(nodes := row.get("mapping"), dict) and _are_nodes(nodes):
            yield number, {"messages": _chatgpt(nodes, row.get("current_node"))}
        else:
            yield number, row


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
    if last not in nodes:
        parents = {node["parent"] for node in nodes.values() if isinstance(node["parent"], str)}
        last = next((name for name in reversed(nodes) if name not in parents), None)
    turns: list[Any] = []
    while isinstance(last, str) and last in nodes and len(turns) < _MAX_TURNS:
        turns.append(nodes[last]["message"])
        last = nodes[last]["parent"]
    return [_turn(message) for message in reversed(turns) if _is_said(message)]


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
