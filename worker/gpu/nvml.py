"""NVIDIA's own way to ask a GPU (nvidia-ml-py): needs no CUDA and holds no memory on it."""

from collections.abc import Sequence
from typing import Any


def handles(devices: Sequence[str]) -> list[Any]:
    """Return the driver's handles of GPUs, named by index or UUID.

    Raises:
        pynvml.NVMLError: there is no driver, or no such GPU.
    """
    import pynvml

    pynvml.nvmlInit()
    return [
        pynvml.nvmlDeviceGetHandleByIndex(int(device))
        if device.isdigit()
        else pynvml.nvmlDeviceGetHandleByUUID(device)
        for device in devices
    ]
