"""Several adapters on one base in one batch, each token with its own or none.

The low-rank factors of all adapters that are asked lie side by side: one narrow product for all
tokens, of which each keeps the columns of its own adapter, and one product back. Beside gathering
each token's factors that reads an adapter once for all that ask it, pads no ranks, and is two
products whatever the number of adapters. PEFT's own mixed batches (`adapter_names`) go over the
adapters one by one in each layer, and importing PEFT takes seconds: adapters are read from their
files here.

Dimensions: T tokens of a row, I inputs, O outputs, R rank of one adapter, C ranks of several
together, N adapters.
"""

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from worker.inference.engine import EngineError

_NAME = re.compile(r"base_model\.model\.(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")
# What else PEFT's configuration may ask for, and none of our jobs does.
_UNKNOWN = ("modules_to_save", "lora_bias", "layer_replication", "alora_invocation_tokens")


@dataclass(frozen=True)
class _Part:
    """What an adapter does at one layer."""

    a_RI: Tensor  # scaled
    b_OR: Tensor
    factor_O: Tensor | None  # DoRA's, float32


@dataclass(frozen=True)
class _Stack:
    """What several adapters do at one layer."""

    a_CI: Tensor
    b_OC: Tensor
    owner_C: Tensor  # the number of each column's adapter; of equal ones there is one tensor
    factor_NO: Tensor | None  # of each adapter and, last, of none; float32


Stacks = dict[str, _Stack]  # by layer


def numbers(names: Sequence[str], names_T: Sequence[str | None]) -> list[int]:
    """Return each token's adapter by its place among `names`; of none it is their number."""
    places = {name: place for place, name in enumerate(names)}
    return [len(places) if name is None else places[name] for name in names_T]


class Adapters:
    """The adapters of a base model, and which token of the row in flight has which.

    Args:
        model: Its linear layers get another forward as soon as an adapter wants it.
    """

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings()
        self.linear = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        }
        self.loaded: dict[str, dict[str, _Part]] = {}
        self.changes = 0  # how often one came or went
        self.stacks: Stacks = {}  # of those who are asked now
        self.is_mixed = False  # else all tokens have the one adapter of the stacks
        self.index_T: Tensor | None = None  # of each token's adapter; of none their number
        self._alone: dict[str, Stacks] = {}
        self._several: tuple[tuple[str, ...], Stacks] = ((), {})
        self._masks: dict[Tensor, Tensor] = {}

    @torch.inference_mode()
    def add(self, name: str, path: Path) -> None:
        """Load PEFT's folder.

        Raises:
            EngineError: its files do not fit this model.
        """
        self.remove(name)
        parts = _read(name, path, self.linear)
        for layer in parts:
            module = self.linear[layer]
            # An attribute of the instance wins over the method.
            setattr(module, "forward", _Forward(layer, module, self))  # noqa: B010
        self.loaded[name] = parts
        self._alone[name] = _stack([parts])
        self._forget()

    def remove(self, name: str) -> None:
        if self.loaded.pop(name, None) is not None:
            del self._alone[name]
            self._forget()

    def choose(self, names_T: Sequence[str | None], device: torch.device) -> None:
        """Say which token of the next row has which adapter.

        Raises:
            EngineError: one of them is not there.
        """
        self.require(names_T)
        asked = {name for name in names_T if name is not None}
        names, stacks = tuple(asked), {}
        if len(asked) == 1:
            stacks = self._alone[names[0]]
        elif asked:
            # Others beside them do no harm: questions come and go at every step.
            if not asked <= set(self._several[0]):
                names = tuple(sorted(asked))
                self._several = (names, _stack([self.loaded[name] for name in names]))
            names, stacks = self._several
        index = numbers(names, names_T)
        self.use(stacks, torch.tensor(index, device=device), is_mixed=len(names) > 1 or any(index))

    def require(self, names: Sequence[str | None]) -> None:
        """Raise an EngineError for an adapter that is not there."""
        for name in names:
            if name is not None and name not in self.loaded:
                raise EngineError(f"The adapter {name} is not loaded here any more.")

    def everyone(self) -> tuple[tuple[str, ...], Stacks]:
        """Return the names of all adapters and what they do, in that order."""
        names = tuple(sorted(self.loaded))
        return names, _stack([self.loaded[name] for name in names])

    def use(self, stacks: Stacks, index_T: Tensor, is_mixed: bool) -> None:
        """Compute the next row with these."""
        self.stacks, self.index_T, self.is_mixed = stacks, index_T, is_mixed
        self._masks = {}

    def _forget(self) -> None:
        self.changes += 1
        self.stacks, self._several = {}, ((), {})

    def hidden(self, stack: _Stack) -> Tensor:
        """Return which columns of a stack are not a token's own (T, C)."""
        if stack.owner_C not in self._masks:
            assert self.index_T is not None
            self._masks[stack.owner_C] = self.index_T[:, None] != stack.owner_C
        return self._masks[stack.owner_C]


class _Forward:
    """Stands in for one linear layer's forward: y = W x + b + scale B A x, by each token's adapter.

    Source: LoRA, arXiv:2106.09685, equation 3; DoRA, arXiv:2402.09353, equation 5.
    """

    def __init__(self, name: str, base: nn.Linear, adapters: Adapters) -> None:
        self.name = name
        self.base = base
        self.adapters = adapters

    def __call__(self, x_1TI: Tensor) -> Tensor:
        """Return the layer's result (1, T, O), in the type of x."""
        adapters, base = self.adapters, self.base
        stack = adapters.stacks.get(self.name)
        if stack is None:
            return functional.linear(x_1TI, base.weight, base.bias)
        x_TI = x_1TI.flatten(0, -2)
        has_factor = stack.factor_NO is not None
        y_TO = functional.linear(x_TI, base.weight, None if has_factor else base.bias)
        low_TC = x_TI @ stack.a_CI.T
        if adapters.is_mixed:
            low_TC.masked_fill_(adapters.hidden(stack), 0)
        y_TO.addmm_(low_TC, stack.b_OC.T)
        if stack.factor_NO is not None:
            # In float32, as the trainer has it: in bfloat16 what was learned would be rounded off.
            y_TO = (y_TO * stack.factor_NO[adapters.index_T]).to(x_1TI.dtype)
            if base.bias is not None:
                y_TO = y_TO + base.bias
        y_1TO: Tensor = y_TO.unflatten(0, x_1TI.shape[:-1])
        return y_1TO


def _stack(adapters: list[dict[str, _Part]]) -> Stacks:
    stacks, owners = {}, {}
    for layer in dict.fromkeys(name for parts in adapters for name in parts):
        parts = [(number, each[layer]) for number, each in enumerate(adapters) if layer in each]
        columns = tuple(number for number, part in parts for _ in range(part.a_RI.shape[0]))
        a, b = [part.a_RI for _, part in parts], [part.b_OR for _, part in parts]
        if columns not in owners:
            owners[columns] = torch.tensor(columns, device=a[0].device)
        factor_NO = None
        if any(part.factor_O is not None for _, part in parts):
            factor_NO = torch.ones(len(adapters) + 1, b[0].shape[0], device=a[0].device)
            for number, part in parts:
                if part.factor_O is not None:
                    factor_NO[number] = part.factor_O
        stacks[layer] = _Stack(
            a[0] if len(a) == 1 else torch.cat(a),
            b[0] if len(b) == 1 else torch.cat(b, dim=1),
            owners[columns],
            factor_NO,
        )
    return stacks


def _read(name: str, path: Path, linear: dict[str, nn.Linear]) -> dict[str, _Part]:
    """Read PEFT's files for the layers of a model."""
    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "adapter_model.safetensors")
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        print(f"The files of the adapter {name}: {error!r}", file=sys.stderr)  # for the log
        raise EngineError(f"The files of the adapter {name} are damaged.") from None
    foreign = [key for key in _UNKNOWN if config.get(key)]
    if kind != "LORA" or foreign or config.get("bias", "none") != "none":
        what = foreign[0] if foreign else kind
        raise EngineError(f"The adapter {name} is of a kind that is not known here ({what}).")
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _NAME.fullmatch(key)
        if match is None or match[1] not in linear:
            raise EngineError(
                f"The adapter {name} does not fit this base model, which has no {key[:120]}."
            )
        found.setdefault(match[1], {})[match[2]] = tensor
    parts = {layer: _part(layer, found[layer], linear[layer], config) for layer in found}
    wrong = [layer for layer, part in parts.items() if part is None]
    if wrong or not parts:
        raise EngineError(
            f"The adapter {name} does not fit this base model: the weights of "
            f"{wrong[0] if wrong else 'all layers'} are missing or have another shape."
        )
    return {layer: part for layer, part in parts.items() if part is not None}


def _part(
    layer: str, tensors: dict[str, Tensor], base: nn.Linear, config: dict[str, Any]
) -> _Part | None:
    """Return what an adapter does at a layer; None where shapes do not fit."""
    weight = base.weight
    a_RI, b_OR = tensors.get("lora_A"), tensors.get("lora_B")
    magnitude_O = tensors.get("lora_magnitude_vector")
    if a_RI is None or b_OR is None or a_RI.dim() != 2:
        return None
    rank, shape = a_RI.shape[0], tuple(weight.shape)
    if a_RI.shape[1] != shape[1] or tuple(b_OR.shape) != (shape[0], rank):
        return None
    if bool(config.get("use_dora")) != (magnitude_O is not None):
        return None
    a_RI, b_OR = a_RI.to(weight.device).float(), b_OR.to(weight.device).float()
    scale = _alpha(layer, config) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    factor_O = None
    if magnitude_O is not None:
        if magnitude_O.numel() != shape[0]:
            return None
        length_O = _lengths(weight, scale * a_RI, b_OR)
        factor_O = magnitude_O.to(weight.device).float().flatten() / length_O
    return _Part((a_RI * scale).to(weight.dtype), b_OR.to(weight.dtype), factor_O)


def _alpha(layer: str, config: dict[str, Any]) -> float:
    """Return a layer's alpha, as PEFT's `get_pattern_key` finds it."""
    for pattern, alpha in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            return float(alpha)
    return float(config["lora_alpha"])


def _lengths(weight_OI: Tensor, a_RI: Tensor, b_OR: Tensor) -> Tensor:
    """Return the length of each output's weights (O, float32), base and adapter together."""
    pieces = [
        torch.linalg.vector_norm(torch.addmm(weight.float(), b, a_RI), dim=1)
        for weight, b in zip(weight_OI.split(1024), b_OR.split(1024), strict=True)
    ]
    return torch.cat(pieces)
