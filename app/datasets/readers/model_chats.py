"""Chats with a model as ChatGPT, Claude, Open WebUI and Google AI Studio hand them out.

Kept is what a person saw: of an answer that was asked for again the one that was shown last,
thoughts as reasoning, and no word that was meant for a tool. What is left out is counted.
"""

import html
import json
import re
from typing import Any

from app.datasets.readers.grids import Seen

Row = dict[str, Any]
_MAX_TURNS = 10_000


def sentences(place: str) -> dict[str, tuple[str, str]]:
    """Return how to say what was left out; `place` is what rows are numbered by."""
    return {
        "call": (
            f"In 1 place of a chat what the model said to a tool, or what a program did with one, "
            f"was left out ({place} {{row}}); look whether the answer makes sense without it.",
            f"In {{n}} places of chats what the model said to a tool, or what a program did with "
            f"one, was left out (first in {place} {{row}}); look whether the answers make sense "
            "without it.",
        ),
        "sign": (
            f"1 answer refers to sources by signs of the program, which were left out ({place} "
            "{row}).",
            f"{{n}} answers refer to sources by signs of the program, which were left out (first "
            f"in {place} {{row}}).",
        ),
        "instructions": (
            f"1 turn has a person’s standing instructions or what the program remembers, and was "
            f"left out ({place} {{row}}).",
            f"{{n}} turns have a person’s standing instructions or what the program remembers, and "
            f"were left out (first in {place} {{row}}).",
        ),
        "attachment": (
            f"1 question was asked with a file, which is not in this export ({place} {{row}}); "
            "look whether its answer makes sense without it.",
            f"{{n}} questions were asked with files, which are not in this export (first in "
            f"{place} {{row}}); look whether their answers make sense without them.",
        ),
    }


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


# --- ChatGPT ---------------------------------------------------------------------------------

# Behind these a program keeps what is for itself: what it knows of a person, and its headings.
_KNOWN_OF_PERSON = frozenset({"user_editable_context", "model_editable_context"})
# A reference: a letter of private use opens it and another closes it, a third divides its parts.
_REFERENCE = re.compile(r" ?\ue200([^\ue200\ue201]{0,2000})\ue201")
_SOURCE = re.compile(r" ?【\d[^【】\n]{0,200}†[^【】\n]{0,200}】")
_OTHER_SIGNS = re.compile(r"[\ue200-\ue20f]")
_ANY_SIGN = re.compile(r"[\ue200-\ue20f†]")


def are_nodes(nodes: Row) -> bool:
    """Tell the turns of ChatGPT by their ids."""
    return bool(nodes) and all(
        isinstance(node, dict) and {"parent", "message"} <= node.keys() for node in nodes.values()
    )


def chatgpt(nodes: Row, last: Any, seen: Seen, number: int) -> list[Any]:
    """Walk back from the turn that was shown last; answers that were asked for again are left."""
    turns: list[Any] = []
    thoughts: list[str] = []
    for node in _branch(nodes, last, "parent"):
        message = node["message"]
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        content = content if isinstance(content, dict) else {"parts": [content]}
        kind = content.get("content_type")
        if kind == "thoughts":
            thoughts += _thoughts_of(content)
            continue
        role = _role_of(message)
        parts = content.get("parts")
        if kind == "reasoning_recap" or (parts is not None and not any(parts)):
            continue
        is_text = parts is not None or isinstance(content.get("text"), str)
        left_out = _left_out(message, str(kind), role)
        if role == "tool" and not is_text:
            left_out = "call"
        if left_out:
            seen.add(left_out, number)
            continue
        said = content.get("parts", content)
        if role == "assistant":
            said = _without_signs(said, seen, number)
        turn: Row = {"role": role, "content": said}
        if role == "assistant" and thoughts:
            turn["reasoning_content"] = "\n\n".join(thoughts)
        if role != "tool":
            thoughts = []
        turns.append(turn)
    return turns


def _role_of(message: Row) -> Any:
    author = message.get("author")
    return author.get("role") if isinstance(author, dict) else None


def _left_out(message: Row, kind: str, role: Any) -> str:
    """Return why a turn is passed over, as a key of `sentences`; nothing where it is not."""
    metadata = message.get("metadata")
    is_hidden = isinstance(metadata, dict) and (
        metadata.get("is_visually_hidden_from_conversation") is True
    )
    if kind in _KNOWN_OF_PERSON or (is_hidden and role in ("system", "user")):
        return "instructions"
    # A tool's own answer stays, as what the next answer rests on; but not one nobody saw.
    is_for_tool = role == "assistant" and message.get("recipient") not in (None, "", "all")
    return "call" if is_for_tool or is_hidden else ""


def _thoughts_of(content: Row) -> list[str]:
    found = content.get("thoughts")
    texts = [
        each.get("content") or each.get("summary")
        for each in (found if isinstance(found, list) else [])
        if isinstance(each, dict)
    ]
    return [text for text in texts if isinstance(text, str) and text.strip()]


def _without_signs(said: Any, seen: Seen, number: int) -> Any:
    """Take the signs off an answer that the program shows as links to its sources."""
    if isinstance(said, list):
        return [_without_signs(part, seen, number) for part in said]
    if isinstance(said, dict) and isinstance(said.get("text"), str):
        return {**said, "text": _without_signs(said["text"], seen, number)}
    if not isinstance(said, str) or _ANY_SIGN.search(said) is None:
        return said
    text = _REFERENCE.sub(_shown, said)
    text = _OTHER_SIGNS.sub("", _SOURCE.sub("", text))
    if text != said:
        seen.add("sign", number)
    return text


def _shown(reference: re.Match[str]) -> str:
    """Return what a person sees of a reference: the name of a thing, and nothing of a source."""
    kind, *parts = reference[1].split("\ue202")
    if kind != "entity" or not parts:
        return ""
    try:
        named = json.loads(parts[0])
    except (ValueError, RecursionError):
        named = []
    name = named[1] if isinstance(named, list) and len(named) > 1 else ""
    return f"{reference[0][: reference[0].index(chr(0xE200))]}{name}"


# --- Claude ----------------------------------------------------------------------------------

# What its export writes in the place of what it cannot hold.
_UNSUPPORTED = re.compile(
    r"(?:^|\n)(?:```[^\n]*\n)?[ \t]*This block is not supported on your current device yet\.?[ \t]*"
    r"(?:\n```[ \t]*(?=\n|$))?"
)


def claude(row: Row, seen: Seen, number: int) -> list[Any]:
    """Read the turns that were shown last, with the texts of files that were attached."""
    turns = row["chat_messages"]
    nodes = {
        turn["uuid"]: turn
        for turn in turns
        if isinstance(turn, dict) and isinstance(turn.get("uuid"), str)
    }
    have_parents = any(turn.get("parent_message_uuid") in nodes for turn in nodes.values())
    if have_parents and len(nodes) == len(turns):
        turns = _branch(nodes, row.get("current_leaf_message_uuid"), "parent_message_uuid")
    return [_claude(turn, seen, number) for turn in turns]


def _claude(turn: Any, seen: Seen, number: int) -> Any:
    if not isinstance(turn, dict):
        return turn
    blocks = turn.get("content")
    blocks = [b for b in blocks if isinstance(b, dict)] if isinstance(blocks, list) else []
    texts = [
        b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str)
    ]
    texts = [text.strip() for text in texts if text.strip()]
    if texts:
        said: Any = "\n\n".join(texts)
    else:
        said = turn.get("text") or turn.get("content")
    if isinstance(said, str):
        without = _UNSUPPORTED.sub("", said)
        if without != said and not blocks:
            seen.add("call", number)
        said = without.strip()
    if any(str(b.get("type")).startswith("tool_") for b in blocks):
        seen.add("call", number)
    made: Row = {"role": turn.get("sender")}
    thoughts = [b.get("thinking") for b in blocks if b.get("type") == "thinking"]
    if thought := "\n\n".join(t for t in thoughts if isinstance(t, str) and t.strip()):
        made["reasoning_content"] = thought
    made["content"] = _with_attachments(turn, said, seen, number)
    return made


def _with_attachments(turn: Row, said: Any, seen: Seen, number: int) -> Any:
    """Put the texts of attached files below a question; files without a text are counted."""
    attachments, files = (
        [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
        for value in (turn.get("attachments"), turn.get("files"))
    )
    texts, read = [], set()
    for each in attachments:
        name, text = str(each.get("file_name") or ""), each.get("extracted_content")
        if isinstance(text, str) and text.strip():
            texts.append(f"{name}:\n{text.strip()}" if name else text.strip())
            read.add(name)
    names = {str(each.get("file_name") or "") for each in (*attachments, *files)}
    for _ in names - read:
        seen.add("attachment", number)
    if not texts or not (said is None or isinstance(said, str)):
        return said
    return "\n\n".join(filter(None, [said, *texts]))


# --- Open WebUI ------------------------------------------------------------------------------

_DETAILS = re.compile(
    r"<details\s+type=\"(?P<kind>reasoning|tool_calls|code_interpreter)\"(?:\"[^\"]*\"|[^\">])*>"
    r"(?P<within>.*?)(?:</details>\s*|\Z)",
    re.DOTALL,
)
_SUMMARY = re.compile(r"\s*<summary>.*?</summary>", re.DOTALL)


def open_webui(chat: Row, seen: Seen, number: int) -> Row:
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
        _unfolded(
            {key: turn[key] for key in ("role", "content", "files") if turn.get(key)}, seen, number
        )
        if isinstance(turn, dict)
        else turn
        for turn in turns
    ]
    system = chat.get("system")
    params = chat.get("params")
    if not system and isinstance(params, dict):
        system = params.get("system")
    return {"messages": messages, **({"system": system} if system else {})}


def _unfolded(turn: Row, seen: Seen, number: int) -> Row:
    """Take out of an answer what is folded away in it: thoughts, and what was done with tools."""
    said = turn.get("content")
    if turn.get("role") != "assistant" or not isinstance(said, str) or "<details" not in said:
        return turn
    thoughts = []
    for found in _DETAILS.finditer(said):
        if found["kind"] == "reasoning":
            thoughts.append(_quoted(_SUMMARY.sub("", found["within"], count=1)))
        else:
            seen.add("call", number)
    turn["content"] = _DETAILS.sub("", said).strip()
    if thought := "\n\n".join(filter(None, thoughts)):
        turn["reasoning_content"] = thought
    return turn


def _quoted(text: str) -> str:
    lines = html.unescape(text).strip().split("\n")
    return "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines)


# --- Google AI Studio ------------------------------------------------------------------------

SYSTEM = ("systemInstruction", "system_instruction")


def system_of(row: Row) -> str:
    """Return the text of Gemini's system instruction, which has parts as a turn does."""
    said = next((row[key] for key in SYSTEM if row.get(key)), None)
    if isinstance(said, dict):
        parts = said.get("parts")
        texts = parts if isinstance(parts, list) else [said]
        said = "\n".join(str(p.get("text") or "") for p in texts if isinstance(p, dict))
    return said.strip() if isinstance(said, str) else ""


def is_contents(value: Any) -> bool:
    """Tell turns as Gemini's API has them."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and "parts" in turn for turn in value)
    )


def ai_studio(row: Row, prompt: Row) -> Row:
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
    system = system_of(row)
    return {"messages": messages, **({"system": system} if system else {})}
