"""What errors of the system and of libraries mean, in words for people who do not program.

What they say by themselves is for programmers: numbers, names of classes, addresses in memory.
"""

import errno
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
_RAW = re.compile(r"\[Errno -?\d+\]|\w+(Error|Exception|Pool)\(|object at 0x|Traceback")


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
        return first
    in_time = " in time" if isinstance(error, TimeoutError) else ""
    return f"there was no answer{in_time}"
