"""Which starting model to take: what each of the catalogue would need here, and one proposal.

A proposal is the largest model that fits, is trained within a night and speaks the data's
language: of two models that a machine can train the larger one answers better as a rule, and
"check without training" compares two that are here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.base_models.catalog import Entry
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
# llama.cpp with one thread reads all weights for each token: 106 tokens/s of 135 million weights
# in 8.5 bits were measured (bench/results/ask-cpu-2026-11-30.json).
_READ_BYTES_PER_SECOND = 15e9
_BYTES_A_WEIGHT = 8.5 / 8
_TOKENS_A_WORD = 1.4
Fits = Literal["yes", "tight", "no"]


@dataclass(frozen=True)
class Offer:
    """A model of the catalogue on the devices here."""

    entry: Entry
    is_here: bool
    fits: list[tuple[DeviceInfo, Fits]]  # on each number of devices
    plan: Plan | None  # on the fewest that hold it; None: nobody knows the devices yet
    device: DeviceInfo | None  # that the plan is for
    words_per_second: float | None  # one answer; None on a GPU, where it was not measured


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
) -> list[Offer]:
    """Work out what each model would need.

    Args:
        here: The names of those that are ready.
        on: What a job may be trained on, as `plans.devices` returns it.
        histogram: How long the examples are.
        config: How they are trained.
    """
    return [_offer(entry, entry.name in here, on, histogram, config) for entry in entries]


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
        # What needs an account elsewhere is no first proposal.
        and (offer.is_here or not offer.entry.gated)
    ]
    speaking = [o for o in fitting if language is None or o.entry.speaks(language)]
    if not speaking:
        return None
    best = max(speaking, key=lambda offer: offer.entry.parameters)
    return Proposal(best, _reason(best, language_name or language, histogram))


def _reason(offer: Offer, spoken: str | None, histogram: LengthHistogram | None) -> str:
    assert offer.plan is not None
    assert offer.device is not None
    largest = "is the largest that fits here and is trained within a night."
    reason = f"It {largest}"
    if spoken:
        reason = f"Of those that know the data's language ({spoken}) it {largest}"
    memory = f"{size(offer.plan.peak_bytes)} of {size(offer.device.free_bytes)} of memory"
    takes = progress.duration(offer.plan.seconds)
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


def _offer(
    entry: Entry,
    is_here: bool,
    on: Sequence[DeviceInfo],
    histogram: LengthHistogram,
    config: TrainConfig,
) -> Offer:
    # A model is chosen for years: what else the machine does just now does not count.
    quiet = [info.model_copy(update={"load": 0.0}) for info in on]
    each = [
        (info, plans.plan_for(entry.config, entry.parameters, histogram, config, [info]))
        for info in quiet
    ]
    known = [(info, plan) for info, plan in each if plan is not None]
    holds = (one for one in known if one[1].fits != "no")
    device, plan = next(holds, known[-1] if known else (None, None))
    has_gpu = any(info.kind == "cuda" for info in on)
    rate = _READ_BYTES_PER_SECOND / (entry.parameters * _BYTES_A_WEIGHT) / _TOKENS_A_WORD
    return Offer(
        entry=entry,
        is_here=is_here,
        fits=[(info, plan.fits) for info, plan in known],
        plan=plan,
        device=device,
        words_per_second=None if has_gpu or not on else rate,
    )
