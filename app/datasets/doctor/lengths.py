"""How long examples are: far from the rest, or longer than a job takes."""

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.confined.within import TooSlow, is_panic, within
from app.core.sentences import counted, listed
from app.datasets.doctor import rows as reading
from app.datasets.doctor.findings import CheckFinding
from app.datasets.doctor.report import BARS
from app.datasets.doctor.rows import Row
from app.training.chat import ChatError, ChatFormat

# An answer is far from the rest from so many times the middle on; short ones among sentences only.
_FAR = 20
_LONG_CHARACTERS = 2_000
_SENTENCE_CHARACTERS = 80
_MIN_ROWS = 20
# Tokens are counted for no more than so many of the longest examples.
_MAX_COUNTED = 20_000
_BATCH = 200
# For a batch. A chat template comes from strangers and may loop; the check does without it then.
_TEMPLATE_SECONDS = 20.0


class Lengths:
    """Counts characters of all, and tokens of those that may be too long."""

    def __init__(self, file: int, model_folder: str | None, limit_tokens: int) -> None:
        self._file = file
        self._model_folder = model_folder
        self._limit = limit_tokens
        self._indices = array("i")
        self._asked = array("i")
        self._answered = array("i")
        self._whole = array("i")
        self._maybe_cut: list[tuple[int, int]] = []
        self._num_maybe_cut = 0

    def check(self, rows: list[Row]) -> None:
        for row in rows:
            self._indices.append(row.index)
            self._asked.append(len(row.question))
            self._answered.append(len(row.answer))
            self._whole.append(len(row.folded) + len(row.system))
            # A token has a byte at least, and a template adds a few: what is shorter is not cut.
            size = len(row.folded) * (1 if row.folded.isascii() else 4) + len(row.system)
            if size + 100 > self._limit and row.messages[0]["role"] != "text":
                self._num_maybe_cut += 1
                if len(self._maybe_cut) < _MAX_COUNTED:
                    self._maybe_cut.append((row.index, row.offset))

    def findings(self) -> Iterable[CheckFinding]:
        answered = np.array(self._answered)
        if len(answered) >= _MIN_ROWS:
            yield from self._far(answered)
        yield self._cut()

    def by_length(self) -> bytes:
        """Return the indexes from the shortest to the longest example, four bytes each."""
        order = np.argsort(np.array(self._whole, np.int32), kind="stable")
        return np.array(self._indices, np.int32)[order].tobytes()

    def bars(self) -> dict[str, list[int]]:
        """Count questions, answers and whole examples by length.

        Returns:
            For each of them a number for each of BARS, and one beyond.
        """
        edges = [-1, *BARS, 2**31]
        return {
            name: np.histogram(np.array(lengths), np.array(edges) + 1)[0].tolist()
            for name, lengths in (
                ("question", self._asked),
                ("answer", self._answered),
                ("whole", self._whole),
            )
            if any(lengths)
        }

    def _far(self, answered: NDArray[Any]) -> Iterable[CheckFinding]:
        indices = np.array(self._indices)
        median = int(np.median(answered))
        bound = max(_FAR * median, _LONG_CHARACTERS)
        yield _finding("long", indices[answered > bound], median=f"{median:,}", bound=f"{bound:,}")
        if median >= _SENTENCE_CHARACTERS:
            bound = max(median // _FAR, 3)
            chosen = indices[answered <= bound]
            yield _finding("short", chosen, median=f"{median:,}", bound=f"{bound:,}")

    def _cut(self) -> CheckFinding:
        finding = CheckFinding("cut")
        if self._model_folder is None or not self._maybe_cut:
            return finding
        try:
            return self._counted(finding, self._model_folder)
        except (ChatError, TooSlow):
            return CheckFinding("cut")  # the page of the model says so
        except BaseException as error:
            if not is_panic(error):
                raise
            return CheckFinding("cut")

    def _counted(self, finding: CheckFinding, model_folder: str) -> CheckFinding:
        with within(_TEMPLATE_SECONDS):
            chat = ChatFormat.load(model_folder)
        num_lost = num_begun = num_ended = 0
        for start in range(0, len(self._maybe_cut), _BATCH):
            batch = self._maybe_cut[start : start + _BATCH]
            again = [reading.again(self._file, offset) for _, offset in batch]
            try:
                with within(_TEMPLATE_SECONDS):
                    encoded = chat.encode_many(
                        [row.messages for row in again], self._limit, [row.tools for row in again]
                    )
            except ChatError:
                continue  # the page of the model says so
            for (index, _), one in zip(batch, encoded, strict=True):
                if one.num_cut_tokens:
                    finding.rows.append(index)
                    num_lost += one.num_cut_tokens
                    num_begun += one.num_cut_tokens > one.num_cut_end_tokens
                    num_ended += one.num_cut_end_tokens > 0
        places = [f"the beginning of {_examples(num_begun)}"] * bool(num_begun)
        places += [f"the end of the answer in {_examples(num_ended)}"] * bool(num_ended)
        where = f": {listed(places)}" if places else ""
        finding.detail = {"limit": f"{self._limit:,}", "lost": f"{num_lost:,}", "answers": where}
        return finding


def _examples(number: int) -> str:
    return counted(number, "1 example", "{n} examples")


def _finding(kind: str, indices: NDArray[Any], **detail: str) -> CheckFinding:
    return CheckFinding(kind, array("i", indices.tolist()), detail=detail)
