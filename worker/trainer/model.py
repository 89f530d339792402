"""The base model in 4 bit, the LoRA adapter on top."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from app.manifests import verify_manifest
from app.train_config import TrainConfig, TrainerSpec
from app.training_plan import Plan
from worker.trainer import failures, lora, packing

# They change logits after the output embedding, which our loss does not do.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")


@dataclass(frozen=True)
class Model:
    peft: PeftModel
    decoder: nn.Module  # token ids -> last hidden states
    head: nn.Linear
    adapter: dict[str, nn.Parameter]  # by the names under which PEFT saves them
    gate: lora.Gate

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def hidden(self, row: packing.Row) -> Tensor:
        """Return the last hidden states (T, D) of a row; call it within packing.in_flight."""
        output = self.decoder(
            input_ids=row.token_ids_T[None],
            position_ids=row.position_ids_T[None],
            use_cache=False,
        )
        states: Tensor = output.last_hidden_state[0]
        return states


def check_in_background(spec: TrainerSpec) -> Callable[[], None]:
    """Begin to verify the base model's files; the function returned waits and judges.

    Hashing takes as long as loading and both release the interpreter, so they run side by side.
    """
    problem: list[str] = []

    def check() -> None:
        try:
            if verify_manifest(Path(spec.base_model_dir)) != spec.base_model_manifest_sha256:
                problem.append("its manifest is not the one that was imported")
        except (ValueError, OSError) as error:
            problem.append(str(error))

    thread = threading.Thread(target=check, daemon=True)
    thread.start()

    def judge() -> None:
        thread.join()
        if problem:
            raise failures.model_rejected(
                f"The files of {spec.base_model_name} have changed since they were imported "
                f"({problem[0]}); ask your administrator to import the model again."
            )

    return judge


def load(folder: Path, name: str, plan: Plan, config: TrainConfig, device: torch.device) -> Model:
    """Load the base model as the plan says and put a fresh adapter on it.

    Raises:
        Failure: the model cannot be trained here.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        base = _load_base(folder, plan, config, device)
    except (OSError, ValueError, KeyError) as error:
        raise failures.model_rejected(f"{name} cannot be loaded: {error}") from error
    return adapt(base, name, plan, config)


def adapt(base: Any, name: str, plan: Plan, config: TrainConfig) -> Model:
    """Freeze a loaded base model and put a fresh adapter on it.

    Raises:
        Failure: the model cannot be trained here.
    """
    base.requires_grad_(False)
    for key in _LOGIT_CHANGES:
        if getattr(base.config, key, None) not in (None, 1, 1.0):
            raise failures.model_rejected(
                f"{name} changes its scores in a way that Etude cannot train yet ({key}); "
                "choose another starting model."
            )
    torch.manual_seed(config.seed)
    with warnings.catch_warnings():
        # PEFT 0.21 still asks transformers 5.23 by a property's old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        peft = get_peft_model(base, _lora_config(config), autocast_adapter_dtype=False)
    # PEFT notes the folder, which means nothing on another machine.
    peft.peft_config["default"].base_model_name_or_path = name
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # masters; rounded in each pass
    try:
        gate = lora.fuse(peft)
    except ValueError as error:
        raise failures.model_rejected(f"{name} cannot be trained: {error}.") from error
    if plan.checkpointing:
        enable_checkpointing(base)
    peft.train()
    head = base.get_output_embeddings()
    decoder = getattr(base, base.base_model_prefix)
    adapter = {
        key.replace(".default.", "."): parameter
        for key, parameter in peft.named_parameters()
        if parameter.requires_grad
    }
    return Model(peft, decoder, head, adapter, gate)


def enable_checkpointing(base: Any) -> None:
    """Compute intermediate results twice to save memory; the name changed in transformers 5.x."""
    options = {"use_reentrant": False}
    if hasattr(base, "activation_checkpointing_enable"):
        base.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def peft_config(model: Model) -> LoraConfig:
    """Return the adapter's configuration as it is saved."""
    config = model.peft.peft_config["default"]
    assert isinstance(config, LoraConfig)
    return config


def set_adapter(model: Model, tensors: dict[str, Tensor]) -> None:
    """Put saved adapter weights in place.

    Raises:
        ValueError: they belong to another model.
    """
    if tensors.keys() != model.adapter.keys():
        raise ValueError("the saved adapter does not belong to this model")
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            parameter.copy_(tensors[name])


def _load_base(folder: Path, plan: Plan, config: TrainConfig, device: torch.device) -> Any:
    options: dict[str, Any] = {
        "dtype": torch.float32 if plan.resident == "fp32" else torch.bfloat16,
        "device_map": {"": device},
        "attn_implementation": packing.ATTENTION,
        "trust_remote_code": False,
        "use_safetensors": True,
        "local_files_only": True,
    }
    if plan.resident == "nf4":
        # The defaults are fp4, computed in float32.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    base = AutoModelForCausalLM.from_pretrained(folder, **options)
    if plan.resident != "nf4" and config.method == "qlora":
        round_to_nf4(base)
    return base


@torch.no_grad()
def round_to_nf4(base: Any) -> None:
    """Give the linear layers the values that NF4 with double quantization would compute with.

    The same numbers as a 4-bit model unpacked in each pass, unpacked once: bit for bit
    (tests/trainer/test_model.py).
    """
    head = base.get_output_embeddings()
    for module in base.modules():
        if isinstance(module, nn.Linear) and module is not head:
            weight = module.weight
            # bitsandbytes quantizes what from_pretrained loaded: bfloat16.
            packed, state = quantize_4bit(
                weight.data.bfloat16(), compress_statistics=True, quant_type="nf4"
            )
            weight.data.copy_(dequantize_4bit(packed, state))


def _lora_config(config: TrainConfig) -> LoraConfig:
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias="none",
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
