"""What the doctor says of all examples together; kept as DatasetCheck.report."""

from typing import Any

from pydantic import BaseModel

# Upper bounds of the picture's bars, in characters; the last bar has no end.
BARS = (25, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600)


class Topic(BaseModel):
    """A word that many examples have, the words that come with it, and how many have it."""

    words: list[str]
    count: int


class Report(BaseModel):
    """Numbers for the pages; of anybody's rows no text, but single words that many share.

    Also these are shown only once the privacy gate lets the version be learned from.
    """

    num_examples: int
    # Examples by length in characters, for questions, answers and all that is said; see BARS.
    bars: dict[str, list[int]] = {}
    # Answers by language, those that are long enough to tell.
    languages: dict[str, int] = {}
    # What the examples are about, and of how many of them that is counted.
    topics: list[Topic] = []
    num_topics_of: int = 0
    # What was not looked at, as sentences.
    notes: list[str] = []
    seconds: float = 0

    @property
    def language(self) -> str:
        """Return what most answers are written in, as it is called; empty where nobody can tell."""
        return max(self.languages, key=lambda one: self.languages[one], default="")


def bars_of(counts: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Return the bars of a picture for each of question and answer, without the empty ends."""
    shown = []
    for name in ("question", "answer"):
        if (numbers := counts.get(name)) is None:
            continue
        most = max(numbers, default=0) or 1
        filled = [bar for bar, count in enumerate(numbers) if count]
        bars = [
            {
                "from": BARS[bar - 1] + 1 if bar else 0,
                "to": BARS[bar] if bar < len(BARS) else None,
                "count": numbers[bar],
                "percent": 100 * numbers[bar] / most,
            }
            for bar in range(filled[0], filled[-1] + 1)
        ]
        shown.append({"name": name, "bars": bars})
    return shown
