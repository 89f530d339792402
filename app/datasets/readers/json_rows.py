"""Rows of JSON and JSONL: one object at a time, however long the file is."""

import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from pydantic_core import from_json

from app.datasets.column_names import ROLES, is_known_name, plain
from app.datasets.mapping import ColumnRole
from app.datasets.readers import chat_exports
from app.datasets.readers.grids import Seen
from app.datasets.readers.unreadable import Unreadable
from app.datasets.turns import are_turns

MAX_ENTRY_CHARACTERS = 16 * 1024**2
MAX_DEPTH = 64
# A file that is one object around a list has to be held as a whole.
_MAX_WRAPPED_CHARACTERS = 128 * 1024**2
_CHUNK_CHARACTERS = 1024**2
# How programs call the parts of a file that holds several.
_SPLITS = {"train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"}
# How what there is to choose from is called, beside a question.
_CHOICES = {"choices", "options", "answer_choices", "answer_options"}
_MAX_AROUND = 4  # objects around the rows

Row = dict[str, Any]


def _no_number(word: str) -> None:
    """Read NaN, which programs write where a cell is blank, as that; refuse infinity."""
    if word != "NaN":
        raise ValueError(f"{word} is not a number in JSON")


_decoder = json.JSONDecoder(parse_constant=_no_number)
_lenient = json.JSONDecoder()
_NAN = re.compile(r"[:\[,]\s*NaN\b")
_INFINITE = re.compile(r"[:\[,]\s*-?Infinity\b")


def sentences(place: str) -> dict[str, tuple[str, str]]:
    """Return how to say what is not used; `place` is what rows are numbered by."""
    return {
        # JSON's readers take the last, and say nothing.
        "doubled": (
            f"In 1 place a name stands twice in an object, and the last of the two is used "
            f"({place} {{row}}); look whether the other was meant.",
            f"In {{n}} places a name stands twice in an object, and the last of the two is used "
            f"(first in {place} {{row}}); look whether the others were meant.",
        ),
        "comment": (
            "1 line is a comment (//) and is not used (line {row}).",
            "{n} lines are comments (//) and are not used (first line {row}).",
        ),
        "not_a_number": (
            f"In 1 {place} the word NaN stands where a program had no value; it is read as blank "
            f"({place} {{row}}).",
            f"In {{n}} places the word NaN stands where a program had no value; it is read as "
            f"blank (first in {place} {{row}}).",
        ),
    }


class _Doubled:
    """Counts names that stand twice in an object, which no parser tells of by itself."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.number = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=self._pairs)

    def look(self, value: Any, written: str | bytes, number: int) -> None:
        """Look closer where there are more names than the value has; quick where there are not.

        Args:
            value: What was read.
            written: What it was read from.
            number: Which line or entry this is.
        """
        try:
            num_names = _num_names(value)
            num_colons = _count(written, '":')
            # Some programs put a blank before each colon.
            if num_names == num_colons or num_names == num_colons + _count(written, '" :'):
                return
            self.number = number
            text = written if isinstance(written, str) else written.decode()
            self._decoder.raw_decode(text.lstrip())
        except (ValueError, RecursionError):
            pass  # what is nested too deeply, or has a fault, is told by whoever reads it

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            self.seen.add("doubled", self.number)
        return made


def _count(text: str | bytes, sign: str) -> int:
    """Count signs that stand behind names, and now and then within texts."""
    return text.count(sign.encode()) if isinstance(text, bytes) else text.count(sign)


def _num_names(value: Any) -> int:
    num = 0
    left = [value]
    for part in left:  # which grows
        if type(part) is dict:
            num += len(part)
            left += [each for each in part.values() if type(each) is list or type(each) is dict]
        elif type(part) is list:
            left += [each for each in part if type(each) is dict or type(each) is list]
    return num


def is_jsonl(text: io.TextIOBase) -> bool:
    """Say whether the first line that is not blank is an entry of its own; then rewind.

    That is an object, or a list above another one.
    """
    line = ""
    try:
        for line in iter(lambda: text.readline(MAX_ENTRY_CHARACTERS), ""):
            if line.strip() and not _is_comment(line):
                value = _lenient.decode(_without_comma(line))
                if isinstance(value, list):
                    return bool(value) and isinstance(_next_value(text), list)
                return isinstance(value, dict) and (_goes_on(text) or _entries(value)[0] is value)
    except (ValueError, RecursionError):
        # One object over many lines, or a fault in line 1: told apart by what follows it.
        return line.lstrip()[:1] != "[" and _second_line_is_object(text)
    finally:
        text.seek(0)
    return False


def _next_value(text: io.TextIOBase) -> Any:
    """Return what the next line that is not blank has; none where that is no whole value."""
    for line in iter(lambda: text.readline(MAX_ENTRY_CHARACTERS), ""):
        if line.strip():
            return _lenient.decode(_without_comma(line))
    return None


def _is_comment(line: str) -> bool:
    return line.lstrip(" \t\ufeff").startswith("//")


def without_comments(start: str) -> str:
    """Return the first characters of a text without lines of comments before them."""
    lines = start.split("\n")
    return "\n".join(itertools.dropwhile(lambda x: not x.strip() or _is_comment(x), lines)).strip()


def are_texts(sample: str) -> bool:
    """Say whether each line is a text of JSON, and the first no name of a column.

    A table of one column may look the same: then the first line is a name that is known, or a
    single word above longer texts.
    """
    lines = [line.strip().lstrip("\ufeff") for line in sample.split("\n") if line.strip()]
    if len(lines) < 2 or not all(line[:1] == '"' for line in lines):
        return False
    try:
        texts = [_lenient.decode(_without_comma(line)) for line in lines]
    except (ValueError, RecursionError):
        return False
    first, *others = texts
    is_word = " " not in first.strip() and any(" " in text.strip() for text in others)
    return all(isinstance(each, str) for each in texts) and not (is_word or is_known_name(first))


def read_texts(text: io.TextIOWrapper) -> Iterator[tuple[int, Row]]:
    """Yield a row for each line that is a text of JSON; `text` stands at its start."""
    seen = Seen()
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        value = _by_the_letter(line, number, seen)
        if not isinstance(value, str):
            raise Unreadable(
                f"Line {number:,} is {_what_it_is(value)}, while the lines before are texts; write "
                'each example as {"text": …}, then upload the file again.'
            )
        yield number, {"text": value}


def _goes_on(text: io.TextIOBase) -> bool:
    """Say whether anything but blanks follows."""
    return any(piece.strip() for piece in iter(lambda: text.read(_CHUNK_CHARACTERS), ""))


def _second_line_is_object(text: io.TextIOBase) -> bool:
    try:
        return isinstance(
            _lenient.decode(text.readline(MAX_ENTRY_CHARACTERS).strip(" \t\r\n\ufeff")), dict
        )
    except (ValueError, RecursionError):
        return False


def _without_comma(line: str) -> str:
    """Return a line without the comma that some programs put between objects.

    Exports that were glued keep the mark of a file's start (U+FEFF), at the start of a line.
    """
    return line.strip().lstrip("\ufeff").strip().removesuffix(",")


def read_jsonl(text: io.TextIOWrapper, seen: Seen) -> Iterator[tuple[int, Row]]:
    """Yield each line's object with its line number; `text` stands at its start.

    Args:
        seen: Counts what is not used, by the keys of `sentences`.

    Raises:
        Unreadable: a line is no JSON, neither object nor list, too long or nested too deeply.
    """
    doubled, lists = _Doubled(seen), _Lists()
    has_lists: bool | None = None  # as the first line is one; a list amid objects is a slip
    for number, line in enumerate(_lines(text), start=1):
        if len(line) > MAX_ENTRY_CHARACTERS:
            raise Unreadable(f"Line {number:,} is longer than 16 MB; split it or leave it out.")
        try:
            # Less than half of the standard library's time, and as exact with large numbers.
            value = from_json(line, allow_inf_nan=False)
        except ValueError:
            if not line.strip() or line.strip() in ("\ufeff", b"\xef\xbb\xbf"):
                continue
            if line.lstrip()[:2] in ("//", b"//"):
                seen.add("comment", number)
                continue
            value = _by_the_letter(line, number, seen)
        has_lists = type(value) is list if has_lists is None else has_lists
        if has_lists and type(value) is list:
            for each in lists.rows(value):
                yield number, _checked(each, number, _line_place)
            doubled.look(value, line, number)
            continue
        row = _checked(value, number, _line_place)
        # As many as there are names, nearly always: then none stands twice.
        if _count(line, '":') != len(row):
            doubled.look(row, line, number)
        yield number, row


def _lines(text: io.TextIOWrapper) -> Iterator[bytes | str]:
    if text.encoding not in ("utf-8", "utf-8-sig"):
        return iter(lambda: text.readline(MAX_ENTRY_CHARACTERS + 1), "")
    # The parser reads UTF-8 itself.
    raw = cast(BinaryIO, text.buffer)
    raw.seek(3 if text.encoding == "utf-8-sig" else 0)
    return iter(lambda: raw.readline(MAX_ENTRY_CHARACTERS + 1), b"")


def _by_the_letter(line: bytes | str, number: int, seen: Seen) -> Any:
    """Read what the quick parser refuses: it may be right after all, or the fault has a place."""
    text = line if isinstance(line, str) else line.decode()
    try:
        value = _decoder.decode(_without_comma(text))
    except json.JSONDecodeError as error:
        indent = len(text) - len(text.lstrip().lstrip("\ufeff").lstrip())
        at = error.pos + indent
        message = "Mark" if text[at : at + 1] == "\ufeff" else error.msg
        raise Unreadable(_syntax(number, at + 1, message)) from None
    except RecursionError:
        raise Unreadable(_deep(_line_place(number))) from None
    except ValueError as error:
        raise Unreadable(_bad_number(_line_place(number), error)) from None
    if _has_nan(text):
        seen.add("not_a_number", number)
    return value


def _has_nan(text: str) -> bool:
    """Say whether NaN stands for a value, and not within a text."""
    if _NAN.search(text) is None:
        return False
    try:
        from_json(_without_comma(text), allow_inf_nan=False)
    except ValueError:
        return True
    return False


def _line_place(number: int) -> str:
    return f"Line {number:,}"


def _entry_place(number: int) -> str:
    return f"Entry {number:,}"


def read_json(text: io.TextIOBase, seen: Seen) -> Iterator[tuple[int, Row]]:
    """Yield the objects of a JSON list with their places in it, from 1.

    A file that is one object counts as its only list of objects, else as the only example.

    Args:
        seen: Counts what is not used, by the keys of `sentences`.
    """
    start = _skip_space(text)
    if start.character == "[":
        yield from _Stream(text, start.line, seen).entries()
    else:
        yield from _wrapped(text, seen)


class _Start:
    def __init__(self, character: str, line: int) -> None:
        self.character = character
        self.line = line


def _skip_space(text: io.TextIOBase) -> _Start:
    line = 1
    while (character := text.read(1)) and character.isspace():
        line += character == "\n"
    return _Start(character, line)


class _Stream:
    """A JSON list read in pieces; holds one entry and a chunk at a time."""

    def __init__(self, text: io.TextIOBase, line: int, seen: Seen) -> None:
        self.text = text
        self.doubled = _Doubled(seen)
        self.buffer = ""
        self.position = 0
        self.line = line  # of `position`
        self.before = 1  # characters of its line before the buffer; the first is the bracket
        self.number = 1
        self.at_end = False
        self.lists = _Lists()

    def entries(self) -> Iterator[tuple[int, Row]]:
        """Yield what is in the list, and in the lists behind it: some programs write one a line."""
        while True:
            yield from self._list()
            if not self._next():
                return
            if self._next() != "[":
                raise Unreadable(_syntax(self.line, None, "Extra data"))
            self._advance(self.position + 1)

    def _list(self) -> Iterator[tuple[int, Row]]:
        while self._next() != "]":  # also behind a last comma
            for value in self.lists.rows(self._value()):
                yield self.number, _checked(value, self.number, self._place)
            self.number += 1
            character = self._next()
            if character not in (",", "]"):
                raise Unreadable(_syntax(self.line, None, "Expecting ',' delimiter"))
            if character == ",":
                self._advance(self.position + 1)
        self._advance(self.position + 1)

    def sequence(self) -> Iterator[tuple[int, Row]]:
        """Yield objects that stand one behind the other, with or without commas between them."""
        while self._next():
            value = self._value()
            yield self.number, _checked(value, self.number, self._place)
            self.number += 1
            if self._next() == ",":
                self._advance(self.position + 1)

    def _place(self, number: int) -> str:
        return f"Entry {number:,} (line {self.line:,})"

    def _next(self) -> str:
        """Return the next character that is not space, without taking it; "" at the end."""
        while True:
            rest = self.position
            while rest < len(self.buffer) and self.buffer[rest] in " \t\r\n\ufeff":
                rest += 1
            self._advance(rest)
            if rest < len(self.buffer):
                return self.buffer[rest]
            if not self._fill():
                return ""

    def _value(self) -> Any:
        if not self._next():
            raise Unreadable(_syntax(self.line, None, "Expecting value"))
        while True:
            left = len(self.buffer) - self.position
            try:
                value, end = _decoder.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError as error:
                # Near the end of what was read the fault may be only that more is to come.
                is_open = error.msg.startswith("Unterminated") or (
                    error.pos > len(self.buffer) - 64
                )
                if is_open and left <= MAX_ENTRY_CHARACTERS and self._fill():
                    continue
                if is_open and left > MAX_ENTRY_CHARACTERS:
                    raise Unreadable(self._too_long()) from None
                line = self.line + self.buffer.count("\n", self.position, error.pos)
                raise Unreadable(_syntax(line, self._column(error.pos), error.msg)) from None
            except RecursionError:
                raise Unreadable(_deep(f"Entry {self.number:,} (line {self.line:,})")) from None
            except ValueError as error:
                where = f"Entry {self.number:,} (from line {self.line:,})"
                raise Unreadable(_bad_number(where, error)) from None
            if end - self.position > MAX_ENTRY_CHARACTERS:
                raise Unreadable(self._too_long())
            written = self.buffer[self.position : end]
            if _has_nan(written):
                self.doubled.seen.add("not_a_number", self.number)
            self.doubled.look(value, written, self.number)
            self._advance(end)
            return value

    def _too_long(self) -> str:
        return (
            f"Entry {self.number:,}, which begins in line {self.line:,}, is longer than 16 MB or "
            "never ends; check its quotes and brackets."
        )

    def _advance(self, position: int) -> None:
        self.line += self.buffer.count("\n", self.position, position)
        self.position = position

    def _fill(self) -> bool:
        if self.at_end:
            return False
        # Twice as much each time: a long entry is then decoded few times over.
        wanted = max(_CHUNK_CHARACTERS, len(self.buffer) - self.position)
        more = self.text.read(wanted)
        if not more:
            self.at_end = True
            return False
        self.before = self._column(self.position) - 1
        self.buffer = self.buffer[self.position :] + more
        self.position = 0
        return True

    def _column(self, position: int) -> int:
        newline = self.buffer.rfind("\n", 0, position)
        return position - newline if newline >= 0 else self.before + position + 1


class _Lists:
    """Entries that are lists: conversations, several rows, or the cells of one.

    The first may have the names of the columns.
    """

    def __init__(self) -> None:
        self.names: list[str] | None = None

    def rows(self, value: Any) -> list[Any]:
        """Return the rows of an entry; one that is no list is the only one."""
        if not isinstance(value, list):
            return [value]
        if are_turns(value):
            return [{"messages": value}]
        if value and all(isinstance(each, dict) for each in value):
            return value
        if self.names is None:
            words = [each for each in value if isinstance(each, str)]
            self.names = []
            if len(words) == len(set(words)) == len(value) and sum(map(is_known_name, words)) > 1:
                self.names = words
                return []
        self.names += [f"Column {n + 1}" for n in range(len(self.names), len(value))]
        cells = value + [""] * (len(self.names) - len(value))
        return [dict(zip(self.names, cells, strict=True))]


def _wrapped(text: io.TextIOBase, seen: Seen) -> Iterator[tuple[int, Row]]:
    text.seek(0)
    whole = text.read(_MAX_WRAPPED_CHARACTERS + 1)
    if len(whole) > _MAX_WRAPPED_CHARACTERS:
        raise Unreadable(
            "This JSON file is one object of more than 128 MB; write one object a line (JSONL) "
            "or a list of objects."
        )
    lead = len(whole) - len(whole.lstrip())
    try:
        value = _decoder.decode(whole)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise Unreadable(_syntax(error.lineno, error.colno, error.msg)) from None
        # Objects that follow each other, each over several lines.
        stream = _Stream(io.StringIO(whole), 1, seen)
        stream.before = 0
        yield from stream.sequence()
        return
    except RecursionError:
        raise Unreadable(_deep(f"The object in line {1 + whole.count(chr(10), 0, lead)}")) from None
    except ValueError as error:
        found = _INFINITE.search(whole)
        line = 1 + whole.count("\n", 0, found.end()) if found else 0
        where = f"Line {line:,}" if found else "The object"
        raise Unreadable(_bad_number(where, error)) from None
    doubled = _Doubled(seen)
    if _has_nan(whole):
        seen.add("not_a_number", 1)
    doubled.look(value, whole, 1)
    for number, entry in enumerate(_entries(value), start=1):
        yield number, _checked(entry, number, _entry_place)


def _entries(value: Any, num_around: int = 0) -> list[Any]:
    """Return the rows of an object that is a whole file; else it is the only one itself."""
    if not isinstance(value, dict):
        return [value]
    chat_exports.refuse_records(value)
    if (viewed := _viewed(value)) is not None:
        return viewed
    if {"messages", "conversations", "chat_messages"} & value.keys() or _is_example(value):
        return [value]
    if splits := _splits(value):
        return splits
    if isinstance(value.get("data"), dict) and (splits := _splits(value["data"])):
        return splits
    lists = {name: entries for name, entries in value.items() if _is_list_of_rows(entries)}
    if len(lists) == 1:
        return next(iter(lists.values()))
    return _in_sections(lists) or _by_columns(value) or _inner(value, num_around) or [value]


def _viewed(value: dict[str, Any]) -> list[Any] | None:
    """Return the rows of a page of a data set as a hub's viewer hands it out, if this is one.

    A cell that it cut short is blank: half an answer is none.
    """
    entries: Any = value.get("rows")
    if not _is_list_of_rows(entries):
        return None
    if not all(
        {"row_idx", "row"} <= each.keys() and isinstance(each["row"], dict) for each in entries
    ):
        return None
    return [_without_cut_cells(each["row"], each.get("truncated_cells")) for each in entries]


def _without_cut_cells(row: Row, cut: Any) -> Row:
    names = cut if isinstance(cut, list) else []
    return {name: "" if name in names else value for name, value in row.items()}


def _is_example(value: dict[str, Any]) -> bool:
    """Tell one example, whose own lists are no rows, from an object around rows."""
    roles = {ROLES.get(plain(name)) for name in value}
    asks = any(
        ROLES.get(plain(name)) is ColumnRole.QUESTION and isinstance(text, str)
        for name, text in value.items()
    )
    is_choice = any(plain(name) in _CHOICES for name in value)
    return asks and (ColumnRole.ANSWER in roles or is_choice)


def _in_sections(lists: dict[str, list[Any]]) -> list[Any]:
    """Return the rows of several lists of the same, such as `easy` and `hard`, or of the only one.

    A column says which list a row is from.
    """
    known = {
        name: {key for key in entries[0] if is_known_name(key)} for name, entries in lists.items()
    }
    known = {name: keys for name, keys in known.items() if keys}
    if len(known) == 1:
        return lists[next(iter(known))]
    if not known or not set.intersection(*known.values()):
        return []
    return [{"section": name, **entry} for name in known for entry in lists[name]]


def _inner(value: dict[str, Any], num_around: int) -> list[Any]:
    """Return the rows within an object in this one, where there is one such alone."""
    if num_around >= _MAX_AROUND or chat_exports.is_export(value):
        return []
    found = []
    for part in value.values():
        if isinstance(part, dict):
            entries = _entries(part, num_around + 1)
            if entries and entries[0] is not part:
                found.append(entries)
    return found[0] if len(found) == 1 else []


def _is_list_of_rows(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(entry, dict) for entry in value)
        and (not are_turns(value) or chat_exports.holds_messages(value[0]))
        # Google's turns have parts instead of a content.
        and not all("parts" in entry for entry in value)
    )


def _splits(value: dict[str, Any]) -> list[Any]:
    """Return the rows of parts such as `train` and `test`, whatever is said beside them.

    A column says which part a row is from; which rows test is for a person to choose.
    """
    parts = {name: part for name, part in value.items() if name.casefold() in _SPLITS}
    rows: list[Any] = []
    for name, part in parts.items():
        entries = part
        if isinstance(part, dict):
            entries = _by_columns(part)
        elif part and not _is_list_of_rows(part):
            return []
        rows += [{"split": name, **entry} for entry in entries or []]
    others = [part for name, part in value.items() if name not in parts]
    is_whole = len(parts) > 1 and not any(map(_is_list_of_rows, others))
    return rows if is_whole else []


def _by_columns(value: dict[str, Any]) -> list[Any]:
    """Return the rows of columns, as pandas writes them, of objects by their ids, or of pairs."""
    columns = list(value.values())
    if len(columns) < 2:
        return []
    if _is_split(value):
        return [dict(zip(value["columns"], cells, strict=True)) for cells in value["data"]]
    if all(isinstance(cells, list) and len(cells) > 1 for cells in columns):
        if any(len(cells) != len(columns[0]) for cells in columns):
            return []
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if all(isinstance(cells, dict) and cells for cells in columns):
        return _by_keys(value, columns)
    if len(columns) > 2 and all(isinstance(text, str) for text in columns) and _are_asked(value):
        return [{"question": asked, "answer": text} for asked, text in value.items()]
    return []


def _is_split(value: dict[str, Any]) -> bool:
    """Tell pandas' form “split”: names of columns beside lists of cells."""
    names, rows = value.get("columns"), value.get("data")
    return (
        isinstance(names, list)
        and isinstance(rows, list)
        and bool(rows)
        and all(isinstance(name, str) for name in names)
        and all(isinstance(cells, list) and len(cells) == len(names) for cells in rows)
    )


def _by_keys(value: dict[str, Any], columns: list[dict[str, Any]]) -> list[Any]:
    """Return the rows of objects in an object: columns with cells by number, or rows by id."""
    keys = columns[0].keys()
    if all(cells.keys() == keys for cells in columns):
        if all(key.isdecimal() for key in keys):
            return [{name: cells[key] for name, cells in value.items()} for key in keys]
        return [{"id": name, **cells} for name, cells in value.items()]
    # Some fields may be left out where they are empty; what is known is in all of them.
    shared = set(keys).intersection(*(cells.keys() for cells in columns[1:]))
    if any(map(is_known_name, shared)):
        return [{"id": name, **cells} for name, cells in value.items()]
    return []


def _are_asked(value: dict[str, Any]) -> bool:
    """Tell questions with their answers from the fields of one example."""
    others = [name for name in value if not name.rstrip().endswith(("?", "？", "؟"))]
    return len(others) * 2 < len(value) and not any(map(is_known_name, others))


def _checked(value: Any, number: int, where: Callable[[int], str]) -> Row:
    if not isinstance(value, dict):
        raise Unreadable(
            f"{where(number)} is {_what_it_is(value)} and not an object with named fields; write "
            'each example as {"question": …, "answer": …}, then upload the file again.'
        )
    for part in value.values():
        # Asked of every cell: a type is told apart quicker than a union.
        if (type(part) is dict or type(part) is list) and _depth_over(part, 1):
            raise Unreadable(_deep(where(number)))
    return value


def _what_it_is(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return f"“{json.dumps(value)}”"
    return (
        "a list" if isinstance(value, list) else "a text" if isinstance(value, str) else "a number"
    )


def _depth_over(value: Any, depth: int) -> bool:
    if depth > MAX_DEPTH:
        return True
    parts = value.values() if isinstance(value, dict) else value
    return any(isinstance(part, dict | list) and _depth_over(part, depth + 1) for part in parts)


_PLAIN = {
    "Mark": "there is an invisible sign (U+FEFF), which files have at their start alone",
    "Expecting value": "a value is missing or is not JSON",
    "Expecting property name enclosed in double quotes": "a name in double quotes is missing",
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Unterminated string starting at": "a text's closing quote is missing",
    "Invalid control character at": "a text has a line break or a tab; write \\n or \\t",
    "Invalid \\escape": "a backslash in a text must be written \\\\",
    "Extra data": "something stands behind the end of the list or object",
    "Illegal trailing comma": "there is a comma before the closing bracket",
}


def _syntax(line: int, column: int | None, message: str) -> str:
    plain = next((text for start, text in _PLAIN.items() if message.startswith(start)), message)
    if column:
        return (
            f"Line {line:,}, character {column:,}, is not valid JSON: {plain}; correct it there, "
            "then upload the file again."
        )
    return (
        f"Line {line:,} is not valid JSON: {plain}; correct it there, then upload the file again."
    )


def _deep(where: str) -> str:
    return (
        f"{where} is nested more than {MAX_DEPTH} levels deep; an example is a flat object, "
        "or a list of messages."
    )


def _bad_number(where: str, error: ValueError) -> str:
    problem = str(error) if "is not a number" in str(error) else "a number has too many digits"
    return f"{where} is not valid JSON: {problem}; write it as a text in quotes or leave it out."
