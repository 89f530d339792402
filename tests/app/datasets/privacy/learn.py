"""Learn the weights for names: `python -m tests.app.datasets.privacy.learn [--texts FILE.csv]`.

A logistic regression over what evidence.py says of capitalised words: names put into the sentences
of sentences_learned.py and sentences.py, against whatever else has a capital there, and in the half of a
file of texts that name nobody (MedQuAD, CC BY 4.0: shared/data/medquad). The names are those of the
rules' own lists, of which half are hidden from the rules meanwhile: so what is learned holds for
names that nobody has listed.
"""

import argparse
import csv
import json
import zlib
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np

from app.datasets.privacy import evidence, passage, words
from app.datasets.privacy.scanner import Scanner
from tests.app.datasets.privacy import make, sentences, sentences_learned

ROUNDS = 14
PENALTY = 3.0
# What a text says a hundred times is learned from as often as this.
SAME = 6
csv.field_size_limit(10_000_000)


def is_first_half(text: str) -> bool:
    """Say whether a text is in the half that is learned from; the other half judges."""
    return zlib.crc32(text.encode()) % 2 == 0


class _Listener:
    """Hears each weighing: (features, start, end). The weights stay out of it: all is likely."""

    def __init__(self) -> None:
        self._scanner = Scanner()

    def hear(self, texts: list[str]) -> list[tuple[list[str], int, int]]:
        heard: list[tuple[list[str], int, int]] = []

        def weigh(
            seen: passage.Passage, positions: list[int], cue: int, tail: int, *, has_article: bool
        ) -> float:
            words = seen.words
            said = ["", *evidence.features(seen, positions, cue, tail, has_article=has_article)]
            groups = evidence.groups(seen, len(positions))
            named = [f"{group} {one}" for one in said for group in groups]
            heard.append((named, words[positions[0]].start, words[positions[-1]].end))
            return 0.0

        with mock.patch.object(evidence, "chance", weigh):
            self._scanner.scan(texts)
        return heard


class _Maker(make.Maker):
    """Draws names from the lists' hidden half."""

    def __init__(self, code: str, seed: int, given: list[str], surnames: list[str]) -> None:
        super().__init__(code, seed)
        self.given, self.surnames = given, surnames


def examples(texts: Path | None) -> list[tuple[list[str], bool]]:
    """Return what the rules weighed, and whether it was a name."""
    listener = _Listener()
    given, surnames = sorted(words.GIVEN_NAMES), sorted(words.SURNAMES)
    hidden_given, hidden_surnames = given[::2], surnames[::2]
    for module in (passage, evidence):
        vars(module)["GIVEN_NAMES"] = frozenset(given[1::2])
        vars(module)["SURNAMES"] = frozenset(surnames[1::2])
    evidence._letters.cache_clear()
    made = []
    for lines in (sentences_learned.LINES, sentences.LINES):
        for code, of_language in lines.items():
            maker = _Maker(code, 7, hidden_given, hidden_surnames)
            for line in of_language:
                for _ in range(ROUNDS if "{" in line else 4):
                    turns, key = make.fill(line, maker.values())
                    offsets = np.cumsum([0, *[len(turn) + 1 for turn in turns]])
                    places = [
                        (offsets[at] + start, offsets[at] + end)
                        for at, start, end, kind in key
                        if kind == "name"
                    ]
                    for said, start, end in listener.hear(turns):
                        overlap = sum(max(0, min(end, e) - max(start, s)) for s, e in places)
                        made.append((said, overlap * 2 > end - start))
    met: Counter[str] = Counter()
    if texts is not None:
        with texts.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if is_first_half(row["Focus"]):
                    turns = [row["Question"], row["Answer"]]
                    whole = "\n".join(turns)
                    for said, start, end in listener.hear(turns):
                        met[whole[start:end]] += 1
                        if met[whole[start:end]] <= SAME:
                            made.append((said, False))
    return made


def fit(made: list[tuple[list[str], bool]]) -> dict[str, float]:
    """Fit a logistic regression with an L2 penalty by Newton's method."""
    seen = Counter(one for said, _ in made for one in said)
    often = sorted(one for one, number in seen.items() if number >= 5)
    columns = {one: at for at, one in enumerate(often)}
    table = np.zeros((len(made), len(columns)))
    for row, (said, _) in enumerate(made):
        for one in said:
            if one in columns:
                table[row, columns[one]] = 1
    wanted = np.array([is_name for _, is_name in made], dtype=float)
    weights = np.zeros(len(columns))
    for _ in range(25):
        chance = 1 / (1 + np.exp(-(table @ weights)))
        gradient = table.T @ (chance - wanted) + PENALTY * weights
        curvature = (table * (chance * (1 - chance))[:, None]).T @ table
        change = np.linalg.solve(curvature + PENALTY * np.eye(len(columns)), gradient)
        weights -= change
        if np.abs(change).max() < 1e-4:
            break
    return {
        one: round(float(weights[at]), 3) for one, at in columns.items() if abs(weights[at]) >= 0.01
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--texts", type=Path, help="questions and answers that name nobody, as CSV")
    options = parser.parse_args()
    made = examples(options.texts)
    print(Counter(is_name for _, is_name in made))
    weights = fit(made)
    evidence.WEIGHTS.write_text(json.dumps(weights, indent=0, sort_keys=True) + "\n")
    print(len(weights), "weights")


if __name__ == "__main__":
    main()
