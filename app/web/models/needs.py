"""What a starting model needs on the devices here, in a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.jobs import progress
from app.jobs.model_proposals import Needs
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo

_SAID = {"yes": "Fits {device}, {time}", "tight": "Just fits {device}, {time}"}
_SAID_WITHOUT = {"yes": "Fits {device}", "tight": "Just fits {device}"}


@dataclass(frozen=True)
class NeedsLine:
    """Whether a model fits each kind of device, how long a job takes, and how fast it answers."""

    devices: list[tuple[str, Literal["yes", "tight", "no"]]]
    speed: str  # empty where nobody knows

    @property
    def sentence(self) -> str:
        """All of it in plain words, for a place that holds no more than that."""
        return "; ".join([words for words, _ in self.devices] + [self.speed] * bool(self.speed))


def in_words(needs: Needs, *, is_timed: bool = True) -> NeedsLine:
    """Say what a model needs.

    Args:
        is_timed: False: how long the examples are is not known, nor how long a job takes.
    """
    alone = {_kind(info) for info, plan in needs.each if _is_enough(info, plan)}
    shown = [
        (info, plan)
        for info, plan in needs.each
        if info.num_devices == 1 or _kind(info) not in alone
    ]
    infos = [info for info, _ in shown]
    said = _SAID if is_timed else _SAID_WITHOUT
    return NeedsLine(
        devices=[
            (
                said.get(plan.fits, "Too large for {device}").format(
                    device=_device(info, infos), time=progress.duration(plan.seconds)
                ),
                plan.fits,
            )
            for info, plan in shown
        ],
        speed=_speed(needs),
    )


def _kind(info: DeviceInfo) -> tuple[str, str]:
    return info.kind, info.name


def _is_enough(info: DeviceInfo, plan: Plan) -> bool:
    return info.num_devices == 1 and plan.fits != "no"


def _speed(needs: Needs) -> str:
    rate, fits_none = needs.words_per_second, all(plan.fits == "no" for _, plan in needs.each)
    if rate is None or fits_none:
        return ""
    if rate < 0.5:
        return "answers less than 1 word a second"
    words = int(float(f"{rate:.2g}")) if rate >= 1 else 1
    return f"answers about {words:,} word{'' if words == 1 else 's'} a second"


def _device(info: DeviceInfo, among: Sequence[DeviceInfo]) -> str:
    cpus = {one.name for one in among if one.kind == "cpu"}
    if info.kind == "cpu":
        name = "this CPU" if len(cpus) == 1 else info.name
    else:
        name = info.name or "the GPU"
    return f"{info.num_devices} × {name}" if info.num_devices > 1 else name
