"""Continued pretraining: plain texts are learned whole, in pieces where they are long."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.training.chat import IGNORE_INDEX, ChatFormat
from app.training.plan.shape import LengthHistogram
from tests.worker.trainer.conftest import (
    events,
    make_job,
    make_plan,
    make_state,
)
from worker.trainer import loop


def text(index: int) -> list[dict[str, Any]]:
    """Texts of 30 to 600 tokens; one token a letter."""
    words = " ".join(f"word{number * (index + 3) % 97}" for number in range(5 + index * 4))
    return [{"role": "text", "content": words}]


def test_every_token_of_a_long_text_is_learned_once(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, messages=text, max_length_tokens=64)
    state = make_state(tmp_path, spec)
    data, form = state.data, ChatFormat.load(tiny_model)
    whole = form.encode_many([text(index) for index in range(28)], 10_000)
    expected = Counter(token for one in whole for token in one.token_ids[1:])
    assert max(len(one.token_ids) for one in whole) > 500
    learned: Counter[int] = Counter()
    for row in state.micro_batches([*data.train, *data.validation]):
        learned.update(label for label in row.labels_T.tolist() if label != IGNORE_INDEX)
    assert learned == expected
    (end,) = form.end_token_ids
    assert learned[end] == 28
    assert max(len(piece.token_ids) for piece in data.train) == 64
    assert (data.cut["train"].num_examples, data.unfit["train"].left_out) == (0, 0)
    [note] = [e["message"] for e in events(tmp_path, kind="note")]
    assert note == (
        f"{data.num_cut_texts} long texts were cut into {data.num_pieces} pieces of at most "
        "64 tokens; nothing is lost."
    )
    short = sum(len(one.token_ids) <= 64 for one in whole)
    assert data.num_cut_texts == 28 - short
    assert data.num_pieces == len(data.train) + len(data.validation) - short


def test_a_job_on_texts_goes_through_and_goes_on_with_held_out_ones(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(
        tmp_path, tiny_model, messages=text, max_length_tokens=64, num_steps=30, num_evaluations=2
    )
    loop.train(make_state(tmp_path, spec, make_plan(spec)))
    (done,) = events(tmp_path, kind="done")
    assert done["validation_loss_after"] < done["validation_loss_before"]
    (samples,) = events(tmp_path, kind="samples")
    assert [s["question"].split()[0] for s in samples["samples"]] == ["word0"] * 3
    assert len(samples["samples"][0]["question"].split()) == 20
    whole = text(24)[0]["content"].split()
    assert samples["samples"][0]["reference"].split() == whole[20:60]


@pytest.mark.parametrize("limit", [64, 512, 4096])
def test_the_plan_foresees_the_pieces(limit: int) -> None:
    lengths = [int(20 * 1.04**n) for n in range(200)]
    whole = LengthHistogram.from_lengths(lengths, 180, 20, is_text=True)
    cut = whole.in_pieces(limit)
    pieces = sum(max(1, -(-(length - 1) // (limit - 1))) for length in lengths)
    assert cut.num_train + cut.num_validation == pytest.approx(pieces, rel=0.25)
    assert cut.max_tokens == limit
    assert cut.total_tokens == whole.total_tokens
    chats = LengthHistogram.from_lengths(lengths, 180, 20)
    assert chats.in_pieces(limit) == chats
