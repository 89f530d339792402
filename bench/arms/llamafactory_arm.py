"""The arm "llamafactory": LLaMA-Factory's QLoRA as it comes, in an environment of its own.

    python -m bench.arms.llamafactory_arm ORDER.json

It gets the same token ids as a dataset that it takes for its own, tokenized earlier.
"""

from pathlib import Path
from typing import Any

from bench.arms import measure


def main() -> None:
    order = measure.read_order()
    from datasets import Dataset, DatasetDict, disable_progress_bars
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    disable_progress_bars()
    watch = measure.Watch(order)
    examples, folder = watch.examples, Path(order["scratch"])
    columns = {
        "input_ids": examples.token_ids,
        "attention_mask": [[1] * len(ids) for ids in examples.token_ids],
        "labels": examples.labels,
    }
    DatasetDict({"train": Dataset.from_dict(columns)}).save_to_disk(str(folder / "tokenized"))

    class Steps(TrainerCallback):
        def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
            measure.fill_adapter({n: p for n, p in model.named_parameters() if p.requires_grad})
            watch.loaded()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not watch.edges:
                watch.edge()

        def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
            watch.edge()
            control.should_training_stop = len(watch.edges) > order["num_steps"]

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                watch.losses.append(float(logs["loss"]))

    batch = 8
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": order["model_dir"],
            "template": "default",
            "dataset": "given",
            "tokenized_path": str(folder / "tokenized"),
            "output_dir": str(folder / "out"),
            "finetuning_type": "lora",
            "lora_rank": 16,
            "lora_alpha": 32,
            "lora_dropout": 0.0,
            "lora_target": "all",
            "quantization_bit": 4,
            "quantization_method": "bnb",
            "double_quantization": True,
            "cutoff_len": examples.row_tokens,
            "disable_shuffling": True,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": examples.step_size // batch,
            "max_steps": len(examples.token_ids) // examples.step_size,
            "learning_rate": order["learning_rate"],
            "lr_scheduler_type": "cosine",
            "max_grad_norm": 1.0,
            "bf16": True,
            "use_cpu": order["device"] == "cpu",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
        },
        callbacks=[Steps()],
    )
    watch.write(
        micro_batches_per_step=examples.step_size // batch,
        examples_or_rows_per_micro_batch=batch,
    )


if __name__ == "__main__":
    main()
