"""Which language answers are in, and which of them are in another than most.

py3langid names a language in a tenth of a millisecond, a minute and more for a million answers. So
it is asked about the first answers of each language only: from those the commonest words are
learned, and an answer that has enough of them needs no asking.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from app.datasets.doctor.findings import CheckFinding
from app.datasets.doctor.language_names import NAMES
from app.datasets.doctor.rows import Row

# Names, doses and formulas belong to no language: only so long a text is judged.
_MIN_LETTERS = 40
_JUDGED_CHARACTERS = 300
_SURE = 0.9
# A language is known by its commonest words once so many answers were asked about.
_LEARNED_FROM = 150
_NUM_COMMON = 120
_ENOUGH_COMMON = 0.25
_MAX_ASKED = 60_000
# Only where nearly all answers are in one language are the others out of place.
_MOST = 0.8
MIN_JUDGED = 20
# Words; where there are no spaces between them, letters.
_TOKEN = re.compile(r"[\u0e00-\u0eff\u3040-\u9fff\uac00-\ud7af]|[^\W\d_]+")
# So near to each other that a short text may be either: not told of each other.
_NEIGHBOURS = ({"da", "no", "nb", "nn"}, {"hr", "sr", "bs", "sl"}, {"id", "ms"}, {"es", "gl", "ca"})


def load_model() -> Any:
    """Unpack the model, which takes a second and a temporary file: before that is forbidden."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class Language:
    """Names the language of each answer that is long enough."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._num_asked = 0
        self._learned: dict[str, Counter[str]] = {}
        self._common: dict[str, frozenset[str]] = {}
        self._num_texts: Counter[str] = Counter()
        self._rows: dict[str, array[int]] = {}

    def check(self, rows: list[Row]) -> None:
        for row in rows:
            text = row.plain_answer[:_JUDGED_CHARACTERS]
            language = self._known(text.split(" ")) if len(text) >= _MIN_LETTERS else None
            if language is None:
                tokens = _TOKEN.findall(text)
                if sum(map(len, tokens)) < _MIN_LETTERS:
                    continue
                language = self._known(tokens) or self._ask(text, tokens)
            if language is not None:
                self._rows.setdefault(language, array("i")).append(row.index)

    def findings(self) -> Iterable[CheckFinding]:
        total = sum(map(len, self._rows.values()))
        if total < MIN_JUDGED:
            return
        most = max(self._rows, key=lambda language: len(self._rows[language]))
        if len(self._rows[most]) < _MOST * total:
            return
        near = next((group for group in _NEIGHBOURS if most in group), {most})
        others = {
            language: rows
            for language, rows in self._rows.items()
            if language not in near and language in NAMES
        }
        indices = array("i", sorted(index for rows in others.values() for index in rows))
        names = [NAMES[each] for each in sorted(others, key=lambda each: -len(others[each]))]
        words = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
        detail = {"most": NAMES.get(most, most), "others": words}
        yield CheckFinding("language", indices, detail=detail)

    def shares(self) -> dict[str, int]:
        """Return how many answers are in which language, the commonest first."""
        counted = sorted(self._rows.items(), key=lambda item: -len(item[1]))
        return {NAMES[name]: len(rows) for name, rows in counted[:5] if name in NAMES}

    def _known(self, tokens: list[str]) -> str | None:
        for language, common in self._common.items():
            if sum(token in common for token in tokens) >= _ENOUGH_COMMON * len(tokens):
                return language
        return None

    def _ask(self, text: str, tokens: list[str]) -> str | None:
        if self._model is None or self._num_asked >= _MAX_ASKED:
            return None
        self._num_asked += 1
        language, sureness = self._model.classify(text)
        if sureness < _SURE:
            return None
        self._learn(language, tokens)
        return str(language)

    def _learn(self, language: str, tokens: list[str]) -> None:
        self._num_texts[language] += 1
        if self._num_texts[language] > _LEARNED_FROM:
            return
        counts = self._learned.setdefault(language, Counter())
        counts.update(tokens)
        if self._num_texts[language] == _LEARNED_FROM:
            mine = {word for word, _ in counts.most_common(_NUM_COMMON)}
            # A word that two languages have in common says nothing.
            for other, common in self._common.items():
                self._common[other] = common - mine
                mine -= common
            self._common[language] = frozenset(mine)
