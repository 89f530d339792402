"""Files that hold nothing to learn from, told by their first bytes, each by its own name."""

import re
from typing import NamedTuple

HEAD_BYTES = 4096
_WRITE_DOWN = {
    "picture": "and a picture has no text that could be read here; write what it shows into a "
    "table or a document, and upload that",
    "sound": "and only what is written can be learned; upload a transcript of it, such as VTT, SRT "
    "or text",
    "film": "and only what is written can be learned; upload its subtitles or a transcript, such "
    "as VTT, SRT or text",
}
_STARTS = (
    (b"\x89PNG", "picture", "PNG"),
    (b"\xff\xd8\xff", "picture", "JPEG"),
    (b"GIF8", "picture", "GIF"),
    (b"II*\0", "picture", "TIFF"),
    (b"MM\0*", "picture", "TIFF"),
    (b"8BPS\0", "picture", "Photoshop"),
    (b"\0\0\1\0", "picture", "ICO"),
    (b"%!PS", "picture", "PostScript or EPS"),
    (b"\xc5\xd0\xd3\xc6", "picture", "PostScript or EPS"),
    (b"\xff\x0a", "picture", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "picture", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "picture", "JPEG 2000"),
    (b"ID3", "sound", "MP3"),
    (b"\xff\xfb", "sound", "MP3"),
    (b"\xff\xf3", "sound", "MP3"),
    (b"\xff\xf2", "sound", "MP3"),
    (b"\xff\xf1", "sound", "AAC"),
    (b"\xff\xf9", "sound", "AAC"),
    (b"OggS", "sound", "Ogg"),
    (b"fLaC", "sound", "FLAC"),
    (b"MThd", "sound", "MIDI"),
    (b"caff", "sound", "CAF"),
    (b"#!AMR", "sound", "AMR"),
    (b"\x1a\x45\xdf\xa3", "film", "WebM or Matroska"),
    (b"FLV\1", "film", "Flash"),
    (b"\0\0\1\xba", "film", "MPEG"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "film", "Windows Media"),
)
# Of names alone, to spare people a long upload.
_ENDINGS = {
    "picture": {"png", "jpg", "jpeg", "gif", "webp", "heic", "heif", "bmp", "tif", "tiff", "svg"},
    "sound": {"mp3", "wav", "m4a", "aac", "ogg", "oga", "opus", "flac", "wma", "amr"},
    "film": {"mp4", "m4v", "mov", "avi", "mkv", "webm", "wmv", "mpg", "mpeg", "3gp"},
}
# Data of programs for statistics and mail, from which a table can be saved.
_DATA = (
    (b"\x89HDF\r\n", "HDF5 data", "save the part with questions and answers as CSV or Parquet"),
    (b"$FL2", "an SPSS file", "save it in SPSS as CSV or Excel"),
    (b"$FL3", "an SPSS file", "save it in SPSS as CSV or Excel"),
    (b"<stata_dta>", "a Stata file", "save it in Stata as CSV or Excel"),
    (bytes(12) + b"\xc2\xea\x81\x60", "a SAS file", "save it in SAS as CSV or Excel"),
    (b"RDX2\n", "an R file", "save the table in R as CSV"),
    (b"RDX3\n", "an R file", "save the table in R as CSV"),
    (b"\x93NUMPY", "a NumPy array", "save the rows as CSV or Parquet"),
    (b"\0\1\0\0Standard Jet DB", "an Access database", "save the table in Access as Excel or CSV"),
    (b"\0\1\0\0Standard ACE DB", "an Access database", "save the table in Access as Excel or CSV"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "a OneNote file", "save the page in OneNote as Word"),
    (
        b"!BDN",
        "a mailbox of Outlook (PST)",
        "save the mails as EML, or move them into another mail program and export MBOX",
    ),
)
# Messages between programs, as clinics and suppliers send them.
_EDIFACT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:UNA.{6}\s*UN[BGH]|UNB\+UN[A-Z]{2})", re.DOTALL)
_X12 = re.compile(rb"(?:\xef\xbb\xbf)?\s*ISA([^\w\s])\d\d\1")
# What stands behind a size in containers that many formats share.
_IN_RIFF = {
    b"WEBP": ("picture", "WebP"),
    b"WAVE": ("sound", "WAV"),
    b"AVI ": ("film", "AVI"),
    b"RMID": ("sound", "MIDI"),
}
_IN_FTYP = (
    ((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "picture", "HEIC"),
    ((b"avif", b"avis"), "picture", "AVIF"),
    ((b"crx ",), "picture", "Canon raw"),
    ((b"M4A ", b"M4B ", b"M4P "), "sound", "M4A"),
    ((b"qt  ",), "film", "QuickTime"),
    ((b"3gp", b"3g2"), "film", "3GP"),
)
# Pages may have such pictures, and speak of such records: only the outermost element counts.
_BEGINS = (
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<\?[^>]{0,500}\?>\s*){0,5}"
    rb"(?:<!--(?:(?!-->).){0,2000}-->\s*){0,3}(?:<!DOCTYPE[^>]{0,500}>\s*)?"
)
_SVG = re.compile(_BEGINS + rb"<(?:\w+:)?svg[\s>]", re.DOTALL)
_CDA = re.compile(_BEGINS + rb"<[^>]{0,2000}xmlns(?::\w+)?=[\"']urn:hl7-org:v3", re.DOTALL)
_FHIR = re.compile(_BEGINS + rb"<[^>]{0,2000}xmlns=[\"']http://hl7\.org/fhir[\"']", re.DOTALL)
_HL7 = re.compile(rb"(?:\xef\xbb\xbf)?[\x0b\s]*(?:MSH|FHS|BHS)\|[^\w\s]{3,5}\|")


class Named(NamedTuple):
    """What a file is: a word for its sort, and a name for people."""

    sort: str
    name: str


def media_of(head: bytes) -> Named | None:
    """Say whether a file is a picture, a sound or a film, and of which format."""
    for start, sort, name in _STARTS:
        if head.startswith(start):
            return Named(sort, name)
    if head.startswith(b"RIFF"):
        return Named(*_IN_RIFF.get(head[8:12], ("film", "RIFF")))
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        for brands, sort, name in _IN_FTYP:
            if brand.startswith(brands):
                return Named(sort, name)
        return Named("film", "MP4")
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return Named("sound", "AIFF")
    # Of a bitmap the size is anything; what follows it is 0.
    if head.startswith(b"BM") and (head[2:4] == b"\0\0" or head[6:10] == bytes(4)):
        return Named("picture", "BMP")
    return Named("picture", "SVG") if _SVG.match(head) else None


def refusal_of_ending(ending: str) -> str | None:
    """Return the same by how a name ends, in small letters without the dot, for media alone."""
    sort = next((sort for sort, endings in _ENDINGS.items() if ending in endings), None)
    return sort and f"This is a {sort} (.{ending}), {_WRITE_DOWN[sort]}."


def refusal_of(head: bytes) -> str | None:
    """Return the sentence by which a file is refused that is of such a kind; none if it is not."""
    if media := media_of(head):
        return f"This is a {media.sort} ({media.name}), {_WRITE_DOWN[media.sort]}."
    if head[128:132] == b"DICM":
        return f"This is a picture (DICOM, of a patient), {_WRITE_DOWN['picture']}."
    is_document = _CDA.match(head)
    if is_document or _FHIR.match(head):
        return (
            f"This is {'a clinical document (HL7 CDA)' if is_document else 'FHIR in XML'}, the "
            "record of a patient, and no questions with answers to learn from; put those into a "
            "table with a column for each, without the patients’ names."
        )
    if _HL7.match(head):
        return (
            "These are HL7 messages, the records of patients as clinical systems send them, and no "
            "questions with answers to learn from; put those into a table with a column for each, "
            "without the patients’ names."
        )
    for first, name, instead in _DATA:
        if head.startswith(first):
            return f"This is {name}, which cannot be read here; {instead}, and upload that."
    if (is_edifact := _EDIFACT.match(head)) or _X12.match(head):
        return (
            f"These are messages between programs ({'EDIFACT' if is_edifact else 'X12'}), and no "
            "questions with answers to learn from; put those into a table with a column for each, "
            "without people’s names."
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:20].upper()
    if start.startswith(b"BEGIN:VCARD"):
        return (
            "These are contacts (vCard), which have no questions and answers; upload a table or a "
            "document that has some."
        )
    if start.startswith(b"BEGIN:VCALENDAR"):
        return (
            "This is a calendar (iCalendar), which has no questions and answers; upload a table or "
            "a document that has some."
        )
    return None
