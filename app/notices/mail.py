"""One mail over SMTP: plain text, a title and a link, nothing else."""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from app.core import outbound, settings
from app.notices.outbox import Message

_TIMEOUT_SECONDS = 20


def send(message: Message) -> str:
    """Hand a mail to the site's server; returns what to note.

    Raises:
        OSError: it did not take it (smtplib's errors are such).
    """
    chosen = settings.get()
    smtp_class = smtplib.SMTP_SSL if chosen.smtp_tls == "tls" else smtplib.SMTP
    with (
        outbound.towards("mail", chosen.smtp_host),
        smtp_class(chosen.smtp_host, chosen.smtp_port, timeout=_TIMEOUT_SECONDS) as server,
    ):
        if chosen.smtp_tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if chosen.smtp_user:
            server.login(chosen.smtp_user, chosen.smtp_password)
        server.send_message(compose(message, chosen))
    return "accepted by the mail server"


def compose(message: Message, chosen: settings.Settings) -> EmailMessage:
    """Write the mail; its id stays the same at every try."""
    title, link = str(message.content["title"]), str(message.content["link"])
    mail = EmailMessage()
    mail["Subject"] = f"Etude: {title}"
    mail["From"] = chosen.mail_from or f"etude@{chosen.smtp_host}"
    mail["To"] = message.to
    mail["Date"] = formatdate(localtime=False)
    domain = str(mail["From"]).rpartition("@")[2].strip("> ") or "etude"
    mail["Message-ID"] = f"<{message.public_id}@{domain}>" if domain else make_msgid()
    # Answering machines do not answer such a mail.
    mail["Auto-Submitted"] = "auto-generated"
    base = chosen.public_url.rstrip("/")
    where = f"{base}{link}" if base else f"the page {link} in Etude"
    mail.set_content(
        f"{title}.\n\nRead more: {where}\n\n"
        f"Choose on your account page ({base}/account) which notices come by e-mail.\n"
    )
    return mail
