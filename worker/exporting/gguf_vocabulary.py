"""A model's tokenizer and chat template as GGUF has them.

`tokenizer.json` is what Etude reads, so it decides; llama.cpp has to read the same ids from the
same text. Two kinds of tokenizer are known: letters of bytes that are merged (GPT-2's way), of
which llama.cpp knows by name how text is cut into words, and SentencePiece's, whose pieces are
merged by a score that stands in `tokenizer.model`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.training.chat import ChatError, ChatFormat, read_template
from worker.inference.gguf_writing import Unusable

# GGUF's numbers for what a token is.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_ADDED_SCORE, _UNUSED_SCORE = -1000.0, -10000.0
_QUESTION = [{"role": "user", "content": "?"}]
# Of these llama.cpp's own converter takes no scores but those of tokenizer.model.
_NEEDS_SCORES = ("gemma", "gemma2", "gemma3_text", "phi3")
# llama.cpp cuts off what stands behind control words only in a model of this name, and only where
# these tokens are there.
_STRIPPING_NAME, _STRIPPING_TOKENS = "phi-3", {"</s>", "<unk>", "<s>", "<|endoftext|>"}

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD, _REST = r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD, _SLASHED = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How families cut text into words before bytes are merged, by llama.cpp's names; whether whole
# words are looked up before anything is merged comes with the name.
_CUTS: dict[tuple[str, bool], str] = {
    (rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_REST}", True): "llama-bpe",
    (rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_REST}", False): "dbrx",
    (rf"{_ENDINGS}|{_WORD}|\p{{N}}|{_REST}", False): "qwen2",
    (
        rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_SLASHED}",
        True,
    ): "tekken",
    (
        rf"{_LEAD}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_LEAD}{_UPPER}+{_LOWER}*{_ENDINGS}?"
        rf"|\p{{N}}{{1,3}}|{_SLASHED}",
        False,
    ): "gpt-4o",
}


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a model's tokens; all lists are as long as the embedding."""

    kind: str  # "gpt2": merged bytes, or "llama": SentencePiece
    pre: str  # how text is cut into words first, by llama.cpp's name
    tokens: list[str]
    types: list[int]
    merges: list[str] | None
    scores: list[float] | None
    adds_space: bool  # in front of a text, and behind each control word
    special_ids: Mapping[str, int]  # bos, eos, eot, unk, pad: those that there are
    adds_bos: bool
    template: str
    name: str  # what the file has to call its model, for llama.cpp to read it rightly

    def add_to(self, writer: Any) -> None:
        """Write all of it with a GGUFWriter."""
        writer.add_tokenizer_model(self.kind)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges is not None:
            writer.add_token_merges(self.merges)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.adds_space)
        for which, token_id in self.special_ids.items():
            writer.add_uint32(f"tokenizer.ggml.{_LONG_NAMES.get(which, which)}_token_id", token_id)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(False)
        writer.add_chat_template(self.template)


_LONG_NAMES = {"unk": "unknown", "pad": "padding"}


def read(model: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Read a model folder's tokenizer and template.

    Args:
        model: The folder.
        config: Its config.json.

    Raises:
        Unusable: llama.cpp would read its text otherwise, or a file is missing.
    """
    try:
        chat = ChatFormat.load(model)
        template = read_template(model)
    except ChatError as error:
        raise Unusable(str(error)) from None
    data = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    bpe, added = data["model"], data.get("added_tokens") or []
    if bpe.get("type") != "BPE":
        raise Unusable(
            f"llama.cpp does not know this model's kind of tokenizer ({bpe.get('type')})."
        )
    size = int(config["vocab_size"])
    is_pieces = bool(bpe.get("byte_fallback"))
    known = _pieces(model, config, bpe, size) if is_pieces else _merged(bpe, size)
    tokens, types, scores = known
    for token in added:
        token_id = int(token["id"])
        if token_id >= size:
            raise Unusable(
                f"The model's tokenizer has more words than its weights ({token['content']})."
            )
        tokens[token_id] = token["content"]
        types[token_id] = CONTROL if token.get("special") else USER_DEFINED
        scores[token_id] = _ADDED_SCORE
    _require_different(tokens)
    ends = sorted(chat.end_token_ids)
    for token_id in ends:
        types[token_id] = CONTROL
    special = _special_ids(chat, settings, config, bpe)
    turn_ends = [token_id for token_id in ends if token_id != special.get("eos")]
    if turn_ends:
        special["eot"] = turn_ends[0]
    return Vocabulary(
        kind="llama" if is_pieces else "gpt2",
        pre="default" if is_pieces else _cut_name(chat, data, special.get("bos")),
        tokens=tokens,
        types=types,
        merges=None if is_pieces else _merges(bpe),
        scores=scores if is_pieces else None,
        adds_space=_adds_space(data),
        special_ids=special,
        adds_bos=begins_once(chat, special.get("bos")),
        template=str(template),
        name=_name(added, tokens, str(config["model_type"])),
    )


def begins_once(chat: ChatFormat, bos: int | None) -> bool:
    """Say whether a question begins with the sign that a text begins, and has it nowhere else.

    That sign is then llama.cpp's business, for whatever is asked; a template that writes it as well
    loses it there. Where it stands before each turn, as SmolLM2's does, it is the template's.
    """
    ids = chat.encode_prompt(_QUESTION)
    return bos is not None and ids[0] == bos and bos not in ids[1:]


def _merged(bpe: Mapping[str, Any], size: int) -> tuple[list[str], list[int], list[float]]:
    """Return tokens, types and (meaningless) scores of merged bytes."""
    tokens, types = _unused(size)
    for text, token_id in bpe["vocab"].items():
        if token_id >= size:
            raise Unusable(f"The model's tokenizer has more words than its weights ({text}).")
        tokens[token_id], types[token_id] = text, NORMAL
    return tokens, types, [0.0] * size


def _pieces(
    model: Path, config: Mapping[str, Any], bpe: Mapping[str, Any], size: int
) -> tuple[list[str], list[int], list[float]]:
    """Return tokens, types and scores of SentencePiece's pieces."""
    tokens, types, scores = *_unused(size), [_UNUSED_SCORE] * size
    ranks = _ranks(bpe)
    for text, token_id in bpe["vocab"].items():
        if token_id >= size:
            raise Unusable(f"The model's tokenizer has more words than its weights ({text}).")
        tokens[token_id], types[token_id] = text, NORMAL
        scores[token_id] = -float(ranks.get(text, len(ranks)))
        if text == bpe.get("unk_token"):
            types[token_id] = UNKNOWN
        elif _BYTE_TOKEN.fullmatch(text):
            types[token_id] = BYTE
    file = model / "tokenizer.model"
    if file.exists():
        _take_scores(file, tokens, types, scores)
    elif config["model_type"] in _NEEDS_SCORES:
        raise Unusable(
            "This model's file tokenizer.model is needed for GGUF, and was not kept when the "
            "starting model was imported; ask your administrator to import it again, from its own "
            "folder of safetensors."
        )
    return tokens, types, scores


def _take_scores(file: Path, tokens: list[str], types: list[int], scores: list[float]) -> None:
    """Put the scores and kinds of SentencePiece's own file in the place of those made up."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromFile(str(file))
    except (OSError, RuntimeError):
        raise Unusable(
            "The model's tokenizer.model cannot be read; import the starting model again."
        ) from None
    for token_id in range(min(processor.GetPieceSize(), len(tokens))):
        if processor.IdToPiece(token_id) != tokens[token_id]:
            continue  # added tokens take the places of unused ones
        scores[token_id] = processor.GetScore(token_id)
        if processor.IsControl(token_id):
            types[token_id] = CONTROL
        elif processor.IsUnused(token_id):
            types[token_id] = UNUSED


def _unused(size: int) -> tuple[list[str], list[int]]:
    """Return names and types for the rows of a padded vocabulary that no word has."""
    return [f"[PAD{token_id}]" for token_id in range(size)], [UNUSED] * size


def _ranks(bpe: Mapping[str, Any]) -> dict[str, int]:
    """Return when each piece is first merged; SentencePiece's scores have the same order."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(bpe.get("merges") or []):
        ranks.setdefault("".join(_pair(merge)), rank)
    return ranks


def _merges(bpe: Mapping[str, Any]) -> list[str]:
    pairs = map(_pair, bpe.get("merges") or [])
    # A space within a token is written as GPT-2 does.
    return [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in pairs]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _require_different(tokens: list[str]) -> None:
    """Refuse a vocabulary in which two ids have the same text: llama.cpp ends the process."""
    seen: set[str] = set()
    for token in tokens:
        if token in seen:
            raise Unusable(f"Two of the model's tokens have the same text ({token}).")
        seen.add(token)


def _special_ids(
    chat: ChatFormat,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    bpe: Mapping[str, Any],
) -> dict[str, int]:
    found = {}
    for which in ("bos", "eos", "unk", "pad"):
        said = settings.get(f"{which}_token") or (bpe.get("unk_token") if which == "unk" else None)
        text = said.get("content") if isinstance(said, dict) else said
        token_id = chat.tokenizer.token_to_id(str(text)) if text else None
        if token_id is None:
            # Without them llama.cpp would take whatever stands at places that it knows by heart.
            stated: Any = config.get(f"{which}_token_id")
            token_id = stated[0] if isinstance(stated, list) and stated else stated
        if isinstance(token_id, int) and 0 <= token_id < int(config["vocab_size"]):
            found[which] = token_id
    return found


def _adds_space(data: Mapping[str, Any]) -> bool:
    """Say whether a space is put in front of a text and behind each control word.

    Metaspace with "first" puts one in front of the whole text alone; conversations begin with a
    control word, so there is none.
    """
    normalizers = _each(data.get("normalizer"), "normalizers")
    cutters = _each(data.get("pre_tokenizer"), "pretokenizers")
    return any(each.get("type") == "Prepend" for each in normalizers) or any(
        each.get("type") == "Metaspace" and each.get("prepend_scheme", "always") == "always"
        for each in cutters
    )


def _cut_name(chat: ChatFormat, data: Mapping[str, Any], bos: int | None) -> str:
    """Return llama.cpp's name of how text is cut into words.

    What the file says comes first: a model that was itself made of a GGUF file may cut otherwise
    than the one that it once was, and has learned with that.

    Raises:
        Unusable: it has none for this.
    """
    name = _stated_name(data) or _known_name(chat, bos)
    if name is None:
        raise Unusable("llama.cpp does not know how this model's tokenizer cuts text into words.")
    return name


def _stated_name(data: Mapping[str, Any]) -> str | None:
    cutters = [
        each
        for each in _each(data.get("pre_tokenizer"), "pretokenizers")
        if not (each["type"] == "ByteLevel" and not each.get("use_regex", True))
    ]
    ignores_merges = bool(data["model"].get("ignore_merges"))
    match cutters:
        case [{"type": "ByteLevel", "add_prefix_space": False}] if not ignores_merges:
            return "gpt-2"
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False},
        ] if not ignores_merges:
            return "smollm"
        case [{"type": "Split", "pattern": {"Regex": str(pattern)}}]:
            return _CUTS.get((pattern, ignores_merges))
    return None


def _known_name(chat: ChatFormat, bos: int | None) -> str | None:
    """Ask the converter, which knows real tokenizers by what they make of one text."""
    from conversion.base import TextModel

    class Encoder:
        def __init__(self, lead: list[int]) -> None:
            self.lead = lead

        def encode(self, text: str) -> list[int]:
            return [*self.lead, *chat.tokenizer.encode(text, add_special_tokens=False).ids]

    for lead in ([], [bos] if bos is not None else []):
        try:
            return str(TextModel.get_vocab_base_pre(None, Encoder(lead)))
        except NotImplementedError:
            continue
    return None


def _each(given: Mapping[str, Any] | None, parts: str) -> list[Mapping[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer, which may be one or a sequence."""
    if not given:
        return []
    return list(given[parts]) if given.get("type") == "Sequence" else [given]


def _name(added: Sequence[Mapping[str, Any]], tokens: list[str], model_type: str) -> str:
    if not any(token.get("rstrip") for token in added):
        # Or llama.cpp would look for Phi-3's tokens in another vocabulary, and end.
        return "phi" if model_type == "phi3" else model_type.removesuffix("_text")
    if not _STRIPPING_TOKENS.issubset(tokens):
        raise Unusable(
            "This model's tokenizer drops spaces behind control words, which llama.cpp does for "
            "Phi-3's own alone."
        )
    return _STRIPPING_NAME
