"""The arms "trl-…": TRL's SFTTrainer on the same examples, in an environment of its own.

    python -m bench.arms.trl_arm ORDER.json

Imports nothing of Etude. order["variant"] names the peer's configuration, order["float"] its
compute type; what a user of TRL would get is bfloat16.
"""

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.arms import measure

# Stock is SFTConfig as it is: checkpointing on, padding, sdpa, 8 examples a micro-batch.
VARIANTS: dict[str, dict[str, Any]] = {
    "stock": {},
    "packed": {"packing": True, "packing_strategy": "bfd", "gradient_checkpointing": False},
    "unpadded": {"gradient_checkpointing": False},  # for examples of one length
}


def main() -> None:
    order = measure.read_order()
    import torch
    from datasets import disable_progress_bars
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    watch = measure.Watch(order)
    examples, variant = watch.examples, order["variant"]
    on_cpu, narrow = order["device"] == "cpu", order.get("float", "bfloat16") == "bfloat16"
    options = dict(VARIANTS[variant])
    if variant == "packed":
        data = _packed_data(examples)
        # Collated without padding, rows of a micro-batch become one.
        batch = order.get("rows_per_micro_batch", 1)
        num_micro_batches = examples.rows_per_step // batch
        options["dataset_kwargs"] = {"skip_prepare_dataset": True}
    else:
        data = _plain_data(examples)
        batch = order.get("batch_size", 8)
        num_micro_batches = examples.step_size // batch
    if order.get("liger"):
        options["use_liger_kernel"] = True
    known = inspect.signature(SFTConfig).parameters
    if "train_sampling_strategy" in known:
        options["train_sampling_strategy"] = "sequential"
    config = SFTConfig(
        output_dir=order["scratch"],
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=num_micro_batches,
        max_length=examples.row_tokens,
        max_steps=len(examples.token_ids) // examples.step_size,
        learning_rate=order["learning_rate"],
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        bf16=narrow,
        use_cpu=on_cpu,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        **options,
    )
    model, attention = _model(order, torch.bfloat16 if narrow else torch.float32)
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=data,
        processing_class=_tokenizer(order),
        peft_config=_lora(),
    )
    adapter = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    if not narrow:  # TRL rounds a QLoRA adapter to bfloat16, which this arm is to do without
        for parameter in adapter.values():
            parameter.data = parameter.data.float()
    measure.fill_adapter(adapter)
    watch.loaded()

    class Steps(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not watch.edges:
                watch.edge()

        def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
            watch.edge()
            control.should_training_stop = len(watch.edges) > order["num_steps"]

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                watch.losses.append(logs["loss"])

    trainer.add_callback(Steps())
    trainer.train()
    watch.write(
        attention=attention,
        micro_batches_per_step=num_micro_batches,
        examples_or_rows_per_micro_batch=batch,
        adapter_dtype=str(next(iter(adapter.values())).dtype),
    )


def _plain_data(examples: measure.Examples) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": examples.token_ids, "labels": examples.labels})


def _packed_data(examples: measure.Examples) -> Any:
    """Let TRL pack each step's examples, so that its steps are those of the other arms."""
    from datasets import Dataset, concatenate_datasets
    from trl import pack_dataset

    parts = []
    for begin in range(0, len(examples.token_ids), examples.step_size):
        end = begin + examples.step_size
        part = Dataset.from_dict(
            {"input_ids": examples.token_ids[begin:end], "labels": examples.labels[begin:end]}
        )
        packed = pack_dataset(part, examples.row_tokens, "bfd")
        assert len(packed) == examples.rows_per_step, (begin, len(packed))
        parts.append(packed)
    return concatenate_datasets(parts)


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, bias="none",
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip


def _model(order: dict[str, Any], dtype: Any) -> tuple[Any, str]:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    has_flash = order["device"] != "cpu" and find_spec("flash_attn") is not None
    best = order["variant"] != "stock" and has_flash
    attention = "flash_attention_2" if best else "sdpa"
    if order.get("shape"):
        from bench.arms import shapes

        return shapes.random_model(order["shape"], "nf4", order["device"], attention), attention
    return AutoModelForCausalLM.from_pretrained(
        order["model_dir"],
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
        dtype=dtype,
        device_map={"": order["device"]},
        attn_implementation=attention,
        local_files_only=True,
    ), attention


def _tokenizer(order: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if order.get("model_dir"):
        return AutoTokenizer.from_pretrained(Path(order["model_dir"]), local_files_only=True)
    # Never asked to read anything: the examples are token ids.
    from tokenizers import Tokenizer, models

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, "<pad>")),
        pad_token="<pad>",
        eos_token="<pad>",
    )


if __name__ == "__main__":
    main()
