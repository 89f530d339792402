"""examples.arrow -> token ids and labels, and which examples a step takes."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from app.training.chat import (
    IGNORE_INDEX,
    ChatError,
    ChatFormat,
    Encoded,
    cut_text,
    is_pair,
)
from app.training.config import TrainConfig
from app.training.fitting import fit
from app.training.plan.shape import LengthHistogram
from worker.trainer import failures

_BATCH = 1000
_WHOLE = 2**62  # tokens; nothing is cut
_PROMPT_WORDS = 20


@dataclass(frozen=True)
class Question:
    """A question with the answer that a person wrote; or a text and how it goes on."""

    prompt: list[dict[str, Any]]
    reference: str
    tools: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        asked = (m for m in reversed(self.prompt) if m["role"] in ("user", "text"))
        return next((str(m["content"]) for m in asked), "")


@dataclass
class Cut:
    """What the length limit cut off the examples of a split."""

    num_examples: int = 0
    num_tokens: int = 0
    num_answers: int = 0  # of these examples, those that lost something that is learned

    def add(self, pieces: Sequence[Encoded]) -> None:
        """Count an example in."""
        self.num_examples += any(piece.num_cut_tokens > 0 for piece in pieces)
        self.num_tokens += sum(piece.num_cut_tokens for piece in pieces)
        self.num_answers += any(piece.num_cut_answer_tokens > 0 for piece in pieces)


@dataclass
class Unfit:
    """How many rows of a split are not taken as they are."""

    left_out: int = 0  # nothing of them is an answer, or their answer was cut off
    joined: int = 0  # whose turns were joined, because the template refuses them as they are
    refused: int = 0  # left out, because it refuses them anyhow


@dataclass(frozen=True)
class Data:
    train: list[Encoded]
    validation: list[Encoded]
    cut: dict[str, Cut]  # by split
    unfit: dict[str, Unfit]  # by split
    questions: list[Question]
    num_cut_texts: int = 0  # plain texts that became several examples
    num_pieces: int = 0  # how many those are now
    problem: str = ""  # the first reason why the template refuses one

    def histogram(self) -> LengthHistogram:
        # Of a pair the longer half: the plan knows that there are two.
        lengths = [max(example.lengths) for example in [*self.train, *self.validation]]
        return LengthHistogram.from_lengths(lengths, len(self.train), len(self.validation))


@dataclass(frozen=True)
class _Read:
    """One row of examples.arrow."""

    index: int
    split: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None

    @property
    def is_text(self) -> bool:
        return bool(self.messages) and self.messages[0]["role"] == "text"


def prepare(
    path: Path,
    chat: ChatFormat,
    config: TrainConfig,
    num_questions: int,
    context_tokens: int | None = None,
) -> Data:
    """Read the job's examples and turn them into tokens.

    Args:
        path: examples.arrow.
        chat: The model's tokenizer and template.
        config: The longest example that the person chose, and more.
        num_questions: How many held-out questions to keep as text.
        context_tokens: How many tokens the model reads at once, if it says.

    Raises:
        Failure: the file cannot be read, the template refuses an example, an answer is longer than
            what the model reads at once, or no example is left.
    """
    limit = min(config.max_length_tokens, context_tokens or config.max_length_tokens)
    config = config.model_copy(update={"max_length_tokens": limit})
    examples = _read(path)
    splits: dict[str, list[Encoded]] = {"train": [], "validation": []}
    questions: list[Question] = []
    cut = {split: Cut() for split in splits}
    unfit = {split: Unfit() for split in splits}
    counts: Counter[str] = Counter()
    problem = ""
    for begin in range(0, len(examples), _BATCH):
        part = examples[begin : begin + _BATCH]
        try:
            encoded = _encode(chat, part, config)
        except ChatError as error:
            problem = problem or str(error)
            part = _fitting(chat, part, config, unfit)
            encoded = _encode(chat, part, config)
        for example, pieces in zip(part, encoded, strict=True):
            if limit == context_tokens and any(_loses_its_answer(example, p) for p in pieces):
                raise failures.dataset_invalid(
                    f"Example {example.index + 1}: the starting model reads at most {limit} "
                    "tokens at once, and the answer alone is longer; shorten it or leave it out."
                )
            useful = [piece for piece in pieces if _teaches(piece)]
            if not useful:
                unfit[example.split].left_out += 1
                continue
            if len(pieces) > 1:
                counts["cut_texts"] += 1
                counts["pieces"] += len(pieces)
            cut[example.split].add(pieces)
            splits[example.split] += useful
            if example.split == "validation" and len(questions) < num_questions:
                questions += _question(example)
    if not splits["train"] and problem:
        raise failures.dataset_invalid(
            f"The starting model cannot take any of the practice examples: {problem}"
        )
    if not splits["train"]:
        raise failures.dataset_invalid(
            "No practice example has an answer to learn from; look at the dataset's columns."
        )
    return Data(
        splits["train"],
        splits["validation"],
        cut,
        unfit,
        questions,
        counts["cut_texts"],
        counts["pieces"],
        problem,
    )


def _fitting(
    chat: ChatFormat, part: list[_Read], config: TrainConfig, unfit: dict[str, Unfit]
) -> list[_Read]:
    """Return the examples that the template takes, some with their turns joined."""
    taken = []
    for example in part:
        found = fit(chat, example.messages, example.tools, joins=config.unfit_rows == "join")
        if found.messages is None:
            unfit[example.split].refused += 1
            continue
        unfit[example.split].joined += found.is_joined
        messages = [dict(message) for message in found.messages]
        taken.append(replace(example, messages=messages))
    return taken


def _read(path: Path) -> list[_Read]:
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
        tools = columns.get("tools") or [None] * table.num_rows  # written before there were any
        return [
            _Read(index, split, json.loads(messages), json.loads(offered) if offered else None)
            for index, split, messages, offered in zip(
                columns["index"], columns["split"], columns["messages"], tools, strict=True
            )
        ]
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise failures.dataset_invalid(
            "The job's examples cannot be read: their file is damaged. Start the job again."
        ) from error


def num_learned(example: Encoded) -> int:
    """Count what an example adds to the number that a step's loss is divided by.

    Its labelled tokens; a pair counts as one. A first token is predicted by nobody.
    """
    if example.num_better_tokens:
        return 1
    return sum(label != IGNORE_INDEX for label in example.labels[1:])


def _teaches(example: Encoded) -> bool:
    """Say whether there is something to learn in each sequence; a first token is nobody's."""
    begin = 0
    for length in example.lengths:
        labels = example.labels[begin + 1 : begin + length]
        if all(label == IGNORE_INDEX for label in labels):
            return False
        begin += length
    return True


def step_examples(num_train: int, config: TrainConfig, step: int) -> list[int]:
    """Return which examples the step after `step` updates takes.

    Passes over the data follow each other without a gap, each in an order of its own, so the
    number of updates so far is the whole position in the data.
    """
    begin = step * config.batch_size
    end = begin + config.batch_size
    if not config.num_steps:
        end = min(end, max(1, round(num_train * config.num_epochs)))
    if end <= begin:  # rounding of a broken number of passes: the last step is a whole one
        end = begin + config.batch_size
    taken: list[int] = []
    for epoch in range(begin // num_train, (end - 1) // num_train + 1):
        order = np.random.default_rng((config.seed, epoch)).permutation(num_train)
        low = max(0, begin - epoch * num_train)
        taken += order[low : end - epoch * num_train].tolist()
    return taken


def evaluation_examples(
    validation: Sequence[Encoded], config: TrainConfig, train_tokens: float
) -> list[Encoded]:
    """Choose what evaluations use: all, or a fixed seeded part where that would cost much.

    All evaluations together take at most about a fifth of the training's time; one is a third of
    the work of training on the same tokens. 64 examples are always used.

    Args:
        validation: The check set; in versions of two parts, the test set.
        config: How many evaluations, and the seed.
        train_tokens: That the job trains on, each as often as it is passed.
    """
    allowance = 0.2 * 3 * train_tokens / (config.num_evaluations + 1)
    order = np.random.default_rng((config.seed, 2**32)).permutation(len(validation))
    chosen: list[int] = []
    num_tokens = 0
    for index in order.tolist():
        num_tokens += len(validation[index].token_ids)
        if num_tokens > allowance and len(chosen) >= 64:
            break
        chosen.append(index)
    return [validation[index] for index in sorted(chosen)]


def _encode(chat: ChatFormat, part: list[_Read], config: TrainConfig) -> list[list[Encoded]]:
    """Encode each example; a long plain text becomes several.

    Raises:
        ChatError: the template refuses one of them.
    """
    limit = config.max_length_tokens
    conversations, tools = [e.messages for e in part], [e.tools for e in part]
    if config.objective == "dpo":
        lone = next((e for e in part if not is_pair(e.messages)), None)
        if lone is not None:
            raise failures.dataset_invalid(
                "This job learns from better and worse answers, and example "
                f"{lone.index + 1} has no worse one; choose other data, or learn from the "
                "right answers."
            )
        return [[pair] for pair in chat.encode_pairs(conversations, limit, tools)]
    limits = [_WHOLE if e.is_text else limit for e in part]
    return [
        cut_text(one, limit) if example.is_text else [one]
        for example, one in zip(part, chat.encode_many(conversations, limits, tools), strict=True)
    ]


def _loses_its_answer(example: _Read, piece: Encoded) -> bool:
    """Tell whether cutting left nothing before an answer; plain text may be cut anywhere."""
    begins = [0, piece.num_better_tokens]  # of a pair, the worse answer begins anew
    is_cut = piece.num_cut_tokens > 0 and not example.is_text
    return is_cut and any(piece.labels[begin] != IGNORE_INDEX for begin in begins)


def _question(example: _Read) -> list[Question]:
    messages = example.messages
    if example.is_text:
        words = str(messages[0]["content"]).split()
        if len(words) < 2 * _PROMPT_WORDS:
            return []
        begin, rest = words[:_PROMPT_WORDS], words[_PROMPT_WORDS : 3 * _PROMPT_WORDS]
        return [Question([{"role": "text", "content": " ".join(begin)}], " ".join(rest))]
    for index in range(len(messages) - 1, 0, -1):
        # A call of a tool is no answer that could be shown beside another.
        if messages[index]["role"] == "assistant" and messages[index]["content"]:
            said = str(messages[index]["content"])
            return [Question(messages[:index], said, example.tools)]
    return []
