"""The plan chooses the fastest way that fits, and says so when none does."""

from typing import Any

from app.train_config import TrainConfig
from app.training_plan import DeviceInfo, LengthHistogram, Plan, num_steps, plan, this_cpu

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
SHORT = LengthHistogram.from_lengths([80] * 200, 200, 20)
LONG = LengthHistogram.from_lengths([1500, 2048] * 500, 1000, 50)


def cpu(gigabytes: float, **more: Any) -> DeviceInfo:
    return DeviceInfo(free_bytes=int(gigabytes * 1024**3), num_cores=2, **more)


def gpu(gigabytes: float, name: str = "NVIDIA GeForce RTX 4090") -> DeviceInfo:
    return DeviceInfo(kind="cuda", name=name, free_bytes=int(gigabytes * 1024**3))


def large(config: TrainConfig, device: DeviceInfo) -> Plan:
    return plan(LLAMA_8B, 8_030_261_248, LONG, config, device)


def test_a_laptop_trains_the_starter_model_unpacked() -> None:
    found = plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8))
    assert (found.resident, found.checkpointing, found.fits) == ("bf16", False, "yes")
    assert found.optimizer == "adamw"
    assert found.num_steps == 38  # 200 examples, three passes, 16 at a time
    assert 1e9 < found.peak_bytes < 4e9
    assert 20 < found.seconds < 300


def test_a_cpu_without_bfloat16_computes_in_float32_and_takes_longer() -> None:
    old = plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8, has_bfloat16=False))
    new = plan(SMOLLM2, 134_515_008, SHORT, TrainConfig(), cpu(8))
    assert old.resident == "fp32"
    assert old.seconds > 2 * new.seconds


def test_less_memory_means_packed_weights_and_computing_twice() -> None:
    config = TrainConfig(max_length_tokens=2048)
    found = [large(config, gpu(size, name)) for size, name in
             ((139, "NVIDIA H200"), (16, "NVIDIA GeForce RTX 4090"), (9, "NVIDIA L4"))]  # fmt: skip
    assert [p.resident for p in found] == ["bf16", "nf4", "nf4"]
    assert [p.fits for p in found][:2] == ["yes", "yes"]
    assert found[0].seconds < found[1].seconds < found[2].seconds
    assert found[0].peak_bytes > found[1].peak_bytes > found[2].peak_bytes


def test_what_does_not_fit_is_said() -> None:
    found = large(TrainConfig(), gpu(4))
    assert found.fits == "no"
    assert found.resident == "nf4"
    assert found.checkpointing
    assert "choose a smaller" in found.reasons[-1]


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
