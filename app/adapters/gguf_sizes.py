"""How large a GGUF file will be, before it is made: by how long the rows of each matrix are.

Rows that cannot be divided into blocks keep more bits (worker/exporting/k_quants.py), so that four
bits are nearly eight for a small model.
"""

from app.core.models import Json, Quantization
from app.training.plan.shape import Shape

_Q8_0, _F16 = 34 / 32, 2.0
# Of Q4_K and Q6_K: blocks of 256 weights with their scales.
_FEW, _MORE = 144 / 256, 210 / 256


def bytes_per_weight(config: Json | None, num_parameters: int, quantization: Quantization) -> float:
    """Return the mean over a model's weights.

    Args:
        config: The model's config.json; None: nothing is known, and rows divide as they should.
        num_parameters: Of the model.
        quantization: Of the file: f16, q8_0 or q4_k_m.
    """
    if quantization is Quantization.F16:
        return _F16
    if not config:
        return _Q8_0 if quantization is Quantization.Q8_0 else 0.62
    shape = Shape.of(config, num_parameters)
    four = quantization is Quantization.Q4_K_M
    # Of half the layers, the values and the last product of the feed-forward keep more.
    between = (_FEW + _MORE) / 2
    hidden, layers = shape.hidden, shape.layers
    num_looked_up = shape.num_lookup  # apart from the head, where there are two
    matrices = [  # how many weights, the length of a row, and what four bits take of it
        (shape.num_embedding - num_looked_up, hidden, _MORE),
        (num_looked_up, hidden, _FEW),
        (layers * hidden * (shape.q_width + shape.kv_width), hidden, _FEW),
        (layers * hidden * shape.kv_width, hidden, between),
        (layers * hidden * shape.q_width, shape.q_width, _FEW),
        (layers * hidden * 2 * shape.intermediate, hidden, _FEW),
        (layers * hidden * shape.intermediate, shape.intermediate, between),
    ]
    taken = sum(num * _of_row(length, few if four else _Q8_0) for num, length, few in matrices)
    return taken / sum(num for num, _, _ in matrices)


def _of_row(length: int, wanted: float) -> float:
    if wanted != _Q8_0 and length % 256:
        wanted = _Q8_0
    return wanted if length % 32 == 0 else _F16
