"""Raised and lowered letters and the signs of symbol fonts, as the Unicode that says the same.

10³ without its raised digit is 103, and 5 µg without its sign 5 g: neither may be lost.
"""

_RAISED = dict(zip("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ", strict=True))
_LOWERED = dict(zip("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎", strict=True))
# A letter that is raised alone is a power; words such as “st” in 1st are not.
_RAISED_LETTERS = dict(zip("abcdefghijklmoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", strict=True))
VULGAR = {
    "1/2": "½", "1/3": "⅓", "2/3": "⅔", "1/4": "¼", "3/4": "¾", "1/5": "⅕", "2/5": "⅖", "3/5": "⅗",
    "4/5": "⅘", "1/6": "⅙", "5/6": "⅚", "1/8": "⅛", "3/8": "⅜", "5/8": "⅝", "7/8": "⅞",
}  # fmt: skip
# Adobe's encoding of the font Symbol, from 0x20; a blank stands where it has no sign.
_SYMBOL = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?"
    "≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_"
    "‾αβχδεφγηιϕκλµνοπθρστυϖωξψζ{|}∼ "
    "                                "
    "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵"
    "ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓"
    "◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪ 〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭ "
)
# Of the fonts of pictures those that say something in a text.
_WINGDINGS = {
    0x4A: "☺", 0x4C: "☹", 0x6C: "●", 0x6E: "■", 0x6F: "□", 0x71: "❑", 0x76: "❖", 0x9E: "·",
    0x9F: "•", 0xA7: "▪", 0xA8: "☐", 0xD8: "➢", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓",
    0xE8: "➔", 0xEF: "⇦", 0xF0: "⇨", 0xF1: "⇧", 0xF2: "⇩", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒",
    0xFE: "☑",
}  # fmt: skip
_WINGDINGS_2 = {0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☑", 0xA3: "☐"}
_FONTS = {"symbol": True, "wingdings": True, "wingdings 2": True}


def raised(text: str) -> str:
    """Write what is raised with Unicode's raised signs; words stay as they are."""
    if len(text) == 1 and text in _RAISED_LETTERS:
        return _RAISED_LETTERS[text]
    if not any(character.isdecimal() or character in "+-−=" for character in text):
        return text if text != "n" else "ⁿ"
    return "".join(_RAISED.get(character, character) for character in text)


def lowered(text: str) -> str:
    """Write what is lowered with Unicode's lowered signs; letters stay as they are."""
    return "".join(_LOWERED.get(character, character) for character in text)


def power(text: str) -> str:
    """Return a whole text in raised signs; nothing where one is missing."""
    signs = [_RAISED.get(c) or _RAISED_LETTERS.get(c, "") for c in text]
    return "".join(signs) if all(signs) else ""


def index(text: str) -> str:
    """Return a whole text in lowered signs; nothing where one is missing."""
    signs = [_LOWERED.get(c, "") for c in text]
    return "".join(signs) if all(signs) else ""


def is_symbol_font(name: str) -> bool:
    """Say whether a font has signs in the places of letters."""
    return name.strip().casefold() in _FONTS


def symbol(code: int, font: str) -> str:
    """Return the sign that a symbol font has at a place; nothing where it is not known.

    Args:
        code: The place, or as Word writes it, in the private area from U+F000 on.
    """
    code = code - 0xF000 if 0xF000 <= code <= 0xF0FF else code
    match font.strip().casefold():
        case "symbol" if 0x20 <= code <= 0xFF:
            sign = _SYMBOL[code - 0x20]
            return sign if sign != " " or code == 0x20 else ""
        case "wingdings":
            return " " if code == 0x20 else _WINGDINGS.get(code, "")
        case "wingdings 2":
            return " " if code == 0x20 else _WINGDINGS_2.get(code, "")
    return chr(code) if code > 0xFF and not 0xE000 <= code <= 0xF8FF else ""


def in_font(text: str, font: str) -> tuple[str, int]:
    """Return what a text in a symbol font looks like, and how many of its signs are not known."""
    signs = [
        symbol(ord(c), font) if ord(c) < 0x100 or "\uf000" <= c <= "\uf0ff" else c for c in text
    ]
    return "".join(signs), signs.count("")
