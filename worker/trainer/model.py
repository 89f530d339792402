"""The base model in 4 bit, the LoRA adapter on top.

Dimensions: T tokens of a packed row, D hidden, V vocabulary, B examples of a padded batch,
L longest of them, S sequences of a row, P pairs.
"""

import ctypes
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from app.training.config import Targets, TrainConfig
from app.training.plan.choose import Plan
from worker.trainer import base_model, failures, offload, packing, preference
from worker.trainer.layers import attention, feed_forward, lora, patching
from worker.trainer.loss import (
    completion_loss,
    padded_loss,
    padded_sequence_losses,
    sequence_losses,
)

_M_MMAP_THRESHOLD = -3  # mallopt(3)


class RowLoss(NamedTuple):
    """What a row costs."""

    total: Tensor  # in nats, a float32 scalar
    num_learned: int  # labelled tokens, or pairs
    margin_P: Tensor | None = None  # of each pair, float32, without gradient


@dataclass(frozen=True)
class Model:
    """A base model with its adapter, and how a row's loss is worked out."""

    peft: PeftModel
    decoder: nn.Module  # token ids -> last hidden states
    head: nn.Linear
    adapter: dict[str, nn.Parameter]  # by the names under which PEFT saves them
    adapter_rows: lora.AdapterRows
    packed: bool  # examples may lie side by side in one row
    cap: float | None  # of the scores, as in loss.completion_loss
    chunk_tokens: int  # rows of logits that exist at a time
    dpo_beta: float  # how much it costs a pair to leave where it started
    offloaded: bool = False  # what backward needs waits in the computer's memory
    start: dict[str, Tensor] | None = None  # the adapter that it began with, if not a fresh one

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def loss(self, row: packing.Row) -> RowLoss:
        """Work out the loss of a row: packed, padded or of pairs.

        Args:
            row: Call it, and what goes backward from it, within attention.in_flight(row).

        Returns:
            The sum over what is learned, in nats, with gradient; of pairs their margins as well.

        Source: LoRA, arXiv:2106.09685, equation 1; of pairs DPO, arXiv:2305.18290, equation 7.
        """
        if row.is_pairs:
            return self._pair_loss(row)
        if self.packed:
            total, num = completion_loss(
                self.hidden(row),
                self.head.weight,
                row.labels_T,
                self.head.bias,
                self.chunk_tokens,
                self.cap,
            )
        else:
            total, num = padded_loss(self.scores(row.padded()), row.labels_T, row.lengths)
        return RowLoss(total, int(num))

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """Be the model from before the first step for a while, for passes without gradients.

        That is the base model alone, unless training began with an adapter's weights: then those
        stand in for the present ones, which lie aside meanwhile. May be entered twice.
        """
        if self.start is None:
            with self.peft.disable_adapter():
                yield
            return
        present = {name: parameter.data for name, parameter in self.adapter.items()}
        # What nothing is learned from leaves nothing out; nor does it draw random numbers.
        drops = self.peft.training and peft_config(self).lora_dropout > 0
        try:
            for name, parameter in self.adapter.items():
                parameter.data = self.start[name]
            if drops:
                self.peft.eval()
            yield
        finally:
            for name, parameter in self.adapter.items():
                parameter.data = present[name]
            if drops:
                self.peft.train()

    def _pair_loss(self, row: packing.Row) -> RowLoss:
        """Measure against this very model as it was before the first step."""
        with torch.no_grad(), self.at_start():
            reference_S = self._sequence_losses(row)
        total, margin_P = preference.pair_loss(
            self._sequence_losses(row), reference_S, self.dpo_beta
        )
        if row.is_filler:
            return RowLoss(total * 0, 0)
        return RowLoss(total, margin_P.shape[0], margin_P)

    def _sequence_losses(self, row: packing.Row) -> Tensor:
        """Return the loss of each answer of a row (S, nats, float32)."""
        if not self.packed:
            return padded_sequence_losses(self.scores(row.padded()), row.labels_T, row.lengths)
        return sequence_losses(
            self.hidden(row),
            self.head.weight,
            row.labels_T,
            row.lengths,
            self.head.bias,
            self.chunk_tokens,
            self.cap,
        )

    def scores(self, token_ids_BL: Tensor) -> Tensor:
        """Return the model's own logits (B, L, V) of examples padded on the right (B, L).

        Nothing but token ids goes in: positions begin at 0, and what comes after an example is
        seen by none of its tokens.
        """
        logits: Tensor = self.peft(input_ids=token_ids_BL, use_cache=False).logits
        return logits

    def hidden(self, row: packing.Row) -> Tensor:
        """Return the last hidden states (T, D) of a row; call it within attention.in_flight."""
        with offload.elsewhere() if self.offloaded else nullcontext():
            output = self.decoder(
                input_ids=row.token_ids_T[None],
                position_ids=row.position_ids_T[None],
                use_cache=False,
            )
        states: Tensor = output.last_hidden_state.squeeze(0)
        return states


def load(
    folder: Path,
    name: str,
    plan: Plan,
    config: TrainConfig,
    device: torch.device,
    packed: Path | None = None,
) -> Model:
    """Load the base model as the plan says and put a fresh adapter on it.

    Args:
        packed: Where base_model.load keeps the packed copy.

    Raises:
        Failure: the model cannot be trained here.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        kernel = attention.ATTENTION if plan.packed else None
        base = base_model.load(folder, plan, config, device, kernel, packed)
    except failures.Misfit as error:
        raise failures.model_rejected(f"{name} cannot be loaded: {error}.") from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise failures.model_rejected(
            f"{name} cannot be loaded: its files are damaged, or of a kind that Etude does not "
            "know. Choose another starting model, or ask your administrator to import it again."
        ) from error
    return adapt(base, name, plan, config)


def adapt(base: Any, name: str, plan: Plan, config: TrainConfig) -> Model:
    """Freeze a loaded base model and put a fresh adapter on it.

    Raises:
        Failure: the model cannot be trained here.
    """
    base.requires_grad_(False)
    torch.manual_seed(config.seed)
    try:
        peft = _put_adapter(base, config)
    except failures.Misfit as error:
        raise failures.model_rejected(f"{name} cannot be trained: {error}.") from error
    except ValueError as error:
        raise _untrainable(name) from error
    # PEFT notes the folder, which means nothing on another machine.
    peft.peft_config["default"].base_model_name_or_path = name
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # masters; rounded in each pass
    try:
        adapter_rows = lora.fuse(peft, every_layer=plan.packed)
    except ValueError as error:
        raise _untrainable(name) from error
    patching.shorten(peft, base.get_input_embeddings().weight.dtype, feed_forward.candidates)
    if plan.checkpointing:
        enable_checkpointing(base)
    if plan.offloaded:
        offload.move_embedding(base)
    peft.train()
    head = base.get_output_embeddings()
    decoder = getattr(base, base.base_model_prefix)
    adapter = {
        _saved_name(key): parameter
        for key, parameter in peft.named_parameters()
        if parameter.requires_grad
    }
    if config.neftune_alpha:
        base.get_input_embeddings().register_forward_hook(_noise(config.neftune_alpha))
    return Model(
        peft,
        decoder,
        head,
        adapter,
        adapter_rows,
        packed=plan.packed,
        cap=getattr(base.config, "final_logit_softcapping", None),
        chunk_tokens=plan.loss_chunk_tokens,
        dpo_beta=config.dpo_beta,
        offloaded=plan.offloaded,
    )


def _untrainable(name: str) -> failures.Failure:
    return failures.model_rejected(
        f"{name} cannot be trained with these settings: its layers are of another kind than Etude "
        "knows. Choose another starting model."
    )


def _put_adapter(base: Any, config: TrainConfig) -> PeftModel:
    with warnings.catch_warnings():
        # PEFT 0.21 still asks transformers 5.23 by a property's old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        return get_peft_model(base, _lora_config(base, config), autocast_adapter_dtype=False)


def groups(model: Model, config: TrainConfig) -> Sequence[Tensor] | Sequence[dict[str, Any]]:
    """Return the adapter's weights for the optimizer: LoRA+ has some of them learn faster.

    Which ones as PEFT decides: B, and what has one dimension.

    Returns:
        The float32 weights, or two groups of them, each with its `ratio` to the learning rate.

    Source: LoRA+, arXiv:2402.12354.
    """
    if config.lora_plus_ratio == 1:
        return list(model.adapter.values())
    faster = [p for name, p in model.adapter.items() if "lora_B" in name or p.ndim == 1]
    slower = [p for name, p in model.adapter.items() if not ("lora_B" in name or p.ndim == 1)]
    return [{"params": slower, "ratio": 1.0}, {"params": faster, "ratio": config.lora_plus_ratio}]


def enable_checkpointing(base: Any) -> None:
    """Compute intermediate results twice to save memory; the name changed in transformers 5.x."""
    _return_what_is_freed()
    options = {"use_reentrant": False}
    if hasattr(base, "activation_checkpointing_enable"):
        base.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def _return_what_is_freed() -> None:
    """Have glibc give large blocks back to the system as soon as they are free.

    Left alone it keeps most of what computing twice saves on a CPU (bench/memory.py, "twice").
    Blocks fetched anew each time cost a fifth to two fifths of the speed, so only where memory is
    short.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # not every libc has it
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, 1024**2)


def peft_config(model: Model) -> LoraConfig:
    """Return the adapter's configuration as it is saved."""
    config = model.peft.peft_config["default"]
    assert isinstance(config, LoraConfig)
    return config


def set_adapter(model: Model, tensors: dict[str, Tensor]) -> None:
    """Put saved adapter weights in place.

    Args:
        model: Whose adapter changes.
        tensors: By the names under which PEFT saves them, in their shapes, on any device.

    Raises:
        ValueError: they belong to another model.
    """
    if tensors.keys() != model.adapter.keys():
        raise failures.Misfit("the saved adapter does not belong to this model")
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            parameter.copy_(tensors[name])


def _lora_config(base: Any, config: TrainConfig) -> LoraConfig:
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias="none",
        target_modules=_targets(base, config.lora_targets),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        task_type="CAUSAL_LM",
    )


def _targets(base: Any, wanted: Targets) -> str | list[str]:
    """Name the layers that get an adapter, by their last names where those say it."""
    if wanted == "all":
        return "all-linear"
    head = base.get_output_embeddings()
    layers = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    chosen = [
        name
        for name in layers
        if ("attn" in name or "attention" in name) == (wanted == "attention")
    ]
    short = {name.rpartition(".")[2] for name in chosen}
    others = {name.rpartition(".")[2] for name in layers if name not in set(chosen)}
    if not chosen:
        raise failures.Misfit(f"it has no {wanted.replace('_', '-')} layers by themselves")
    return sorted(chosen if short & others else short)


def _saved_name(name: str) -> str:
    """Return the name under which PEFT saves a weight of the adapter."""
    # DoRA's magnitudes are saved without the name of their weight.
    name = name.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector")
    return name.replace(".default.", ".")


def _noise(alpha: float) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
    """Make a hook that adds noise to embeddings in forward passes that have a backward.

    Uniform in ±alpha / sqrt(length * width) of each example, whatever row it lies in.
    Source: NEFTune, arXiv:2310.05914, algorithm 1.
    """

    def add(module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor | None:
        lengths = attention.lengths_in_flight()
        if not (module.training and torch.is_grad_enabled() and lengths):
            return None
        sizes = torch.tensor(lengths, device=embedded.device)
        reach = alpha / (sizes * embedded.shape[-1]).sqrt()
        # Of each token of a packed row, or of each example of a padded batch.
        if embedded.shape[0] == 1:
            reach = reach.repeat_interleave(sizes)[None, :, None]
        else:
            reach = reach[:, None, None]
        return embedded + (torch.rand_like(embedded) * 2 - 1) * reach.to(embedded.dtype)

    return add
