"""On a GPU: the packed 4-bit step, attention, the paged optimizer, memory running out, resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention

from app.training.chat import Encoded
from app.training.config import TrainConfig
from bench.arms import etude
from tests.gpu.conftest import DEVICE, random_job
from tests.worker.trainer.conftest import events
from worker.trainer import checkpoint, failures, loop, memory, optimizers, packing
from worker.trainer.layers import attention, kernels
from worker.trainer.probe import probe
from worker.trainer.state import TrainingState

LENGTHS = [37, 512, 5, 130, 64, 300, 9, 77, 21, 33, 250, 18, 90, 41, 12, 155]
needs_cuda = pytest.mark.skipif(DEVICE == "cpu", reason="What is tried here is CUDA's alone.")


@pytest.mark.parametrize("lengths", [LENGTHS, [96] * 8, [700]], ids=["mixed", "equal", "one"])
def test_attention_in_a_row_equals_attention_example_by_example(lengths: list[int]) -> None:
    torch.manual_seed(0)
    total = sum(lengths)
    parts = [torch.randn(1, heads, total, 64, device=DEVICE) for heads in (8, 2, 2)]
    narrow = [x.bfloat16().requires_grad_() for x in parts]
    exact = [x.detach().float().requires_grad_() for x in narrow]
    row = packing.make_row([Encoded([0] * n, [0] * n, 0) for n in lengths], torch.device(DEVICE))
    grad = torch.randn(1, total, 8, 64, device=DEVICE)
    q, k, v = narrow
    with attention.in_flight(row):
        y, _ = attention.packed_attention(nn.Module(), q, k, v, None)
        (y * grad).sum().backward()
    if DEVICE != "cpu":
        assert attention._can_use_varlen(narrow[0], None)
    pieces = [
        scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        for q, k, v in zip(*(x.split(lengths, dim=2) for x in exact), strict=True)
    ]
    expected = torch.cat(pieces, dim=2).transpose(1, 2)
    (expected * grad).sum().backward()
    torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=2e-2)
    for one, other in zip(narrow, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert cosine(one.grad, other.grad) > 0.9995


@needs_cuda
def test_a_rotation_of_more_tokens_than_one_side_of_a_grid_has() -> None:
    """CUDA allows 65,535 on all sides but the first."""
    x = torch.randn(1, 1, 70_000, 16, device=DEVICE)
    cos, sin = torch.randn(2, 1, 70_000, 16, device=DEVICE)
    first, second = x.chunk(2, dim=-1)
    expected = x * cos[:, None] + torch.cat((-second, first), -1) * sin[:, None]
    torch.testing.assert_close(kernels.rotate(x, cos, sin), expected)


@needs_cuda
def test_what_waits_in_the_computers_memory_teaches_the_same(tmp_path: Path) -> None:
    results = []
    for offloaded in (False, True):
        state = random_job(
            tmp_path / str(offloaded), "untied", LENGTHS, checkpointing=True, offloaded=offloaded
        )
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        loss = loop.fill_gradients(state, state.data.train)
        results.append((loss, gradients(state), torch.cuda.max_memory_allocated() - before))
    (loss, ours, peak), (other_loss, theirs, less) = results
    assert loss == pytest.approx(other_loss, rel=1e-5)
    for name, gradient in ours.items():
        assert cosine(gradient, theirs[name]) > 0.9999, name
    assert less < peak


def test_a_packed_4_bit_step_is_the_sum_of_its_examples(tmp_path: Path) -> None:
    results = {}
    for name, tokens in (("packed", 4096), ("alone", 1)):
        state = random_job(tmp_path / name, "small", LENGTHS, micro_batch_tokens=tokens)
        loss = loop.fill_gradients(state, state.data.train)
        results[name] = (loss, gradients(state))
    # Other kernels for other shapes: bfloat16 keeps 8 bits, sums are made in another order.
    assert results["packed"][0] == pytest.approx(results["alone"][0], rel=2e-3)
    for name, gradient in results["packed"][1].items():
        other = results["alone"][1][name]
        assert cosine(gradient, other) > 0.995, name
        assert gradient.norm().item() == pytest.approx(other.norm().item(), rel=3e-2), name


def test_attention_without_varlen_teaches_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {}
    monkeypatch.setattr(attention, "varlen_attn", attention.varlen_attn)  # put back afterwards
    for variant in ("full", "no-varlen"):
        state = random_job(tmp_path / variant, "small", LENGTHS, micro_batch_tokens=4096)
        etude.switch_off(variant, state)
        if DEVICE != "cpu":
            assert (attention.varlen_attn is None) == (variant == "no-varlen")
        loss = loop.fill_gradients(state, state.data.train)
        results[variant] = (loss, gradients(state))
    assert results["full"][0] == pytest.approx(results["no-varlen"][0], rel=2e-3)
    for name, gradient in results["full"][1].items():
        other = results["no-varlen"][1][name]
        assert cosine(gradient, other) > 0.995, name
        assert gradient.norm().item() == pytest.approx(other.norm().item(), rel=3e-2), name


def test_weights_unpacked_once_train_like_4_bit_ones(tmp_path: Path) -> None:
    results = {}
    for resident in ("nf4", "bf16"):
        state = random_job(tmp_path / resident, "small", LENGTHS, resident=resident)
        loss = loop.fill_gradients(state, state.data.train)
        results[resident] = (loss, gradients(state))
    assert results["nf4"][0] == pytest.approx(results["bf16"][0], rel=1e-5)
    for name, gradient in results["nf4"][1].items():
        assert cosine(gradient, results["bf16"][1][name]) > 0.9999, name


@needs_cuda
def test_paged_adamw_does_what_adamw_does(tmp_path: Path) -> None:
    config = TrainConfig(learning_rate=1e-3)
    plan = random_job(tmp_path, "tiny", LENGTHS).plan
    results = []
    for kind in ("adamw", "paged_adamw"):
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(n, 512, device=DEVICE)) for n in (16, 1024)]
        chosen = plan.model_copy(update={"optimizer": kind})
        optimizer = optimizers.make(chosen.optimizer, [*weights], config.weight_decay)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3
        for _ in range(5):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            optimizer.step()
            optimizer.zero_grad()
        results.append([weight.detach() for weight in weights])
        if kind == "paged_adamw":  # tensors of 100,000 elements and more are paged
            moments = optimizer.state[weights[1]]["state1"]
            assert getattr(moments, "is_paged", False)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@needs_cuda
def test_when_memory_runs_out_the_step_is_done_in_smaller_pieces(tmp_path: Path) -> None:
    lengths = [512] * 16
    roomy = random_job(tmp_path / "roomy", "small", lengths, micro_batch_tokens=8192)
    idle = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    wanted = loop.fill_gradients(roomy, roomy.data.train)
    growth = torch.cuda.max_memory_allocated() - idle
    del roomy
    torch.cuda.empty_cache()
    tight = random_job(tmp_path / "tight", "small", lengths, micro_batch_tokens=8192)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    allowed = torch.cuda.memory_reserved() + 0.6 * growth
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        loss = loop.fill_gradients(tight, tight.data.train)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tight.progress.micro_batch_tokens < 8192
    assert loss == pytest.approx(wanted, rel=2e-3)
    notes = [event["message"] for event in read(tmp_path / "tight", "note")]
    assert any("Memory ran out" in note for note in notes)


def test_a_resumed_job_goes_on_bit_for_bit(tmp_path: Path) -> None:
    # Flash attention adds up in any order unless it is told not to, and warnings do not tell it.
    torch.use_deterministic_algorithms(True)
    try:
        whole = random_job(tmp_path / "whole", "tiny", LENGTHS * 4)
        for _ in range(4):
            assert loop.take_step(whole, 4)
        broken = random_job(tmp_path / "broken", "tiny", LENGTHS * 4)
        for _ in range(2):
            assert loop.take_step(broken, 4)
        path, _ = checkpoint.save(
            tmp_path / "broken", broken.model, broken.optimizer, broken.progress
        )
        again = random_job(tmp_path / "again", "tiny", LENGTHS * 4)
        again.progress = checkpoint.restore(
            tmp_path / "broken" / path, again.model, again.optimizer
        )
        for _ in range(2):
            assert loop.take_step(again, 4)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, parameter in whole.model.adapter.items():
        assert torch.equal(parameter, again.model.adapter[name]), name
    losses = [[e["loss"] for e in read(tmp_path / n, "step")] for n in ("whole", "again")]
    assert losses[0][2:] == losses[1]


@needs_cuda
def test_the_ladder_ends_with_a_paged_optimizer_of_the_same_moments(tmp_path: Path) -> None:
    state = random_job(tmp_path, "tiny", LENGTHS * 4)
    assert loop.take_step(state, 4)
    before, _ = optimizers.state(state.optimizer)
    state.progress.micro_batch_tokens = 64
    state.progress.checkpointing = True
    memory.use_less(state, max(LENGTHS))
    assert state.progress.optimizer == "paged_adamw"
    assert "moves out of the GPU" in read(tmp_path, "note")[-1]["message"]
    after, numbers = optimizers.state(state.optimizer)
    assert all(values["step"] == 1 for values in numbers.values())
    for key, value in after.items():
        index, _, name = key.partition(".")
        was = {"state1": "exp_avg", "state2": "exp_avg_sq"}[name]
        assert torch.equal(value, before[f"{index}.{was}"]), key
    assert loop.take_step(state, 4)
    with pytest.raises(failures.Failure, match="too small"):
        memory.use_less(state, max(LENGTHS))


@needs_cuda
def test_a_probe_leaves_no_trace(tmp_path: Path) -> None:
    state = random_job(tmp_path, "tiny", LENGTHS * 4)
    before = [parameter.clone() for parameter in state.model.adapter.values()]
    states = torch.get_rng_state(), torch.cuda.get_rng_state()
    probe(state)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(torch.cuda.get_rng_state(), states[1])
    after = state.model.adapter.values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    moments, _ = optimizers.state(state.optimizer)
    assert not any(value.any() for value in moments.values())


def gradients(state: TrainingState) -> dict[str, Tensor]:
    grads = {n: p.grad.clone() for n, p in state.model.adapter.items() if p.grad is not None}
    assert grads.keys() == state.model.adapter.keys()
    return grads


def cosine(one: Tensor, other: Tensor) -> float:
    return cosine_similarity(one.float().flatten(), other.float().flatten(), dim=0).item()


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    return events(folder, kind=kind)
