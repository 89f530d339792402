"""How this worker's devices are just now: what the driver and the kernel say.

What a device does not know stays empty. Xid messages have no counter to read: they are listened for
from the worker's start, so what came before is not known.
"""

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from app.machines.devices import DeviceReading, Readings
from app.training.plan.machine import this_cpu, total_memory
from worker import identity
from worker.gpu import nvml
from worker.gpu.cpu_load import CpuLoad

_log = structlog.get_logger()

T = TypeVar("T")
_NO_WAIT_MS = 1


class Gauges:
    """Asks this worker's devices, again and again."""

    def __init__(self) -> None:
        self._cpu_load = CpuLoad()
        self._is_told = False  # that it does not answer
        self._nvml: Any = None  # the module, once the driver has answered
        self._handles: list[Any] = []
        self._names: dict[int | str | None, str] = {}  # by address and by UUID
        self._events: Any = None
        self._xids: dict[str, tuple[int, float]] = {}  # by device
        # (device, Xid) of the messages that came since somebody emptied this list.
        self.new_xids: list[tuple[str, int]] = []

    def read(self) -> Readings:
        """Return how the devices are; a driver that does not answer is a sentence, not an error."""
        if identity.on_cpu():
            return Readings(devices=[_cpu(self._cpu_load.read())])
        try:
            found = Readings(devices=self._gpus())
            self._is_told = False
        except Exception as error:  # NVML's kinds, or no library: the worker trains all the same
            if not self._is_told:
                _log.warning("gauges.unread", error=str(error))
            self._nvml, self._is_told = None, True
            found = Readings(problem="The graphics card's driver does not answer.")
        return found

    def _gpus(self) -> list[DeviceReading]:
        if self._nvml is None:
            self._open()
        self._listen()
        pairs = zip(identity.devices(), self._handles, strict=True)
        return [self._gpu(name, handle) for name, handle in pairs]

    def _open(self) -> None:
        import pynvml

        handles = nvml.handles(identity.physical_devices())
        self._nvml, self._handles = pynvml, handles
        self._names = {}
        for name, handle in zip(identity.devices(), handles, strict=True):
            self._names[_address(handle)] = name
            with suppress(pynvml.NVMLError):
                self._names[pynvml.nvmlDeviceGetUUID(handle)] = name
        events = pynvml.nvmlEventSetCreate()
        for handle in handles:
            with suppress(pynvml.NVMLError):  # not on every kind of card, nor in every container
                pynvml.nvmlDeviceRegisterEvents(
                    handle, pynvml.nvmlEventTypeXidCriticalError, events
                )
        self._events = events

    def _listen(self) -> None:
        """Collect the Xid messages that came since the last time."""
        driver = self._nvml
        for _ in range(100):  # a card that falls apart says much
            try:
                event = driver.nvmlEventSetWait_v2(self._events, _NO_WAIT_MS)
            except driver.NVMLError:  # a timeout: there is none
                return
            if event.eventType == driver.nvmlEventTypeXidCriticalError:
                device, xid = self._name_of(event.device), int(event.eventData)
                self._xids[device] = (xid, time.time())
                self.new_xids.append((device, xid))

    def _name_of(self, handle: Any) -> str:
        # A card that has fallen off the bus does not tell its UUID any more; its handle stays.
        with suppress(self._nvml.NVMLError):
            return self._names[self._nvml.nvmlDeviceGetUUID(handle)]
        return self._names[_address(handle)]

    def _gpu(self, name: str, handle: Any) -> DeviceReading:
        driver = self._nvml
        memory = self._ask(lambda: driver.nvmlDeviceGetMemoryInfo(handle))
        busy = self._ask(lambda: driver.nvmlDeviceGetUtilizationRates(handle))
        power = self._ask(lambda: driver.nvmlDeviceGetPowerUsage(handle))
        limit = self._ask(lambda: driver.nvmlDeviceGetEnforcedPowerLimit(handle))
        xid, xid_at = self._xids.get(name, (None, None))
        return DeviceReading(
            device=name,
            kind="cuda",
            name=driver.nvmlDeviceGetName(handle),
            uuid=driver.nvmlDeviceGetUUID(handle),
            memory_used_bytes=memory.used if memory else None,
            memory_total_bytes=memory.total if memory else None,
            utilization_percent=busy.gpu if busy else None,
            temperature_celsius=self._ask(
                lambda: driver.nvmlDeviceGetTemperature(handle, driver.NVML_TEMPERATURE_GPU)
            ),
            power_watts=power / 1000 if power is not None else None,
            power_limit_watts=limit / 1000 if limit is not None else None,
            ecc_errors=self._ask(
                lambda: driver.nvmlDeviceGetTotalEccErrors(
                    handle, driver.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, driver.NVML_VOLATILE_ECC
                )
            ),
            xid=xid,
            xid_at=xid_at,
        )

    def _ask(self, question: Callable[[], T]) -> T | None:
        """Ask what not every card knows; one that is lost altogether is an error."""
        try:
            return question()
        except self._nvml.NVMLError_NotSupported:
            return None


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _cpu(load: float) -> DeviceReading:
    cpu = this_cpu()
    total = total_memory()
    return DeviceReading(
        device="cpu",
        kind="cpu",
        name=cpu.name,
        num_cores=cpu.num_cores,
        load=round(load, 2),
        utilization_percent=min(100.0, round(100 * load / cpu.num_cores)),
        memory_total_bytes=total,
        memory_used_bytes=max(0, total - cpu.free_bytes),
    )
