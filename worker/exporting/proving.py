"""An export, opened by programs that are not ours and held against the reference."""

import gc
import json
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from app.training import settings_files
from app.training.chat import ChatError, ChatFormat
from worker.exporting import agreement, endings, held_out, plain
from worker.exporting.agreement import Agreement, Scores
from worker.exporting.endings import Ids
from worker.exporting.held_out import Asked
from worker.exporting.making import EXACT_GGUF, STARTING_GGUF
from worker.exporting.requests import EXPORT, Prove, Unusable

if TYPE_CHECKING:
    from worker.exporting import llama_cpp_proof

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


@dataclass(frozen=True)
class _Reference:
    """What the adapter as it was trained finds of the held-out answers, and says itself."""

    asked: list[Asked]
    scores: Scores
    drafts: list[list[int]]  # its own answers
    ends: set[int]
    most: int  # how many tokens an answer may have

    @property
    def prompts(self) -> list[list[int]]:
        return [one.ids[: one.start] for one in self.asked]


class _Speaker(Protocol):
    """An export in a program that is not ours."""

    def scores(self, rows: Sequence[Ids], starts: Sequence[int]) -> Scores: ...
    def go_on(
        self, rows: Sequence[Ids], ends: Collection[int], rooms: Sequence[int]
    ) -> Sequence[Ids]: ...


class _InTransformers:
    def __init__(self, model: str, adapter: str | None) -> None:
        self._model = plain.load(model, adapter)

    def scores(self, rows: Sequence[Ids], starts: Sequence[int]) -> Scores:
        return plain.scores(self._model, rows, starts)

    def go_on(
        self, rows: Sequence[Ids], ends: Collection[int], rooms: Sequence[int]
    ) -> Sequence[Ids]:
        return plain.go_on(self._model, rows, ends, max(rooms))


class _InLlamaCpp:
    def __init__(self, opened: "llama_cpp_proof.Opened") -> None:
        self._opened = opened

    def scores(self, rows: Sequence[Ids], starts: Sequence[int]) -> Scores:
        found = self._opened.scores(rows, starts)
        return [(one.likeliest, one.logprobs) for one in found]

    def go_on(
        self, rows: Sequence[Ids], ends: Collection[int], rooms: Sequence[int]
    ) -> Sequence[Ids]:
        cut = zip(rows, rooms, strict=True)
        return [self._opened.go_on(row, ends, room) for row, room in cut]


def prove(request: Prove, tell: Tell) -> dict[str, Any]:
    """Open an export and compare it with the reference; what is short is said, and not raised.

    Returns:
        {"agreement": one Agreement for each time that it was opened, "problem": a sentence, or ""}

    Raises:
        Unusable: no row can be asked.
        ChatError: the chat template cannot be used.
    """
    chat = ChatFormat.load(request.sources.base)
    asked = held_out.choose(chat, request.rows)
    reference = _refer(request, asked, tell)
    gc.collect()  # the reference's weights go before those of the export come
    tell("opening what was made", 0.6)
    found: list[Agreement] = []
    for one in _opened(request, reference, tell):
        found.append(one)
        if not one.is_fit:
            return _answer(found, one.shortfall())
    return _answer(found, _token_problem(chat, request))


def _refer(request: Prove, asked: list[Asked], tell: Tell) -> _Reference:
    """Let transformers and PEFT read the answers with the adapter as it was trained, and answer."""
    base, adapter = request.sources.base, request.sources.adapter
    tell("reading the answers with the adapter as it was trained", 0)
    model = plain.load(str(base), str(adapter))
    scores = plain.scores(model, [one.ids for one in asked], [one.start for one in asked])
    ends = settings_files.end_token_ids(base)
    most = endings.max_tokens([len(one.ids) - one.start for one in asked])
    # What it is compared by was read above, with the adapter beside the weights. Its own answers
    # are said by their sum, in a third of the products; in 16 bits that were another model.
    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        model.merge_adapter()
    drafts = plain.go_on(
        model,
        [one.ids[: one.start] for one in asked],
        ends,
        most,
        lambda share: tell("letting it answer as it was trained", 0.2 + 0.4 * share),
    )
    return _Reference(asked, scores, drafts, ends, most)


def _opened(request: Prove, reference: _Reference, tell: Tell) -> Iterator[Agreement]:
    folder = request.out / EXPORT
    program = f"transformers {metadata.version('transformers')}"
    with_peft = f"{program} and PEFT {metadata.version('peft')}"
    adapter: str | None
    match request.form:
        case "adapter":
            opened_by, model, adapter = with_peft, str(request.sources.base), str(folder)
        case "vllm" if (folder / "adapter").is_dir():
            opened_by, model, adapter = with_peft, str(folder / "base"), str(folder / "adapter")
        case "merged" | "vllm":
            opened_by, model, adapter = program, str(folder), None
        case _:
            yield from _opened_gguf(request, reference, tell)
            return
    speaker = _InTransformers(model, adapter)
    ends = plain.end_ids(str(_settings_folder(request)))
    yield _held(opened_by, request.quantization, speaker, reference, ends)


def _opened_gguf(request: Prove, reference: _Reference, tell: Tell) -> Iterator[Agreement]:
    """Open GGUF files by llama.cpp, 16 bits first: what is wrong there can hide in fewer."""
    from worker.exporting import llama_cpp_proof
    from worker.inference.engine import EngineError

    program = f"llama.cpp (xllamacpp {metadata.version('xllamacpp')})"
    adapter = next((request.out / EXPORT).glob("*-adapter.gguf"), None)
    files = _gguf_files(request)
    longest = max(
        *(len(one.ids) for one in reference.asked),
        *(len(prompt) + reference.most for prompt in reference.prompts),
    )
    for number, (file, quantization) in enumerate(files):
        tell("opening it with llama.cpp", 0.6 + 0.4 * number / len(files))
        try:
            with llama_cpp_proof.opened(file, longest, adapter) as opened:
                is_offered = number == len(files) - 1
                ends = llama_cpp_proof.read_texts(file, []).end_ids if is_offered else None
                yield _held(program, quantization, _InLlamaCpp(opened), reference, ends)
        except EngineError as error:
            raise Unusable(str(error)) from None


def _held(
    program: str,
    quantization: str,
    speaker: _Speaker,
    reference: _Reference,
    ends: Collection[int] | None,
) -> Agreement:
    """Hold what a program finds, and says, against the reference.

    Args:
        ends: At which it takes an answer to be over; None: it is not asked to answer.
    """
    asked, drafts = reference.asked, reference.drafts
    rows, starts = [one.ids for one in asked], [one.start for one in asked]
    if ends is None:
        return agreement.compare(
            program, quantization, speaker.scores(rows, starts), reference.scores
        )
    prompts = reference.prompts
    # Read at once: how likely the held-out answers are, and how far it says the reference's own.
    along = [[*prompt, *draft] for prompt, draft in zip(prompts, drafts, strict=True)]
    scores = speaker.scores([*rows, *along], [*starts, *starts])
    found = agreement.compare(program, quantization, scores[: len(rows)], reference.scores)
    if not found.is_fit:
        return found
    likeliest = [own for own, _ in scores[len(rows) :]]
    num_ended = endings.count(
        prompts,
        drafts,
        likeliest,
        ends,
        reference.most,
        lambda rows, rooms: speaker.go_on(rows, ends, rooms),
    )
    held = endings.compare(num_ended, drafts, reference.ends, reference.most)
    return found.model_copy(update={"endings": held})


def _gguf_files(request: Prove) -> list[tuple[Path, str]]:
    """Return the models to be opened, each with its kind, in the order in which they are judged."""
    folder, exact = request.out / EXPORT, request.out / EXACT_GGUF
    if request.form == "gguf":
        return [(folder / STARTING_GGUF, "f16")]
    (whole,) = folder.glob("*.gguf")
    before = [(exact, "f16")] if exact.exists() else []
    return [*before, (whole, request.quantization)]


def _settings_folder(request: Prove) -> Path:
    """Return where transformers finds an export's tokenizer, and the end of an answer."""
    folder = request.out / EXPORT
    if request.form == "vllm" and (folder / "adapter").is_dir():
        return folder / "base"
    return folder


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
    try:
        found = plain.tokens(str(_settings_folder(request)), texts, _QUESTION)
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
