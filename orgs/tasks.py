"""The background work of people and organisations."""

from __future__ import annotations

from celery import shared_task

from orgs import invitation_mail
from orgs.services import imports


@shared_task
def send_invitations(invitation_ids: list[int]) -> int:
    """→ how many went out. Each mail opens with a token of its own, made here and kept nowhere."""
    return sum(invitation_mail.send(invitation_id) for invitation_id in invitation_ids)


@shared_task
def invite_listed(import_id: int) -> None:
    """Given to another worker it goes on where the one before stopped."""
    imports.run(import_id)
