"""One turn of a conversation as other programs write it -> ours; what is not learned is noted.

Roles have many words, texts many places, and flags many names. What is passed over in a turn that
is used goes into `noted`, by kind and word; app/datasets/notes.py counts it and says it.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from app.datasets import verdicts
from app.training.thoughts import THOUGHT

Message = dict[str, Any]
Noted = set[tuple[str, str]]
# A longer word for a role is none.
MAX_WORD = 60


class TurnRole(StrEnum):
    """Who a turn is by."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


# How other programs, and some languages, call them.
_WORDS = {
    TurnRole.SYSTEM: "system developer",
    TurnRole.USER: (
        "user human prompter nutzer benutzer usuario utilisateur utente usuário gebruiker "
        "пользователь 用户 ユーザー 사용자"
    ),
    TurnRole.ASSISTANT: (
        "assistant gpt chatgpt model bot ai bing chatbot llm claude gemini copilot assistent "
        "asistente assistente ассистент 助手 アシスタント 어시스턴트"
    ),
    TurnRole.TOOL: "tool function ipython observation",
}
SPEAKERS = {word: role for role, words in _WORDS.items() for word in words.split()}

# Places of a turn's text, the first that is filled being meant.
_TEXTS = ("content", "value", "text", "parts", "message", "data")
_PART_TEXTS = ("text", "content", "value", "refusal", "parts")
_THOUGHTS = (THOUGHT, "reasoning", "thinking", "thought", "thoughts")
FLAGS = ("weight", "train", "trainable", "loss", "mask")
_CALLS = ("tool_calls", "function_call", "tool_call_id")
_NAMES = ("role", "from")
# LangChain says it by the turn's type.
_TYPES = frozenset({"human", "ai", "system", "tool", "function"})
_KNOWN = frozenset((*_NAMES, *_TEXTS, *_THOUGHTS, *FLAGS, *_CALLS))
# Nothing that a model could learn.
_HARMLESS = frozenset(
    {"id", "uuid", "index", "date", "time", "timestamp", "created", "created_at", "create_time"}
    | {"updated_at", "update_time", "type", "status", "annotations", "object", "end_turn"}
)
_PLAIN_TURN = {"role", "content"}
_MEDIA = ("image", "audio", "video", "file", "document")
_NO, _YES = ("0", "false", "no", "off"), ("1", "true", "yes", "on")

# Letters that nobody sees, beside blanks: fillers, joiners, marks of direction.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_FILLERS = "\u115f\u1160\u3164\uffa0"  # letters by their kind, of those
_SEEN = re.compile(rf"[^\s{_INVISIBLE}]")
_UNSEEN = re.compile(rf"[{_INVISIBLE}]+")
# What web pages and Markdown leave where nothing was written.
_NOTHING = re.compile(r"(?i:</?(?:br|p|div|span)\s*/?>|&nbsp;|&#160;|&#xa0;|&zwnj;|&shy;)|[*_]{2,}")
_MAX_NOTHING = 200


class No(Exception):
    """A row becomes no example; `reason` is a key of mapping.LEFT_OUT, and `word` what was met."""

    def __init__(self, reason: str, word: str = "") -> None:
        super().__init__(reason)
        self.reason, self.word = reason, _told(word)


def plain_word(word: str) -> str:
    """Reduce a role's or a speaker's word to what tells it from others."""
    return " ".join(_told(unicodedata.normalize("NFC", word)).split()).casefold()


def _told(word: str) -> str:
    """Make a word fit to be kept and shown: PostgreSQL's JSON takes neither of these."""
    return word[:MAX_WORD].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def is_seen(text: str) -> bool:
    """Say whether a person sees anything of a text."""
    if text[:1].isalnum() and text[0] not in _FILLERS:  # nearly always, and quicker
        return True
    if _SEEN.search(text) is None:
        return False
    if len(text) > _MAX_NOTHING:
        return True
    return _SEEN.search(_NOTHING.sub("", text)) is not None


def seen_letters(text: str) -> str:
    """Return a text without the letters that nobody sees, and without blanks around it."""
    return (text if text.isascii() else _UNSEEN.sub("", text)).strip()


def settled(text: str) -> str:
    """Return a text with composed letters, and with lines that end as everywhere: with `\\n`."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def all_settled(value: Any) -> Any:
    """Settle every text in there, however deep."""
    if isinstance(value, str):
        return settled(value)
    if isinstance(value, dict):
        return {settled(key): all_settled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [all_settled(one) for one in value]
    return value


def read_turns(value: Any, roles: Mapping[str, TurnRole], noted: Noted) -> list[Message]:
    """Read a list of turns, or its JSON.

    Args:
        value: A cell.
        roles: What a person said that words for roles mean; before those that are known.
        noted: Gets what is passed over.

    Raises:
        No: it is none.
    """
    turns = list_of(parsed(value), "bad_messages")
    if not turns:
        raise No("bad_messages")
    return [_turn(turn, roles, noted) for turn in turns]


def are_turns(value: Any) -> bool:
    """Tell turns from a text that only looks like a list, such as the answer “[1, 2]”."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and _speaker(turn) is not None for turn in value)
    )


def _speaker(turn: dict[str, Any]) -> Any:
    """Return the word for who a turn is by; none where it says nobody."""
    if "role" in turn or "from" in turn:
        return turn.get("role", turn.get("from"))
    word = turn.get("type")
    is_turn = isinstance(word, str) and word in _TYPES and ("content" in turn or "data" in turn)
    return word if is_turn else None


def unknown_roles(value: Any) -> Iterator[str]:
    """Yield the words for roles in a list of turns that only a person could say the meaning of."""
    if not are_turns(value):
        return
    for turn in value:
        word = _speaker(turn)
        if isinstance(word, str) and word not in SPEAKERS and word != "function_call":
            plain = plain_word(word)
            if plain not in SPEAKERS:
                yield plain


def _turn(turn: Any, roles: Mapping[str, TurnRole], noted: Noted) -> Message:
    if not isinstance(turn, dict):
        raise No("bad_messages")
    word = turn["role"] if "role" in turn else _speaker(turn)
    if not isinstance(word, str):
        raise No("bad_messages")
    is_call = word == "function_call"  # ShareGPT's: a turn that is a call
    role = TurnRole.ASSISTANT if is_call else _role(word, roles)
    thoughts: list[str] = []
    said = _first(turn, _TEXTS)
    content = "" if is_call else _content(said, thoughts)
    if turn.keys() != _PLAIN_TURN:
        _note(turn, role, noted)
    if role is TurnRole.TOOL:
        kept = {k: turn[k] for k in ("tool_call_id", "name") if isinstance(turn.get(k), str)}
        return {"role": "tool", "content": content, **kept}
    # The other is OpenAI's older form.
    single = parsed(said) if is_call else turn.get("function_call")
    calls = read_calls(turn.get("tool_calls") or ([{"function": single}] if single else []))
    if (calls and role is not TurnRole.ASSISTANT) or (is_call and not calls):
        raise No("tools")
    if role is not TurnRole.SYSTEM and not calls and not is_seen(content):
        raise No("empty_answer" if role is TurnRole.ASSISTANT else "empty_question")
    message: Message = {"role": role.value, "content": content}
    if calls:
        message["tool_calls"] = calls
    if role is not TurnRole.ASSISTANT:
        return message
    thoughts += [one for key in _THOUGHTS if isinstance(one := turn.get(key), str)]
    if thought := "\n\n".join(dict.fromkeys(filter(is_seen, thoughts))):
        noted.add(("reasoning", ""))
        message[THOUGHT] = thought
    is_learned = [_flag(turn[key], key, noted) for key in FLAGS if turn.get(key) is not None]
    if not all(is_learned):
        message["weight"] = 0  # read but not learned, as OpenAI has it
    elif turn.get("weight") is not None:
        message["weight"] = 1
    return message


def _role(word: str, roles: Mapping[str, TurnRole]) -> TurnRole:
    role = SPEAKERS.get(word) if not roles else None
    if role is None:
        plain = plain_word(word)
        role = roles.get(plain) or SPEAKERS.get(plain)
        if role is None:
            raise No("unknown_role", plain)
    return role


def _first(turn: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((turn[key] for key in keys if turn.get(key) not in (None, "", [])), None)


def _note(turn: dict[str, Any], role: TurnRole, noted: Noted) -> None:
    texts = [key for key in _TEXTS if turn.get(key) not in (None, "", [])]
    if len(texts) > 1:
        used = _content(turn[texts[0]], [])
        for key in texts[1:]:
            if _quietly(turn[key]) != used:
                noted.add(("turn_key", key))
    for key, value in turn.items():
        is_used = key in _KNOWN or (key == "name" and role is TurnRole.TOOL)
        if not is_used and key not in _HARMLESS and value not in (None, "", [], {}):
            noted.add(("turn_key", _told(str(key))))
    if role is not TurnRole.ASSISTANT:
        for key in (*_THOUGHTS, *FLAGS):
            value = turn.get(key)
            # That a question is not learned goes without saying.
            if value not in (None, "", 0, "0") and key not in _TEXTS:
                noted.add(("turn_key", key))


def _quietly(value: Any) -> str | None:
    try:
        return _content(value, [])
    except No:
        return None


def _flag(value: Any, key: str, noted: Noted) -> bool:
    """Say whether a flag lets an answer be learned; what is no yes and no no is noted."""
    word = str(value).strip().casefold()
    if word in _NO:
        return False
    if word in _YES:
        return True
    try:
        number = float(word)
    except ValueError:
        number = -1
    if number in (0, 1):
        return number == 1
    noted.add(("fraction" if 0 < number < 1 else "flag", _told(f"{key}={word}")))
    return True


def row_is_learned(value: Any, name: str, noted: Noted) -> bool:
    """Read a cell that says whether its row is to be learned; a blank one says nothing."""
    if value in (None, ""):
        return True
    judged = verdicts.judges(value)
    return _flag(value, name, noted) if judged is None else judged


def is_flag(value: Any) -> bool:
    """Tell a cell that may say whether its row is learned from, say, a patient's weight."""
    word = str(value).strip().casefold()
    if word in _NO or word in _YES:
        return True
    try:
        return 0 <= float(word) <= 1
    except ValueError:
        return False


def _content(value: Any, thoughts: list[str]) -> str:
    if isinstance(value, str):  # nearly always
        return value
    if isinstance(value, dict):
        return _part(value, thoughts)
    if isinstance(value, list):
        between = "\n" if all(isinstance(part, str) for part in value) else ""
        return between.join(_part(part, thoughts) for part in value)
    return text_of(value)


def _part(part: Any, thoughts: list[str]) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise No("bad_content")
    kind = str(part.get("type") or part.get("content_type") or "")
    if any(kind.removeprefix("input_").startswith(medium) for medium in _MEDIA) or any(
        part.get(medium) or part.get(f"{medium}_url") for medium in _MEDIA
    ):
        raise No("not_text")
    if kind.startswith(("tool_", "function_")):
        raise No("tools")
    # Gemini's parts are thoughts by a flag.
    if "thinking" in kind or "reasoning" in kind or part.get("thought") is True:
        thoughts.append(_quietly(_first(part, ("thinking", "reasoning", *_PART_TEXTS))) or "")
        return ""
    if not part.keys() & set(_PART_TEXTS):
        raise No("bad_content", kind)
    return _content(_first(part, _PART_TEXTS), thoughts)


def read_calls(value: Any) -> list[dict[str, Any]]:
    """Read calls of tools; arguments become JSON in a string, as OpenAI has them."""
    calls = []
    for call in list_of(value, "tools"):
        # LangChain has no function around its name and arguments.
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise No("tools")
        arguments = parsed(function.get("arguments") or function.get("args") or {})
        if not isinstance(arguments, dict):
            raise No("tools")
        made: dict[str, Any] = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        text = json.dumps(all_settled(arguments), ensure_ascii=False)
        calls.append(
            made | {"type": "function", "function": {"name": function["name"], "arguments": text}}
        )
    return calls


def said_in_parts(value: Any) -> str:
    """Return the text of a cell that is a text, or parts with text as turns have them.

    Raises:
        No: it is something else.
    """
    if isinstance(value, list | dict):
        return _content(value, [])
    return text_of(value)


def parsed(value: Any) -> Any:
    """Read JSON in a cell of a table; what is none stays as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def list_of(value: Any, reason: str) -> list[Any]:
    """Return a list.

    Raises:
        No: it is none, with the reason.
    """
    if not isinstance(value, list):
        raise No(reason)
    return value


def text_of(value: Any) -> str:
    """Return a cell's text.

    Raises:
        No: it has a list or an object.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise No("nested")
