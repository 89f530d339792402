"""The plan chooses the fastest candidate that fits, and says so when none does."""

from typing import Any

import pytest

from app.training.config import TrainConfig
from app.training.plan.choose import Plan, plan
from app.training.plan.machine import DeviceInfo, share_cpu, this_cpu
from app.training.plan.memory import moment_bytes
from app.training.plan.shape import (
    Candidate,
    LengthHistogram,
    Shape,
    most_tokens,
    num_steps,
)

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672,
    "num_attention_heads": 64,
}  # fmt: skip
SHORT = LengthHistogram.from_lengths([80] * 200, 200, 20)
LONG = LengthHistogram.from_lengths([1500, 2048] * 500, 1000, 50)


def cpu(gigabytes: float, **more: Any) -> DeviceInfo:
    return DeviceInfo(free_bytes=int(gigabytes * 1024**3), num_cores=2, **more)


def gpu(
    gigabytes: float, name: str = "NVIDIA GeForce RTX 4090", num_devices: int = 1
) -> DeviceInfo:
    free = int(gigabytes * 1024**3)
    return DeviceInfo(kind="cuda", name=name, free_bytes=free, num_devices=num_devices)


def large(config: TrainConfig, device: DeviceInfo) -> Plan:
    return plan(LLAMA_8B, 8_030_261_248, LONG, config, device)


def test_a_laptop_trains_the_starter_model_unpacked() -> None:
    found = plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8))
    assert (found.resident, found.checkpointing, found.fits) == ("bf16", False, "yes")
    assert found.optimizer == "adamw"
    assert found.num_steps == 38  # 200 examples, three passes, 16 at a time
    assert 1e9 < found.peak_bytes < 4e9
    assert 20 < found.seconds < 300


def test_a_cpu_takes_more_tokens_at_once_where_there_is_room() -> None:
    long = LengthHistogram.from_lengths([220] * 200, 200, 20)
    wide, narrow = (plan(SMOLLM2, 134_515_008, long, TrainConfig(), cpu(gb)) for gb in (8, 2.1))
    assert (wide.micro_batch_tokens, wide.fits) == (1024, "yes")
    assert (narrow.micro_batch_tokens, narrow.fits) == (512, "yes")
    assert narrow.peak_bytes < wide.peak_bytes
    assert narrow.seconds > wide.seconds


def test_a_step_a_little_longer_than_that_is_one_pass_on_a_cpu() -> None:
    found = [
        plan(
            SMOLLM2,
            134_515_008,
            LengthHistogram.from_lengths([mean] * 200, 200, 20),
            TrainConfig(batch_size=16),
            cpu(8),
        ).micro_batch_tokens
        for mean in (40, 80, 104, 108)
    ]
    assert found == [1024, 1536, 2048, 1024]


def test_a_cpu_without_bfloat16_computes_in_float32_and_takes_longer() -> None:
    old = plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8, has_bfloat16=False))
    new = plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8))
    assert old.resident == "fp32"
    assert old.seconds > 1.7 * new.seconds


def test_a_measured_layer_stands_for_the_processor_and_chooses_nothing_else() -> None:
    known, twice, looked_up = (
        plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8, layer_rate=rate))
        for rate in (200e9, 400e9, 0)
    )
    assert twice.tokens_per_second == pytest.approx(2 * known.tokens_per_second)
    same = {"seconds", "tokens_per_second", "plain_tokens_per_second"}
    assert known.model_dump(exclude=same) == looked_up.model_dump(exclude=same)
    halves = share_cpu(cpu(8, layer_rate=200e9), 2)
    assert (halves.layer_rate, halves.num_cores) == (100e9, 1)


def test_other_programs_take_their_share_and_are_named() -> None:
    alone, little, beside, crowd = (
        plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8, load=load))
        for load in (0, 0.1, 1, 6)
    )
    assert not any("busy" in one for plan in (alone, little) for one in plan.reasons)
    # A third of three programs is left to each of two threads, which wait for each other besides.
    assert beside.seconds == pytest.approx(1.5**1.3 * alone.seconds)
    assert crowd.tokens_per_second == pytest.approx(alone.tokens_per_second / 4**1.3)
    assert crowd.plain_tokens_per_second == pytest.approx(alone.tokens_per_second)
    said = "While that lasts, training takes about {} times as long; the time above counts it in."
    assert f"Another program keeps this machine busy. {said.format(1.7)}" in beside.reasons
    assert (
        "Other programs keep this machine busy: just now 6 at once want a processor core. "
        + said.format(6.1)
    ) in crowd.reasons


def test_less_memory_means_packed_weights_and_computing_twice() -> None:
    config = TrainConfig(max_length_tokens=2048)
    found = [large(config, gpu(size, name)) for size, name in
             ((139, "NVIDIA H200"), (16, "NVIDIA GeForce RTX 4090"), (9, "NVIDIA L4"))]  # fmt: skip
    assert [p.resident for p in found] == ["bf16", "nf4", "nf4"]
    assert [p.fits for p in found][:2] == ["yes", "yes"]
    assert found[0].seconds < found[1].seconds < found[2].seconds
    assert found[0].peak_bytes > found[1].peak_bytes > found[2].peak_bytes


def test_the_optimizer_shrinks_where_memory_is_short() -> None:
    """At rank 64 the moments of all but two narrow matrices a layer are paged."""
    config = TrainConfig(lora_rank=64, lora_alpha=128, max_length_tokens=2048)
    num_adapter = 64 * 32 * (2 * 8192 + 2 * 5120 + 3 * 18432)
    num_narrow = 32 * 2 * 64 * 1024

    def peak(kind: str) -> int:
        chosen = config.model_copy(update={"optimizer": kind, "micro_batch_tokens": 4096})
        found = large(chosen, gpu(139, "NVIDIA H200"))
        assert (found.optimizer, found.resident) == (kind, "bf16")
        return found.peak_bytes

    whole = peak("adamw")
    assert whole - peak("paged_adamw") == pytest.approx(8 * (num_adapter - num_narrow), abs=9)
    # A byte a moment, and a float for every 256.
    assert whole - peak("adamw_8bit") == pytest.approx((8 - 2 - 2 / 64) * num_adapter, abs=9)
    assert whole - peak("paged_adamw_8bit") > whole - peak("paged_adamw")
    # By itself: the plain one while there is room, and what keeps the numbers before what rounds.
    by_size = {size: large(config, gpu(size, "NVIDIA H200")) for size in (60, 19, 7.5)}
    kinds = [found.optimizer for found in by_size.values()]
    assert kinds == ["adamw", "paged_adamw", "paged_adamw_8bit"]
    assert "moves out of the GPU when" in by_size[19].reasons[-1]
    assert "rounded to 8 bits" in " ".join(by_size[7.5].reasons)
    assert large(config, cpu(9)).optimizer == "adamw"


def test_what_waits_lies_in_the_computers_memory_where_a_gpu_has_little() -> None:
    """An 8B on a card of 8 GB, by nothing but moving layers' inputs and the embeddings out."""
    config = TrainConfig(max_length_tokens=2048)
    large_one, small_one = (large(config, gpu(size)) for size in (10, 7.5))
    assert (large_one.offloaded, large_one.fits) == (False, "yes")
    assert (small_one.offloaded, small_one.fits) == (True, "yes")
    assert "is kept in the computer's memory" in " ".join(small_one.reasons)
    candidate = Candidate("nf4", 4096, True)
    whole, moved = (
        plan(LLAMA_8B, 8_030_261_248, LONG, config, gpu(10), candidate._replace(offloaded=is_moved))
        for is_moved in (False, True)
    )
    # 128,256 embeddings of 4,096 numbers, and the inputs of all of 32 layers but two.
    gone = 2 * 4096 * (128256 + 30 * 4096)
    assert whole.peak_bytes - moved.peak_bytes == pytest.approx(gone, rel=1e-6)
    assert whole.seconds < moved.seconds


def test_moments_of_small_matrices_are_neither_paged_nor_rounded() -> None:
    """bitsandbytes pages from 100,000 elements on, and rounds from 4,096 on."""
    shape = Shape.of(LLAMA_8B, 8_030_261_248)
    width = 2 * 8192 + 2 * 5120 + 3 * 18432
    # At rank 16 only the feed-forward's wide matrices are paged; at rank 1 two are not rounded.
    assert moment_bytes(shape, "paged_adamw", TrainConfig()) == pytest.approx(
        8 * (1 - 3 * 14336 / width)
    )
    rounded = width - 2 * 1024
    expected = (8 * 2 * 1024 + (2 + 2 / 64) * rounded) / width
    assert moment_bytes(shape, "adamw_8bit", TrainConfig(lora_rank=1)) == pytest.approx(expected)


def test_a_chunk_of_logits_depends_on_the_vocabulary_alone() -> None:
    def chunk(vocabulary: int, device: DeviceInfo) -> int:
        model = LLAMA_8B | {"vocab_size": vocabulary}
        return plan(model, 8_030_261_248, LONG, TrainConfig(), device).loss_chunk_tokens

    h200 = gpu(139, "NVIDIA H200")
    # On a GPU scores become gradients in place, two bytes each.
    assert [chunk(v, h200) for v in (4096, 49152, 256000, 2**22)] == [1024, 1024, 524, 64]
    assert [chunk(v, cpu(500)) for v in (4096, 128256, 2**22)] == [256, 174, 64]
    assert chunk(256000, gpu(4)) == 524


def test_a_models_own_context_limits_examples() -> None:
    config = TrainConfig(max_length_tokens=2048)
    short = LLAMA_8B | {"max_position_embeddings": 512}
    assert most_tokens(config, short) == 512
    assert most_tokens(config, LLAMA_8B | {"max_position_embeddings": 8192}) == 2048
    assert most_tokens(config, LLAMA_8B) == 2048
    whole, cut = (
        plan(model, 8_030_261_248, LONG, config, gpu(139, "NVIDIA H200"))
        for model in (LLAMA_8B, short)
    )
    assert cut.seconds < whole.seconds / 2


def test_what_does_not_fit_is_said() -> None:
    found = large(TrainConfig(), gpu(4))
    assert found.fits == "no"
    assert found.resident == "nf4"
    assert found.checkpointing
    assert "choose a smaller" in found.reasons[-1]


def test_several_gpus_share_the_work_of_a_model_that_fits_on_one() -> None:
    one, two, eight = (large(TrainConfig(), gpu(26, num_devices=num)) for num in (1, 2, 8))
    assert [one.strategy, two.strategy, eight.strategy] == ["single", "ddp", "ddp"]
    assert one.seconds > 1.8 * two.seconds
    assert two.seconds > 3 * eight.seconds
    # Each holds what one alone would, and a copy of the gradients.
    assert one.peak_bytes * 0.8 < two.peak_bytes < one.peak_bytes * 1.1
    assert any("Each of the 8 GPUs holds the whole" in reason for reason in eight.reasons)
    assert not any("GPUs" in reason for reason in one.reasons)


def test_several_gpus_split_a_model_that_is_too_large_for_one() -> None:
    def found(num_devices: int) -> Plan:
        device = gpu(37, "NVIDIA A100", num_devices)
        return plan(LLAMA_70B, 70_553_706_496, LONG, TrainConfig(), device)

    assert found(1).fits == "no"
    two, four = found(2), found(4)
    assert (two.strategy, two.resident, two.fits) == ("fsdp", "nf4", "yes")
    assert any("too large for one GPU, so each of the 2" in reason for reason in two.reasons)
    # 68.5e9 linear weights of 0.516 bytes: a half, or a quarter, of 35 GB on each.
    same = Candidate("nf4", 512, True, strategy="fsdp")
    parts = [
        plan(LLAMA_70B, 70_553_706_496, LONG, TrainConfig(), gpu(40, "", num), same).peak_bytes
        for num in (2, 4)
    ]
    assert parts[0] - parts[1] == pytest.approx(68.45e9 * 0.516 / 4, rel=0.01)
    assert four.fits == "yes"
    none = plan(LLAMA_70B, 70_553_706_496, LONG, TrainConfig(), gpu(8, "", 2))
    assert none.fits == "no"
    assert "are free on each GPU" in none.reasons[-1]


def test_a_persons_choices_are_kept() -> None:
    config = TrainConfig(micro_batch_tokens=3000, optimizer="paged_adamw", method="lora")
    found = large(config, gpu(139, "NVIDIA H200"))
    assert (found.micro_batch_tokens, found.optimizer, found.resident) == (
        3000, "paged_adamw", "bf16",
    )  # fmt: skip


def test_the_histogram_counts_every_length_once() -> None:
    found = LengthHistogram.from_lengths([3, 16, 17, 40, 200], 80, 20)
    assert found.upper_bounds == [16, 32, 64, 128, 256]
    assert found.counts == [2, 1, 1, 0, 1]
    assert found.max_tokens == 200
    assert found.total_tokens == 5520  # a mean of 55.2 for a hundred examples
    assert LengthHistogram.from_lengths([], 0, 0).mean_tokens == 0


def test_steps_cover_every_pass() -> None:
    assert num_steps(10, TrainConfig(num_epochs=1, batch_size=4)) == 3
    assert num_steps(10, TrainConfig(num_epochs=2, batch_size=4)) == 5
    assert num_steps(1, TrainConfig(num_epochs=0.1, batch_size=4)) == 1


def test_this_machine_can_be_described() -> None:
    found = this_cpu()
    assert found.num_cores >= 1
    assert found.free_bytes > 0
