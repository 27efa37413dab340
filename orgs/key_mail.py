"""Telling a member what somebody else did to an API key in its name: made, rotated or deleted it.

Guarantees: nobody is told of what was not committed, and no text of a key is in any mail. Does not guarantee that the mail
arrives: the key stands in the member's own list either way, a deleted one in its history.
"""

from __future__ import annotations

from typing import Literal

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from gateway_project.lib.formatting import minute_words
from orgs import mail
from orgs.actor import LINEAGE
from orgs.mail import Message, compose
from orgs.models import ApiKey, User

Change = Literal["rotated", "deleted"]


def queue(key: ApiKey) -> None:
    """That it was made."""
    mail.queue("orgs.tasks.tell_of_key", key.pk)


def queue_change(key: ApiKey, change: Change, *, by: User | None) -> None:
    """Nothing where its member did it itself, or where it is nobody's. `by` None: a command."""
    if key.member_id is not None and (by is None or key.member_id != by.pk):
        mail.queue("orgs.tasks.tell_of_key_change", key.pk, change, by.display_name if by else "An operator")


def send(key_id: int) -> bool:
    """Whether there was somebody to tell. Raises OSError or SMTPException where the mail server does not take it."""
    key = _key(key_id)
    if key is None or key.member is None or key.revoked_at:
        return False
    compose(_made(key), to=key.member.email).send()
    return True


def send_change(key_id: int, change: Change, who: str) -> bool:
    """As `send`."""
    key = _key(key_id)
    if key is None or key.member is None or not key.member.is_active:
        return False
    compose(_rotated(key, who) if change == "rotated" else _deleted(key, who), to=key.member.email).send()
    return True


def _key(key_id: int) -> ApiKey | None:
    keys = ApiKey.objects.filter(pk=key_id, member__isnull=False)
    return keys.select_related("member", "created_by", "organization", LINEAGE).first()


def _made(key: ApiKey) -> Message:
    return Message(
        subject=f"{key.created_by} made an API key for you",
        paragraphs=(
            f"{_place(key)} Its calls are made in your name: what they cost counts as yours.",
            f"{key.created_by} has seen its text, once, and can hand it to you. Rotate the key, and you alone know the new one.",
        ),
        button="See the key",
        link=_page(key),
        notes=("If you do not want it, disable or delete it on that page.",),
    )


def _rotated(key: ApiKey, who: str) -> Message:
    until = key.old_until
    works_on = until if until and until > timezone.now() else None
    old = f"works until {minute_words(works_on)} UTC" if works_on else "no longer works"
    return Message(
        subject=f"{who} rotated your API key “{key.name}”",
        paragraphs=(
            f"{_place(key)} It has a new text, and the one that you know {old}: programs that call with it need the new one.",
            f"{who} has seen the new text, once, and can hand it to you. Rotate the key yourself, and you alone know it.",
        ),
        button="See the key",
        link=_page(key),
    )


def _deleted(key: ApiKey, who: str) -> Message:
    return Message(
        subject=f"{who} deleted your API key “{key.name}”",
        paragraphs=(
            f"It was at home in {key.group.words()}, at {key.organization}. Calls with it are refused from now on, and it"
            " cannot be brought back.",
            "What was spent with it stays as it is.",
        ),
        button="See your keys",
        link=f"{settings.PUBLIC_URL}{reverse('guardrails:keys', kwargs={'org': key.organization.slug})}",
    )


def _place(key: ApiKey) -> str:
    return f"“{key.name}” is at home in {key.group.words()}, at {key.organization}."


def _page(key: ApiKey) -> str:
    page = reverse("guardrails:key", kwargs={"org": key.organization.slug, "key_id": key.pk})
    return f"{settings.PUBLIC_URL}{page}"
