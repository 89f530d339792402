"""What can wait in the computer's memory while a GPU has little: inputs of layers, the embedding.

With checkpointing, a layer keeps its input alone; that of all layers is by far the most of what a
long micro-batch takes. It goes out over the bus and comes back when its layer is computed again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_LEAST = 2**20  # numbers; smaller tensors are not worth the transfer


@contextmanager
def elsewhere() -> Iterator[None]:
    """Keep large results that are saved for backward in page-locked memory meanwhile."""

    def put(x: Tensor) -> Tensor | tuple[torch.device, Tensor]:
        is_small = x.numel() < _LEAST or isinstance(x, nn.Parameter)
        if is_small or not x.is_cuda or not x.is_floating_point():
            return x
        try:
            copy = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        except RuntimeError:  # there is no more of it: then it stays where it is
            return x
        # Copied on the stream that made it: whatever overwrites it waits in the same queue.
        return x.device, copy.copy_(x, non_blocking=True)

    def take(saved: Tensor | tuple[torch.device, Tensor]) -> Tensor:
        if isinstance(saved, Tensor):
            return saved
        device, copy = saved
        return copy.to(device, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(put, take):
        yield


def move_embedding(base: Any) -> None:
    """Keep the table of token embeddings in the computer's memory, from which rows are fetched.

    Not where the output embedding is the same table, which each step is multiplied with, nor where
    looking up does more than that, with numbers that lie on the GPU (Gemma's).
    """
    module, head = base.get_input_embeddings(), base.get_output_embeddings()
    if type(module) is not nn.Embedding or head.weight is module.weight:
        return
    device = module.weight.device
    module.weight.data = module.weight.data.cpu()
    setattr(module, "forward", _Lookup(module, device))  # noqa: B010


class _Lookup:
    """Stands in for the forward of an embedding: rows (..., D) of the table, on the device."""

    def __init__(self, module: Any, device: torch.device) -> None:
        self.module = module
        self.device = device

    def __call__(self, token_ids: Tensor) -> Tensor:
        return nn.Embedding.forward(self.module, token_ids.cpu()).to(self.device)
