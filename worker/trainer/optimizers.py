"""AdamW in its kinds, and its state: made before the first update, written, read, moved.

Beside torch's own, bitsandbytes' with moments in 8 bits and paged ones, whose larger moments the
driver moves out of a full GPU. Their names in checkpoints are the libraries' own.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit, PagedAdamW32bit
from bitsandbytes.optim.optimizer import Optimizer2State
from torch import Tensor

from app.training.config import OptimizerKind

# torch's names of the moments, and bitsandbytes'.
_NAMES = {"exp_avg": "state1", "exp_avg_sq": "state2"}
# The same tables for every weight; made anew.
_TABLES = ("qmap1", "qmap2")


def make(kind: OptimizerKind, weights: Sequence[Any], weight_decay: float) -> torch.optim.Optimizer:
    """Make AdamW.

    Args:
        kind: Which.
        weights: Tensors, or groups of them as torch takes them.
        weight_decay: Of all of them.

    Source: AdamW, arXiv:1711.05101, algorithm 2; moments in 8 bits, arXiv:2110.02861.
    """
    optimizer: torch.optim.Optimizer
    match kind:
        case "adamw":
            optimizer = torch.optim.AdamW(weights, weight_decay=weight_decay, fused=True)
        case "adamw_8bit":
            optimizer = AdamW8bit(weights, weight_decay=weight_decay)
        case "paged_adamw":
            optimizer = PagedAdamW32bit(weights, weight_decay=weight_decay)
        case "paged_adamw_8bit":
            optimizer = PagedAdamW8bit(weights, weight_decay=weight_decay)
    return optimizer


def reserve(optimizer: torch.optim.Optimizer) -> None:
    """Make the moments of every weight that has none yet.

    Left to the first update, memory could run out in its middle, and weights that were moved
    already would be moved again.
    """
    for group_index, group in enumerate(optimizer.param_groups):
        for index, weight in enumerate(group["params"]):
            state = optimizer.state[weight]
            if isinstance(optimizer, Optimizer2State):
                if "state2" not in state:
                    optimizer.init_state(group, weight, group_index, index)
            elif "exp_avg_sq" not in state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
                state["exp_avg"] = torch.zeros_like(weight)
                state["exp_avg_sq"] = torch.zeros_like(weight)


def reset(optimizer: torch.optim.Optimizer) -> None:
    """Make the moments those of an optimizer that has made no update, in place.

    Paged memory is never given back: the library keeps a list of it.
    """
    for weight in _weights(optimizer):
        moments = optimizer.state.get(weight, {})
        for name, value in moments.items():
            if isinstance(value, Tensor):
                if name not in _TABLES:
                    value.zero_()
            else:
                moments[name] = 0


def state(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Return what an optimizer remembers, as it is saved.

    Returns:
        Tensors on the CPU by `<weight>.<name>`: moments in the weight's shape, or a scalar `step`;
        and plain numbers by weight and name. A weight's name is its index.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, weight in enumerate(_weights(optimizer)):
        for name, value in optimizer.state.get(weight, {}).items():
            if name in _TABLES:
                continue
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().clone()
            else:
                numbers.setdefault(str(index), {})[name] = value
    return tensors, numbers


def set_state(
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    numbers: dict[str, dict[str, Any]],
) -> None:
    """Put back what `state` returned, in place: paged moments stay paged.

    Args:
        optimizer: With the same weights in the same order.
        tensors: Moments by `<weight>.<name>`; none where no update had been made.
        numbers: Plain numbers by weight and name.

    Raises:
        ValueError: it belongs to another optimizer.
    """
    if not tensors:  # no update had been made yet
        reset(optimizer)
        return
    reserve(optimizer)
    for index, weight in enumerate(_weights(optimizer)):
        moments = optimizer.state[weight]
        for name, value in moments.items():
            if name in _TABLES:
                continue
            key = f"{index}.{name}"
            if isinstance(value, Tensor):
                if key not in tensors or tensors[key].shape != value.shape:
                    raise ValueError("the saved optimizer does not belong to this model")
                value.copy_(tensors[key])
            else:
                moments[name] = numbers[str(index)][name]


def paged(
    optimizer: torch.optim.Optimizer, kind: OptimizerKind, weight_decay: float
) -> tuple[OptimizerKind, torch.optim.Optimizer]:
    """Make the paged one of a kind, with the same moments."""
    as_paged: OptimizerKind = "paged_adamw_8bit" if "8bit" in kind else "paged_adamw"
    groups = [dict(group) for group in optimizer.param_groups]
    tensors, numbers = state(optimizer)
    if not isinstance(optimizer, Optimizer2State):
        # bitsandbytes counts the updates in a plain number.
        steps = {key: int(value) for key, value in tensors.items() if key.endswith(".step")}
        numbers = {key.partition(".")[0]: {"step": num} for key, num in steps.items()}
        tensors = {
            f"{key.partition('.')[0]}.{_NAMES[name]}": value
            for key, value in tensors.items()
            if (name := key.partition(".")[2]) in _NAMES
        }
    optimizer.state.clear()  # its memory is wanted
    own = ("params", "lr", "betas", "eps", "weight_decay", "ratio")
    groups = [{key: group[key] for key in own if key in group} for group in groups]
    replacement = make(as_paged, groups, weight_decay)
    set_state(replacement, tensors, numbers)
    return as_paged, replacement


def _weights(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]
