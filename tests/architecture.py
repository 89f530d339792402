"""Draw the architecture from the code: `make architecture` writes docs/architecture.svg.

Wings, what each is for and who imports whom are read from the code, so the picture cannot say
otherwise; the order of the wings is checked by test_imports.py. Processes and stores are a short
table below. No graph program is needed: boxes stand on a grid.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

# From the ground up; none imports from above, nor from beside itself.
WINGS = (
    ("training",),
    ("core",),
    ("people",),
    ("notices",),
    ("machines", "base_models"),
    ("datasets",),
    ("jobs",),
    ("adapters",),
    ("evaluation",),
    ("web", "worker"),
    ("ops",),
    ("main", "cli"),
)


@dataclass(frozen=True)
class Box:
    """A process, or a store, at a place of the grid."""

    name: str
    says: str
    column: int
    row: int
    is_store: bool = False


BOXES = (
    Box("browser", "pages, live curve", 0, 0),
    Box("program", "any OpenAI client", 0, 1),
    Box("web", "FastAPI, never torch", 1, 0),
    Box("PostgreSQL", "the truth", 2, 0, is_store=True),
    Box("Valkey", "hints to look", 2, 1, is_store=True),
    Box("files", "uploads, models, jobs", 2, 2, is_store=True),
    Box("gpu worker", "supervises one job", 3, 0),
    Box("cpu worker", "leased work on data", 3, 1),
    Box("trainer", "torch, no credentials", 4, 0),
    Box("child", "reads people's files", 4, 1),
    Box("answering", "whose turn it is", 2, 3),
    Box("model", "torch or llama.cpp", 3, 3),
)
# From, to, what passes.
ARROWS = (
    ("browser", "web", "HTTP"),
    ("program", "web", "/v1"),
    ("web", "PostgreSQL", "rows"),
    ("web", "Valkey", ""),
    ("web", "files", "uploads"),
    ("Valkey", "gpu worker", ""),
    ("Valkey", "cpu worker", "hint"),
    ("gpu worker", "PostgreSQL", "claim"),
    ("cpu worker", "PostgreSQL", ""),
    ("cpu worker", "files", ""),
    ("gpu worker", "trainer", "job"),
    ("cpu worker", "child", "file"),
    ("trainer", "files", "events, checkpoints, adapter"),
    ("web", "answering", "question"),
    ("answering", "model", "words"),
)

_WIDTH, _MARGIN = 980, 24
_BOX_WIDTH, _BOX_HEIGHT = 148, 52
_COLUMN, _ROW, _TOP = 196, 88, 64
_LINE, _NAMES, _GRID = 30, 112, 640
_STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2a2e; }
    .title { font-size: 16px; font-weight: 600; }
    .name { font-weight: 600; }
    .small { font-size: 11px; fill: #55656b; }
    .page { fill: #fbfaf7; }
    .box { fill: #ffffff; stroke: #b9c4c4; }
    .store { fill: #e8f1ee; stroke: #7fa79b; }
    .rule { stroke: #e3e2dc; }
    .self { fill: #b9c4c4; }
    .arrow { stroke: #55656b; fill: none; marker-end: url(#head); }
    .head, .dot { fill: #2f6f5e; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e8ecea; }
      .small { fill: #a9b5b3; }
      .page { fill: #171c1d; }
      .box { fill: #22292a; stroke: #49575a; }
      .store { fill: #1d332d; stroke: #4f8273; }
      .rule { stroke: #2b3335; }
      .self { fill: #49575a; }
      .arrow { stroke: #a9b5b3; }
      .head, .dot { fill: #7cc4ae; }
    }
"""


def main() -> None:
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"Wrote {PICTURE.relative_to(ROOT)}.")


def draw() -> str:
    """Return the picture of the code as it stands."""
    wings = [wing for floor in reversed(WINGS) for wing in floor if path_of(wing) is not None]
    grid_top = _TOP + 4 * _ROW + 96
    height = grid_top + _LINE * len(wings) + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-label="Processes and stores of Etude, and which part of the code imports which">',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path class="head" d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="8"/>',
        _text(_MARGIN, 40, "Processes and stores", "title"),
        *map(_arrow, ARROWS),
        *map(_box, BOXES),
        _text(_MARGIN, grid_top - 44, "Wings of the code", "title"),
        _text(
            _MARGIN, grid_top - 24, "Each stands on those below it; none imports upward.", "small"
        ),
        _text(_GRID, grid_top - 44, "imports", "small"),
        *_wings(wings, grid_top),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _wings(wings: list[str], top: int) -> Iterator[str]:
    knows = {
        wing: {
            wing_of(other)
            for module, others in imports().items()
            for other in others
            if wing_of(module) == wing
        }
        for wing in wings
    }
    step = (_WIDTH - _MARGIN - _GRID) // len(wings)
    for column, wing in enumerate(wings):
        x = _GRID + step * column + step // 2
        yield (
            f'<text class="small" transform="translate({x + 4} {top - 8}) rotate(-60)">'
            f"{wing}</text>"
        )
    for row, wing in enumerate(wings):
        y = top + _LINE * row
        yield f'<path class="rule" d="M{_MARGIN} {y}H{_WIDTH - _MARGIN}"/>'
        yield _text(_MARGIN, y + 20, wing, "name")
        yield _text(_MARGIN + _NAMES, y + 20, purpose(wing), "small")
        for column, other in enumerate(wings):
            x = _GRID + step * column + step // 2
            if other == wing:
                yield f'<rect class="self" x="{x - 5}" y="{y + 14}" width="10" height="2"/>'
            elif other in knows[wing]:
                yield f'<circle class="dot" cx="{x}" cy="{y + 15}" r="5"/>'


def _box(box: Box) -> str:
    x, y = _corner(box)
    kind = "store" if box.is_store else "box"
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
        + _text(x + 12, y + 22, box.name, "name")
        + _text(x + 12, y + 40, box.says, "small")
    )


def _arrow(arrow: tuple[str, str, str]) -> str:
    """Draw a line between two boxes: from side to side, or around below where some are between."""
    boxes = {box.name: box for box in BOXES}
    start, end, label = boxes[arrow[0]], boxes[arrow[1]], arrow[2]
    (x1, y1), (x2, y2) = _corner(start), _corner(end)
    anchor = "middle"
    if abs(start.column - end.column) > 1:
        side, bottom = x1 + _BOX_WIDTH + 10, y2 + _BOX_HEIGHT // 2
        x2 += _BOX_WIDTH
        path = f"M{side - 10} {y1 + _BOX_HEIGHT // 2}H{side}V{bottom}H{x2}"
        place = ((side + x2) // 2, bottom - 6)
    else:
        # Several arrows at one side: each leaves towards where it goes.
        y1 += _BOX_HEIGHT // 2 + 10 * (end.row - start.row)
        y2 += _BOX_HEIGHT // 2 + 10 * (start.row - end.row)
        x1, x2 = (x1 + _BOX_WIDTH, x2) if x1 < x2 else (x1, x2 + _BOX_WIDTH)
        path = f"M{x1} {y1}L{x2} {y2}"
        place = ((x1 + x2) // 2, y1 - 6)
        if start.row != end.row:
            place, anchor = (x2 - 12, y2 + 4), "end"
    words = (
        f'<text class="small" x="{place[0]}" y="{place[1]}" text-anchor="{anchor}">{label}</text>'
    )
    return f'<path class="arrow" d="{path}"/>' + (words if label else "")


def _corner(box: Box) -> tuple[int, int]:
    return _MARGIN + _COLUMN * box.column, _TOP + _ROW * box.row


def _text(x: int, y: int, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def path_of(wing: str) -> Path | None:
    """Return the file whose docstring says what a wing is for, or None where there is no wing."""
    places = (ROOT / "app" / wing / "__init__.py", ROOT / "app" / f"{wing}.py")
    own = ROOT / wing / "__init__.py"
    return next((path for path in (*places, own) if path.exists()), None)


def purpose(wing: str) -> str:
    """Return the first sentence of a wing's docstring, in one line."""
    path = path_of(wing)
    assert path is not None
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = words.replace("\n", " ").partition(". ")[0].replace("`", "")
    return sentence.removesuffix(".") + "."


@cache
def modules() -> dict[str, Path]:
    """Return every module of the application and its workers, by its dotted name."""
    found = {}
    for package in ("app", "worker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Return, for every module, those of ours that it imports anywhere in it."""
    ours = modules()
    return {
        name: {other for other in imported(name) if other in ours} - {name, "app", "worker"}
        for name in ours
        if name not in ("app", "worker")
    }


@cache
def imported(module: str) -> set[str]:
    """Return what a module imports; `from a import b` is a.b where that is a module of ours."""
    ours = modules()

    def names() -> Iterator[str]:
        for node in ast.walk(ast.parse(ours[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield whole if whole in ours else node.module

    return set(names())


def wing_of(module: str) -> str:
    first, second, *_ = [*module.split("."), ""]
    return "worker" if first == "worker" else second


if __name__ == "__main__":
    main()
