"""What errors of the system and of libraries mean, in words for people who do not program.

What they say by themselves is for programmers: numbers, names of classes, addresses in memory.
"""

import errno
import os
import re
import smtplib
import socket
import ssl

_OF_THE_SYSTEM = {
    errno.ECONNREFUSED: "nothing answers at this address",
    errno.ECONNRESET: "the connection was broken off",
    errno.EPIPE: "the connection was broken off",
    errno.EHOSTUNREACH: "the other machine cannot be reached",
    errno.ENETUNREACH: "the other machine cannot be reached",
    errno.ETIMEDOUT: "there was no answer in time",
    errno.ENOSPC: "the disk is full",
    errno.EACCES: "Etude may not do this on this machine",
    errno.EPERM: "Etude may not do this on this machine",
    errno.ENOENT: "it is not there",
    errno.EROFS: "the disk cannot be written to",
    errno.EIO: "the disk has a fault",
}
_SYSTEM_WORDS = {os.strerror(number): words for number, words in _OF_THE_SYSTEM.items()}
# As Python writes such an error, and as Rust does; without the mark, others may have said it.
_OF_SYSTEM = re.compile(
    r"\[Errno -?\d+\] ?(?P<python>{0})?|(?P<rust>{0}) ?\(os error \d+\)".format(
        "|".join(map(re.escape, _SYSTEM_WORDS))
    )
)
# A file of the machine: people are told its name, and not where it lies.
_FILE = re.compile(
    r"[\"']?(?:/(?:data|dev|etc|home|mnt|opt|proc|root|run|srv|tmp|usr|var)(?:/[^/\s\"':;,()]+)*)"
    r"/([^/\s\"':;,()]*[^/\s\"':;,().])[\"']?"
)
_RAW = re.compile(r"\[Errno -?\d+\]|\w+(Error|Exception|Pool)\(|object at 0x|Traceback")


def cleaned(said: str) -> str:
    """Take out of a sentence what only those who program can read.

    Numbers of errors, marks of code, and folders of the machine come along where a library's words
    are part of a sentence of ours.
    """
    said = _OF_SYSTEM.sub(
        lambda found: _SYSTEM_WORDS.get(found["python"] or found["rust"], ""), said
    )
    return _FILE.sub(r"“\1”", said.replace("`", ""))


def words(error: BaseException) -> str:
    """Say what an error means, to go on a sentence behind a colon."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted ({error.verify_message})"
    if isinstance(error, socket.gaierror):
        return "nobody knows this name"
    if isinstance(error, smtplib.SMTPResponseException):
        raw = error.smtp_error
        said = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        return f"the mail server answered {error.smtp_code}: {' '.join(said.split())}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "the mail server refused the receiver"
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
        return _OF_THE_SYSTEM[error.errno]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    first = (str(error).strip().splitlines() or [""])[0]
    if first and not _RAW.search(first):
        return cleaned(first)
    in_time = " in time" if isinstance(error, TimeoutError) else ""
    return f"there was no answer{in_time}"
