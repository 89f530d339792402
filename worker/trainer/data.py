"""examples.arrow -> token ids and labels, and which examples a step takes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from app.chat import IGNORE_INDEX, ChatError, ChatFormat, Encoded
from app.train_config import TrainConfig
from app.training_plan import LengthHistogram
from worker.trainer import failures

_BATCH = 1000


@dataclass(frozen=True)
class Question:
    """A held-out question with the answer that a person wrote."""

    prompt: list[dict[str, Any]]
    reference: str

    @property
    def text(self) -> str:
        return next((str(m["content"]) for m in reversed(self.prompt) if m["role"] == "user"), "")


@dataclass(frozen=True)
class Data:
    train: list[Encoded]
    validation: list[Encoded]
    num_truncated: int
    num_left_out: int  # nothing of them is an answer
    questions: list[Question]

    def histogram(self) -> LengthHistogram:
        lengths = [len(example.token_ids) for example in [*self.train, *self.validation]]
        return LengthHistogram.from_lengths(lengths, len(self.train), len(self.validation))


def prepare(path: Path, chat: ChatFormat, config: TrainConfig, num_questions: int) -> Data:
    """Read the job's examples and turn them into tokens.

    Raises:
        Failure: the file cannot be read, the template refuses an example, or none is left.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        indexes = table.column("index").to_pylist()
        splits = table.column("split").to_pylist()
        conversations = [json.loads(text) for text in table.column("messages").to_pylist()]
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise failures.dataset_invalid(
            f"The job's examples cannot be read ({error}); start the job again."
        ) from error
    found: dict[str, list[Encoded]] = {"train": [], "validation": []}
    questions: list[Question] = []
    num_truncated = num_left_out = 0
    for begin in range(0, len(conversations), _BATCH):
        part = conversations[begin : begin + _BATCH]
        encoded = _encode(chat, part, indexes[begin : begin + _BATCH], config.max_length_tokens)
        for messages, split, example in zip(part, splits[begin:], encoded, strict=False):
            # The first token is nobody's to predict.
            if all(label == IGNORE_INDEX for label in example.labels[1:]):
                num_left_out += 1
                continue
            num_truncated += example.num_cut_tokens > 0
            found[split].append(example)
            if split == "validation" and len(questions) < num_questions:
                questions += _question(messages)
    if not found["train"]:
        raise failures.dataset_invalid(
            "No practice example has an answer to learn from; look at the dataset's columns."
        )
    return Data(found["train"], found["validation"], num_truncated, num_left_out, questions)


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
    """Choose what evaluations look at: all, or a fixed seeded part where that would cost much.

    All looks together take at most about a fifth of the training's time; a look is a third of the
    work of training on the same tokens. 64 examples are always looked at.
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


def _encode(
    chat: ChatFormat,
    conversations: list[list[dict[str, Any]]],
    indexes: list[int],
    max_length_tokens: int,
) -> list[Encoded]:
    try:
        return chat.encode_many(conversations, max_length_tokens)
    except ChatError:
        for index, messages in zip(indexes, conversations, strict=True):
            try:
                chat.segments(messages)
            except ChatError as error:
                raise failures.dataset_invalid(f"Example {index + 1}: {error}") from error
        raise


def _question(messages: list[dict[str, Any]]) -> list[Question]:
    for place in range(len(messages) - 1, 0, -1):
        if messages[place]["role"] == "assistant":
            return [Question(messages[:place], str(messages[place]["content"]))]
    return []
