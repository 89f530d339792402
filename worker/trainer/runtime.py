"""What the libraries below torch are told, by variables of the environment, before it is loaded."""

import os
from typing import Any

ENVIRONMENT = {
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    # Threads wait for one another after each of torch's many short operations. Left alone they spin
    # for so long that a core shared with the web or a browser makes steps ten times slower; put to
    # sleep at once (OMP_WAIT_POLICY=PASSIVE) they lose a third on an idle machine. A short spin
    # costs neither. It counts for GNU OpenMP, which torch's Linux wheels bring.
    "GOMP_SPINCOUNT": "10000",
    # oneDNN keeps the machine code of a product for each shape it has seen, 1,024 of them, and our
    # rows have a length of their own nearly each time: that came to half a gigabyte and was hardly
    # ever used again. The layers of a model need some two dozen.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    # NumPy's own, which nothing here asks to multiply. They would be there before the walls are.
    "OPENBLAS_NUM_THREADS": "1",
    # Nor pyarrow's allocator's, which gives memory back by itself.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def prepare() -> None:
    """Say all of it that nobody has said otherwise."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def load_bitsandbytes() -> None:
    """Load bitsandbytes, before anything else does, without torch's compiler.

    As it is loaded it hands a few functions to `torch.compile`, and for that alone torch loads
    inductor: a second of the four that a trainer takes to start, and 50 MB. It has kernels of its
    own for processors and for CUDA, so that those functions are never called; where they would be,
    they run as they are written, as they do on machines without a C compiler.
    """
    import torch

    def as_it_is(function: Any = None, **_: Any) -> Any:
        return as_it_is if function is None else function

    compiled = torch.compile
    torch.compile = as_it_is  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = compiled
