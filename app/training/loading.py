"""Loading modules into a process that is there for them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Look for no garbage while modules are loaded, nor among them later.

    They stay as long as the process does. The collector would walk them again and again, in vain: a
    quarter of the time that torch and its friends take to load.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
