"""The mail of an invitation, and handing mails to the background worker.

Guarantees: a mail goes out after the invitation is committed or not at all; what the mail server does not take is written
beside the invitation, and can be sent again. Does not guarantee that it is sent once: the newest mail is the one that counts.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterable
from functools import partial

import structlog
from celery import current_app
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from kombu.exceptions import OperationalError

from orgs.actor import LINEAGE
from orgs.invitation_words import invited_as, until_words
from orgs.mail import Message, compose
from orgs.models import Invitation
from orgs.services.invitations import fresh_mail_token

NO_WORKER = "No background worker could be reached. Send it again."
NOT_TAKEN = "The mail server did not take it. Send it again."

log = structlog.get_logger(__name__)


def queue(invitations: Iterable[Invitation]) -> None:
    """To be sent once the present transaction is committed."""
    ids = [invitation.pk for invitation in invitations if invitation.email]
    if ids:
        transaction.on_commit(partial(_hand_over, ids))


def queue_again(invitation: Invitation) -> None:
    Invitation.objects.filter(pk=invitation.pk).update(sent_at=None, send_error="")
    queue([invitation])


def send(invitation_id: int) -> bool:
    """Whether it went out; one that is closed meanwhile does not."""
    related = ("organization", "created_by", "custom_role", LINEAGE)
    invitation = Invitation.objects.filter(pk=invitation_id).select_related(*related).first()
    if invitation is None or not invitation.is_open or not invitation.email:
        return False
    try:
        _mail(invitation).send()
    except (smtplib.SMTPException, OSError) as error:
        log.warning("invitation_mail_failed", invitation=invitation_id, error=str(error))
        Invitation.objects.filter(pk=invitation_id).update(send_error=NOT_TAKEN)
        return False
    Invitation.objects.filter(pk=invitation_id).update(sent_at=timezone.now(), send_error="")
    return True


def accept_url(token: str) -> str:
    return f"{settings.PUBLIC_URL}{reverse('accept', kwargs={'token': token})}"


def _mail(invitation: Invitation) -> EmailMultiAlternatives:
    message = Message(
        subject=f"{invitation.created_by} invites you to {invitation.organization}",
        paragraphs=(
            f"Hello {invitation.name}," if invitation.name else "Hello,",
            f"You would be {invited_as(invitation)} of {invitation.group.words()}.",
        ),
        button="Accept the invitation",
        link=accept_url(fresh_mail_token(invitation)),
        notes=(
            f"It is for {invitation.email} only, works once, and until {until_words(invitation)}.",
            "If you did not expect it, do nothing.",
        ),
    )
    return compose(message, to=invitation.email)


def _hand_over(ids: list[int]) -> None:
    try:
        current_app.send_task("orgs.tasks.send_invitations", (ids,), retry=False)
    except OperationalError:
        Invitation.objects.filter(pk__in=ids).update(send_error=NO_WORKER)
