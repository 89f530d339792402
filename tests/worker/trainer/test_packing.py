"""Examples side by side learn what they would learn alone."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from app.training.chat import Encoded
from tests.worker.trainer.conftest import make_job, make_plan, make_state
from worker.trainer import loop, packing
from worker.trainer.layers import attention
from worker.trainer.state import TrainingState


def test_rows_hold_every_example_once_and_no_more_than_fits() -> None:
    lengths = [5, 90, 20, 30, 64, 120, 10, 10]
    rows = packing.pack(lengths, 100)
    assert sorted(i for row in rows for i in row) == list(range(8))
    for row in rows:
        assert sum(lengths[i] for i in row) <= 100 or row == [5]
    assert len(rows) == 4  # 349 tokens: 120 alone, then three rows of a hundred at most


def test_positions_begin_anew_and_first_tokens_are_nobodys_to_predict() -> None:
    row = packing.make_row(
        [Encoded([1, 2, 3], [1, 2, 3], 0), Encoded([4, 5], [-100, 5], 0)], torch.device("cpu")
    )
    assert row.position_ids_T.tolist() == [0, 1, 2, 0, 1]
    assert row.labels_T.tolist() == [-100, 2, 3, -100, 5]


@pytest.mark.parametrize("lengths", [[7, 5, 9], [300, 3, 4, 5]])  # padded; one by one
@pytest.mark.parametrize("window", [None, 4])
def test_attention_stays_within_an_example(lengths: list[int], window: int | None) -> None:
    torch.manual_seed(0)
    total = sum(lengths)
    query, key, value = (
        torch.randn(1, heads, total, 8, dtype=torch.float64, requires_grad=True)
        for heads in (6, 2, 2)
    )
    row = packing.make_row([Encoded([0] * n, [0] * n, 0) for n in lengths], torch.device("cpu"))
    with attention.in_flight(row):
        y, _ = attention.packed_attention(
            torch.nn.Module(), query, key, value, None, sliding_window=window
        )
    y.square().sum().backward()
    gradients = [x.grad.clone() for x in (query, key, value) if x.grad is not None]
    example_T = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    distance = torch.arange(total)[:, None] - torch.arange(total)[None, :]
    seen = (example_T[:, None] == example_T[None, :]) & (distance >= 0)
    if window is not None:
        seen &= distance < window
    for x in (query, key, value):
        x.grad = None
    expected = scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
    expected.square().sum().backward()
    # The padded path rounds its weights to float32.
    torch.testing.assert_close(y, expected.transpose(1, 2), rtol=1e-5, atol=1e-6)
    for gradient, x in zip(gradients, (query, key, value), strict=True):
        torch.testing.assert_close(gradient, x.grad, rtol=1e-5, atol=1e-5)


def test_attention_refuses_to_guess() -> None:
    x = torch.zeros(1, 2, 5, 8)
    with pytest.raises(RuntimeError, match="without a packed row"):
        attention.packed_attention(torch.nn.Module(), x, x, x, None)


def test_a_packed_step_is_the_sum_of_its_examples(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model)
    results = {}
    for name, tokens in (("packed", 4096), ("alone", 1)):
        state = make_state(tmp_path, spec, make_plan(spec, micro_batch_tokens=tokens))
        _move_adapter(state)
        loss = loop.fill_gradients(state, state.data.train[:8])
        gradients = [p.grad for p in state.model.adapter.values() if p.grad is not None]
        assert len(gradients) == len(state.model.adapter)
        results[name] = (loss, gradients)
    assert results["packed"][0] == pytest.approx(results["alone"][0], rel=1e-5)
    for one, other in zip(results["packed"][1], results["alone"][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def _move_adapter(state: TrainingState) -> None:
    """B is zero at first, and then A has no gradient."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in state.model.adapter.items():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
