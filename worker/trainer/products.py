"""How fast this processor computes a layer, forward and back: what estimates of time rest on.

    python -m worker.trainer.products [float32]    prints {"rate": FLOP/s}

A worker runs it once, beside its start. Processors of one name and one set of instructions differ
by a factor of two, with their clock, their caches and what a virtual machine is given of them; so
the layer is timed and not looked up. It is as wide as the starter model's, and as what a step is
made of: products with frozen weights and with an adapter's, and the passes in between.

Dimensions: T tokens, I inputs, O outputs, R rank.
"""

import json
import math
import sys
import time
from typing import TYPE_CHECKING

from app.training import isolation
from app.training.plan.machine import this_cpu
from worker.trainer import runtime

if TYPE_CHECKING:
    from torch import Tensor

_SECONDS = 0.3
# As many at least, where other work makes them slow: the quickest counts.
_LEAST_ROUNDS = 4
_TOKENS, _EXAMPLE_TOKENS = 1024, 256
_WIDTH, _INNER, _HEAD, _RANK = 576, 1536, 64, 16
# Inputs and outputs of query, key, value, output, gate, up and down.
_LINEARS = (
    (_WIDTH, _WIDTH), (_WIDTH, _WIDTH // 3), (_WIDTH, _WIDTH // 3), (_WIDTH, _WIDTH),
    (_WIDTH, _INNER), (_WIDTH, _INNER), (_INNER, _WIDTH),
)  # fmt: skip


def rate(has_bfloat16: bool, num_threads: int) -> float:
    """Return the floating-point operations a second that a layer reaches, forward and back.

    Counted as plan.speed counts them, by processor time, which other work at the same time hardly
    stretches.

    Args:
        has_bfloat16: The type that weights are kept in: bfloat16, else float32.
        num_threads: Of torch's.
    """
    import torch

    torch.set_num_threads(num_threads)
    dtype = torch.bfloat16 if has_bfloat16 else torch.float32
    weights = [torch.randn(o, i, dtype=dtype) / math.sqrt(i) for i, o in _LINEARS]
    adapters = [
        (torch.randn(_RANK, i, requires_grad=True), torch.randn(o, _RANK, requires_grad=True))
        for i, o in _LINEARS
    ]
    x_TI = torch.randn(_TOKENS, _WIDTH, dtype=dtype, requires_grad=True)
    best, spent, rounds = math.inf, 0.0, 0
    while spent < _SECONDS or rounds < _LEAST_ROUNDS:
        begin = time.process_time()
        _layer(x_TI, weights, adapters).backward(torch.ones(_TOKENS, _WIDTH, dtype=dtype))
        seconds = (time.process_time() - begin) / num_threads
        if rounds:  # in the first one kernels are made
            best, spent = min(best, seconds), spent + seconds
        rounds += 1
    frozen = sum(i * o for i, o in _LINEARS)
    trained = sum(_RANK * (i + o) for i, o in _LINEARS)
    return _TOKENS * (4 * frozen + 6 * trained) / best


def _layer(
    x_TI: "Tensor", weights: "list[Tensor]", adapters: "list[tuple[Tensor, Tensor]]"
) -> "Tensor":
    from torch.nn import functional

    def linear(index: int, x_TI: "Tensor") -> "Tensor":
        (a_RI, b_OR), dtype = adapters[index], x_TI.dtype
        low_TR = functional.linear(x_TI, a_RI.to(dtype))
        return functional.linear(x_TI, weights[index]) + functional.linear(low_TR, b_OR.to(dtype))

    def heads(y_TO: "Tensor") -> "Tensor":
        return y_TO.view(-1, _EXAMPLE_TOKENS, y_TO.shape[-1] // _HEAD, _HEAD).transpose(1, 2)

    normed_TI = functional.rms_norm(x_TI, (_WIDTH,))
    query, key, value = (heads(linear(index, normed_TI)) for index in range(3))
    attended = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )
    x_TI = x_TI + linear(3, attended.transpose(1, 2).reshape(_TOKENS, _WIDTH))
    normed_TI = functional.rms_norm(x_TI, (_WIDTH,))
    return x_TI + linear(6, functional.silu(linear(4, normed_TI)) * linear(5, normed_TI))


if __name__ == "__main__":
    isolation.leave_network()
    runtime.prepare()
    cpu = this_cpu()
    halves = cpu.has_bfloat16 and "float32" not in sys.argv
    print(json.dumps({"rate": rate(halves, cpu.num_cores)}))
