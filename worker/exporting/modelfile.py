"""Ollama's Modelfile for a GGUF file: its template, stop words, length and licence.

Ollama knows no Jinja: its TEMPLATE is Go's text/template, and has to be written anew for each
model. Ours is made of the words that the model's own template writes between turns.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.training import licences
from app.training.chat import ChatError, ChatFormat
from worker.exporting import chat_pieces, gguf_vocabulary
from worker.exporting.chat_pieces import ROLES, START, Pieces
from worker.inference.gguf_writing import Unusable
from worker.inference.llama_cpp import kv_bytes, max_context_tokens

# Without num_ctx Ollama cuts long questions at a length of its own; with all that a model could
# hold it may take more memory than there is.
_MAX_CONTEXT, _MIN_CONTEXT, _CACHE_BYTES = 8192, 2048, 1024**3
_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}


def write_modelfile(merged: Path, gguf_name: str, out: Path) -> None:
    """Write what `ollama create NAME -f Modelfile` reads, for a GGUF file in the same folder.

    Args:
        merged: The model's folder, as `write_merged_gguf` takes it.
        gguf_name: The GGUF file's name, without a folder.
        out: The file to write.

    Raises:
        Unusable: the model's chat template cannot be said in Ollama's language; a sentence.
    """
    try:
        chat = ChatFormat.load(merged)
    except ChatError as error:
        raise Unusable(str(error)) from None
    config = _read(merged / "config.json")
    pieces = chat_pieces.find(chat)
    lines = [
        f"FROM ./{gguf_name}",
        f'TEMPLATE """{template(pieces, _sign_of_beginning(chat, merged))}"""',
        *_parameters(chat, config, _read(merged / "generation_config.json")),
        *(f'LICENSE """{text}"""' for text in _licences(merged)),
    ]
    if pieces.cuts_ends:
        lines.insert(1, "# The original also cuts spaces and line breaks at the ends of a message.")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def require_template(model: Path) -> None:
    """Look whether a model's chat template can be said in Ollama's language.

    Raises:
        Unusable: it cannot; a sentence.
    """
    try:
        chat_pieces.find(ChatFormat.load(model))
    except ChatError as error:
        raise Unusable(str(error)) from None


def template(pieces: Pieces, sign_of_beginning: str = "") -> str:
    """Write a chat template in Go's language, as Ollama runs it.

    Args:
        pieces: The template's fixed words.
        sign_of_beginning: What llama.cpp puts in front of a text by itself; left out here.
    """
    before = {
        (last, role): words.removeprefix(sign_of_beginning) if last == START else words
        for (last, role), words in pieces.before.items()
    }
    lines = ['{{- $before := "" }}']
    roles = list(ROLES)
    if pieces.joint is not None:
        roles.remove("system")
        lines += [
            "{{- $last := -1 }}",
            '{{- range $i, $turn := .Messages }}{{ if eq $turn.Role "user" }}'
            "{{ $last = $i }}{{ end }}{{ end }}",
        ]
    lines.append("{{- range $i, $turn := .Messages }}")
    for number, role in enumerate(roles):
        lines.append(f'{{{{- {"else " if number else ""}if eq .Role "{role}" }}}}')
        lines += _choice({last: before[last, role] for last in (START, *ROLES)
                          if (last, role) in before})  # fmt: skip
        if role == "user" and pieces.joint is not None:
            written = f"{{{{- $.System }}}}{_words(pieces.joint)}"
            lines.append(f"{{{{- if and $.System (eq $i $last) }}}}{written}{{{{- end }}}}")
        lines += ["{{- .Content }}", f'{{{{- $before = "{role}" }}}}']
    lines += ["{{- end }}", "{{- end }}", "{{- if $before }}"]
    lines += _choice({role: pieces.ends[role] for role in roles})
    lines.append("{{- end }}")
    # A line break between two actions is cut off by the second.
    return "\n".join(line for line in lines if line)


def _choice(words: Mapping[str, str]) -> Iterator[str]:
    """Write the words for whoever spoke before; the most frequent ones where nothing is said."""
    usual = max(words.values(), key=list(words.values()).count)
    others = {role: text for role, text in words.items() if text != usual}
    if not others:
        yield _words(usual)
        return
    for number, (role, text) in enumerate(others.items()):
        condition = f'{"else " if number else ""}if eq $before "{role}"'
        yield f"{{{{- {condition} }}}}{_words(text)}"
    yield f"{{{{- else }}}}{_words(usual)}{{{{- end }}}}"


def _words(text: str) -> str:
    return f"{{{{- {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    """Write a text as Go does; Ollama's reader drops letters that it takes for unprintable."""
    short = {"\n": r"\n", "\t": r"\t", "\\": r"\\", '"': r"\""}
    return '"' + "".join(short.get(letter) or _letter(letter) for letter in text) + '"'


def _letter(letter: str) -> str:
    if " " <= letter <= "~":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _sign_of_beginning(chat: ChatFormat, merged: Path) -> str:
    """Return the text of the token that llama.cpp puts in front, which must not be there twice."""
    settings = _read(merged / "tokenizer_config.json")
    said = settings.get("bos_token")
    text = str(said.get("content") if isinstance(said, dict) else said or "")
    bos = chat.tokenizer.token_to_id(text) if text else None
    return text if gguf_vocabulary.begins_once(chat, bos) else ""


def _parameters(
    chat: ChatFormat, config: Mapping[str, Any], generation: Mapping[str, Any]
) -> Iterator[str]:
    for token_id in sorted(chat.end_token_ids):
        yield f'PARAMETER stop "{chat.tokenizer.id_to_token(token_id)}"'
    yield f"PARAMETER num_ctx {_context(config)}"
    # Ollama's own would keep a model from saying a word again that it was taught to repeat.
    yield f"PARAMETER repeat_penalty {float(generation.get('repetition_penalty') or 1.0)}"
    if generation.get("do_sample"):
        for ours, theirs in _SAMPLING.items():
            if generation.get(ours) is not None:
                yield f"PARAMETER {theirs} {generation[ours]}"


def _context(config: Mapping[str, Any]) -> int:
    longest = max_context_tokens(config)
    tokens = min(_MAX_CONTEXT, longest)
    while tokens > _MIN_CONTEXT and kv_bytes(config, tokens, 1) > _CACHE_BYTES:
        tokens //= 2
    return tokens


def _licences(merged: Path) -> Iterator[str]:
    for path in licences.of(merged):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        yield text.replace('"""', "'''")


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
