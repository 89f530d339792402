"""A page of docs/ as HTML for the help: no HTML of its own, no styles, links to other chapters."""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from app.core import glossary
from app.web.help.chapters import BY_FILE, DOCS, GLOSSARY, PICTURES, Chapter

_SECTION_LEVELS = ("h2", "h3")
# A file of the checkout, which a reader in the browser does not have: what it is stands there. What
# lies in deploy/ and examples/ is for those who run Etude, who have it.
_OF_CHECKOUT = re.compile(
    r"(?:\.\./)*(?:(?P<wing>app|bench|docs|migrations|static|templates|tests|worker)/[\w./*{}<>-]*"
    r"(?:::\w+)?|[a-z_]+\.py)"
)
_PAGE = re.compile(r"[\w/-]+\.md")
_TEST, _DATA, _CODE, _FIGURES, _OTHER_PAGE = "\ue000", "\ue001", "\ue002", "\ue003", "\ue004"
_ANY = f"[{_TEST}{_DATA}{_CODE}{_FIGURES}{_OTHER_PAGE}]"
_INSTEAD = {  # one of them, and several in a row
    _TEST: ("a test", "tests"),
    _DATA: ("the test data", "the test data"),
    _CODE: ("Etude’s code", "Etude’s code"),
    _FIGURES: ("the kept figures", "the kept figures"),
    _OTHER_PAGE: ("the developers’ pages", "the developers’ pages"),
}


@dataclass(frozen=True)
class Section:
    """What stands below one heading, up to the next."""

    anchor: str  # empty: the chapter's beginning
    title: str
    level: int  # 1: the beginning; 2 and 3 as in the page
    html: Markup
    text: str  # the words alone, for the search


@lru_cache(maxsize=64)
def sections(chapter: Chapter) -> list[Section]:
    """Return a chapter's sections in order; the first is what stands before any heading."""
    text = (DOCS / chapter.file).read_text(encoding="utf-8")
    tokens = _parser().parse(text)
    found: list[Section] = []
    anchors: dict[str, int] = {}
    held: list[Token] = []
    title, anchor, level = chapter.title, "", 1
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if (
            token.type == "heading_open"
            and token.level == 0
            and token.tag in ("h1", *_SECTION_LEVELS)
        ):
            words = _words([tokens[position + 1]])
            if token.tag in _SECTION_LEVELS:
                found.append(_section(chapter, title, anchor, level, held))
                title, level, held = words, int(token.tag[1]), []
                anchor = _anchor(words, anchors)
            position += 3  # the page's own title stands above it
            continue
        held.append(token)
        position += 1
    found.append(_section(chapter, title, anchor, level, held))
    return found


def part(chapter: Chapter, anchor: str) -> list[Section]:
    """Return one section with what is below it; the whole chapter where there is none such."""
    every = sections(chapter)
    start = next((n for n, each in enumerate(every) if anchor and each.anchor == anchor), None)
    if start is None:
        return every
    end = start + 1
    while end < len(every) and every[end].level > every[start].level:
        end += 1
    return every[start:end]


def term_anchor(word: str) -> str:
    """Return where a term stands in the glossary."""
    return _anchor(word, {})


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _section(
    chapter: Chapter, title: str, anchor: str, level: int, tokens: Sequence[Token]
) -> Section:
    parser = _parser()
    _prepare(tokens, posixpath.dirname(chapter.file))
    text = _words(tokens)
    # A str until it is whole: Markup would escape what is put into it. The tables get a frame.
    html: str = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<table>", '<div class="table-scroll" tabindex="0"><table class="table">')
    html = html.replace("</table>", "</table></div>")
    # Markup: the parser escapes all text, and lets no HTML through.
    return Section(anchor, title, level, Markup(html), text)  # noqa: S704


def _words(tokens: Sequence[Token]) -> str:
    inside = [part for token in tokens for part in (token.children or [token])]
    kept = [each.content for each in inside if each.type in ("text", "code_inline", "fence")]
    return " ".join(" ".join(kept).split())


def _anchor(title: str, taken: dict[str, int]) -> str:
    """Name a heading as GitHub does, so that links within docs/ hold in both places."""
    name = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
    taken[name] = taken.get(name, -1) + 1
    return f"{name}-{taken[name]}" if taken[name] else name


# --- what is changed in a page's tokens ----------------------------------------------------


def _prepare(tokens: Sequence[Token], folder: str) -> None:
    for token in tokens:
        # Our policy refuses style attributes; how a column is set goes by its class.
        style = token.attrs.pop("style", None)
        if style is not None and "right" in str(style):
            token.attrs["class"] = "num"
        if token.children:
            token.children = _without_files(_inline(token.children, folder))


def _inline(children: Sequence[Token], folder: str) -> list[Token]:
    kept: list[Token] = []
    dropped: list[bool] = []  # of the links that are open
    for token in children:
        if token.type == "link_open":
            address = _address(str(token.attrs["href"]), folder)
            dropped.append(address == "")
            if address:
                kept.append(_link(token, address))
        elif token.type == "link_close":
            if not dropped.pop():
                kept.append(token)
        elif token.type == "image":
            name = posixpath.basename(str(token.attrs["src"]))
            if (PICTURES / name).is_file():
                token.attrs = {"src": f"/help/pictures/{name}", "alt": "", "loading": "lazy"}
                token.attrs |= _sides(PICTURES / name)
                kept.append(token)
        else:
            kept.append(token)
    return kept


def _without_files(children: Sequence[Token]) -> list[Token]:
    """Put words in the place of names of the checkout's files; in brackets they are left out."""
    kept: list[Token] = []
    for token in children:
        words = _named(token)
        if words is None and token.type == "softbreak":
            words = "\n"
        if words is None:
            kept.append(token)
        elif kept and kept[-1].type == "text":
            kept[-1].content += words
        else:
            kept.append(Token("text", "", 0, content=words))
    for token in kept:
        if token.type == "text":
            token.content = _told(token.content)
    return kept


def _named(token: Token) -> str | None:
    """Return the text of a token, with a mark for a file; None for what is no text."""
    name = token.content
    if token.type not in ("text", "code_inline"):
        return None
    if _PAGE.fullmatch(name) and name != "README.md":
        chapter = BY_FILE.get(posixpath.normpath(name.removeprefix("docs").lstrip("/")))
        return f"“{chapter.title}”" if chapter else _OTHER_PAGE
    if token.type == "text":
        return name
    found = _OF_CHECKOUT.fullmatch(name)
    if found is None:
        return None
    if found["wing"] == "tests":
        return _TEST if ".py" in name or name.endswith("/") else _DATA
    return _FIGURES if name.startswith("bench/results/") else _CODE


def _told(text: str) -> str:
    mark = f"{_ANY}(?:\\s†)?"
    several = f"{mark}(?:(?:,|;|,? and)?\\s+{mark})*"
    text = re.sub(rf"\s*\({several}\)", "", text)
    text = re.sub(rf"(?<=\()((?:in|by|with)\s+)?{several}[,;:]\s+", "", text)
    text = re.sub(rf"[,;]\s+{several}(?=\))", "", text)
    for one, (single, plural) in _INSTEAD.items():
        text = re.sub(rf"{one}(?:(?:,|;|,? and)\s+{one})+", plural, text)
        text = text.replace(one, single)
    return text


def _sides(picture: Path) -> dict[str, str | int | float]:
    """Read a WebP's width and height, so that a page leaves room and does not jump."""
    head = picture.read_bytes()[:30]
    if head[12:16] == b"VP8X":  # the canvas, each side less one
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
    elif head[12:16] == b"VP8 ":
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    else:
        return {}
    return {"width": width, "height": height}


def _address(target: str, folder: str) -> str:
    """Say where a link of a page leads in the help; nowhere: its words stand alone."""
    if target.startswith(("https://", "http://", "#")):
        return target
    path, _, anchor = target.partition("#")
    chapter = BY_FILE.get(posixpath.normpath(posixpath.join(folder, path)))
    if chapter is None:
        return ""
    return f"/help/{chapter.name}" + (f"#{anchor}" if anchor else "")


def _link(token: Token, address: str) -> Token:
    token.attrs["href"] = address
    if address.startswith("http"):
        token.attrs |= {"rel": "noreferrer"}
    elif address.startswith(f"/help/{GLOSSARY}#"):
        anchor = address.partition("#")[2]
        for word, term in glossary.TERMS.items():
            if term_anchor(word) == anchor:
                token.attrs |= {"class": "explain", "title": term.meaning}
    return token
