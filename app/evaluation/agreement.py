"""How far people agree beyond chance: Krippendorff's alpha for names."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def nominal_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Return Krippendorff's alpha for nominal data with any number of voters and gaps.

    Krippendorff (2011), “Computing Krippendorff's Alpha-Reliability”, section C: from the matrix of
    coincidences, 1 - observed disagreement / expected disagreement. 1 is full agreement, 0 is what
    chance gives.

    Args:
        units: Of each question, what everybody who voted said of it.

    Returns:
        None where nobody can say: no question has two votes, or all votes are the same.
    """
    coincidences: Counter[tuple[Hashable, Hashable]] = Counter()
    for votes in units:
        counts, number = Counter(votes), len(votes)
        if number < 2:
            continue
        for one, of_one in counts.items():
            for other, of_other in counts.items():
                pairs = of_one * (of_one - 1) if one == other else of_one * of_other
                coincidences[one, other] += pairs / (number - 1)  # type: ignore[assignment]
    totals: Counter[Hashable] = Counter()
    for (one, _), share in coincidences.items():
        totals[one] += share
    total = sum(totals.values())
    expected = total**2 - sum(each**2 for each in totals.values())
    if total <= 1 or expected == 0:
        return None
    observed = sum(share for (one, other), share in coincidences.items() if one != other)
    return 1 - (total - 1) * observed / expected
