"""E-mail without a server: into the log, as somebody would read it, so that whoever tries Gatehouse out finds the links."""

from __future__ import annotations

from django.core.mail import EmailMessage
from django.core.mail.backends.console import EmailBackend as ConsoleBackend


class EmailBackend(ConsoleBackend):
    """Whom it is for, what about, and its text; not the same once more as HTML."""

    def write_message(self, message: EmailMessage) -> None:
        text = "\n".join(f"  {line}".rstrip() for line in str(message.body).strip().splitlines())
        self.stream.write(f"E-mail to {', '.join(message.recipients())}: {message.subject}\n{text}\n")
