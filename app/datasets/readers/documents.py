"""Documents become rows in one of two ways: their own questions and answers, or plain text.

A question is a heading, a paragraph that asks, a line “Q:”, or a table's left column; the answer is
what stands below or beside it. Nothing is made up: what stands under no question is counted and
left out. As plain text the whole document is taken, cut where its own structure cuts it.
"""

import csv
import io
import re
import string
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from app.datasets.column_names import ROLES, is_known_name, plain
from app.datasets.mapping import ColumnRole, LeftOut, Options
from app.datasets.readers import quizzes, tables
from app.datasets.readers.blocks import TABLE_RULE, Block
from app.datasets.readers.quizzes import with_options

PAIR_COLUMNS = ["section", "question", "answer", "found_in"]
TEXT_COLUMNS = ["section", "text"]
DEFAULT_CHUNK_TOKENS = 512
MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS = 32, 8192
# Fewer pairs than this, and a document is taken as plain text unless a person says otherwise.
MIN_PAIRS = 3
_MAX_QUESTION_CHARACTERS = 300
_MAX_TITLE_CHARACTERS = 25
# “Q: …” in the languages of column_names.py; one letter is enough where lines take turns.
_QUESTION_LETTERS = frozenset("qfpdvвs問问س")
_ANSWER_LETTERS = frozenset("arоoc答ج")
_MARK = re.compile(
    r"[\s>*_•·–-]{0,6}([^\W\d_]{1,20}(?:[ ][^\W\d_]{1,20}){0,2})[ ]?\d{0,4}"
    r"[*_]{0,2}\s?[:：][*_]{0,2}(.*)",
    re.DOTALL,
)
_OPTION = re.compile(
    r"(?P<before>[*✓✔☑\s]*)[☐□-]?\s*\(?(?P<letter>[a-hA-H])[).]\s+(?P<text>.+?)"
    r"\s*(?P<behind>\*|✓|✔|☑|\((?:correct|right|richtig|juste|correcto|corretto|juist)\))?",
    re.DOTALL,
)
# Options with boxes to tick instead of letters; what is ticked is right. Some type “o” and “x”.
_TICKED, _UNTICKED = "☑☒■▣✅◉⦿●⚫🔘✔✓", "☐□▢⬜◯○⚪❍◌"
_BOXED = re.compile(
    rf"(?:[-*•]\s)?\s*(?P<box>[{_TICKED}{_UNTICKED}]|\[[ xX]?\]|\([ xX]?\)|[oOxX](?=\s))\ufe0f?"
    r"\s*(?P<text>\S.*)"
)
_BEFORE_BOX = re.compile(rf"(?=[{_TICKED}{_UNTICKED}]|\[[ xX]?\]\s|\([ xX]?\)\s)")
_MAX_KEY_CHARACTERS, _MAX_OPTION_CHARACTERS = 5000, 500
# Short lines of which one alone is bold: so many, so long.
_MIN_BOLD_LINES, _MAX_BOLD_LINES, _MAX_BOLD_CHARACTERS = 3, 8, 100
_NO_OPTION = re.compile(r":$|(?:\S+\s+){2,}\S+[.!]$")
_KEY_ENTRY = re.compile(r"(\d{1,3})\s?[.):=-]?\s?([a-hA-H])\b")
_KEY = re.compile(r"(?:[^\W\d_]{2,20}\s?){0,3}:?\s*(?:\d{1,3}\s?[.):=|-]?\s?[a-hA-H]\b[\s,;|.]*)+")
# A key to one question alone says that it is one: “Room: 3B” is none.
_KEY_TO_ONE = re.compile(
    r"(?:answer |quiz )?(?:key|lösung(?:en)?|lösungsschlüssel|clé|corrigé|solution|clave|chiave"
    r"|soluzione|sleutel|gabarito)\s?:\s?\d{1,3}\s?[.):=-]?\s?[a-h]\b\.?",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？।])")

Row = dict[str, Any]


class Counts:
    """What was seen of a document while it was read."""

    def __init__(self) -> None:
        self.num_unused = 0  # paragraphs and tables under no question
        self.num_with_options = 0  # questions


def pairs(
    blocks: Callable[[], Iterator[Block]], counts: Counts, options: Options = "leave_out"
) -> Iterator[tuple[int, Row | LeftOut]]:
    """Find the questions and answers that the document itself sets down.

    Args:
        blocks: Opens the document at its start; once more where options need a key to them.
        options: How what there was to choose from is shown.
    """
    finder = _Pairs(counts, lambda: answer_key(blocks()), options)
    for block in blocks():
        yield from finder.see(block)
    yield from finder.flush()


class _Pairs:
    def __init__(
        self, counts: Counts, find_key: Callable[[], dict[int, str]], options: Options
    ) -> None:
        self.counts = counts
        self.find_key = find_key
        self.options = options
        self.key: dict[int, str] | None = None
        self.headings: list[tuple[int, str]] = []
        self.question = ""
        self.number = 0
        self.found_in = ""
        self.answer: list[str] = []
        self.bold: list[str] = []  # parts of the answer
        self.is_open = False  # a question waits for its answer, or for more of it

    def see(self, block: Block) -> Iterator[tuple[int, Row | LeftOut]]:
        if block.kind == "heading":
            yield from self.flush()
            while self.headings and self.headings[-1][0] >= block.level:
                self.headings.pop()
            self._ask(block.text, block.number, "heading")
            self.headings.append((block.level, block.text))
        elif block.kind == "end":
            if self.headings and self.headings[-1][0] >= block.level:
                yield from self.flush()
            while self.headings and self.headings[-1][0] >= block.level:
                self.headings.pop()
        elif block.kind == "table":
            yield from self._table(block)
        else:
            yield from self._text(block)

    def flush(self) -> Iterator[tuple[int, Row | LeftOut]]:
        answer = "\n\n".join(self.answer).strip()
        options = None
        if self.is_open and self.question:
            options = _options("\n".join(self.answer), self.bold)
        if options:
            self.counts.num_with_options += 1
            right = options.right or options.texts.get(self._of_key())
            if right:
                texts = list(options.texts.values())
                asked, answer = with_options(self.question, texts, [right], self.options)
                yield self.number, self._row(asked, answer, self.found_in)
            else:
                yield self.number, LeftOut("options")
        elif _is_key(answer):
            pass  # of the questions before it
        elif self.is_open and self.question and answer:
            yield self.number, self._row(self.question, answer, self.found_in)
        elif answer or (self.is_open and self.found_in == "question"):
            self.counts.num_unused += 1
        self.question, self.answer, self.bold, self.is_open = "", [], [], False

    def _of_key(self) -> str:
        if self.key is None:
            self.key = self.find_key()
        numbered = re.match(r"\s*(\d{1,3})[.)]", self.question)
        return self.key.get(int(numbered[1]) if numbered else self.counts.num_with_options, "")

    def _ask(self, question: str, number: int, found_in: str) -> None:
        self.question, self.number, self.found_in = question, number, found_in
        self.is_open = bool(question)

    def _row(self, question: str, answer: str, found_in: str) -> Row:
        above = self.headings[:-1] if found_in == "heading" else self.headings
        section = " › ".join(text for _, text in above)
        return {
            "section": section,
            "question": question,
            "answer": answer,
            "found_in": found_in,
        }

    def _text(self, block: Block) -> Iterator[tuple[int, Row | LeftOut]]:
        lines = block.text.split("\n")
        if any(_marked(line) for line in lines):
            for offset, line in enumerate(lines):
                yield from self._marked_line(line, block.number + offset)
            return
        asks, _, rest = block.text.partition("\n")
        if _is_question(block.text):
            asks, rest = block.text, ""
        waits = self.is_open and self.found_in == "lines" and not self.answer
        if _is_question(asks) and not waits:
            yield from self.flush()
            self._ask(" ".join(asks.split()), block.number, "question")
            if rest.strip():
                self.answer.append(rest)
        elif self.is_open:
            self.answer.append(block.text)
            if block.is_bold:
                self.bold.append(block.text)
        else:
            self.counts.num_unused += 1

    def _marked_line(self, line: str, number: int) -> Iterator[tuple[int, Row | LeftOut]]:
        marked = _marked(line)
        if marked is None:
            if self.answer and self.is_open:
                self.answer[-1] += f"\n{line}"
            elif self.is_open and self.found_in == "lines":
                self.question += f"\n{line}"
            elif self.is_open:
                self.answer.append(line)
            else:
                self.counts.num_unused += 1
        elif marked[0] is ColumnRole.QUESTION:
            yield from self.flush()
            self._ask(marked[1], number, "lines")
        elif self.is_open:
            self.answer.append(marked[1])

    def _table(self, block: Block) -> Iterator[tuple[int, Row | LeftOut]]:
        columns = _columns_of(block)
        if columns is None:
            text = table_text(block)
            if self.is_open:
                self.answer.append(text)
            else:
                self.counts.num_unused += 1
            return
        question, answer, first = columns
        for offset, cells in enumerate(block.rows[first:], start=first):
            padded = [*cells, *[""] * (max(question, answer) + 1 - len(cells))]
            if padded[question].strip() and padded[answer].strip():
                row = self._row(padded[question].strip(), padded[answer].strip(), "table")
                yield block.number + offset + (offset > 0 and block.has_header), row


class _Options(NamedTuple):
    """What a question lets people choose from, by letters, and the right one where it is marked."""

    texts: dict[str, str]
    right: str


def _options(answer: str, bold: list[str]) -> _Options | None:
    """Read an answer that is nothing but options to choose from, such as “a) … b) …”.

    Args:
        answer: All that stands below the question.
        bold: The lines of it that are in bold letters; a single one is marked as the right one.
    """
    lines = [line.strip() for line in answer.split("\n")]
    lines = [line for line in lines if line and not re.fullmatch(r"[_.\s–—-]+", line)]
    while lines and _KEY_TO_ONE.fullmatch(lines[-1]):
        lines.pop()
    if any(len(line) > _MAX_OPTION_CHARACTERS for line in lines):
        return None
    # Several may stand in one line.
    boxes = [piece.strip() for line in lines for piece in _BEFORE_BOX.split(line) if piece.strip()]
    found = _lettered(lines) or _boxed(boxes) or _boxed(lines) or _lettered(_cut(" ".join(lines)))
    if len(bold) != 1 or (found and found.right):
        return found
    if found is None:
        found = _one_bold(lines)
        if bold == lines[:1]:  # perhaps a title of the others
            return found
    marked = bold[0].strip()
    # All options in one paragraph, and that in bold, mark none of them.
    if found is None or len(found.texts) != len(lines) or lines.count(marked) != 1:
        return found
    return found._replace(right=[*found.texts.values()][lines.index(marked)])


def _one_bold(lines: list[str]) -> _Options | None:
    """Read short lines of which one is bold as options.

    Lines that lead on to others are none, nor are sentences: one in bold is there to be noticed.
    """
    if not _MIN_BOLD_LINES <= len(lines) <= _MAX_BOLD_LINES:
        return None
    if any(len(line) > _MAX_BOLD_CHARACTERS or _NO_OPTION.search(line) for line in lines):
        return None
    texts = [line.removeprefix("- ") for line in lines]
    return _Options(dict(zip(string.ascii_lowercase, texts, strict=False)), "")


def _lettered(lines: list[str]) -> _Options | None:
    texts: dict[str, str] = {}
    marked: list[str] = []
    chosen = ""
    for n, line in enumerate(lines):
        if n == len(lines) - 1 and (match := re.fullmatch(r"\(?([a-hA-H])[).]?", line)):
            chosen = texts.get(match[1].lower(), "")
            continue
        option = _OPTION.fullmatch(line)
        if option is None or option["letter"].lower() != "abcdefgh"[len(texts) : len(texts) + 1]:
            return None
        texts[option["letter"].lower()] = option["text"].strip()
        if option["before"].strip() or option["behind"]:
            marked.append(option["text"].strip())
    if len(texts) < 2:
        return None
    return _Options(texts, chosen or (marked[0] if len(marked) == 1 else ""))


def _cut(line: str) -> list[str]:
    """Cut a line of options with letters, such as “(A) red (B) blue”, before each of them."""
    marks = quizzes.letters_of(line)
    # “A: Hello. B: Hi.” is a talk.
    cut = quizzes.cut_at_letters(line) if marks and marks[0]["closes"] else {}
    return [f"{letter}) {text}" for letter, text in cut.items() if text]


def _boxed(lines: list[str]) -> _Options | None:
    """Read options with boxes: “☐ 5 mg”, “☒ 50 mg”, “x 50 mg”; a list of dots alone is none."""
    found = [match for line in lines if (match := _BOXED.fullmatch(line))]
    boxes = {match["box"].lower() for match in found}
    if "o" in boxes and not boxes & {"x", *_TICKED}:  # an old program's dots, or “or” in Spanish
        return None
    if len(found) < max(2, len(lines)) or len(found) > len(string.ascii_lowercase):
        return None
    texts, right = {}, []
    for letter, match in zip(string.ascii_lowercase, found, strict=False):
        option = _OPTION.fullmatch(match["text"])
        text = (option["text"] if option else match["text"]).strip()
        texts[letter] = text
        if match["box"] in _TICKED or match["box"].strip("[]()").lower() == "x":
            right.append(text)
    if len(right) == len(found):
        return None
    return _Options(texts, right[0] if len(right) == 1 else "")


def _is_key(text: str) -> bool:
    if _KEY_TO_ONE.fullmatch(text):
        return True
    return (
        len(text) < _MAX_KEY_CHARACTERS
        and _KEY.fullmatch(text) is not None
        and len(_KEY_ENTRY.findall(text)) > 1
    )


def answer_key(blocks: Iterator[Block]) -> dict[int, str]:
    """Find the key to a quiz, such as “1a 2c 3b”: the letter of each question's number."""
    key: dict[int, str] = {}
    for block in blocks:
        text = table_text(block) if block.kind == "table" else block.text
        if _is_key(text):
            key |= {int(number): letter.lower() for number, letter in _KEY_ENTRY.findall(text)}
    return key


def _columns_of(block: Block) -> tuple[int, int, int] | None:
    """Return which columns of a table ask and answer, and its first row that is no header."""
    if not block.rows:
        return None
    header = [ROLES.get(plain(cell)) for cell in block.rows[0]]
    if ColumnRole.QUESTION in header and ColumnRole.ANSWER in header:
        return header.index(ColumnRole.QUESTION), header.index(ColumnRole.ANSWER), 1
    if max(map(len, block.rows)) != 2 or len(block.rows) < 2:
        return None
    titles = all(
        len(cell) <= _MAX_TITLE_CHARACTERS and not cell.rstrip().endswith((".", "?", "!"))
        for cell in block.rows[0]
    )
    below = [len(cells[1]) for cells in block.rows[1:] if len(cells) > 1]
    answers_are_long = sum(below) > 2 * _MAX_TITLE_CHARACTERS * len(below)
    return 0, 1, int(block.has_header or (titles and answers_are_long))


def _marked(line: str) -> tuple[ColumnRole, str] | None:
    match = _MARK.match(line)
    if match is None:
        return None
    word = plain(match[1])
    if ROLES.get(word) is ColumnRole.QUESTION or word in _QUESTION_LETTERS:
        return ColumnRole.QUESTION, match[2].strip()
    if ROLES.get(word) is ColumnRole.ANSWER or word in _ANSWER_LETTERS:
        return ColumnRole.ANSWER, match[2].strip()
    return None


def _is_question(text: str) -> bool:
    return len(text) <= _MAX_QUESTION_CHARACTERS and text.rstrip(" *_").endswith(
        ("?", "？", "؟", ";?")
    )


def table_text(block: Block) -> str:
    """Write a table as lines, its cells between bars."""
    return "\n".join(" | ".join(" ".join(cell.split()) for cell in row) for row in block.rows)


def has_pairs(blocks: Callable[[], Iterator[Block]], counts: Counts) -> bool:
    """Say whether a document holds enough questions and answers of its own to begin with those."""
    rows = pairs(blocks, counts)
    return sum(1 for _ in zip(range(MIN_PAIRS), rows, strict=False)) == MIN_PAIRS


# --- plain text ------------------------------------------------------------------------------


def texts(
    blocks: Iterator[Block], chunk_tokens: int, overlap_tokens: int
) -> Iterator[tuple[int, Row]]:
    """Cut a document into texts of about `chunk_tokens`, at headings and paragraphs where it can.

    A heading stays with what follows it, and a text begins at each heading once half of the last
    one is full. A paragraph that is too long is cut at sentences, a sentence at words. Each text
    but a section's first begins with the last sentences of the one before, up to `overlap_tokens`.
    """
    headings: list[tuple[int, str]] = []
    chunk = _Chunk(chunk_tokens, overlap_tokens)
    for block in blocks:
        if block.kind == "heading":
            if chunk.tokens * 2 >= chunk_tokens and not chunk.is_only_heading:
                yield from chunk.close(carry=False)
            while headings and headings[-1][0] >= block.level:
                headings.pop()
            headings.append((block.level, block.text))
            chunk.add(block.number, block.text, headings, is_heading=True)
            continue
        if block.kind == "end":
            while headings and headings[-1][0] >= block.level:
                headings.pop()
            continue
        text = table_text(block) if block.kind == "table" else block.text
        for piece in _pieces(text, chunk_tokens - overlap_tokens):
            if chunk.tokens + approximate_tokens(piece) > chunk_tokens:
                yield from chunk.close(carry=True)
            chunk.add(block.number, piece, headings)
    yield from chunk.close(carry=False)


class _Chunk:
    def __init__(self, size: int, overlap: int) -> None:
        self.size, self.overlap = size, overlap
        self.parts: list[str] = []
        self.tokens = 0
        self.number = 0
        self.section = ""
        self.waiting: list[tuple[int, str, str]] = []  # headings without a text yet
        self.has_new = False

    @property
    def is_only_heading(self) -> bool:
        return not self.has_new

    def add(
        self, number: int, text: str, headings: list[tuple[int, str]], is_heading: bool = False
    ) -> None:
        section = " › ".join(text for _, text in headings)
        if is_heading:
            self.waiting.append((number, text, section))
            self.tokens += approximate_tokens(text)
            return
        start = self.waiting[0] if self.waiting else (number, text, section)
        if not self.has_new:
            self.number, self.section = start[0], start[2]
        self.parts += [heading for _, heading, _ in self.waiting]
        self.waiting.clear()
        self.parts.append(text)
        self.tokens += approximate_tokens(text)
        self.has_new = True

    def close(self, carry: bool) -> Iterator[tuple[int, Row]]:
        if not self.has_new:
            # Only headings, or only what was carried over: not a text of its own.
            if not self.waiting:
                self.parts, self.tokens = [], 0
            return
        text = "\n\n".join(self.parts)
        yield self.number, {"section": self.section, "text": text}
        self.parts = [tail] if carry and (tail := _tail(self.parts, self.overlap)) else []
        self.tokens = sum(map(approximate_tokens, self.parts)) + sum(
            approximate_tokens(heading) for _, heading, _ in self.waiting
        )
        self.has_new = False


def _tail(parts: list[str], max_tokens: int) -> str:
    """Return the last sentences of a text that fit."""
    if max_tokens <= 0:
        return ""
    taken: deque[str] = deque()
    tokens = 0
    for sentence in reversed(_SENTENCE.split(parts[-1])):
        tokens += approximate_tokens(sentence)
        if tokens > max_tokens:
            break
        taken.appendleft(sentence)
    return " ".join(taken).strip()


def _pieces(text: str, max_tokens: int) -> Iterator[str]:
    """Cut a text that is too long at its sentences, else at its words, else anywhere."""
    if approximate_tokens(text) <= max_tokens:
        yield text
        return
    piece, size = "", 0
    for sentence in _SENTENCE.split(text):
        for part in _words(sentence, max_tokens):
            tokens = approximate_tokens(part)
            if piece and size + tokens > max_tokens:
                yield piece
                piece, size = "", 0
            piece = f"{piece} {part}" if piece else part
            size += tokens
    if piece:
        yield piece


def _words(sentence: str, max_tokens: int) -> Iterator[str]:
    if approximate_tokens(sentence) <= max_tokens:
        yield sentence
        return
    piece: list[str] = []
    size = 0
    for word in sentence.split():
        # Some scripts write no spaces: a “word” may be a page.
        for start in range(0, len(word), max_tokens):
            part = word[start : start + max_tokens]
            tokens = approximate_tokens(part)
            if piece and size + tokens > max_tokens:
                yield " ".join(piece)
                piece, size = [], 0
            piece.append(part)
            size += tokens
    if piece:
        yield " ".join(piece)


def approximate_tokens(text: str) -> int:
    """Guess how many tokens a text has, where no model is known whose tokenizer could count.

    About four letters of Latin script make one token, two of other alphabets, and each sign of
    Chinese, Japanese or Korean is one; a model's own count differs by a quarter or so.
    """
    if text.isascii():
        return len(text) // 4 + 1
    wide = len(_WIDE.findall(text))
    other = len(_OTHER.findall(text))
    return (len(text) - wide - other) // 4 + other // 2 + wide + 1


_WIDE = re.compile(r"[\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")
_OTHER = re.compile(r"[\u0370-\u1cff]")


# --- which text is a document ----------------------------------------------------------------


def looks_like_document(sample: str) -> bool:
    """Tell prose from a table, by the first whole lines of a file."""
    lines = [line for line in sample.splitlines() if line.strip()]
    if any("|" in line and TABLE_RULE.match(line) for line in lines[:200]):
        return True
    delimiter, share = tables.sniff_delimiter(sample)
    first = next(iter(csv.reader(io.StringIO(lines[0]), delimiter=delimiter)), []) if lines else []
    if any(is_known_name(cell) for cell in first):
        return False
    has_gaps = bool(re.search(r"\S[ \t]*\r?\n[ \t]*\r?\n[ \t]*\S", sample))
    is_prose = delimiter == "," and has_gaps and _commas_are_prose(sample)
    if delimiter != tables.NO_DELIMITER and share >= 0.8 and not is_prose:
        return False
    marks = {marked[0] for line in lines[:400] if (marked := _marked(line))}
    has_heading = any(re.match(r" {0,3}#{1,6}[ \t]+\S", line) for line in lines)
    is_ragged = delimiter != tables.NO_DELIMITER and share < 0.5
    return len(marks) == 2 or has_heading or has_gaps or is_ragged


def _commas_are_prose(sample: str) -> bool:
    commas = sample.count(",")
    return commas > 0 and sample.count(", ") + sample.count(",\n") >= 0.9 * commas
