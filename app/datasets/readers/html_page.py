"""HTML -> blocks: headings, paragraphs, lists, tables, and what opens and closes an answer.

A page is parsed as browsers do, by lexbor; nothing of it is run or fetched. What stands beside the
main text (menus, footers, scripts) is left out. A definition (`<dt>`), a `<summary>` and a button
that unfolds a text count as headings over it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.datasets.readers import signs
from app.datasets.readers.blocks import MAX_BLOCK_CHARACTERS, Block
from app.datasets.readers.grids import Area, Seen
from app.datasets.readers.mathml import MathMl
from app.datasets.readers.unreadable import Unreadable

MAX_DEPTH = 1000
MAX_COLUMNS = 1000
_MAX_CELLS = 5_000_000
# Under every heading of its own.
_OPENER_LEVEL = 7
_MAX_HEADING_CHARACTERS = 300
_INLINE = frozenset(
    {"a", "abbr", "acronym", "b", "bdi", "bdo", "big", "br", "cite", "code", "data", "del", "dfn"}
    | {
        "em",
        "font",
        "i",
        "input",
        "ins",
        "kbd",
        "label",
        "mark",
        "nobr",
        "q",
        "ruby",
        "s",
        "samp",
        "small",
    }
    | {"span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "math"}
)
# Nobody reads them, or they are no text.
_UNSEEN = frozenset(
    {"head", "script", "style", "template", "noscript", "canvas", "iframe", "frameset", "noframes"}
    | {"object", "embed", "audio", "video", "map", "datalist", "select", "textarea", "rt", "rp"}
    | {"meta", "link", "title", "base", "param", "source", "track", "col", "colgroup", "progress"}
)
_PICTURES = frozenset({"img", "svg", "picture", "canvas"})
_BESIDE = frozenset({"nav", "footer", "aside", "menu", "dialog"})
_BESIDE_ROLES = frozenset(
    {"navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar"}
    | {"dialog", "alertdialog", "toolbar"}
)
_STRUCK = frozenset({"s", "strike", "del"})
_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_QUESTION_CLASS = re.compile(
    r"(?:^|\s)(?:faq|accordion)?[-_]*question(?:[-_]+(?:text|title|heading))?(?:\s|$)",
    re.IGNORECASE,
)
_NOT_SHOWN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_LINE_THROUGH = re.compile(r"text-decoration(?:-line)?\s*:[^;]*line-through", re.IGNORECASE)
_RAISED = re.compile(r"vertical-align\s*:\s*(super|sub)\b", re.IGNORECASE)
_NOTE = re.compile(r"\b(?:doc-)?(?:foot|end|rear)note\b")
# How Word marks the sign of a list's item, which is text in its pages.
_LIST_SIGN = re.compile(r"mso-list\s*:\s*ignore", re.IGNORECASE)
_CHOICE = re.compile(r"[a-h]\) |☐ ")
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_EXCEL_FORMAT = re.compile(r"mso-number-format\s*:\s*([\"']?)((?:\\.|[^;\"'])+)\1", re.IGNORECASE)

Attributes = Mapping[str, str | None]


@dataclass
class Cell:
    """A cell of a table, with what it spans."""

    texts: list[str] = field(default_factory=list)
    columns: int = 1
    rows: int = 1
    is_name: bool = False
    # How Excel would show the number in it.
    number_format: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


@dataclass
class Table:
    """A table as it stands on the page."""

    rows: list[list[Cell]] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)  # places of rows that are not shown
    caption: str = ""
    seen: Seen = field(default_factory=Seen)  # by row; where tables are read by themselves

    @property
    def has_header(self) -> bool:
        return bool(self.rows) and len(self.rows[0]) > 1 and all(c.is_name for c in self.rows[0])


class Facts:
    """What is known of a page before it is read from top to bottom.

    Attributes:
        layout: Tables that only put things into their places, by their node's number.
        controlled: Ids of what buttons and headings unfold.
        tags: The tags of elements with ids.
        sources: Ids of what else such marks lead to.
        notes: The nodes of notes at the foot that a mark leads to, by their ids.
        main: The number of the node with the main text; none where the page does not say.
        path: The numbers of the nodes around it.
    """

    def __init__(self, root: Any) -> None:
        self.layout: set[int] = set()
        self.controlled: set[str] = set()
        self.tags: dict[str, str] = {}
        self.notes: dict[str, Any] = {}
        marked: set[str] = set()
        self.main: int | None = None
        self.path: set[int] = set()
        mains: list[Any] = []
        tables: list[tuple[int, int]] = []  # the open ones: depth, number
        for is_start, node, depth in _walk(root):
            if not is_start:
                if tables and tables[-1][0] == depth:
                    tables.pop()
                continue
            tag = node.tag or "-"
            if tag.startswith("-"):
                continue
            if tag == "table":
                self.layout.update(number for _, number in tables)
                tables.append((depth, node.mem_id))
                if (node.attributes.get("role") or "") in ("presentation", "none"):
                    self.layout.add(node.mem_id)
            elif tag in _HEADINGS and tables:
                self.layout.update(number for _, number in tables)
            elif tag == "main" or node.attributes.get("role") == "main":
                mains.append(node)
            self._see_opener(tag, node.attributes)
            if _NOTE.search(_purpose(node.attributes)) and (each := node.attributes.get("id")):
                self.notes[each] = node
            if tag in ("a", "sup") and _is_note_mark(tag, node):
                marked.update(_leads_to(node))
        self.notes = {each: note for each, note in self.notes.items() if each in marked}
        self.sources = marked - self.notes.keys()
        if len(mains) == 1:
            self.main = mains[0].mem_id
            above = mains[0].parent
            while above is not None:
                self.path.add(above.mem_id)
                above = above.parent

    def _see_opener(self, tag: str, attributes: Attributes) -> None:
        self.controlled.update(_targets(attributes))
        if each := attributes.get("id"):
            self.tags[each] = tag


def _targets(attributes: Attributes) -> list[str]:
    """List the ids of what an element unfolds."""
    found = []
    for name in ("aria-controls", "data-target", "data-bs-target"):
        found += (attributes.get(name) or "").split()
    href = attributes.get("href") or ""
    if href.startswith("#") and _opens(attributes):
        found.append(href)
    return [each.lstrip("#") for each in found]


def _opens(attributes: Attributes) -> bool:
    """Say whether an element unfolds another."""
    return (
        "aria-expanded" in attributes
        or "collapse" in (attributes.get("data-toggle"), attributes.get("data-bs-toggle"))
        or ("aria-controls" in attributes and attributes.get("role") in ("button", "tab"))
    )


def too_deep() -> Unreadable:
    """Make the error for a page that no browser's author wrote."""
    return Unreadable(
        f"This web page is nested more than {MAX_DEPTH:,} levels deep; copy its text into a "
        "document and upload that."
    )


def _walk(root: Any) -> Iterator[tuple[bool, Any, int]]:
    """Go through a tree without recursion: (it begins, node, depth), and once more at its end.

    Raises:
        Unreadable: it is nested deeper than any page.
    """
    node, depth = root, 0
    while True:
        yield True, node, depth
        child = node.first_child
        if child is not None:
            node, depth = child, depth + 1
            if depth > MAX_DEPTH:
                raise too_deep()
            continue
        yield False, node, depth
        while (following := node.next) is None:
            if depth == 0:
                return
            node, depth = node.parent, depth - 1
            yield False, node, depth
        if depth == 0:
            return
        node = following


class _Open(NamedTuple):
    """An element whose end has not come; it takes back what it changed."""

    tag: str
    raises: str = ""
    is_struck: bool = False
    is_pre: bool = False
    is_heading: int = 0
    closes: int = 0  # the level of an “end” after it
    is_strong: bool = False


class Page:
    """Reads a tree into blocks, or with `keeps_tables` into the tables that it holds."""

    def __init__(
        self,
        facts: Facts,
        seen: Seen,
        number: int | None = None,
        *,
        keeps_tables: bool = False,
        is_note: bool = False,
    ) -> None:
        self.facts, self.seen, self.keeps_tables = facts, seen, keeps_tables
        self.is_note = is_note
        self.fixed_number = number  # of all blocks; else paragraphs are counted
        self.number = number or 0
        self.ready: list[Block] = []
        self.tables: list[Table] = []
        self.open: list[_Open] = [_Open("")]
        self.parts: list[str] = []
        self.size = 0
        self.heading = 0
        self.lists: list[list[Any]] = []  # kind, next number, whether the item's sign was written
        self.table: Table | None = None
        self.pending_terms: list[str] = []
        self.equation: MathMl | None = None
        self.is_main = facts.main is None or is_note
        self.main_depth = -1  # how many elements are open around the main part
        self.radios: dict[str, int] = {}
        self.could_unfold = False  # the last block was a heading
        self.last_level = _OPENER_LEVEL  # of a heading
        self.strong_at: int | None = None
        self.is_pre = False  # some of the paragraph has its own line breaks

    def blocks(self, root: Any) -> Iterator[Block]:
        """Read the page; blocks come as they are complete."""
        skipping: int | None = None
        for is_start, node, depth in _walk(root):
            tag = node.tag or "-"
            if skipping is not None:
                if not is_start and depth == skipping:
                    skipping = None
                continue
            if tag == "-text":
                if is_start:
                    self._text(node.text_content or "")
            elif tag.startswith("-"):
                continue
            elif is_start:
                if not self._start(tag, node.attributes, node):
                    skipping = depth
            else:
                self._end(tag)
            if self.ready:
                yield from self.ready
                self.ready.clear()
        self._flush()
        yield from self.ready
        self.ready.clear()

    def _see(self, what: str) -> None:
        if self.keeps_tables and self.table is not None:
            self.table.seen.add(what, max(len(self.table.rows), 1))
        else:
            self.seen.add(what, max(self.number, 1))

    # --- elements ----------------------------------------------------------------------------

    def _start(self, tag: str, attributes: Attributes, node: Any) -> bool:
        """Begin an element; False: it is passed over with all that is in it."""
        if self.equation is not None:
            self.equation.start(tag, {k: v or "" for k, v in attributes.items()})
            return True
        if not self._is_read(tag, attributes, node):
            return False
        style = attributes.get("style") or ""
        own = _Open(
            tag,
            raises=self.open[-1].raises,
            is_struck=self.open[-1].is_struck
            or tag in _STRUCK
            or bool(_LINE_THROUGH.search(style)),
            is_pre=self.open[-1].is_pre or tag in ("pre", "listing", "xmp"),
        )
        if tag in ("sup", "sub"):
            own = own._replace(raises=tag)
        elif match := _RAISED.search(style):
            own = own._replace(raises="sup" if match[1].lower() == "super" else "sub")
        if tag == "math":
            self.equation = MathMl()
            return True
        if tag not in _INLINE:
            self._flush()
        is_layout = tag == "table" and node.mem_id in self.facts.layout
        self.open.append(own if is_layout else self._began(own, tag, attributes))
        return True

    def _began(  # noqa: PLR0912 - one a tag
        self, own: _Open, tag: str, attributes: Attributes
    ) -> _Open:
        is_inside = self.heading > 0
        match tag:
            case "br":
                self._put("\n")
            case "q":
                self._put("“")
            case "input":
                self._choice(attributes)
            case "ul" | "ol" | "menu" | "dir":
                start = attributes.get("start") or "1"
                kind = (attributes.get("type") or "1") if tag == "ol" else ""
                first = int(start) if start.isdecimal() and len(start) < 7 else 1
                self.lists.append([kind, first, True])
            case "li" if self.lists:
                value = attributes.get("value") or ""
                if value.isdecimal() and len(value) < 7:
                    self.lists[-1][1] = int(value)
                self.lists[-1][2] = False
            case "table" if self.table is None:
                self.table = Table()
            case "tr" if self.table is not None:
                self.table.rows.append([])
                if self._is_hidden(attributes):
                    self.table.hidden.add(len(self.table.rows) - 1)
            case "td" | "th" if self.table is not None:
                self._start_cell(tag, attributes)
            case "details" | "dl":
                own = own._replace(closes=_OPENER_LEVEL)
            case "summary" | "dt" if not is_inside:
                own = own._replace(is_heading=_OPENER_LEVEL)
            case "b" | "strong" if not self.parts and self.strong_at is None:
                self.strong_at = len(self.open)
                own = own._replace(is_strong=True)
            case _ if tag in _HEADINGS and not is_inside:
                own = own._replace(is_heading=_HEADINGS[tag])
            case _ if not is_inside and self.table is None:
                own = self._asking(own, attributes)
        if (attributes.get("id") or "") in self.facts.controlled and not own.is_heading:
            level = self.last_level if self.could_unfold else _OPENER_LEVEL
            own = own._replace(closes=own.closes or level)
        self.heading += own.is_heading > 0
        return own

    def _asking(self, own: _Open, attributes: Attributes) -> _Open:
        """Take what stands for a heading without being one, as FAQ pages have it."""
        role = attributes.get("role")
        if role == "heading":
            level = attributes.get("aria-level") or "2"
            level_number = int(level) if level.isdecimal() and len(level) == 1 else 2
            return self._as_heading(own, max(level_number, 1))
        item = attributes.get("itemtype") or ""
        if item.endswith("schema.org/Question"):
            return own._replace(closes=_OPENER_LEVEL)
        is_named = attributes.get("itemprop") == "name" and any(
            each.closes == _OPENER_LEVEL for each in self.open
        )
        asks = bool(_QUESTION_CLASS.search(attributes.get("class") or ""))
        is_within = own.tag in _INLINE and bool("".join(self.parts).strip())  # a sentence goes on
        if is_named or ((asks or self._is_opener(own.tag, attributes)) and not is_within):
            return self._as_heading(own, _OPENER_LEVEL)
        return own

    def _as_heading(self, own: _Open, level: int) -> _Open:
        self._flush()
        return own._replace(is_heading=level)

    def _is_opener(self, tag: str, attributes: Attributes) -> bool:
        """Say whether an element unfolds a text, and not a menu."""
        if not (_opens(attributes) or (tag == "button" and "aria-controls" in attributes)):
            return False
        return not any(self.facts.tags.get(each) in _BESIDE for each in _targets(attributes))

    def _is_read(  # noqa: PLR0912 - one a reason
        self, tag: str, attributes: Attributes, node: Any
    ) -> bool:
        if tag in _PICTURES:
            alt = (attributes.get("alt") or "").strip()
            if alt and len(alt) <= 2 and not alt.isascii():  # an emoji, a tick
                self._text(alt)
                return False
            is_small = (attributes.get("width") or "") in ("0", "1") or tag == "svg"
            if not is_small and attributes.get("aria-hidden") != "true" and self.is_main:
                self._see("picture")
            return False
        if tag in _UNSEEN:
            return False
        if (each := attributes.get("id") or "") in self.facts.notes and not self.is_note:
            return False  # it stands where it is referred to
        if each in self.facts.sources and tag in ("li", "p", "div", "aside", "dd", "tr"):
            self._see("foot_note")
            return False
        if _LIST_SIGN.search(attributes.get("style") or ""):
            sign = node.text(deep=True).strip()
            self._put(f"{sign} " if any(map(str.isalnum, sign)) else "- ")
            return False
        if tag == "button" and not self.heading and not self._is_opener(tag, attributes):
            return False
        if "mw-editsection" in (attributes.get("class") or ""):
            return False
        if not self.is_main:
            return self._leads_to_main(node)
        role = attributes.get("role")
        is_beside = tag in _BESIDE or role in _BESIDE_ROLES
        if is_beside and not self.is_note and not self._is_within(tag):
            if _has_text(node):
                self._see("beside")
            return False
        if _is_note_mark(tag, node):
            self._mark_note(node)
            return False
        if self._is_hidden(attributes) and tag != "tr":
            return self._unfolds(attributes, node)
        return True

    def _mark_note(self, node: Any) -> None:
        """Write a note where its mark stands; a mark whose note is not known is left out."""
        targets = _leads_to(node)
        note = next((self.facts.notes[each] for each in targets if each in self.facts.notes), None)
        if note is None or self.is_note:
            self._see("note_mark")
            return
        page = Page(self.facts, self.seen, max(self.number, 1), is_note=True)
        text = " ".join(" ".join(block.text.split()) for block in page.blocks(note))
        if text:
            self._put(f" [{text}]")

    def _leads_to_main(self, node: Any) -> bool:
        if node.mem_id == self.facts.main:
            self.is_main, self.main_depth = True, len(self.open)
            return True
        if node.mem_id in self.facts.path:
            return True
        if node.tag not in _UNSEEN and _has_text(node):
            self._see("beside")
        return False

    def _is_within(self, tag: str) -> bool:
        """Say whether a box beside the text stands in an article, as a hint or its sources do."""
        around = {"aside": ("main", "article"), "footer": ("blockquote",)}.get(tag, ())
        return any(each.tag in around for each in self.open)

    def _is_hidden(self, attributes: Attributes) -> bool:
        return "hidden" in attributes or bool(_NOT_SHOWN.search(attributes.get("style") or ""))

    def _unfolds(self, attributes: Attributes, node: Any) -> bool:
        """Say of a hidden text whether it is read: one that a heading or button shows is."""
        if not _has_text(node):
            return False
        tag = node.tag
        is_controlled = (attributes.get("id") or "") in self.facts.controlled
        # What is hidden amid a sentence or a list that is shown is not what a heading opens.
        goes_on = bool("".join(self.parts).strip()) or (
            tag in _INLINE and any(each.tag in ("p", "li") for each in self.open)
        )
        follows = self.could_unfold and tag not in _INLINE and tag != "li"
        is_answer = not goes_on and (follows or is_controlled)
        self._see("folded" if is_answer else "hidden_text")
        return is_answer

    def _start_cell(self, tag: str, attributes: Attributes) -> None:
        assert self.table is not None
        if not self.table.rows:
            self.table.rows.append([])
        row = self.table.rows[-1]
        if len(row) >= MAX_COLUMNS:
            raise Unreadable(
                f"A table of this page has more than {MAX_COLUMNS:,} columns; keep those with "
                "questions and answers."
            )
        found = _EXCEL_FORMAT.search(attributes.get("style") or "")
        row.append(
            Cell(
                columns=_span(attributes.get("colspan")),
                rows=_span(attributes.get("rowspan")),
                is_name=tag == "th",
                number_format=re.sub(r"\\(.)", r"\1", found[2]).strip() if found else "",
            )
        )

    def _choice(self, attributes: Attributes) -> None:
        """Write what people choose from as options with letters: none of them is an answer."""
        if (attributes.get("type") or "").lower() not in ("radio", "checkbox"):
            return
        name = attributes.get("name") or ""
        place = self.radios.get(name, 0)
        self.radios[name] = place + 1
        self._put("\n" if "".join(self.parts).strip() else "")
        self._put(f"{'abcdefgh'[place]}) " if place < 8 else "☐ ")

    def _end(self, tag: str) -> None:
        if self.equation is not None:
            if (written := self.equation.end()) is not None:
                self.equation = None
                before = self.parts[-1] if self.parts else ""
                glued = before[-1:].isdecimal() and re.match(r"\d", written)
                self._put(f" {written}" if glued else written)
            return
        own = self.open.pop() if len(self.open) > 1 else _Open("")
        if own.is_strong:
            self._end_strong()
        if own.is_heading:
            self._end_heading(own)
            self.heading -= 1
        elif tag not in _INLINE:
            self._flush()
        match tag:
            case "q":
                self._put("”")
            case "ul" | "ol" | "menu" | "dir" if self.lists:
                self.lists.pop()
            case "dd":
                self.could_unfold = False
            case "table" if self.table is not None:
                self._end_table(self.table)
                self.table = None
        if own.closes:
            self._end_terms()
            self.ready.append(Block("end", self.number or 1, level=own.closes))
        if len(self.open) == self.main_depth:
            self.is_main = False

    # --- text --------------------------------------------------------------------------------

    def _text(self, data: str) -> None:
        if self.equation is not None:
            self.equation.text(data)
            return
        if not self.is_main:
            if data.strip():
                self._see("beside")
            return
        state = self.open[-1]
        shown = data.replace("\xad", "")
        self.is_pre = self.is_pre or state.is_pre
        if not state.is_pre:
            shown = _BLANKS.sub(" ", shown)
            if shown.startswith(" ") and (not self.parts or self.parts[-1].endswith((" ", "\n"))):
                shown = shown[1:]
        if not shown:
            return
        if state.is_struck:
            if shown.strip():
                self._see("struck")
            return
        if state.raises:
            shown = signs.raised(shown) if state.raises == "sup" else signs.lowered(shown)
        self._put(shown)

    def _put(self, text: str) -> None:
        if not text:
            return
        self.parts.append(text)
        self.size += len(text)
        if self.size > MAX_BLOCK_CHARACTERS:
            raise Unreadable(
                "A paragraph of this web page has more than 4 MB of text; copy its text into a "
                "document with paragraphs and upload that."
            )

    def _taken(self) -> str:
        text, is_pre = "".join(self.parts), self.is_pre
        self.parts, self.size, self.strong_at, self.is_pre = [], 0, None, False
        if not is_pre:
            text = re.sub(" {2,}", " ", text)  # around what was left out
            text = re.sub(r" *\n *", "\n", text)
        return text.replace("\xa0", " ").strip("\n " if not is_pre else "\n")

    def _end_strong(self) -> None:
        """A question in bold letters and its answer behind it are two lines."""
        if "".join(self.parts).rstrip(" *_").endswith(("?", "？", "؟")):
            self.parts.append("\n")
        self.strong_at = None

    def _count(self) -> None:
        if self.fixed_number is None:
            self.number += 1

    def _flush(self) -> None:
        """End the paragraph."""
        if self.heading:  # what stands in a heading is one line
            if self.parts and not self.parts[-1].endswith((" ", "\n")):
                self.parts.append(" ")
            return
        text = self._taken()
        if not text.strip():
            return
        self._end_terms()
        if self.table is not None:
            self._put_in_table(self._with_sign(text))
            return
        self._count()
        self.ready.append(Block("text", self.number, self._with_sign(text)))
        self.could_unfold = False

    def _with_sign(self, text: str) -> str:
        """Put before an item of a list its dash or number; a question that it asks stays bare."""
        if not self.lists or self.lists[-1][2]:
            return text
        kind, number, _ = self.lists[-1]
        self.lists[-1][1:] = [number + 1, True]
        if text.partition("\n")[0].rstrip().endswith(("?", "？", "؟")) or _CHOICE.match(text):
            return text
        return f"{_item_sign(kind, number)} {text}"

    def _put_in_table(self, text: str) -> None:
        assert self.table is not None
        if self.table.rows and self.table.rows[-1]:
            self.table.rows[-1][-1].texts.append(text)
        else:
            self.table.caption = f"{self.table.caption}\n{text}".strip()

    def _end_heading(self, own: _Open) -> None:
        heading = " ".join(self._taken().split())
        if not heading:
            return
        if self.table is not None:
            self._put_in_table(heading)
            return
        if own.tag == "dt":
            self.pending_terms.append(heading)
            self.could_unfold = True
            return
        self._count()
        self._end_terms()
        self.could_unfold, self.radios, self.last_level = True, {}, own.is_heading
        if len(heading) > _MAX_HEADING_CHARACTERS and own.is_heading == _OPENER_LEVEL:
            self.ready.append(Block("text", self.number, heading))
        else:
            self.ready.append(Block("heading", self.number, heading, own.is_heading))

    def _end_terms(self) -> None:
        """Several terms with one definition are one heading."""
        if self.pending_terms:
            self._count()
            text = " / ".join(self.pending_terms)
            self.ready.append(Block("heading", self.number, text, _OPENER_LEVEL))
            self.pending_terms = []

    def _end_table(self, table: Table) -> None:
        self.size = 0
        if self.keeps_tables:
            self.tables.append(table)
            return
        if table.caption:
            self._count()
            self.ready.append(Block("text", self.number, table.caption))
        table.rows = [row for at, row in enumerate(table.rows) if self._shows(table, at)]
        if not any(cell.texts for row in table.rows for cell in row):
            return
        self.could_unfold = False
        self._count()
        if max(map(len, table.rows)) == 1:  # a frame around a text
            for row in table.rows:
                self.ready += [Block("text", self.number, text) for c in row for text in c.texts]
            return
        rows, areas = placed(table.rows)
        for top, left, bottom, _ in areas:
            text = rows[top - 1][left]
            for below in rows[top:bottom] if text else ():
                if left < len(below) and not below[left]:
                    below[left] = text
                    self._see("merged")
        self.ready.append(Block("table", self.number, rows=rows, has_header=table.has_header))

    def _shows(self, table: Table, at: int) -> bool:
        if at in table.hidden and any(cell.texts for cell in table.rows[at]):
            self._see("hidden_text")
        return at not in table.hidden and bool(table.rows[at])


def placed(rows: list[list[Cell]]) -> tuple[list[list[str]], list[Area]]:
    """Put the cells of a table into its columns, and list those that span several rows or columns.

    Raises:
        Unreadable: spans make far more cells of it than the page holds.
    """
    table: list[list[str]] = []
    areas: list[Area] = []
    reaching: dict[int, int] = {}  # by column: how many rows a cell from above still reaches
    size = 0
    for number, cells in enumerate(rows, start=1):
        row: list[str] = []

        def skip(row: list[str] = row) -> None:
            while reaching.get(len(row), 0) > 0 and len(row) < MAX_COLUMNS:
                reaching[len(row)] -= 1
                row.append("")

        for cell in cells:
            skip()
            left = len(row)
            right = min(left + cell.columns, MAX_COLUMNS) - 1
            if right < left:
                break
            row += [cell.text] + [""] * (right - left)
            if cell.rows > 1:
                reaching.update(dict.fromkeys(range(left, right + 1), cell.rows - 1))
            if cell.rows > 1 or right > left:
                areas.append(Area(number, left, number + cell.rows - 1, right))
        skip()
        size += len(row)
        if size > _MAX_CELLS:
            raise Unreadable(
                f"A table of this page would have more than {_MAX_CELLS:,} cells, which looks like "
                "a trap; save its rows as CSV and upload that."
            )
        table.append(row)
    return table, areas


def _span(value: str | None) -> int:
    text = (value or "").strip()
    return min(max(int(text), 1), MAX_COLUMNS) if text.isdecimal() and len(text) < 7 else 1


def _item_sign(kind: str, number: int) -> str:
    if kind in ("a", "A") and 1 <= number <= 26:
        return f"{chr(ord(kind) + number - 1)})"
    return f"{number}." if kind else "-"


def _has_text(node: Any) -> bool:
    return bool(node.text(deep=True).strip())


def _purpose(attributes: Attributes) -> str:
    return f"{attributes.get('epub:type') or ''} {attributes.get('role') or ''}"


def _leads_to(mark: Any) -> list[str]:
    links = [mark, mark.parent] if mark.tag == "a" else [mark.parent, *mark.css("a")]
    links = [link for link in links if link is not None and link.tag == "a"]
    return [(link.attributes.get("href") or "").lstrip("#") for link in links]


def _is_note_mark(tag: str, node: Any) -> bool:
    """Say whether a raised number leads to a note: behind a figure it would be a power."""
    if tag == "a":
        return "noteref" in _purpose(node.attributes)
    text = node.text(deep=True).strip() if tag == "sup" else ""
    return (
        tag == "sup"
        and len(text) <= 6
        and bool(re.fullmatch(r"[\[(]?[\d*†‡,–a-z]{1,5}[\])]?", text))
        and any(
            (link.attributes.get("href") or "").startswith("#")
            or "noteref" in _purpose(link.attributes)
            for link in (*node.css("a"), node.parent)
        )
    )
