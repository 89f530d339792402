"""What is proposed: the largest that fits, ends within a night and speaks the data's language."""

import pytest

from app.base_models import catalog
from app.jobs import model_proposals
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import LengthHistogram

LAPTOP = DeviceInfo(free_bytes=12 * 10**9, total_bytes=16 * 10**9, num_cores=4)
CARD = DeviceInfo(
    kind="cuda", name="NVIDIA L4", free_bytes=22 * 10**9, total_bytes=24 * 10**9, num_cores=8
)


def names(on: list[DeviceInfo], language: str | None = None, rows: int = 1) -> str:
    histogram = model_proposals.THOUSAND_ROWS.of_so_many(900 * rows, 100 * rows)
    offers = model_proposals.offers(catalog.entries(), frozenset(), on, histogram)
    proposal = model_proposals.propose(offers, language)
    return proposal.offer.entry.name if proposal else ""


def test_a_larger_machine_gets_a_larger_model() -> None:
    sizes = {entry.name: entry.parameters for entry in catalog.entries()}
    assert 1e9 < sizes[names([LAPTOP])] < 5e9
    assert sizes[names([CARD])] > 7e9
    tiny = LAPTOP.model_copy(update={"free_bytes": 10**9})
    assert names([tiny]) == ""
    assert names([]) == ""


def test_the_language_of_the_data_and_the_night_decide() -> None:
    german = catalog.by_name(names([LAPTOP], "de"))
    assert german is not None and german.speaks("de")
    english = names([LAPTOP], "en", rows=20)
    assert english != names([LAPTOP], "en"), "so many rows take a smaller model"
    assert names([LAPTOP], "xx") in {e.name for e in catalog.entries() if e.num_languages >= 100}


def test_what_an_offer_says_of_time_and_memory() -> None:
    histogram = LengthHistogram(
        upper_bounds=[64], counts=[10], num_train=9, num_validation=1, total_tokens=400,
        max_tokens=64,
    )  # fmt: skip
    small, *_, large = model_proposals.offers(
        catalog.entries(), frozenset([catalog.entries()[0].name]), [LAPTOP], histogram
    )
    assert small.is_here and not large.is_here
    assert [plan.fits for _, plan in small.needs.each + large.needs.each] == ["yes", "no"]
    assert small.needs.words_per_second is not None and large.needs.words_per_second is not None
    assert small.needs.words_per_second > 50 * large.needs.words_per_second
    on_card = model_proposals.offers(catalog.entries(), frozenset(), [CARD], histogram)[0]
    assert on_card.needs.words_per_second is None, "it was not measured"


def speed(name: str, on: list[DeviceInfo], measured: list[tuple[int, float]]) -> float | None:
    entry = catalog.by_name(name)
    assert entry is not None
    return model_proposals.needs(
        entry.config, entry.parameters, on, measured=measured
    ).words_per_second


def test_what_answered_here_says_how_fast_a_model_answers() -> None:
    name = "Qwen/Qwen3-1.7B"
    entry = catalog.by_name(name)
    assert entry is not None
    size = entry.parameters
    assert speed(name, [LAPTOP], [(size, 14.0)]) == 10.0, "1.4 tokens are a word"
    assert speed(name, [CARD], [(size, 140.0)]) == 100.0
    # The nearest by size stands for it: twice the weights take twice the time.
    near = [(2 * size, 70.0), (100 * size, 70.0)]
    assert speed(name, [CARD], near) == 100.0
    assert speed(name, [CARD], near[1:]) is None, "too different to say"
    assert speed(name, [LAPTOP], [(size // 100, 1400.0)]) == pytest.approx(10.0, rel=0.01)
    assert speed(name, [CARD], []) is None
    assert speed(name, [CARD, LAPTOP], []) is None, "who knows which of them answers"
    assert speed(name, [LAPTOP], []) is not None
