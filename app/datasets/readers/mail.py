"""Mail: EML and MBOX, decoded; what a message quotes stands apart from what it says itself."""

import email
import email.errors
import email.header
import email.message
import email.utils
import re
from collections.abc import Iterator
from typing import Any

from app.datasets.mapping import LeftOut
from app.datasets.readers import fragments
from app.datasets.readers.files import File
from app.datasets.readers.grids import Seen
from app.datasets.readers.unreadable import Unreadable

COLUMNS = ["conversation", "subject", "from", "to", "date", "text", "quoted"]
SENTENCES = {
    "attachment": (
        "1 attachment was not read (message {row}).",
        "{n} attachments were not read (first in message {row}).",
    ),
    "signature": (
        "1 signature below a line “--” was left out (message {row}).",
        "{n} signatures below a line “--” were left out (first in message {row}).",
    ),
    "older": (
        "In 1 message older mails are quoted within the quoted one, and were left out "
        "(message {row}).",
        "In {n} messages older mails are quoted within the quoted one, and were left out "
        "(first in message {row}).",
    ),
    **fragments.sentences("message"),
}
MAX_MESSAGE_BYTES = 32 * 1024**2
_MAX_TEXT_CHARACTERS = 1024**2
_MAX_HELD_CHARACTERS = 100 * 10**6
_MAX_PARTS = 500
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]{1,60}):(?:[ \t]|\r?$)")
_KNOWN = frozenset(
    b"from to cc subject date message-id mime-version received return-path content-type "
    b"delivered-to reply-to in-reply-to references x-mailer".split()
)

Row = dict[str, Any]


def looks_like_mail(head: bytes) -> bool:
    """Tell a mail, or a box of them, by the lines at its start."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    if head.startswith(b"From "):
        head = head.partition(b"\n")[2]
    names = set()
    for line in head.split(b"\n")[:60]:
        if not line.strip():
            break
        found = _HEADER.match(line)
        if found:
            names.add(found[1].lower())
        elif line[:1] not in (b" ", b"\t"):
            return False
    known = names & _KNOWN
    return len(known) >= 3 and bool(known & {b"from", b"received", b"return-path"})


def mails(file: File, seen: Seen) -> Iterator[tuple[int, Row | LeftOut]]:
    """Yield a row for each message, the oldest first; numbered by their places in the file.

    Raises:
        Unreadable: a message is too long or nested too deeply, or all together are too many.
    """
    roots: dict[str, str] = {}
    found: list[tuple[float, int, Row | LeftOut]] = []
    size = 0
    for number, raw in enumerate(_messages(file), start=1):
        try:
            message = email.message_from_bytes(raw)
            row, sent = _row(message, number, seen, roots)
        except RecursionError:
            raise Unreadable(
                f"Message {number:,} has parts within parts without end; take it out, then "
                "upload the file again."
            ) from None
        if isinstance(row, dict):
            size += sum(map(len, row.values()))
        if size > _MAX_HELD_CHARACTERS:
            raise Unreadable(
                f"From message {number:,} on, the texts of this mailbox are more than "
                f"{_MAX_HELD_CHARACTERS / 1e6:,.0f} MB; export fewer messages at a time."
            )
        found.append((sent, number, row))
    # Programs store mails in any order; answers belong below what they answer.
    found.sort(key=lambda each: each[:2])
    for _, number, row in found:
        if isinstance(row, dict):
            row["conversation"] = _root(roots, row["conversation"])
        yield number, row


def _messages(file: File) -> Iterator[bytes]:
    """Yield the bytes of each message: one, or those that lines “From …” divide."""
    lines: list[bytes] = []
    size = num = 0
    was_blank = is_box = False
    with file.open() as stream:
        while line := stream.readline(MAX_MESSAGE_BYTES + 1):
            if not lines and not num and line.startswith(b"From "):
                is_box = True
                num += 1
                continue
            if is_box and was_blank and line.startswith(b"From "):
                yield b"".join(lines)
                lines, size = [], 0
                num += 1
                continue
            was_blank = not line.strip()
            size += len(line)
            if size > MAX_MESSAGE_BYTES:
                raise Unreadable(
                    f"Message {max(num, 1):,} has more than {MAX_MESSAGE_BYTES / 1e6:,.0f} MB; "
                    "save it without its attachments, then upload it again."
                )
            # A box marks such lines of a text.
            lines.append(line[1:] if is_box and re.match(rb">+From ", line) else line)
    if lines:
        yield b"".join(lines)


def _row(
    message: email.message.Message, number: int, seen: Seen, roots: dict[str, str]
) -> tuple[Row | LeftOut, float]:
    sent, date = _sent(message)
    body, is_html = _body(message, number, seen)
    if body is None:
        return LeftOut("bad_characters"), sent
    if len(body) > _MAX_TEXT_CHARACTERS:
        raise Unreadable(
            f"Message {number:,} has more than 1 MB of text; take it out, then upload the file "
            "again."
        )
    if is_html:
        text, quoted = _of_html(body, number, seen)
    else:
        text, quoted = _apart(body.replace("\r\n", "\n"), number, seen)
    row = {
        "conversation": _thread(message, number, roots),
        "subject": _header(message, "Subject"),
        "from": _people(message, "From"),
        "to": _people(message, "To"),
        "date": date,
        "text": text,
        "quoted": quoted,
    }
    return row, sent


def _header(message: email.message.Message, name: str) -> str:
    """Return a header's text: encoded as it should be, or bare UTF-8 as programs write it, too."""
    values = (str(v) for key, v in message.raw_items() if key.lower() == name.lower())
    value = next(values, "")[:2000].encode(errors="surrogateescape").decode(errors="replace")
    try:
        text = str(email.header.make_header(email.header.decode_header(value)))
    except (ValueError, LookupError, email.errors.MessageError):
        text = value
    return " ".join(text.split())


def _people(message: email.message.Message, name: str) -> str:
    """Return the names of people, or their addresses where they have none."""
    pairs = email.utils.getaddresses([_header(message, name)])
    return ", ".join(who or address for who, address in pairs if who or address)


def _sent(message: email.message.Message) -> tuple[float, str]:
    try:
        when = email.utils.parsedate_to_datetime(_header(message, "Date"))
        return when.timestamp(), when.strftime("%Y-%m-%d %H:%M")
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0, ""


def _thread(message: email.message.Message, number: int, roots: dict[str, str]) -> str:
    """Return the first message of the thread that this one belongs to."""
    own = " ".join(_header(message, "Message-ID").split())[:200] or f"message {number}"
    before = re.findall(r"<[^<>\s]{1,200}>", str(message.get("References", ""))[:20_000])
    before += re.findall(r"<[^<>\s]{1,200}>", str(message.get("In-Reply-To", ""))[:2000])
    root = before[0] if before else own
    for each in (*before, own):
        if each != root:
            roots.setdefault(each, root)
    return root


def _root(roots: dict[str, str], name: str) -> str:
    for _ in range(100):  # headers may go round in a circle
        if name not in roots:
            break
        name = roots[name]
    return name


def _body(message: email.message.Message, number: int, seen: Seen) -> tuple[str | None, bool]:
    """Return a message's text and whether it is HTML; plain text is taken where there are both."""
    plain: list[email.message.Message] = []
    marked_up: list[email.message.Message] = []
    for count, part in enumerate(message.walk()):
        if count > _MAX_PARTS:
            raise Unreadable(
                f"Message {number:,} has more than {_MAX_PARTS} parts; take it out, then upload "
                "the file again."
            )
        kind = part.get_content_type()
        if part.is_multipart():
            continue
        if part.get_content_disposition() == "attachment" or part.get_filename():
            seen.add("attachment", number)
        elif kind == "text/plain":
            plain.append(part)
        elif kind == "text/html":
            marked_up.append(part)
        elif kind.startswith(("image/", "audio/", "video/", "application/")):
            seen.add("attachment", number)
    texts = [_decoded(part) for part in plain]
    if any(text is None for text in texts):
        return None, False
    if any(text and text.strip() for text in texts):
        return "\n".join(filter(None, texts)), False
    texts = [_decoded(part) for part in marked_up]
    if any(text is None for text in texts):
        return None, True
    return "\n".join(filter(None, texts)), bool(texts)


def _decoded(part: email.message.Message) -> str | None:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    for encoding in (part.get_content_charset() or "utf-8", "utf-8", "cp1252"):
        try:
            text = payload.decode(encoding)
        except (LookupError, ValueError):
            continue
        is_flowed = str(part.get_param("format", "")).lower() == "flowed"
        return _unflowed(text) if is_flowed else text
    return None


def _unflowed(text: str) -> str:
    """Join the lines of a paragraph that a program broke: those that end with a blank."""
    lines: list[str] = []
    depth = -1  # of the quotation that goes on; -1: none does
    for line in text.replace("\r\n", "\n").split("\n"):
        said = line.lstrip(">")
        own_depth = len(line) - len(said)
        said = said.removeprefix(" ")
        if own_depth == depth:
            lines[-1] += said
        else:
            lines.append(f"{'>' * own_depth}{' ' if own_depth else ''}{said}")
        goes_on = said.endswith(" ") and said != "-- "
        depth = own_depth if goes_on else -1
    return "\n".join(line if line == "-- " else line.rstrip(" ") for line in lines)


# --- what is said, and what is quoted --------------------------------------------------------

_WROTE = re.compile(
    r"(On|Am|Le|El|Il|Op|Em|Den|På|W dniu|Dne|Pe|On)\b.{5,300}"
    r"(wrote|schrieb|a écrit|escribió|ha scritto|schreef|escreveu|skrev|napisał|napsal|a scris)"
    r".{0,200}:\s*",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"[-_]{3,}\s*(Original Message|Ursprüngliche Nachricht|Message d.origine|Mensaje original"
    r"|Messaggio originale|Oorspronkelijk bericht|Forwarded message|Weitergeleitete Nachricht)"
    r"\s*[-_]{3,}|_{20,}",
    re.IGNORECASE,
)
_OUTLOOK = re.compile(r"\*?(From|Von|De|Da|Van|Fra|Från|Od)\s?:\*?\s?\S.*", re.IGNORECASE)
_SENT = re.compile(
    r"\*?(Sent|Gesendet|Envoyé|Enviado|Inviato|Verzonden|Date|Datum|Fecha|Data|Sendt|Skickat"
    r"|Wysłano)( (le|el|il|op))?\s?:\*?\s?\S.*",
    re.IGNORECASE,
)
_HEADS = re.compile(r"\*?[^\W\d_][\w. -]{1,20}\s?:\*?(\s.*)?")
_MORE_THAN = re.compile(r">[=≥]?[\d.,±+-]*\d")
_BLOCKQUOTE = re.compile(
    r"<blockquote\b|<div[^<>]{0,200}\b(?:gmail_quote|appendonsend|divRplyFwdMsg|yahoo_quoted)",
    re.IGNORECASE,
)


def _apart(body: str, number: int, seen: Seen) -> tuple[str, str]:
    """Divide a text into what is said and what is quoted of the mail before it."""
    lines = _with_blanks(body.split("\n"))
    said: list[str] = []
    quoted: list[str] = []
    is_older = False
    at = 0
    while at < len(lines):
        line = lines[at]
        if _is_quote(line):
            stripped = line[1:].removeprefix(" ")
            if stripped.startswith(">"):
                is_older = True
            elif not _WROTE.fullmatch(stripped.strip()):
                quoted.append(stripped)
        elif begins := _history(lines, at):
            if begins > 0:  # all that follows
                older = _rest(lines, at + begins, quoted)
                is_older = is_older or older
                break
            at += -begins - 1
        elif line.rstrip("\r") in ("-- ", "--"):
            seen.add("signature", number)
            # A quotation may stand below it.
            at = next((n for n in range(at, len(lines)) if _quotes(lines, n)), len(lines))
            continue
        else:
            said.append(line)
        at += 1
    if is_older:
        seen.add("older", number)
    return "\n".join(said).strip(), "\n".join(quoted).strip()


def _quotes(lines: list[str], at: int) -> bool:
    return _is_quote(lines[at]) or _history(lines, at) != 0


def _is_quote(line: str) -> bool:
    """Tell the mark of a quotation from “more than”: “>38 °C only” says something itself."""
    return line.startswith(">") and _MORE_THAN.match(line) is None


def _with_blanks(lines: list[str]) -> list[str]:
    """Put a blank behind the marks of programs that write none, where a figure follows."""
    shown: list[str] = []
    has_none = False  # a text before it is quoted, without a blank
    for line in lines:
        is_figure = _MORE_THAN.match(line) is not None
        has_none = line.startswith(">") and (has_none if is_figure else line[1:2].strip() != "")
        shown.append(f"> {line[1:]}" if is_figure and has_none else line)
    return shown


def _history(lines: list[str], at: int) -> int:
    """Say whether history begins: by how many lines its head has; less than 0 where `>` follows."""
    line = lines[at].strip()
    if not line:
        return 0
    for num in (1, 2):  # programs break such a line
        head = " ".join(each.strip() for each in lines[at : at + num])
        if head.endswith(":") and _WROTE.fullmatch(head):
            below = next((n for n in range(at + num, len(lines)) if lines[n].strip()), -1)
            return -num if below >= 0 and _is_quote(lines[below]) else num
    if _FORWARDED.fullmatch(line):
        return 1
    if _OUTLOOK.fullmatch(line) and any(
        _SENT.fullmatch(each.strip()) for each in lines[at + 1 : at + 4]
    ):
        return 1
    return 0


def _rest(lines: list[str], at: int, quoted: list[str]) -> bool:
    """Take the quoted mail without its head; say whether it quotes an older one itself."""
    while at < len(lines) and (not lines[at].strip() or _HEADS.fullmatch(lines[at].strip())):
        at += 1
    for place in range(at, len(lines)):
        if _quotes(lines, place):
            return True
        quoted.append(lines[place])
    return False


def _of_html(body: str, number: int, seen: Seen) -> tuple[str, str]:
    found = _BLOCKQUOTE.search(body)
    before = body[: found.start()] if found else body
    text, quoted = _apart(fragments.seen_text(before, seen, number), number, seen)
    if found:
        below = fragments.seen_text(body[found.start() :], seen, number)
        after, older = _apart(below, number, seen)
        quoted = quoted or after or older
    return text, quoted
