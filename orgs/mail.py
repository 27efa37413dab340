"""E-mail to people: one look, as text and as HTML, for every message that Gatehouse sends.

The HTML is one table with styles at its elements, since that is what mail programs agree on; it loads nothing from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import structlog
from celery import current_app
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string
from kombu.exceptions import OperationalError

from gateway_project.mail import CONSOLE

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Message:
    """`paragraphs` stand above the button or the code, `notes` in small print below. `link` is an absolute address."""

    subject: str
    paragraphs: tuple[str, ...]
    button: str = ""
    link: str = ""
    code: str = ""
    notes: tuple[str, ...] = ()


def compose(message: Message, *, to: str) -> EmailMultiAlternatives:
    """Ready to be sent. A subject is one line, whatever stands in a name."""
    context = {"message": message, "to": to, "public_url": settings.PUBLIC_URL}
    mail = EmailMultiAlternatives(
        subject=" ".join(message.subject.split()), body=render_to_string("mail/message.txt", context).strip() + "\n", to=[to]
    )
    mail.attach_alternative(render_to_string("mail/message.html", context), "text/html")
    return mail


def is_printed() -> bool:
    """Whether no mail server is set, so that mails stand in the log and reach nobody (gateway_project/mail.py)."""
    return settings.EMAIL_BACKEND == CONSOLE


def queue(task: str, *about: int | str) -> None:
    """Has a task write and send it, once the present transaction is committed. Without a broker the log says so, and no more."""
    transaction.on_commit(partial(_hand_over, task, *about))


def _hand_over(task: str, *about: int | str) -> None:
    try:
        current_app.send_task(task, about, retry=False)
    except OperationalError:
        log.warning("mail_not_queued", task=task, about=about)
