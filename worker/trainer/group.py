"""One job on several devices of a machine: a process a device, which agree and add up.

Each process ("rank") has the whole adapter and its optimizer, works on its share of every step's
examples, and does the update with the gradients of all. So the loop is the same for one and many;
a group of one does nothing here. Where the base model does not fit a device, its frozen layers are
split between them (FSDP2) and put together for the moment in which they are used.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]  # told of nowhere
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from app.training.config import OptimizerKind

# Who hangs or dies is found by launcher and supervisor, which know how long things may take.
_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True)
class Group:
    """The processes of a job; by itself, one alone."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports, samples and saves."""
        return self.rank == 0

    def shares(self, lengths: Sequence[int]) -> list[list[int]]:
        """Deal examples out to the processes, about equally many tokens to each.

        Args:
            lengths: Tokens of each example.

        Returns:
            The indices of each process's examples; all processes get the same answer.
        """
        if self.size == 1:
            return [list(range(len(lengths)))]
        shares: list[list[int]] = [[] for _ in range(self.size)]
        tokens = [0] * self.size
        for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            least = tokens.index(min(tokens))
            shares[least].append(index)
            tokens[least] += lengths[index]
        return shares

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Give each process the sum of all processes' gradients, bit for bit the same one.

        Args:
            weights: The adapter's, of any shapes, float32 and in the same order everywhere; their
                gradients change in place.
        """
        if self.size == 1:
            return
        # One that had no example has no gradient yet.
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def sum(self, number: float) -> float:
        return self._reduce(number, distributed.ReduceOp.SUM)

    def most(self, number: float) -> float:
        return self._reduce(number, distributed.ReduceOp.MAX)

    def any(self, flag: bool) -> bool:
        """Say whether it is true of any process."""
        return bool(self.most(flag))

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.any(False)

    def first(self, text: str) -> str:
        """Return what the first process said."""
        if self.size == 1:
            return text
        told = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        length = torch.tensor([told.numel()])
        distributed.broadcast(length, 0)
        if not self.is_first:
            told = torch.empty(int(length), dtype=torch.uint8)
        distributed.broadcast(told, 0)
        return bytes(told.tolist()).decode()

    def same(self, tensor: Tensor) -> Tensor:
        """Put the first process's numbers into a tensor of any shape, in place; returns it."""
        if self.size > 1:
            distributed.broadcast(tensor.detach(), 0)
        return tensor

    def reseed(self, seed: int, step: int) -> None:
        """Draw other numbers in each process, and the same ones when a step is done again.

        So a checkpoint need not hold the random state of every process.
        """
        if self.size > 1:
            torch.manual_seed(((seed << 32) + step) * self.size + self.rank)

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Let the processes do something one after another."""
        for rank in range(self.size):
            if rank == self.rank:
                yield
            self.wait()

    def _reduce(self, number: float, how: Any) -> float:
        if self.size == 1:
            return number
        # On the CPU, where it waits for no work of a GPU.
        total = torch.tensor([number], dtype=torch.float64)
        distributed.all_reduce(total, how)
        return total.item()


ALONE = Group()


class StartAgain(Exception):
    """Memory ran out in one process while the others wait for it within a layer.

    Nothing can bring them together again, so the launcher starts all from the last checkpoint.

    Args:
        micro_batch_tokens: With how many tokens at once.
        checkpointing: Whether to compute intermediate results twice.
        optimizer: Which one.
    """

    def __init__(
        self, micro_batch_tokens: int, checkpointing: bool, optimizer: OptimizerKind
    ) -> None:
        super().__init__(f"Start again with {micro_batch_tokens} tokens at once.")
        self.micro_batch_tokens = micro_batch_tokens
        self.checkpointing = checkpointing
        self.optimizer = optimizer


def join(kind: str, store: Path) -> Group:
    """Meet the other processes that the launcher started.

    Nothing listens but on the loopback interface: a file is the meeting place, where torch's own
    server would listen on every address of the machine.

    Args:
        kind: "cpu" or "cuda".
        store: A file that is not there yet, the same for all processes.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"}
    distributed.init_process_group(
        "gloo" if kind == "cpu" else "cpu:gloo,cuda:nccl",
        store=FileStore(str(store), size),
        rank=rank,
        world_size=size,
        timeout=_TIMEOUT,
    )
    return Group(rank, size)


def make_mesh(group: Group, kind: str) -> Any:
    """Tell FSDP2 which processes share a model; all of them at once."""
    return DeviceMesh(kind, torch.arange(group.size))


def shard(base: Any, adapter: Sequence[nn.Parameter], mesh: Any, device: torch.device) -> None:
    """Split the frozen layers of a base model between the processes, and move all to the device.

    Adapters stay whole, and so do embeddings and norms outside the layers: the loss reads the
    output embedding past any hook. Each process calls this by itself; nothing is sent.

    Args:
        base: A model of transformers in the CPU's memory, its adapters among its layers.
        adapter: Their weights.
        mesh: From make_mesh.
        device: Where to compute.

    Source: the splitting is FSDP's, arXiv:2304.11277, section 3.
    """
    for module in base.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:  # in place; worker/trainer/layers/lora.py holds on to it
            state.to(device)
    decoder = getattr(base, base.base_model_prefix)
    for layer in next(m for m in decoder.modules() if isinstance(m, nn.ModuleList)):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=set(adapter))
    whole = {p for p in base.parameters() if not isinstance(p, DTensor)}
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    # Holds nothing itself: without it each layer would begin a forward of its own.
    fully_shard(decoder, mesh=mesh, ignored_params=whole)
    for module in base.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
