"""Which starting model to take: what each of the catalogue would need here, and one proposal.

A proposal is the largest model that fits, is trained within a night and speaks the data's
language: of two models that a machine can train the larger one answers better as a rule, and
"check without training" compares two that are here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from app.base_models.catalog import Entry
from app.core.models import Json
from app.core.sentences import counted, size
from app.jobs import plans, progress
from app.training.config import PRESETS, TrainConfig
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import LengthHistogram

NIGHT_SECONDS = 8 * 3600.0
# A thousand questions and answers of two or three sentences, where no data is chosen yet.
THOUSAND_ROWS = LengthHistogram(
    upper_bounds=[128, 256], counts=[700, 300], num_train=900, num_validation=100,
    total_tokens=1000 * 110, max_tokens=256,
)  # fmt: skip
# For a CPU that nothing has answered on yet. llama.cpp with one thread reads all weights for each
# token: 106 tokens/s of 135 million weights in 8.5 bits were measured on another machine
# (bench/results/ask-cpu-2026-11-30.json).
_READ_BYTES_PER_SECOND = 15e9
_BYTES_A_WEIGHT = 8.5 / 8
_TOKENS_A_WORD = 1.4
# On a GPU one model's speed says something of another's within so many times its size.
_LIKE = 4


@dataclass(frozen=True)
class Needs:
    """What training a model takes on the devices here, and how fast it answers."""

    each: list[tuple[DeviceInfo, Plan]]  # none: nobody knows the devices yet
    words_per_second: float | None  # one answer; None where nobody knows

    @property
    def best(self) -> tuple[DeviceInfo, Plan] | None:
        """Return the first device that holds it, with its plan; else the last that was tried."""
        holding = (one for one in self.each if one[1].fits != "no")
        return next(holding, self.each[-1] if self.each else None)

    @property
    def plan(self) -> Plan | None:
        return self.best[1] if self.best else None

    def corrected(self, factors: Mapping[str, float]) -> "Needs":
        """Return it with the time that like jobs took, by a device's name."""
        each = [(info, plan.corrected(factors.get(info.name, 1.0))) for info, plan in self.each]
        return replace(self, each=each)


@dataclass(frozen=True)
class Offer:
    """A model of the catalogue on the devices here."""

    entry: Entry
    is_here: bool
    needs: Needs

    @property
    def plan(self) -> Plan | None:
        return self.needs.plan


@dataclass(frozen=True)
class Proposal:
    offer: Offer
    reason: str


def offers(
    entries: Sequence[Entry],
    here: frozenset[str],
    on: Sequence[DeviceInfo],
    histogram: LengthHistogram = THOUSAND_ROWS,
    config: TrainConfig = PRESETS["balanced"].config,
    measured: Sequence[tuple[int, float]] = (),
) -> list[Offer]:
    """Work out what each model would need.

    Args:
        here: The names of those that are ready.
        on: What a job may be trained on, as `plans.devices` returns it.
        histogram: How long the examples are.
        config: How they are trained.
        measured: How fast models have answered here: parameters and tokens a second of each.
    """
    idle = quiet(on)
    return [
        Offer(
            entry,
            entry.name in here,
            needs(entry.config, entry.parameters, idle, histogram, config, measured),
        )
        for entry in entries
    ]


def propose(
    found: Sequence[Offer],
    language: str | None,
    language_name: str = "",
    histogram: LengthHistogram | None = None,
) -> Proposal | None:
    """Choose one; nothing where none fits.

    Args:
        language: The data's, an ISO 639-1 code; None where nobody could tell.
        language_name: What people call it.
        histogram: How long the data's examples are; None where no data is chosen.
    """
    fitting = [
        offer
        for offer in found
        if offer.plan
        and offer.plan.fits == "yes"
        and offer.plan.seconds <= NIGHT_SECONDS
        # What needs an account elsewhere, or may, is no first proposal.
        and (offer.is_here or offer.entry.gated is False)
    ]
    speaking = [o for o in fitting if language is None or o.entry.speaks(language)]
    if not speaking:
        return None
    best = max(speaking, key=lambda offer: offer.entry.parameters)
    return Proposal(best, _reason(best, language_name or language, histogram))


def _reason(offer: Offer, spoken: str | None, histogram: LengthHistogram | None) -> str:
    assert offer.needs.best is not None
    device, plan = offer.needs.best
    largest = "is the largest that fits here and is trained within a night."
    reason = f"It {largest}"
    if spoken:
        reason = f"Of those that know the data's language ({spoken}) it {largest}"
    memory = f"{size(plan.peak_bytes)} of {size(device.free_bytes)} of memory"
    takes = progress.duration(plan.seconds)
    if histogram is None:
        return f"{reason} To practise 1,000 short questions and answers takes {takes} and {memory}."
    words = max(1, _round(histogram.mean_tokens / _TOKENS_A_WORD))
    needs = counted(
        histogram.num_train,
        "To practise your example of about {words} words takes",
        "To practise your {n} examples of about {words} words each takes",
        words=f"{words:,}",
    )
    return f"{reason} {needs} {takes} and {memory}."


def _round(number: float) -> int:
    """Write no more figures than are known: two."""
    return int(float(f"{number:.2g}"))


def needs(
    model_config: Json,
    num_parameters: int,
    on: Sequence[DeviceInfo],
    histogram: LengthHistogram = THOUSAND_ROWS,
    config: TrainConfig = PRESETS["balanced"].config,
    measured: Sequence[tuple[int, float]] = (),
    *,
    from_adapter: bool = False,
) -> Needs:
    """Work out what one model needs.

    Args:
        model_config: Its config.json.
        num_parameters: All of its weights.
        on: What a job may be trained on.
        histogram: How long the examples are.
        config: How they are trained.
        measured: How fast models have answered here: parameters and tokens a second of each.
        from_adapter: It begins with an adapter's weights.
    """
    model, data, settings = (
        json.dumps(model_config, sort_keys=True),
        histogram.model_dump_json(),
        config.model_dump_json(),
    )
    tried = [
        (
            info,
            _planned(model, num_parameters, data, settings, info.model_dump_json(), from_adapter),
        )
        for info in on
    ]
    rate = _tokens_per_second(num_parameters, on, measured)
    return Needs(
        [(info, plan) for info, plan in tried if plan is not None],
        rate / _TOKENS_A_WORD if rate else None,
    )


@lru_cache(maxsize=2000)
def _planned(
    model_config: str,
    num_parameters: int,
    histogram: str,
    config: str,
    device: str,
    from_adapter: bool,
) -> Plan | None:
    """Plan for one device, all given as JSON: the catalogue's take a tenth of a second together."""
    return plans.plan_for(
        json.loads(model_config),
        num_parameters,
        LengthHistogram.model_validate_json(histogram),
        TrainConfig.model_validate_json(config),
        [DeviceInfo.model_validate_json(device)],
        from_adapter,
    )


def quiet(on: Sequence[DeviceInfo]) -> list[DeviceInfo]:
    """Return the devices as they are when a machine does nothing else.

    A model is chosen for years: what else goes on just now does not count.
    """
    return [info.model_copy(update={"load": 0.0}) for info in on]


def _tokens_per_second(
    num_parameters: int, on: Sequence[DeviceInfo], measured: Sequence[tuple[int, float]]
) -> float | None:
    """Return how fast one answer comes; None where nobody knows.

    All weights are read for each token, so that a model of twice the size takes twice the time.
    """
    on_cpu = bool(on) and all(info.kind == "cpu" for info in on)
    if measured:
        size, rate = min(measured, key=lambda one: abs(math.log(one[0] / num_parameters)))
        # A GPU does not get faster for ever with smaller models.
        if on_cpu or 1 / _LIKE <= size / num_parameters <= _LIKE:
            return rate * size / num_parameters
        return None
    return _READ_BYTES_PER_SECOND / (num_parameters * _BYTES_A_WEIGHT) if on_cpu else None
