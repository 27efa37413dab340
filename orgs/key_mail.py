"""Telling a member that somebody else made an API key in its name.

Guarantees: nobody is told of a key that was not committed, and its text is in no mail. Does not guarantee that the mail
arrives: the key stands in the member's own list either way.
"""

from __future__ import annotations

from functools import partial

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.urls import reverse
from kombu.exceptions import OperationalError

from orgs.actor import LINEAGE
from orgs.mail import Message, compose
from orgs.models import ApiKey

log = structlog.get_logger(__name__)


def queue(key: ApiKey) -> None:
    """To be sent once the present transaction is committed."""
    transaction.on_commit(partial(_hand_over, key.pk))


def send(key_id: int) -> bool:
    """Whether there was somebody to tell. Raises OSError or SMTPException where the mail server does not take it."""
    keys = ApiKey.objects.filter(pk=key_id, revoked_at=None, member__isnull=False)
    key = keys.select_related("member", "created_by", "organization", LINEAGE).first()
    if key is None or key.member is None:
        return False
    compose(_message(key), to=key.member.email).send()
    return True


def _message(key: ApiKey) -> Message:
    page = reverse("guardrails:key", kwargs={"org": key.organization.slug, "key_id": key.pk})
    return Message(
        subject=f"{key.created_by} made an API key for you",
        paragraphs=(
            f"“{key.name}” is at home in {key.group.words()}, at {key.organization}. Its calls are made in your name: what they"
            " cost counts as yours.",
            f"{key.created_by} has seen its text, once, and can hand it to you. Rotate the key, and you alone know the new one.",
        ),
        button="See the key",
        link=f"{settings.PUBLIC_URL}{page}",
        notes=("If you do not want it, disable or delete it on that page.",),
    )


def _hand_over(key_id: int) -> None:
    try:
        current_app.send_task("orgs.tasks.tell_of_key", (key_id,), retry=False)
    except OperationalError:
        log.warning("key_mail_not_queued", key=key_id)
