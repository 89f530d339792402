"""How long examples are in a base model's tokens, by its own tokenizer and chat template."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core.confined.chat import ChatEnded, ConfinedChat
from app.core.errors import Invalid
from app.core.models import BaseModel, DatasetVersion, Example, ExampleKind
from app.datasets import examples
from app.datasets.doctor import language_names
from app.datasets.doctor.report import BARS, Report
from app.training.chat import ChatError
from app.training.plan.shape import LengthHistogram

MAX_SAMPLE = 2000
# A web process tokenizes so much text in a second or two.
MAX_COUNTED_BYTES = 2_000_000
# Longer ones are cut in training as well; counting further tells nothing.
_MAX_LENGTH_TOKENS = 1_000_000
_TOKENS_PER_BYTE = 0.25  # where no example is short enough to be counted
# Without any model's tokenizer: what it takes of a text in letters, and in signs of their own.
_TOKENS_PER_CHARACTER = 0.28
_TOKENS_PER_SIGN = 0.7
_SIGNS = frozenset({"zh", "ja", "ko", "th"})
_TEMPLATE_TOKENS = 20  # what a chat template puts around an example
_NUM_QUANTILES = 200
# Each token of a batch takes some 200 bytes while it is counted.
_BATCH_BYTES = 200_000


def histogram(
    db: Session, version: DatasetVersion, base_model: BaseModel, max_sample: int = MAX_SAMPLE
) -> LengthHistogram:
    """Return the token lengths of a ready version, counted once and kept with the version.

    At most `max_sample` examples, spread evenly over the version, stand for all of them. Where they
    hold much text some are counted, and the others go by their bytes.

    Raises:
        Conflict: the base model is not ready.
        Invalid: its files or its chat template cannot write these examples.
    """
    key = str(base_model.id)
    known = (version.token_lengths or {}).get(key)
    if known is not None:
        return LengthHistogram.model_validate(known)
    folder = base_models.folder(base_model)
    chat = ConfinedChat(folder, base_model.manifest_sha256)
    try:
        chat.check()
    except ChatError as error:
        raise Invalid(str(error), field="base_model_id") from error
    sizes = examples.sample_sizes(db, version, max_sample)
    chosen = _affordable(sizes)
    lengths: list[int] = []
    problem = ""
    for batch in _batches(chosen, sizes):
        try:
            of_batch, wrong = _lengths(chat, examples.at(db, version, batch))
        except ChatEnded as error:
            problem = str(error)
            break
        lengths += of_batch
        problem = problem or wrong
    if problem and not lengths:
        raise Invalid(
            f"{base_model.label} cannot take these examples: {problem}", field="base_model_id"
        )
    per_byte = sum(lengths) / max(1, sum(sizes[index] for index in chosen)) or _TOKENS_PER_BYTE
    lengths += [round(size * per_byte) for index, size in sizes.items() if index not in chosen]
    is_text = examples.kind(db, version) is ExampleKind.TEXT
    counted = LengthHistogram.from_lengths(
        lengths, version.num_train, version.num_validation, is_text
    )
    version.token_lengths = (version.token_lengths or {}) | {key: counted.model_dump(mode="json")}
    db.flush()
    return counted


def known(db: Session, version: DatasetVersion, report: Report | None) -> LengthHistogram | None:
    """Return about how long a ready version's examples are; no example is read for it.

    Tokens that were counted for any starting model are within a fifth or so of another's. Where
    there are none the characters count that the doctor has found; None: nobody has looked yet.
    """
    for kept in reversed((version.token_lengths or {}).values()):
        return LengthHistogram.model_validate(kept)
    if report is None:
        return None
    if whole := report.bars.get("whole"):
        characters = _quantiles(whole)
    else:  # a report from before they were counted
        each = [_quantiles(report.bars.get(name, [])) for name in ("question", "answer")]
        characters = [sum(lengths) for lengths in zip(*filter(None, each), strict=True)]
    if not characters:
        return None
    has_signs = language_names.code_of(report.language) in _SIGNS
    per_character = _TOKENS_PER_SIGN if has_signs else _TOKENS_PER_CHARACTER
    return LengthHistogram.from_lengths(
        [round(_TEMPLATE_TOKENS + per_character * one) for one in characters],
        version.num_train,
        version.num_validation,
        examples.kind(db, version) is ExampleKind.TEXT,
    )


def _quantiles(counts: Sequence[int]) -> list[float]:
    """Return lengths, evenly spread over all that a report counts; none where it counts none."""
    ends = list(accumulate(counts))
    if not ends or not ends[-1]:
        return []
    # A bar reaches from half of its bound to its bound; the last has none.
    middles = [0.75 * bound for bound in (*BARS, 2 * BARS[-1])]
    places = [(one + 0.5) / _NUM_QUANTILES * ends[-1] for one in range(_NUM_QUANTILES)]
    return [middles[bisect_right(ends, place)] for place in places]


def _affordable(sizes: dict[int, int]) -> list[int]:
    """Choose which examples are counted: all, or as many as are affordable, evenly spread."""
    every = max(1, -(-sum(sizes.values()) // MAX_COUNTED_BYTES))
    chosen, left = [], MAX_COUNTED_BYTES
    for index in list(sizes)[::every]:
        if sizes[index] <= left:
            chosen.append(index)
            left -= sizes[index]
    return chosen


def _batches(indices: list[int], sizes: dict[int, int]) -> Iterator[list[int]]:
    batch: list[int] = []
    left = _BATCH_BYTES
    for index in indices:
        if batch and sizes[index] > left:
            yield batch
            batch, left = [], _BATCH_BYTES
        batch.append(index)
        left -= sizes[index]
    if batch:
        yield batch


def _lengths(chat: ConfinedChat, batch: list[Example]) -> tuple[list[int], str]:
    """Count a batch.

    Raises:
        ChatEnded: not even one of it can be counted.
    """
    messages, tools = [one.messages for one in batch], [one.tools for one in batch]
    with suppress(ChatEnded):
        return chat.lengths(messages, tools, _MAX_LENGTH_TOKENS)
    # All of it may be too much at once.
    alone = [chat.lengths([one.messages], [one.tools], _MAX_LENGTH_TOKENS) for one in batch]
    problem = next((one.problem for one in alone if one.problem), "")
    return [length for one in alone for length in one.lengths], problem
