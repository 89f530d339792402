"""What readers of documents leave out or are unsure of, in one sentence each.

A reader counts with `Seen`; `{row}` is where it was first: a paragraph, a slide, a page.
"""

# {place} is what a block's number counts.
_SENTENCES = {
    "struck": (
        "In 1 place text is struck out and was left out ({place} {row}).",
        "In {n} places text is struck out and was left out (first in {place} {row}).",
    ),
    "hidden_text": (
        "In 1 place text is hidden and was left out ({place} {row}).",
        "In {n} places text is hidden and was left out (first in {place} {row}).",
    ),
    "deleted": (
        "In 1 place text was deleted while changes were tracked, and was left out ({place} {row}).",
        "In {n} places text was deleted while changes were tracked, and was left out "
        "(first in {place} {row}).",
    ),
    "sign": (
        "1 sign of a symbol font is not known and was left out ({place} {row}); write it as a "
        "letter.",
        "{n} signs of a symbol font are not known and were left out (first in {place} {row}); "
        "write them as letters.",
    ),
    "equation": (
        "1 equation in a field (EQ) cannot be read and was left out ({place} {row}); write it in "
        "Word's own equations or as text.",
        "{n} equations in fields (EQ) cannot be read and were left out (first in {place} {row}); "
        "write them in Word's own equations or as text.",
    ),
    "small_number": (
        "1 small number stands above or below a line and may be part of a fraction or a power "
        "({place} {row}); look there how it was read.",
        "{n} small numbers stand above or below a line and may be parts of fractions or powers "
        "(first on {place} {row}); look there how they were read.",
    ),
    "merged": (
        "1 cell of a table was filled with the text of the merged cell that it belongs to "
        "({place} {row}).",
        "{n} cells of tables were filled with the text of the merged cells that they belong to "
        "(first in {place} {row}).",
    ),
    "hidden_slide": (
        "1 slide is hidden and was left out (slide {row}); take hidden slides in if it belongs "
        "here.",
        "{n} slides are hidden and were left out (first slide {row}); take hidden slides in if "
        "they belong here.",
    ),
    "speaker_notes": (
        "The notes of 1 slide were read, below what stands on it (slide {row}).",
        "The notes of {n} slides were read, each below what stands on the slide (first slide "
        "{row}).",
    ),
    "folded": (
        "In 1 place text is folded away and was read, as its heading opens it ({place} {row}).",
        "In {n} places text is folded away and was read, as headings open it (first in {place} "
        "{row}).",
    ),
    "beside": (
        "1 part of the page beside its main text, such as a menu or a footer, was left out.",
        "{n} parts of the page beside its main text, such as menus and footers, were left out.",
    ),
    "note_mark": (
        "1 raised mark that points to a note was left out ({place} {row}).",
        "{n} raised marks that point to notes were left out (first in {place} {row}).",
    ),
    "foot_note": (
        "1 note or source at the foot of the page was not read.",
        "{n} notes and sources at the foot of the page were not read.",
    ),
    "index": (
        "1 table of contents or index was not read.",
        "{n} tables of contents or indexes were not read.",
    ),
    "comment": ("1 comment was not read.", "{n} comments were not read."),
    "picture": (
        "1 picture was not read; what it shows has to stand in the text, too.",
        "{n} pictures were not read; what they show has to stand in the text, too.",
    ),
    "object": (
        "1 chart or embedded object was not read ({place} {row}).",
        "{n} charts or embedded objects were not read (first in {place} {row}).",
    ),
    "no_text": (
        "1 page has no text, as a picture of a page has none (page {row}); run text recognition "
        "(OCR) over the PDF if that page belongs here.",
        "{n} pages have no text, as pictures of pages have none (first page {row}); run text "
        "recognition (OCR) over the PDF if those pages belong here.",
    ),
    "order": (
        "On 1 page texts stand side by side, and a PDF does not say whether as columns or as a "
        "table (page {row}); check below what is learned of it, or upload the document that the "
        "PDF was made from.",
        "On {n} pages texts stand side by side, and a PDF does not say whether as columns or as a "
        "table (first on page {row}); check below what is learned of them, or upload the document "
        "that the PDF was made from.",
    ),
}


def sentences(place: str) -> dict[str, tuple[str, str]]:
    """Return the sentences of a document whose parts are counted by `place`."""
    return {
        what: (one.replace("{place}", place), many.replace("{place}", place))
        for what, (one, many) in _SENTENCES.items()
    }
