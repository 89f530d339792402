"""Pieces of HTML, as cards, questions, mails and chats have them -> what a person sees."""

import html
import re

from app.datasets.readers.grids import Seen
from app.datasets.readers.signs import lowered, raised

# Neither a tag nor its attributes go over another tag's beginning: each letter is looked at once.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(\s[^<>]*|/)?>")
# “HR <b and RR> 20” has no tag: attributes have values, but for a few.
_ATTRIBUTES = re.compile(
    r"(?:\s+[\w:.-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'=]+)|\s+(?:controls|checked|disabled|nowrap"
    r"|hidden|reversed|selected|allowfullscreen|itemscope))*\s*/?",
    re.IGNORECASE,
)
# Tags that nobody has to close; all others come in pairs.
_ALONE_WORDS = "br hr img wbr input embed col p li td th tr dt dd"
_PAIRED_WORDS = (
    "a abbr article aside audio b bdi bdo big blockquote body button caption center cite code "
    "colgroup del details dfn div dl em figcaption figure font footer form h1 h2 h3 h4 h5 h6 "
    "head header html i iframe ins kbd label main mark math nav object ol option picture pre q "
    "s samp script section select small span strike strong style sub summary sup svg table "
    "tbody textarea tfoot thead time title tt u ul var video"
)
_ALONE, _PAIRED = frozenset(_ALONE_WORDS.split()), frozenset(_PAIRED_WORDS.split())
_PARAGRAPHS = frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "dl", "blockquote"}
    | {"pre", "hr", "section"}
)
_LINES = frozenset({"br", "div", "tr", "dt", "dd", "article", "header", "footer"})
_UNSAID = frozenset({"script", "style", "head", "title", "template", "noscript", "object", "svg"})
_STRUCK = frozenset({"s", "strike", "del"})
# They have no end, so that nothing stands within them.
_VOID = frozenset({"br", "hr", "img", "input", "col", "wbr", "area", "link", "meta", "source"})
# One ends where the next begins, without a tag that says so.
_ENDING_BY_THEMSELVES = frozenset({"p", "li", "dt", "dd", "td", "th", "tr", "option"})
_QUOTED = re.compile("\"[^\"]*\"|'[^']*'")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CROSSED = re.compile(r"text-decoration[a-z-]*\s*:[^;\"']*line-through", re.IGNORECASE)
_PICTURES, _SOUNDS = frozenset(("img",)), frozenset(("audio", "video", "iframe", "embed"))


def sentences(place: str) -> dict[str, tuple[str, str]]:
    """Return how to say what was left out of HTML; `place` is what rows are numbered by."""
    return {
        "picture": (
            f"1 picture stands within a text and was left out ({place} {{row}}).",
            f"{{n}} pictures stand within texts and were left out (first in {place} {{row}}).",
        ),
        "sound": (
            f"1 sound or film stands within a text and was left out ({place} {{row}}).",
            f"{{n}} sounds or films stand within texts and were left out (first in {place} "
            "{row}).",
        ),
        "struck": (
            f"In 1 place text is struck out and was left out ({place} {{row}}).",
            f"In {{n}} places text is struck out and was left out (first in {place} {{row}}).",
        ),
        "hidden_text": (
            f"In 1 place text is hidden and was left out ({place} {{row}}).",
            f"In {{n}} places text is hidden and was left out (first in {place} {{row}}).",
        ),
    }


def is_marked_up(text: str) -> bool:
    """Say whether a text that may be either is HTML: “give <drug> 5 mg if a < b” is not."""
    if "<" not in text:
        return False
    opened: set[str] = set()
    for closes, written, attributes in _TAG.findall(text):
        name = written.lower()
        if name in _ALONE and not closes and _ATTRIBUTES.fullmatch(attributes):
            return True
        if name in _PAIRED and closes and name in opened:
            return True
        if name in _PAIRED and not closes and _ATTRIBUTES.fullmatch(attributes):
            opened.add(name)
    return False


def seen_text(markup: str, seen: Seen, row: int) -> str:
    """Return what a person sees of a piece of HTML.

    Args:
        markup: The piece; anything that is no tag counts as text.
        seen: Counts what is left out: pictures, sounds, and text that is struck out or hidden.
        row: Where the piece stands.
    """
    return _Writer(seen, row).write(_without_comments(markup))


def _without_comments(markup: str) -> str:
    kept, end = [], 0
    while (start := markup.find("<!--", end)) >= 0 and (stop := markup.find("-->", start)) >= 0:
        kept.append(markup[end:start])
        end = stop + 3
    return "".join([*kept, markup[end:]]) if kept or end else markup


def _why_unseen(tag: str) -> str:
    """Say why nothing within a tag is seen, by its own look; nothing where it is."""
    if " " not in tag and "\n" not in tag:
        return ""
    if "line-through" in tag and _CROSSED.search(tag):
        return "struck"
    is_hidden = "hidden" in tag and re.search(r"\shidden[\s=>/]", _QUOTED.sub("", tag))
    return "hidden_text" if is_hidden or _HIDDEN.search(tag) else ""


class _Writer:
    def __init__(self, seen: Seen, row: int) -> None:
        self.seen, self.row = seen, row
        self.pieces: list[str] = []
        self.scripts: list[tuple[str, int]] = []  # raised and lowered text: where it begins
        self.silent = ""  # the tag within which nothing counts
        self.depth = 0  # how many of its name are open
        self.is_as_typed = 0
        self.was_as_typed = False

    def write(self, markup: str) -> str:
        end = 0
        for tag in _TAG.finditer(markup):
            self._say(markup[end : tag.start()])
            self._tag(tag[2].lower(), tag[0], closes=bool(tag[1]))
            end = tag.end()
        self._say(markup[end:])
        text = "".join(self.pieces)
        if not self.was_as_typed:
            text = re.sub(r" {2,}", " ", text)
        lines = [line.strip(" ") for line in text.split("\n")]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _say(self, text: str) -> None:
        if not text or self.silent:
            return
        text = html.unescape(text).replace("\u00a0", " ")
        if not self.is_as_typed:
            text = re.sub(r"[ \t\r\n\f]+", " ", text)
            if not self.pieces or self.pieces[-1].endswith("\n"):
                text = text.lstrip(" ")
        if text:
            self.pieces.append(text)

    def _silence(self, name: str, why: str = "") -> None:
        self.silent, self.depth = name, 1
        if why:
            self.seen.add(why, self.row)

    def _tag(  # noqa: PLR0912 - a branch for each kind
        self, name: str, written: str, *, closes: bool
    ) -> None:
        if self.silent and name == self.silent and not closes and name in _ENDING_BY_THEMSELVES:
            self.silent = ""
        if self.silent:
            if name == self.silent and not written.endswith("/>"):
                self.depth += -1 if closes else 1
                if not self.depth:
                    self.silent = ""
        elif name in _UNSAID:
            if not closes:
                self._silence(name)
        elif name in _STRUCK:
            if not closes:
                self._silence(name, "struck")
        elif not closes and name not in _VOID and (why := _why_unseen(written)):
            self._silence(name, why)
        elif name in _PICTURES:
            self.seen.add("picture", self.row)
        elif name in _SOUNDS:
            if not closes:
                self.seen.add("sound", self.row)
        elif name in ("sup", "sub"):
            self._script(name, closes=closes)
        elif name in _PARAGRAPHS:
            self._break(2)
            if name == "pre":
                self.is_as_typed = max(0, self.is_as_typed + (-1 if closes else 1))
                self.was_as_typed = True
        elif name == "br":
            self.pieces.append("\n")
        elif name == "li":
            self._break(1)
            if not closes:
                self.pieces.append("- ")
        elif name in ("td", "th") and closes:
            self.pieces.append(" | ")
        elif name in _LINES:
            if name == "tr" and closes and self.pieces and self.pieces[-1] == " | ":
                self.pieces.pop()
            self._break(1)

    def _script(self, name: str, *, closes: bool) -> None:
        if not closes:
            self.scripts.append((name, len(self.pieces)))
        elif self.scripts and self.scripts[-1][0] == name:
            _, start = self.scripts.pop()
            text = "".join(self.pieces[start:])
            self.pieces[start:] = [raised(text) if name == "sup" else lowered(text)]

    def _break(self, num_ends: int) -> None:
        """See to it that a line ends here, or a paragraph."""
        if not self.pieces:
            return
        tail = "".join(self.pieces[-2:])
        has = len(tail) - len(tail.rstrip("\n"))
        if has < num_ends:
            self.pieces.append("\n" * (num_ends - has))
