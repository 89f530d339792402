"""An export, opened by programs that are not ours and held against the reference."""

import json
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from app.training.chat import ChatError, ChatFormat
from worker.exporting import agreement, held_out, plain
from worker.exporting.agreement import Agreement, Scores
from worker.exporting.held_out import Asked
from worker.exporting.making import EXACT_GGUF, EXPORT, STARTING_GGUF
from worker.exporting.requests import Prove, Unusable

Tell = Callable[[str, float], object]
_QUESTION = "Hello, can you help me?"
_OTHER_TOKENS = (
    "{program} cuts the same words into other tokens than this model was trained with, so this is "
    "not offered; please tell your administrator."
)
_NO_END = (
    "Its settings do not name the end of an answer, so this is not offered; please tell your "
    "administrator."
)


def prove(request: Prove, tell: Tell) -> dict[str, Any]:
    """Open an export and compare it with the reference; what is short is said, and not raised.

    Returns:
        {"agreement": one Agreement for each time that it was opened, "problem": a sentence, or ""}

    Raises:
        Unusable: no row can be asked.
        ChatError: the chat template cannot be used.
    """
    base, adapter = request.sources.base, request.sources.adapter
    chat = ChatFormat.load(base)
    asked = held_out.choose(chat, request.rows)
    tell("reading the answers with the adapter as it was trained", 0)
    reference = _scores(str(base), str(adapter), asked)
    tell("opening what was made", 0.5)
    found: list[Agreement] = []
    for one in _opened(request, asked, reference, tell):
        found.append(one)
        if not one.is_fit:
            return _answer(found, one.shortfall())
    return _answer(found, _token_problem(chat, request))


def _opened(
    request: Prove, asked: list[Asked], reference: Scores, tell: Tell
) -> Iterator[Agreement]:
    folder = request.out / EXPORT
    program = f"transformers {metadata.version('transformers')}"
    with_peft = f"{program} and PEFT {metadata.version('peft')}"
    match request.form:
        case "adapter":
            scores = _scores(str(request.sources.base), str(folder), asked)
            yield agreement.compare(with_peft, request.quantization, scores, reference)
        case "merged":
            scores = _scores(str(folder), None, asked)
            yield agreement.compare(program, request.quantization, scores, reference)
        case "vllm":
            is_merged = not (folder / "adapter").is_dir()
            model = str(folder if is_merged else folder / "base")
            scores = _scores(model, None if is_merged else str(folder / "adapter"), asked)
            opened_by = program if is_merged else with_peft
            yield agreement.compare(opened_by, request.quantization, scores, reference)
        case _:
            yield from _opened_gguf(request, asked, reference, tell)


def _opened_gguf(
    request: Prove, asked: list[Asked], reference: Scores, tell: Tell
) -> Iterator[Agreement]:
    """Open GGUF files by llama.cpp, 16 bits first: what is wrong there can hide in fewer."""
    from worker.exporting import llama_cpp_proof
    from worker.inference.engine import EngineError

    program = f"llama.cpp (xllamacpp {metadata.version('xllamacpp')})"
    adapter = next((request.out / EXPORT).glob("*-adapter.gguf"), None)
    files = _gguf_files(request)
    rows, starts = [one.ids for one in asked], [one.start for one in asked]
    for number, (file, quantization) in enumerate(files):
        tell("opening it with llama.cpp", 0.5 + 0.5 * number / len(files))
        try:
            scored = llama_cpp_proof.score_gguf(file, rows, starts, adapter)
        except EngineError as error:
            raise Unusable(str(error)) from None
        scores = [(one.likeliest, one.logprobs) for one in scored]
        yield agreement.compare(program, quantization, scores, reference)


def _gguf_files(request: Prove) -> list[tuple[Path, str]]:
    """Return the models to be opened, each with its kind, in the order in which they are judged."""
    folder, exact = request.out / EXPORT, request.out / EXACT_GGUF
    if request.form == "gguf":
        return [(folder / STARTING_GGUF, "f16")]
    (whole,) = folder.glob("*.gguf")
    before = [(exact, "f16")] if exact.exists() else []
    return [*before, (whole, request.quantization)]


def _scores(model: str, adapter: str | None, asked: list[Asked]) -> Scores:
    opened = plain.load(model, adapter)
    return plain.scores(opened, [one.ids for one in asked], [one.start for one in asked])


def _tokenizer_folder(request: Prove) -> Path | None:
    folder = request.out / EXPORT
    if request.form == "vllm" and (folder / "adapter").is_dir():
        return folder / "base"
    return folder if request.form in ("adapter", "merged", "vllm") else None


def _token_problem(chat: ChatFormat, request: Prove) -> str:
    """Say what a foreign reader of an export's tokenizer and settings would do otherwise."""
    texts = [chat.render([{"role": "user", "content": _QUESTION}], add_generation_prompt=True)]
    for row in request.rows[: held_out.NUM_ROWS]:
        try:
            texts.append(chat.render(row.messages, tools=row.tools))
        except ChatError:  # it was passed over before, too
            continue
    own = [list(chat.tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    if request.form in ("gguf", "gguf-merged", "ollama"):
        return _gguf_token_problem(chat, request, texts, own)
    folder = request.out / EXPORT
    if request.form == "vllm" and (folder / "adapter").is_dir():
        folder = folder / "base"
    try:
        found = plain.tokens(str(folder), texts, _QUESTION)
    except Exception as error:
        traceback.print_exc()
        raise Unusable(
            f"transformers cannot read the tokenizer of this export ({type(error).__name__}), so "
            "it is not offered; please tell your administrator."
        ) from error
    if found["ids"] != own:
        return _OTHER_TOKENS.format(program="transformers")
    if not chat.end_token_ids <= set(found["ends"]):
        return _NO_END
    bos = found["bos"]
    if bos is not None and found["asked"][:2] == [bos, bos]:
        return "transformers begins each question with two signs of a beginning."
    if found["template"] != chat.template_text:
        return "transformers finds another chat template in it than the model's own."
    return ""


def _gguf_token_problem(
    chat: ChatFormat, request: Prove, texts: list[str], own: list[list[int]]
) -> str:
    from worker.exporting import llama_cpp_proof

    for file, _ in _gguf_files(request):
        found = llama_cpp_proof.read_texts(file, texts)
        if found.token_ids != own:
            return _OTHER_TOKENS.format(program="llama.cpp")
        if not chat.end_token_ids <= found.end_ids:
            return _NO_END
    return ""


def _answer(found: list[Agreement], problem: str) -> dict[str, Any]:
    return {
        "agreement": [json.loads(one.model_dump_json()) for one in found],
        "problem": problem,
    }
